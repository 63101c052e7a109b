"""The tile store: every point once, patches of every scale as lists of rows.

```
STORE/manifest.json            settings, statistics, one item a tile (name, source, sha256, points, patches a scale);
                               `incomplete` from the first tile of a store that is prepared anew to the last one
STORE/splits.json              the split of every block (projects/lidar/splits.py)
STORE/tiles/NAME.safetensors   the arrays below, read through a memory map
STORE/tiles/NAME.json          the record of one tile: origin, quantum, kind, blocks, statistics
```

Arrays of a tile of N points; ``s`` is a scale ('50', '100', '150') of T listed rows in P patches:

===============================  ======================================================================================
xyz int32 (N, 3)                 position = origin + xyz * quantum (metres)
intensity u16, return_number u8, number_of_returns u8, classification u8 (raw), label u8 (projects/lidar/classes.py)
source_index u32                 the point's place in its file; rows are sorted by place on the ground
height f16                       metres above the local ground
building_area f32                m² of the footprint of the building a point belongs to, 0 elsewhere
block u16                        number of the block that it lies in
rgb u16 (N, 3), nir u16 (N,)     only where the tile has them
s/geometry f16 (N, 9), s/log_density f16, s/outlier u8 (bits), s/incomplete u8 (bits: 1 the
                                 neighbourhood, 2 the ground below the height reaches past the buffer)
s/patch_index u32 (T,)           rows of all patches, one after the other; a patch begins with up to `points` rows in
                                 farthest-point order, the rest shuffled; outliers are left out
s/patch_offset i64 (P + 1,)      where each patch begins
s/patch_box f64 (P, 4)           absolute x0, y0, x1, y1; s/patch_block u16 (P,), s/patch_ground f64 (P,): mean z of the
                                 ground under its points
===============================  ======================================================================================
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from projects.engine.errors import UserError
from projects.engine.files import atomic_path, sha256_of, write_json
from projects.lidar.features import network_features

MANIFEST, SPLITS, TILES = 'manifest.json', 'splits.json', 'tiles'
INCOMPLETE = 'incomplete'
VERSION = 1
SPLIT_NAMES = ('train', 'val', 'test')
_DTYPES = {'U8': np.uint8, 'I8': np.int8, 'U16': np.uint16, 'I16': np.int16, 'U32': np.uint32, 'I32': np.int32,
           'U64': np.uint64, 'I64': np.int64, 'F16': np.float16, 'F32': np.float32, 'F64': np.float64, 'BOOL': np.bool_}


@dataclass(frozen=True)
class PatchRef:
    """Where a patch is: ``number`` counts within the tile and scale; ``split`` is '' where none is assigned."""

    tile: str
    scale: str
    number: int
    block: int
    points: int
    kind: str
    split: str

    @property
    def sample_id(self) -> str:
        """``tile/scale/number``."""
        return f'{self.tile}/{self.scale}/{self.number}'


@dataclass
class Patch:
    """Points of one patch, the first ones in farthest-point order.

    Attributes:
        xyz: ``(n, 3)`` float32 metres; x, y from the centre of the patch's box, z from its mean ground.
        features: ``(n, 21)`` float32, columns ``projects.lidar.features.FEATURE_NAMES``.
        label: ``(n,)`` uint8 of projects/lidar/classes.py.
        building_area: ``(n,)`` float32 m², 0 where the point belongs to no building.
        rows: ``(n,)`` uint32 rows in the tile.
        size: The side of the scale in metres; the box of a small block may be smaller.
        density: Points per m² of the whole patch, however many of them were read.
        centre: ``(3,)`` float64, what to add to ``xyz``.
        box: ``(4,)`` float64, absolute x0, y0, x1, y1.
    """

    xyz: np.ndarray
    features: np.ndarray
    label: np.ndarray
    building_area: np.ndarray
    rows: np.ndarray
    size: float
    density: float
    centre: np.ndarray
    box: np.ndarray
    tile: str
    scale: str
    number: int
    kind: str


class Tile:
    """One prepared tile. Cheap to make and to pickle: the file is opened with the first array."""

    def __init__(self, path: str | Path, record: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.record = dict(record)

    @property
    def name(self) -> str:
        return self.record['name']

    @property
    def kind(self) -> str:
        """``synthetic`` where the labels came from an ``lod3`` dimension, else ``real``."""
        return self.record['kind']

    @property
    def origin(self) -> np.ndarray:
        """``(3,)`` float64, absolute."""
        return np.array(self.record['origin'], np.float64)

    @property
    def quantum(self) -> float:
        return self.record['quantum']

    @property
    def points(self) -> int:
        return self.record['points']

    @cached_property
    def _opened(self) -> tuple[np.memmap, dict[str, Any], int]:
        try:
            data = np.memmap(self.path, np.uint8, mode='r')
            end = 8 + int(data[:8].view(np.uint64)[0])
            table = json.loads(bytes(data[8:end]))
            if max(entry['data_offsets'][1] for key, entry in table.items() if key != '__metadata__') + end > len(data):
                raise ValueError('shorter than its header says')
        except FileNotFoundError as error:
            raise UserError(f'{self.path}: expected a tile of the store, found no file; run tools/lidar/prepare.py '
                            'again') from error
        except (ValueError, OSError) as error:
            raise UserError(f'{self.path}: expected a tile of the store, found a damaged file ({error}); remove it '
                            'and run tools/lidar/prepare.py again') from error
        return data, table, end

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != '_opened'}  # a map would travel whole

    def __contains__(self, name: str) -> bool:
        return name in self._opened[1]

    def names(self) -> list[str]:
        """Return the names of its arrays."""
        return [key for key in self._opened[1] if key != '__metadata__']

    def array(self, name: str) -> np.ndarray:
        """Return an array of the file as a read-only view of its memory map.

        Raises:
            UserError: The file is missing or damaged, or has no such array.
        """
        data, table, start = self._opened
        if name not in table:
            raise UserError(f'{self.path}: expected the array {name!r}, found {", ".join(self.names())}')
        begin, end = table[name]['data_offsets']
        values = np.asarray(data[start + begin:start + end]).view(_DTYPES[table[name]['dtype']])
        return values.reshape(table[name]['shape'])

    def positions(self, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Return absolute positions ``(n, 3)`` float64."""
        return self.origin + self.array('xyz')[rows] * self.quantum

    def patch_count(self, scale: str) -> int:
        return len(self.array(f'{scale}/patch_block'))

    def patch_rows(self, scale: str, number: int, rows: int | None = None) -> np.ndarray:
        """Return the rows of a patch, or its first ``rows`` of them, ``(n,)`` uint32."""
        first, end = (int(at) for at in self.array(f'{scale}/patch_offset')[number:number + 2])
        return self.array(f'{scale}/patch_index')[first:end if rows is None else min(end, first + rows)]

    def read_patch(self, scale: str, number: int, rows: int | None = None) -> Patch:
        """Read a patch.

        Args:
            scale: '50', '100', '150'.
            number: Within tile and scale.
            rows: How many points at most, from the head of its list; None for all.
        """
        count = int(np.diff(self.array(f'{scale}/patch_offset')[number:number + 2])[0])
        return make_patch(self, scale, self.patch_rows(scale, number, rows),
                          np.array(self.array(f'{scale}/patch_box')[number]), number=number, count=count,
                          ground=float(self.array(f'{scale}/patch_ground')[number]))


