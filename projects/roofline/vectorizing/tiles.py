"""Predict the wireframe of an image of any size, tile by tile."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from projects.engine.errors import UserError
from projects.engine.progress import progress
from projects.geo.sources import Source
from projects.geo.windows import window_starts
from projects.roofline.datasets.transforms.moving import FILL
from projects.roofline.vectorizing.merging import Tile
from projects.roofline.wireframe import LINE_SCORE, Wireframe

PredictTiles = Callable[[np.ndarray], list[Wireframe]]
"""From ``(N, H, W, 3)`` uint8 RGB to a wireframe for each, in pixels of the tile."""

OUTSIDE = 1.0  # pixels: an end that lies further outside the image (in the padding) takes its line along


@dataclass(frozen=True)
class Tiling:
    """How an image is cut.

    Attributes:
        window: side of a tile in pixels.
        overlap: pixels that neighbouring tiles share. A roof that fits into it is seen whole by some tile.
        batch_size: tiles given to the network at once.
        threshold: lines below this score are dropped.
    """

    window: int = 512
    overlap: int = 128
    batch_size: int = 2
    threshold: float = LINE_SCORE


def check_tiling(tiling: Tiling) -> None:
    """Raise :class:`UserError` for a window, overlap, batch size or threshold out of range."""
    window_starts(1, tiling.window, tiling.overlap)
    if tiling.batch_size < 1:
        raise UserError(f'batch_size: expected at least 1, found {tiling.batch_size}')
    if not 0 <= tiling.threshold <= 1:
        raise UserError(f'threshold: expected a score of 0 to 1, found {tiling.threshold:g}')


def predict_tiles(predict: PredictTiles, source: Source, tiling: Tiling) -> list[Tile]:
    """Predict all tiles of an open image that hold a valid pixel.

    Memory is that of one row of tiles (``window x width`` pixels) and of the wireframes. Invalid pixels and
    the padding of an image smaller than a tile get the colour of the padding in training.

    Args:
        predict: the network, see :data:`PredictTiles`.
        source: see :func:`projects.geo.sources.open_source`; three bands.

    Returns:
        Tiles with their wireframes in pixels of the image.

    Raises:
        UserError: options out of range, an unreadable image.
        ValueError: the network returns another number of wireframes than tiles.
    """
    check_tiling(tiling)
    window = tiling.window
    tops = window_starts(source.height, window, tiling.overlap)
    lefts = window_starts(source.width, window, tiling.overlap)
    size = (source.height, source.width)
    tiles: list[Tile] = []
    batch: list[tuple[int, int, np.ndarray]] = []

    def flush() -> None:
        if batch:
            frames = predict(np.stack([pixels for _, _, pixels in batch]))
            if len(frames) != len(batch):
                raise ValueError(f'the network returned {len(frames)} wireframes for {len(batch)} tiles')
            for (left, top, _), frame in zip(batch, frames, strict=True):
                placed = _inside(frame.above(tiling.threshold).moved(left, top), size)
                tiles.append(Tile(left, top, min(window, size[1] - left), min(window, size[0] - top), placed))
            batch.clear()

    image = valid = None
    for top, left in progress([(top, left) for top in tops for left in lefts], source.path.name, unit='tile'):
        if left == lefts[0]:
            image, valid = source.read_band(top, min(window, source.height - top))
        seen = valid[:, left:left + window]
        if seen.any():
            batch.append((left, top, _tile(image[:, left:left + window], seen, window)))
        if len(batch) == tiling.batch_size:
            flush()
    flush()
    return tiles


def _tile(image: np.ndarray, valid: np.ndarray, window: int) -> np.ndarray:
    """Return ``(window, window, 3)`` uint8 from ``(h, w, 3)`` 0..255; invalid pixels and padding are FILL."""
    tile = np.full((window, window, 3), FILL, np.uint8)
    values = image if image.dtype == np.uint8 else np.rint(np.clip(np.nan_to_num(image), 0, 255)).astype(np.uint8)
    tile[:valid.shape[0], :valid.shape[1]] = np.where(valid[..., None], values, np.uint8(FILL))
    return tile


def _inside(frame: Wireframe, size: tuple[int, int]) -> Wireframe:
    """Drop lines that end outside the image, and move ends by rounding back to its border."""
    limit = np.array([size[1], size[0]], np.float64)
    inside = ((frame.junctions >= -OUTSIDE) & (frame.junctions <= limit + OUTSIDE)).all(axis=1)
    keep = inside[frame.lines].all(axis=1)
    frame = frame.kept(keep)
    return replace(frame, junctions=np.clip(frame.junctions, 0, limit))
