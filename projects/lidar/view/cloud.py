"""What is looked at: points of a patch, a tile of a store, or a file, with their classes and values."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from projects.engine.errors import UserError
from projects.geo.point_clouds import Points, read_points
from projects.lidar.classes import labels_of_codes
from projects.lidar.features import FEATURE_NAMES, HEIGHT_SCALE
from projects.lidar.store import Patch, Tile, make_patch

PREDICTED = 'terrace_class'  # the dimension that tools/lidar/classify.py adds
TRUTH = 'lod3'  # the dimension of synthetic tiles
# Values of a classified file that are worth a colouring: dimension -> what it is called.
_DIMENSIONS = {'intensity': 'intensity', 'return_number': 'return number', 'number_of_returns': 'number of returns',
               'terrace_confidence': 'confidence', 'terrace_entropy': 'entropy',
               'terrace_disagreement': 'scale disagreement'}
_MASKS = ('has_colour', 'has_nir', 'red', 'green', 'blue')  # features that are not worth one


@dataclass(frozen=True)
class Cloud:
    """Points to draw.

    Attributes:
        title: What they are.
        xyz: ``(n, 3)`` float32 metres from ``origin``.
        origin: ``(3,)`` float64, absolute.
        label: ``(n,)`` uint8 of projects/lidar/classes.py: the truth, or all that is known.
        values: What points can be coloured by: name to ``(n,)`` float32; ``height`` is above the local ground.
        predicted: ``(n,)`` uint8 LOD3 classes, or None.
        rgb: ``(n, 3)`` uint8, or None: the tile has no colour.
        rows: ``(n,)`` each point's place in the source file, or None.
        total: Points that there were before :func:`thinned`.
    """

    title: str
    xyz: np.ndarray
    origin: np.ndarray
    label: np.ndarray
    values: dict[str, np.ndarray] = field(default_factory=dict)
    predicted: np.ndarray | None = None
    rgb: np.ndarray | None = None
    rows: np.ndarray | None = None
    total: int = 0

    def __len__(self) -> int:
        return len(self.xyz)


def cloud_of_patch(tile: Tile, patch: Patch) -> Cloud:
    """Return a patch of a tile as a cloud, with its network features as values."""
    columns = dict(zip(FEATURE_NAMES, patch.features.T))
    values = {'height': columns['height'] * HEIGHT_SCALE}
    values |= {name: column for name, column in columns.items() if name not in (*_MASKS, 'height')}
    if not columns['has_nir'].any():
        values.pop('nir'), values.pop('ndvi')  # zeros that mean nothing
    elif not columns['has_colour'].any():
        values.pop('ndvi')
    rgb = None
    if columns['has_colour'].any():
        rgb = np.stack([columns[name] for name in ('red', 'green', 'blue')], axis=1)
        rgb = np.clip(np.round(rgb * 255), 0, 255).astype(np.uint8)
    title = f'{patch.tile}, {patch.scale} m patch {patch.number}'
    rows = tile.array('source_index')[patch.rows]
    return Cloud(title, patch.xyz, patch.centre, np.asarray(patch.label), values, rgb=rgb, rows=rows,
                 total=len(patch.xyz))


def cloud_of_tile(tile: Tile, scale: str, rows: np.ndarray | None = None) -> Cloud:
    """Return a whole tile of a store, or some of its rows, with the geometry of one scale.

    Raises:
        UserError: The store does not have the scale.
    """
    if scale not in tile.record['scales']:
        raise UserError(f'{tile.name}: scale: expected one of {", ".join(tile.record["scales"])}, found {scale!r}')
    rows = np.arange(tile.points) if rows is None else np.asarray(rows)
    where = tile.positions(rows)
    low, high = where.min(axis=0), where.max(axis=0)
    patch = make_patch(tile, scale, rows, np.array([*low[:2], *high[:2]]))
    cloud = cloud_of_patch(tile, patch)
    return replace(cloud, title=f'{tile.name}, features of {scale} m', total=tile.points)


def cloud_of_file(path: str | Path, bounds: tuple[float, float, float, float] | None = None) -> Cloud:
    """Return the points of a LAS or LAZ file.

    Classes are those of its ``lod3`` dimension, else of its ASPRS codes (unknown codes count as not labelled);
    predictions those of ``terrace_class``. Heights are above the lowest ground within 10 m, roughly: for looking only.

    Raises:
        UserError: The file cannot be read, or has no points within the bounds.
    """
    points = read_points(path, bounds=bounds)
    if not len(points.xyz):
        raise UserError(f'{path}: expected points within {bounds}, found none')
    fields = points.fields
    low, high = points.xyz.min(axis=0), points.xyz.max(axis=0)
    origin = np.array([*np.round((low + high)[:2] / 2), np.floor(low[2])])
    xyz = (points.xyz - origin).astype(np.float32)
    label = fields[TRUTH].astype(np.uint8) if TRUTH in fields else labels_of_codes(
        fields['classification'], str(path), unknown='ignore')
    values = {'height': rough_height(xyz)}
    values |= {name: fields[key].astype(np.float32) for key, name in _DIMENSIONS.items() if key in fields}
    return Cloud(Path(path).name, xyz, origin, label, values,
                 predicted=fields[PREDICTED].astype(np.uint8) if PREDICTED in fields else None,
                 rgb=_rgb_of(points), rows=np.arange(len(xyz)), total=len(xyz))


def rough_height(xyz: np.ndarray, cell: float = 10.0) -> np.ndarray:
    """Return heights ``(n,)`` float32 above the lowest point of the 3 x 3 cells around."""
    column = np.floor((xyz[:, :2] - xyz[:, :2].min(axis=0)) / cell).astype(np.int64)
    shape = column.max(axis=0) + 3  # a margin of one cell
    lowest = np.full(shape, np.inf, np.float32)
    np.minimum.at(lowest, (column[:, 0] + 1, column[:, 1] + 1), xyz[:, 2])
    around = np.min([lowest[i:shape[0] - 2 + i, j:shape[1] - 2 + j] for i in range(3) for j in range(3)], axis=0)
    return (xyz[:, 2] - around[column[:, 0], column[:, 1]]).astype(np.float32)


def with_prediction(cloud: Cloud, path: str | Path) -> Cloud:
    """Return a cloud with the classes that a classified file has for its points.

    Args:
        cloud: With ``rows``.
        path: What tools/lidar/classify.py wrote for the tile: the points of the source, in their order.

    Raises:
        UserError: The file has no predictions, or is not of this tile.
    """
    if cloud.rows is None:
        raise UserError(f'{path}: the points of {cloud.title} do not know their place in the source')
    points = read_points(path)
    if PREDICTED not in points.fields:
        raise UserError(f'{path}: {PREDICTED}: expected the classes of tools/lidar/classify.py, found only '
                        f'{", ".join(points.fields)}')
    rows = cloud.rows
    if rows.max() >= len(points.xyz):
        raise UserError(f'{path}: expected the tile of {cloud.title}, found {len(points.xyz):,} points, and point '
                        f'{int(rows.max()):,} is asked for')
    apart = np.abs(points.xyz[rows] - (cloud.xyz + cloud.origin)).max()
    if apart > 0.05:
        raise UserError(f'{path}: expected the tile of {cloud.title}, found points {apart:.2f} m away from it')
    values = {name: points.fields[key][rows].astype(np.float32) for key, name in _DIMENSIONS.items()
              if key.startswith('terrace_') and key in points.fields}
    return replace(cloud, predicted=points.fields[PREDICTED][rows].astype(np.uint8), values={**cloud.values, **values})


def thinned(cloud: Cloud, limit: int, seed: int = 0) -> Cloud:
    """Return at most ``limit`` points of a cloud, chosen at random."""
    if len(cloud) <= limit:
        return cloud
    keep = np.sort(np.random.default_rng(seed).choice(len(cloud), limit, replace=False))
    return replace(
        cloud, xyz=cloud.xyz[keep], label=cloud.label[keep],
        values={name: values[keep] for name, values in cloud.values.items()},
        **{name: None if getattr(cloud, name) is None else getattr(cloud, name)[keep]
           for name in ('predicted', 'rgb', 'rows')})


def _rgb_of(points: Points) -> np.ndarray | None:
    if not points.has_colour:
        return None
    return np.stack([points.fields[name] >> 8 for name in ('red', 'green', 'blue')], axis=1).astype(np.uint8)