def make_patch(tile: Tile, scale: str, rows: np.ndarray, box: np.ndarray, *, number: int = -1, count: int | None = None,
               ground: float | None = None) -> Patch:
    """Make a patch of any rows of a tile.

    Args:
        tile: Prepared at this scale.
        scale: Whose neighbourhood features to take.
        rows: ``(n,)``.
        box: ``(4,)`` absolute x0, y0, x1, y1.
        number: What to call it.
        count: Points of the whole patch, where ``rows`` is a part of them.
        ground: Mean z of the ground below; default from ``rows``.
    """
    box = np.asarray(box, np.float64)
    rows = np.asarray(rows)
    quantised = tile.array('xyz')[rows]
    height = tile.array('height')[rows]
    if ground is None:
        ground = mean_ground(tile.origin[2] + quantised[:, 2] * tile.quantum, height)
    centre = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, ground])
    features = network_features(
        tile.array(f'{scale}/geometry')[rows], tile.array(f'{scale}/log_density')[rows], height,
        *(tile.array(name)[rows] for name in ('intensity', 'return_number', 'number_of_returns')),
        *(tile.array(name)[rows] if name in tile else None for name in ('rgb', 'nir')), tile.record.get('ndvi', True))
    area = max(float((box[2] - box[0]) * (box[3] - box[1])), 1e-6)
    return Patch(
        xyz=(quantised * tile.quantum + (tile.origin - centre)).astype(np.float32), features=features,
        label=tile.array('label')[rows], building_area=tile.array('building_area')[rows],
        rows=np.asarray(rows, np.uint32), size=float(tile.record['scales'][scale]['size']),
        density=(len(rows) if count is None else count) / area, centre=centre, box=box, tile=tile.name, scale=scale,
        number=number, kind=tile.kind)


