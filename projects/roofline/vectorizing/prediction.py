"""A trained RoofMapNet as a function from tiles of an image to wireframes."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmseg.structures import SegDataSample

from projects.engine.errors import UserError
from projects.engine.inference import load_model
from projects.roofline.datasets.transforms.moving import FILL
from projects.roofline.models.roofmapnet import RoofMapNet
from projects.roofline.samples import wireframe_of
from projects.roofline.vectorizing.tiles import PredictTiles
from projects.roofline.wireframe import Wireframe

MULTIPLE = 64  # tiles are padded to multiples of this for a backbone that names none


def load_predictor(config: str | Path, checkpoint: str | Path, device: str | torch.device | None = None,
                   amp: bool = False, cfg_options: dict[str, Any] | None = None) -> PredictTiles:
    """Build a config's network with its weights, ready for tiles of any size.

    Args:
        config: Path of a Python config of roofs.
        checkpoint: Weights; every key must match.
        device: Default: CUDA where it works, else the CPU.
        amp: Run it under bfloat16 autocast.
        cfg_options: Dotted paths and their values.

    Returns:
        A function from tiles (N, H, W, 3) uint8 RGB to a wireframe for each, in pixels of the tile. Its attribute
        `resolution` is the config's: metres a pixel of the training images, None where it states none.

    Raises:
        UserError: A wrong config or checkpoint, a network of another task, a resolution that is none.
    """
    model, cfg = load_model(config, checkpoint, device, cfg_options)
    resolution = cfg.get('resolution')
    number = isinstance(resolution, (int, float)) and not isinstance(resolution, bool)
    if resolution is not None and not (number and 0 < resolution < float('inf')):
        raise UserError(f'config {config}: resolution: expected metres a pixel above 0, found {resolution!r}')
    if not isinstance(model, RoofMapNet):
        raise UserError(f'config {config}: expected a RoofMapNet (a config of configs/roofline), found '
                        f'{type(model).__name__}')
    where = next(model.parameters()).device
    multiple = getattr(model.backbone, 'divisor', MULTIPLE)
    model.detection['unverified'] = 0  # a measure's, not a user's

    @torch.inference_mode()
    def predict(tiles: np.ndarray) -> list[Wireframe]:
        height, width = tiles.shape[1:3]
        padded = np.empty((len(tiles), height + -height % multiple, width + -width % multiple, 3), np.uint8)
        padded[:] = FILL
        padded[:, :height, :width] = tiles
        inputs = torch.from_numpy(np.ascontiguousarray(padded.transpose(0, 3, 1, 2)))
        samples = [SegDataSample(metainfo=dict(sample_id=str(number), ori_shape=(height, width)))
                   for number in range(len(tiles))]
        data = model.data_preprocessor(dict(inputs=list(inputs), data_samples=samples), False)
        with torch.autocast(where.type, dtype=torch.bfloat16, enabled=amp):
            return [wireframe_of(sample) for sample in model(data['inputs'], data['data_samples'], mode='predict')]

    predict.resolution = resolution
    return predict
