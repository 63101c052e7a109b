"""Which samples of a data set to look at, and where their pictures go."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mmseg.registry import DATASETS

from projects.engine.errors import UserError
from projects.engine.progress import progress
from projects.engine.random_state import seed_cpu
from projects.evaluation.gallery import file_stem

Sample = tuple[str, Path, list[Any]]  # a title, the file of the picture, and passes through the pipeline
Drawing = Callable[[Mapping[str, Any], str, Any, Iterable[Sample]], Iterator[Path]]


def browse(draw_samples: Drawing, cfg: Mapping[str, Any], out: str | Path, split: str = 'train', number: int = 8,
           views: int = 1, seed: int = 0) -> Iterator[Path]:
    """Draw some samples of a config's data set as the network sees them.

    Args:
        draw_samples: A task's drawing. Gets the config, the split, the data set and the samples; yields the path of
            each picture, once it is written.
        cfg: A config as `projects.engine.config.load_config` returns it.
        out: Folder for the pictures `<split>_<sample id>.png`.
        split: Whose data loader: 'train', 'val' or 'test'.
        number: Samples, spread evenly over the data set.
        views: Passes of each sample; random augmentation makes them differ.
        seed: Of the augmentation.

    Returns:
        What `draw_samples` yields.

    Raises:
        UserError: no such split, or a sample that cannot be read.
    """
    if number < 1 or views < 1:
        raise UserError(f'--number and --views: expected 1 or more, found {number} and {views}')
    if cfg.get(f'{split}_dataloader') is None:
        raise UserError(f'--split {split}: the config has no {split}_dataloader')
    dataset = DATASETS.build(cfg[f'{split}_dataloader']['dataset'])

    def samples() -> Iterator[Sample]:
        seed_cpu(seed)
        chosen = sorted({int(index) for index in np.linspace(0, len(dataset) - 1, min(number, len(dataset)))})
        for index in progress(chosen, 'browse', unit='sample'):
            name = str(dataset.get_data_info(index).get('sample_id', index))
            yield (f'{split}: {name}', Path(out) / f'{split}_{file_stem(name)}.png',
                   [dataset[index] for _ in range(views)])

    return draw_samples(cfg, split, dataset, samples())