def mean_ground(z: np.ndarray, height: np.ndarray) -> float:
    """Return the mean z of the ground below points; 0 without points."""
    return float((z - height.astype(np.float64)).mean()) if len(z) else 0.0


class Store:
    """A folder of prepared tiles, see :func:`open_store`."""

    def __init__(self, root: Path, manifest: dict[str, Any]) -> None:
        self.root = root
        self.manifest = manifest
        self.tiles = {item['name']: Tile(root / TILES / f'{item["name"]}.safetensors',
                                         read_json(root / TILES / f'{item["name"]}.json'))
                      for item in manifest['items']}
        path = root / SPLITS
        self.splits: dict[str, Any] | None = read_json(path) if path.is_file() else None

    @cached_property
    def ground(self) -> str:
        """See :func:`ground_digest`."""
        return ground_digest({name: tile.record for name, tile in self.tiles.items()})

    @property
    def splits_fit(self) -> bool:
        """Whether there are splits, of these very blocks."""
        return self.splits is not None and self.splits.get('ground') == self.ground

    @property
    def scales(self) -> dict[str, dict[str, Any]]:
        """Settings by scale: size, overlap, points, neighbours, buffer, sor, ror."""
        return self.manifest['settings']['scales']

    def split_of(self, tile: str, block: int) -> str:
        """Return the split of a block; '' where none is assigned, or splits are of other blocks."""
        if not self.splits_fit:
            return ''
        return self.splits['blocks'].get(tile, {}).get(str(block), '')

    def patches(self, scale: str, split: str | None = None) -> list[PatchRef]:
        """Return the patches of a scale in the order of the tiles' names.

        Raises:
            UserError: The store has no such scale, or no splits of its blocks though one is asked for.
        """
        if scale not in self.scales:
            raise UserError(f'{self.root}: scale: expected one of {", ".join(self.scales)}, found {scale!r}')
        if split is not None and self.splits is None:
            raise UserError(f'{self.root / SPLITS}: expected the splits, found no file; run tools/lidar/split.py')
        if split is not None and split not in SPLIT_NAMES:
            raise UserError(f'{self.root}: split: expected one of {", ".join(SPLIT_NAMES)}, found {split!r}')
        if split is not None:
            self.check_splits_fit()
        found = []
        for name in sorted(self.tiles):
            tile = self.tiles[name]
            blocks = tile.array(f'{scale}/patch_block')
            counts = np.diff(tile.array(f'{scale}/patch_offset'))
            for number, (block, count) in enumerate(zip(blocks.tolist(), counts.tolist())):
                here = self.split_of(name, block)
                if split is None or split == here:
                    found.append(PatchRef(name, scale, number, block, count, tile.kind, here))
        return found

    def check_splits_fit(self) -> None:
        """Refuse splits of other blocks: the same numbers are other ground.

        Raises:
            UserError: They are.
        """
        if not self.splits_fit:
            raise UserError(f'{self.root / SPLITS}: expected splits of these tiles and blocks, found some of others; '
                            'run tools/lidar/split.py --overwrite')

    def read(self, ref: PatchRef, rows: int | None = None) -> Patch:
        """Read a patch, or the first ``rows`` points of it."""
        return self.tiles[ref.tile].read_patch(ref.scale, ref.number, rows)


