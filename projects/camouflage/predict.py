"""Predict camouflaged objects: from a config, a checkpoint and photographs to one 8-bit map each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import Compose
from mmseg.registry import TRANSFORMS
from PIL import Image

from projects.camouflage.datasets.pictures import read_photograph
from projects.camouflage.maps import grey_map
from projects.engine.errors import UserError, told
from projects.engine.files import atomic_path
from projects.geo.prediction import check_targets

MASKS = 'LoadCamouflageMask'  # the transform that a prediction goes without
TINT = np.array((255, 64, 64), np.float32)


@dataclass(frozen=True)
class Mapped:
    """One photograph, and what became of it."""

    source: Path
    map: Path
    share: float | None = None  # of its pixels that are camouflaged object
    error: str | None = None


def predict(config: str | Path, checkpoint: str | Path, sources: Sequence[Path], out: str | Path, *,
            overlay: bool = False, overwrite: bool = False, device: str | None = None,
            cfg_options: dict[str, Any] | None = None) -> Iterator[Mapped]:
    """Predict photographs one by one, each as the config's test pipeline presents it, at its own size.

    ``out`` receives ``NAME.png`` (8 bits, 255 = certainly a camouflaged object) and, with ``overlay``,
    ``NAME_overlay.jpg``.

    Args:
        config: path of the config.
        checkpoint: path of the weights; they must fit strictly.
        sources: the photographs; their names without suffix differ.
        out: folder for the maps; made when missing.
        overlay: also write the photograph under the map.
        overwrite: replace existing maps; without it they are an error.
        device: default CUDA where it works, else the CPU.
        cfg_options: dotted paths and their values.

    Yields:
        One result for each photograph, in order. One that cannot be read or written does not stop the
        others: look at ``error``.

    Raises:
        UserError: wrong config or checkpoint, two photographs of one name, files in the way, or a network that gives
            no probabilities.
    """
    out = Path(out)
    sources = [Path(source) for source in sources]
    check_targets([(source, target) for source in sources for target in _targets(source, out, overlay)], out, overwrite)
    from projects.engine.inference import load_model

    model, cfg = load_model(config, checkpoint, device=device, cfg_options=cfg_options)
    if (cfg.get('test_pipeline') or [{}])[0].get('type') != 'LoadPhotograph':
        raise UserError(f'config {config}: expected a test_pipeline that begins with LoadPhotograph (a camouflage '
                        "config); other tasks' configs go with tools/predict.py")
    pipeline = Compose([TRANSFORMS.build(step) for step in cfg.test_pipeline if step.type != MASKS])
    for source in sources:
        target, *pictures = _targets(source, out, overlay)
        try:
            data = pipeline(dict(img_path=str(source), seg_map_path=None, sample_id=source.stem, dataset=None,
                                 kind=None, difficulty=None))
            with torch.inference_mode():
                sample = model.test_step(dict(inputs=[data['inputs']], data_samples=[data['data_samples']]))[0]
            levels = grey_map(sample.to_dict())
            with atomic_path(target) as temporary:
                Image.fromarray(levels).save(temporary, format='PNG', optimize=True)
            for picture in pictures:
                share = levels[..., None].astype(np.float32) / 255 * 0.6
                tinted = read_photograph(source) * (1 - share) + TINT * share
                with atomic_path(picture) as temporary:
                    Image.fromarray(tinted.round().astype(np.uint8)).save(temporary, format='JPEG', quality=92)
        except (UserError, OSError) as error:
            yield Mapped(source, target, error=told(error))
            continue
        yield Mapped(source, target, float((levels >= 128).mean()))


def _targets(source: Path, out: Path, overlay: bool) -> list[Path]:
    """Return what is written for a photograph: its map, and the overlay where it is wanted."""
    return [out / f'{source.stem}.png', *([out / f'{source.stem}_overlay.jpg'] if overlay else [])]
