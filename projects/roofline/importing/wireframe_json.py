"""Wireframe JSON, as L-CNN, HAWP and RoofMapSet have it: a list of records, one an image.

A record has ``filename`` (``file``, ``image``), ``width`` and ``height``, and its lines in one of two forms:

- ``lines``: ``[x1, y1, x2, y2]`` or ``[[x1, y1], [x2, y2]]`` each; equal ends are one junction;
- ``junc`` (``junctions``, ``points``) with ``edges`` (``edges_positive``, ``Lpos``, or ``lines`` of two indices).

Whether a pair is (x, y) or (y, x) is not in the file: both exist. The caller says which, and it is checked against the
image sizes.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from projects.engine.errors import UserError
from projects.roofline.annotations import Annotation
from projects.roofline.geometry.planar import clean_planar
from projects.roofline.graph import OUTSIDE, RoofGraph
from projects.roofline.importing.images import ImageFolder, check_declared, image_size
from projects.roofline.importing.reading import Imported, Reading, listed, unique_names
from projects.roofline.importing.tolerance import Tolerance

ORDERS = ('xy', 'yx')
NAME_KEYS = ('filename', 'file', 'image', 'file_name')
JUNCTION_KEYS = ('junc', 'junctions', 'points')
EDGE_KEYS = ('edges', 'edges_positive', 'Lpos', 'lines')
SPLIT_OF = {'train': 'train', 'valid': 'val', 'val': 'val', 'validation': 'val', 'test': 'test'}


@dataclass(frozen=True)
class WireframeOptions:
    """How records are read.

    Args:
        order: 'xy' or 'yx', of every coordinate pair.
        snap: Snapping distance; the lines are then cleaned into a planar graph (split where they touch or cross).
            None: left as they are.
        repair: Cut off what leaves the image, drop lines without length and lines given twice, instead of refusing
            them.
        labels_only: Images need not be there; sizes then come from the records.
    """

    order: str = 'xy'
    snap: Tolerance | None = None
    repair: bool = False
    labels_only: bool = False


@dataclass(eq=False)
class _Record:
    name: str
    folder: str
    split: str
    place: str
    path: Path | None
    size: tuple[int, int]
    junctions: np.ndarray  # (N, 2) as in the file
    lines: np.ndarray


def read_wireframes(source: str | Path, images: ImageFolder, options: WireframeOptions) -> Reading:
    """Read wireframe JSON.

    Args:
        source: A JSON file, or a folder of them; ``train.json``, ``valid.json``, ``test.json`` name splits. A file
            holds a list of records, an object with ``images``, or one record.
        images: Where the images lie.
        options: How to read.

    Raises:
        UserError: A file or record is not of that form; coordinates look swapped; a junction lies outside its image;
            a line has no length or is there twice; an image is missing or of another size.
    """
    records = [record for path in _files(Path(source)) for record in _read_file(path, images, options)]
    if not records:
        raise UserError(f'{source}: expected wireframe records, found none')
    missing = [record.name for record in records if record.path is None]
    if missing and not options.labels_only:
        raise UserError(f'{images.folder}: expected an image for each annotation, found none for {listed(missing)}; '
                        '--images names their folder, --labels-only does without')
    check_coordinate_order([(record.place, record.junctions, record.size) for record in records], options.order,
                           str(source))
    notes = []
    if all(record.size[0] == record.size[1] for record in records):
        notes.append(f'{source}: all images are square: the order {options.order} of coordinates cannot be checked')
    found, repaired, lost, before = [], 0, 0, 0
    for record in records:
        graph, changed, snapped = _graph(record, options)
        repaired, lost, before = repaired + changed, lost + snapped, before + len(record.lines)
        found.append(Imported(Annotation(record.name, record.size[1], record.size[0], record.split, graph),
                              record.path))
    if repaired:
        notes.append(f'{source}: {repaired} lines cut off at a border or dropped')
    if lost:
        notes.append(f'{source}: --snap: {lost} of {before} lines lost: shorter than the distance, or on another line')
    if missing:
        notes.append(f'{source}: {len(missing)} annotations without image, {listed(missing)}')
    notes += images.note_unused()
    return Reading(tuple(unique_names(found, [record.folder for record in records], str(source))), tuple(notes))


def check_coordinate_order(records: list[tuple[str, np.ndarray, tuple[int, int]]], order: str, source: str) -> None:
    """Refuse coordinates that fit their images only with x and y exchanged.

    Args:
        records: Place, coordinates (N, 2) as they stand in the file, and image size (height, width), one an image.
        order: 'xy' or 'yx', what they are taken for.
        source: Of all of them.

    Raises:
        UserError: An image shows that they are of the other order.
    """
    if order not in ORDERS:
        raise UserError(f'--order: expected xy or yx, found {order!r}')
    other = ORDERS[1 - ORDERS.index(order)]
    fits, swapped = ([_fits(junctions, size if one == 'yx' else size[::-1]) for _, junctions, size in records]
                     for one in (order, other))
    wrong = [number for number, (here, there) in enumerate(zip(fits, swapped, strict=True)) if there and not here]
    if not wrong:
        return
    place, junctions, size = records[wrong[0]]
    highest = junctions.max(axis=0)
    told = {'xy': '(x, y)', 'yx': '(y, x)'}
    text = (f'{place}: coordinates look like {told[other]}, not {told[order]}: up to ({highest[0]:g}, {highest[1]:g}) '
            f'in an image of width {size[1]} and height {size[0]}')
    if all(swapped):
        raise UserError(f'{text}; --order {other} fits all {len(records)} images of {source}')
    raise UserError(f'{text}; so do {len(wrong)} of {len(records)} images of {source}, the others do not')


def _fits(junctions: np.ndarray, extent: tuple[int, int]) -> bool:
    return bool(((junctions >= -OUTSIDE) & (junctions <= np.array(extent) + OUTSIDE)).all())


def _graph(record: _Record, options: WireframeOptions) -> tuple[RoofGraph, int, int]:
    """Return the graph of a record in (x, y), how many of its lines were changed, and how many lost by snapping."""
    junctions = record.junctions[:, ::-1] if options.order == 'yx' else record.junctions
    graph = RoofGraph.make(junctions, record.lines)
    before = len(graph.lines)
    inside = _fits(graph.junctions, record.size[::-1])
    changed = lost = 0
    if options.repair:
        if not np.isfinite(graph.junctions).all():  # no repair can mend it
            raise UserError(f'{record.place}: junctions: expected finite numbers, found one that is not')
        cut = 0 if inside else int((~_inside(graph, record.size)).any(axis=1).sum())
        graph = _without_bad_lines(graph.clipped(record.size))
        changed = max(cut, before - len(graph.lines))
    if options.snap is not None:
        graph.check(record.size, record.place)
        points, lines, origin = clean_planar(graph.junctions, graph.lines, options.snap.pixels(None))
        lost = len(graph.lines) - len(np.unique(origin))
        graph = RoofGraph.make(points, lines)
    graph.check(record.size, record.place)
    return graph, changed, lost


def _inside(graph: RoofGraph, size: tuple[int, int]) -> np.ndarray:
    ends = graph.segments()
    return ((ends >= -OUTSIDE) & (ends <= np.array(size[::-1]) + OUTSIDE)).all(axis=2)


def _without_bad_lines(graph: RoofGraph) -> RoofGraph:
    """Merge equal junctions, then drop lines without length and all but the first of equal lines."""
    places, number = np.unique(graph.junctions.round(6) + 0.0, axis=0, return_inverse=True)
    lines = number.reshape(-1)[graph.lines]
    pairs = np.sort(lines, axis=1)
    _, first = np.unique(pairs, axis=0, return_index=True)
    kept = np.sort(first[pairs[first, 0] != pairs[first, 1]])
    used, lines = np.unique(lines[kept], return_inverse=True)
    return RoofGraph.make(places[used], lines.reshape(-1, 2))


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise UserError(f'{source}: expected a JSON file or a folder of them, found neither')
    files = sorted(source.glob('*.json'))
    if not files:
        raise UserError(f'{source}: expected a folder of JSON files, found none in it')
    return files


def _read_file(path: Path, images: ImageFolder, options: WireframeOptions) -> Iterator[_Record]:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (ValueError, OSError) as error:
        raise UserError(f'{path}: expected JSON, found {error}') from error
    if isinstance(content, dict):
        content = content['images'] if isinstance(content.get('images'), list) else [content]
    if not isinstance(content, list):
        raise UserError(f'{path}: expected a list of records, found {type(content).__name__}')
    for number, entry in enumerate(content):
        yield _read_record(entry, path, number, images, options)


def _read_record(entry: Any, path: Path, number: int, images: ImageFolder, options: WireframeOptions) -> _Record:
    place = f'{path}: record {number}'
    if not isinstance(entry, dict):
        raise UserError(f'{place}: expected an object, found {type(entry).__name__}')
    name = next((entry[key] for key in NAME_KEYS if key in entry), None)
    if not isinstance(name, str) or not name:
        raise UserError(f'{place}: filename: expected the name of an image, found {name!r}; the record has '
                        f'{", ".join(map(str, entry)) or "no key"}')
    place = f'{path}: {name}'
    image = images.find(name)
    declared = tuple(entry.get(key) for key in ('height', 'width'))
    if declared != (None, None):
        if not all(isinstance(value, int) and not isinstance(value, bool) and value > 0 for value in declared):
            raise UserError(f'{place}: width, height: expected whole numbers of pixels, found {declared[1]!r} and '
                            f'{declared[0]!r}')
        if image is not None:
            check_declared(declared, image, place)
    elif image is not None:
        declared = image_size(image)
    elif options.labels_only:
        raise UserError(f'{place}: width, height: expected the size of the image, found neither them nor the image')
    else:
        raise UserError(f'{images.folder}: expected an image for each annotation, found none for {name}')
    junctions, lines = _coordinates(entry, place)
    parts = Path(name.replace('\\', '/'))
    folder = parts.parent.name or (path.stem if path.stem in SPLIT_OF else '')
    split = SPLIT_OF.get(path.stem, 'train')
    if 'split' in entry:
        split = SPLIT_OF.get(entry['split']) if isinstance(entry['split'], str) else None
        if split is None:
            raise UserError(f'{place}: split: expected one of {", ".join(SPLIT_OF)}, found {entry["split"]!r}')
    file = image.name if image is not None else parts.name
    return _Record(file, folder, split, place, image, declared, junctions, lines)


def _coordinates(entry: dict[str, Any], place: str) -> tuple[np.ndarray, np.ndarray]:
    """Return junctions (N, 2), as they stand, and lines (M, 2) of a record."""
    junction_key = next((key for key in JUNCTION_KEYS if key in entry), None)
    edge_key = next((key for key in EDGE_KEYS if key in entry), None)
    if edge_key is None:
        raise UserError(f'{place}: lines: expected lines, or junc and edges; the record has '
                        f'{", ".join(map(str, entry))}')
    rows = _array(entry[edge_key], place, edge_key)
    if len(rows) == 0:
        return np.zeros((0, 2)), np.zeros((0, 2), np.int64)
    if rows.ndim == 2 and rows.shape[1] == 2 and junction_key is not None:
        junctions = _array(entry[junction_key], place, junction_key)
        if junctions.ndim != 2 or junctions.shape[1] not in (2, 3):
            raise UserError(f'{place}: {junction_key}: expected rows of two coordinates, found numbers of shape '
                            f'{junctions.shape}')
        with np.errstate(invalid='ignore'):
            wrong = ~((rows >= 0) & (rows < len(junctions)) & (rows == np.floor(rows)))  # before they become int64
        if wrong.any():
            row, end = np.argwhere(wrong)[0]
            raise UserError(f'{place}: {edge_key}: expected junctions 0 to {len(junctions) - 1}, found '
                            f'{rows[row, end]:g} at row {row}')
        return junctions[:, :2], rows.astype(np.int64)
    if rows.shape[1:] not in ((4,), (2, 2)):
        raise UserError(f'{place}: {edge_key}: expected [x1, y1, x2, y2] or [[x1, y1], [x2, y2]], or two indices and '
                        f'junc, found {entry[edge_key][0]!r}')
    places, number = np.unique(rows.reshape(-1, 2).round(6) + 0.0, axis=0, return_inverse=True)
    return places, number.reshape(-1, 2).astype(np.int64)


def _array(values: Any, place: str, key: str) -> np.ndarray:
    try:
        array = np.array(values, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f'{place}: {key}: expected rows of numbers, all of one length, found others') from error
    if array.ndim == 0:
        raise UserError(f'{place}: {key}: expected rows of numbers, found {values!r}')
    return array