def open_store(root: str | Path) -> Store:
    """Open a store that tools/lidar/prepare.py wrote.

    Raises:
        UserError: There is none, it is of another version, or a preparation of it did not come to its end.
    """
    root = Path(root)
    if not (root / MANIFEST).is_file():
        raise UserError(f'{root}: expected a store with {MANIFEST}, found none; write one with tools/lidar/prepare.py')
    manifest = read_json(root / MANIFEST)
    if manifest.get('version') != VERSION:
        raise UserError(f'{root / MANIFEST}: version: expected {VERSION}, found {manifest.get("version")!r}')
    again = 'a preparation did not come to its end; give the prepare command again'
    if manifest.get(INCOMPLETE):
        raise UserError(f'{root}: expected a whole store, found a part of one: {again}')
    store = Store(root, manifest)
    # A run that ends early leaves the manifest of before it beside tiles of its own.
    strange = [item['name'] for item in manifest['items']
               if store.tiles[item['name']].record.get('sha256') != item['sha256']]
    if strange:
        raise UserError(f'{root}: expected the tiles of {MANIFEST}, found {len(strange)} others ({strange[0]} among '
                        f'them): {again}')
    return store


def ground_digest(records: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a digest of the blocks of all tiles, from their records by name: splits of other blocks mean nothing."""
    text = ';'.join(f'{name}:{records[name]["blocks"]}' for name in sorted(records))
    return hashlib.sha256(text.encode()).hexdigest()


def write_tile(path: str | Path, arrays: Mapping[str, np.ndarray], record: Mapping[str, Any]) -> dict[str, Any]:
    """Write a tile's arrays to ``path`` (``.safetensors``) and its record beside it; both whole or not at all.

    Returns:
        The record, with ``sha256`` and ``bytes`` of the file.
    """
    record = {**record, **write_arrays(path, arrays)}
    write_json(Path(path).with_suffix('.json'), record)
    return record


def write_arrays(path: str | Path, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Write a tile's arrays alone; return what its record says of the file, ``sha256`` and ``bytes``."""
    from safetensors.numpy import save_file  # here: readers do without

    with atomic_path(path) as temporary:
        save_file({key: np.ascontiguousarray(value) for key, value in arrays.items()}, str(temporary))
        return {'sha256': sha256_of(temporary), 'bytes': temporary.stat().st_size}


def read_tile(path: str | Path) -> Tile:
    """Open one tile by its file, outside of any store."""
    path = Path(path)
    return Tile(path, read_json(path.with_suffix('.json')))


def write_manifest(root: str | Path, settings: Mapping[str, Any], records: list[Mapping[str, Any]],
                   **more: Any) -> dict[str, Any]:
    """Write ``STORE/manifest.json`` for the tiles whose records are given, in the order of their names."""
    items = [{'name': record['name'], 'source': record['source'], 'sha256': record['sha256'], 'kind': record['kind'],
              'points': record['points'], 'patches': record['patches']}
             for record in sorted(records, key=lambda record: record['name'])]
    manifest = {'version': VERSION, 'settings': dict(settings), **more, 'items': items}
    write_json(Path(root) / MANIFEST, manifest)
    return manifest


def read_json(path: Path) -> dict[str, Any]:
    """Read a file of the store.

    Raises:
        UserError: It is missing or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError as error:
        raise UserError(f'{path}: expected a record of the store, found no file; run tools/lidar/prepare.py '
                        'again') from error
    except ValueError as error:
        raise UserError(f'{path}: expected JSON, found {error}') from error
