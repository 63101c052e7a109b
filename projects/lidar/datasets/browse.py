"""Pictures of what the network really sees: points after the pipeline and the collate function."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.registry import FUNCTIONS
from mmseg.registry import DATASETS

from projects.engine.errors import UserError
from projects.engine.progress import progress
from projects.engine.random_state import seed_cpu
from projects.evaluation.gallery import file_stem
from projects.lidar.features import HEIGHT_SCALE, INDEX
from projects.lidar.view.cloud import Cloud
from projects.lidar.view.picture import write_picture

SPLITS = ('train', 'val', 'test')


def browse(cfg: Mapping[str, Any], out: str | Path, split: str = 'train', number: int = 8, views: int = 1,
           seed: int = 0) -> Iterator[Path]:
    """Write a picture for each view of some samples of a config's data set: by class, height and colour.

    Args:
        cfg: A config as `projects.engine.config.load_config` returns it.
        out: Folder for the pictures `<split>_<sample id>.png`, with `_<view>` behind where there are several.
        split: Whose data loader: 'train', 'val' or 'test'.
        number: Samples, spread evenly over the data set.
        views: Passes of each sample; random augmentation makes them differ.
        seed: Of the augmentation.

    Yields:
        The path of each picture, once it is written.

    Raises:
        UserError: no such split, or a sample that cannot be read.
    """
    if number < 1 or views < 1:
        raise UserError(f'--number and --views: expected 1 or more, found {number} and {views}')
    if split not in SPLITS or cfg.get(f'{split}_dataloader') is None:
        raise UserError(f'--split {split}: the config has no {split}_dataloader')
    loader = cfg[f'{split}_dataloader']
    dataset = DATASETS.build(loader['dataset'])
    collate = dict(loader['collate_fn'])
    function = FUNCTIONS.get(collate.pop('type'))
    chosen = sorted({int(index) for index in np.linspace(0, len(dataset) - 1, min(number, len(dataset)))})
    seed_cpu(seed)
    for index in progress(chosen, 'browse', unit='sample'):
        for view in range(views):
            cloud = seen(function([dataset[index]], **collate))
            ending = f'_{view + 1}' if views > 1 else ''
            path = Path(out) / f'{split}_{file_stem(dataset.get_data_info(index)["sample_id"])}{ending}.png'
            write_picture(path, cloud, ['class', 'height', *(['colour'] if cloud.rgb is not None else [])])
            yield path


def seen(batch: Mapping[str, Any]) -> Cloud:
    """Return the first patch of a batch as a cloud, without its padding."""
    inputs, sample = batch['inputs'], batch['data_samples'][0]
    valid = inputs['mask'][0].numpy()
    points, features = inputs['points'][0].numpy()[valid], inputs['features'][0].numpy()[valid]
    rgb = None
    if features[:, INDEX['has_colour']].any():
        rgb = np.clip(np.round(features[:, INDEX['red']:INDEX['blue'] + 1] * 255), 0, 255).astype(np.uint8)
    size, density = 50 * 2 ** float(inputs['context'][0, 0]), float(np.exp(inputs['context'][0, 1]))
    title = f'{sample.get("sample_id")}: {size:.1f} m, {density:.1f} points per m²'
    return Cloud(title, points, np.zeros(3), sample.gt_sem_seg.data.numpy().ravel(),
                 {'height': features[:, INDEX['height']] * HEIGHT_SCALE}, rgb=rgb, total=len(points))
