"""Roofs on disk: `DIR/annotations.json` beside `DIR/images/FILE`, one graph an image, read strictly."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from projects.engine.errors import UserError
from projects.engine.files import write_text
from projects.roofline.graph import LINE_TYPES, RoofGraph

FILE_NAME = 'annotations.json'
IMAGE_FOLDER = 'images'
SPLITS = ('train', 'val', 'test')
REQUIRED = ('file', 'width', 'height', 'split', 'junctions', 'lines')
OPTIONAL = ('line_type', 'faces', 'junction_types', 'heights', 'occlusions', 'resolution', 'crs', 'transform')


@dataclass(frozen=True, eq=False)
class Annotation:
    """The roofs of one image.

    Args:
        file: Path below `DIR/images`, with slashes.
        width: Of the image, px.
        height: Of the image, px.
        split: 'train', 'val' or 'test'.
        graph: Junctions, lines and faces in the image's pixels, (x, y), pixel-corner origin; without lines it
            is an image that shows no roof.
        resolution: Metres a pixel, where known.
        crs: Coordinate system as `EPSG:2154`, where known.
        transform: (a, b, c, d, e, f) from pixels to that system: X = a x + b y + c, Y = d x + e y + f.
    """

    file: str
    width: int
    height: int
    split: str
    graph: RoofGraph
    resolution: float | None = None
    crs: str | None = None
    transform: tuple[float, ...] | None = None


def read_annotations(root: str | Path) -> list[Annotation]:
    """Read and check the annotations of a folder, in the order of the file; no image is opened.

    Args:
        root: The folder that holds `annotations.json`. Its one key is `images`, a list of objects with the keys of
            :data:`REQUIRED` and any of :data:`OPTIONAL`. `line_type` holds indices into
            :data:`~projects.roofline.graph.LINE_TYPES` or their names; `occlusions` holds `[s_f, s_b]`, a share of
            each line from its first junction, or null where it is not known; `heights` metres.

    Raises:
        UserError: no such file, no JSON, a key that is missing, unknown or of another kind, an image named twice, and
            all that :meth:`RoofGraph.check` refuses: a junction outside the image, a line without length, a line
            twice. Where the junctions fit only when x and y are exchanged, it says so.
    """
    path = Path(root) / FILE_NAME
    if not path.is_file():
        raise UserError(f'{path}: no such file: expected the annotations of the images in {path.parent / IMAGE_FOLDER}')
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (ValueError, OSError) as error:
        raise UserError(f'{path}: not readable as JSON: {error}') from error
    entries = content.get('images') if isinstance(content, dict) else None
    if not isinstance(entries, list):
        found = _kind(content if entries is None else entries)
        raise UserError(f'{path}: images: expected a list of images, found {found}')
    annotations = [_read_entry(entry, path, number) for number, entry in enumerate(entries)]
    seen: set[str] = set()
    for annotation in annotations:
        if annotation.file in seen:
            raise UserError(f'{path}: file: expected each image once, found {annotation.file} twice')
        seen.add(annotation.file)
    return annotations


def write_annotations(root: str | Path, annotations: Sequence[Annotation]) -> None:
    """Write `annotations.json` into a folder, whole or not at all, one image a line.

    Raises:
        UserError: What :func:`read_annotations` would refuse; then nothing is written.
    """
    path = Path(root) / FILE_NAME
    entries = [_entry(annotation) for annotation in annotations]
    seen: set[str] = set()
    for number, entry in enumerate(entries):
        _read_entry(entry, path, number)
        if entry['file'] in seen:
            raise UserError(f'{path}: file: expected each image once, found {entry["file"]} twice')
        seen.add(entry['file'])
    lines = ',\n'.join(json.dumps(entry, ensure_ascii=False, allow_nan=False) for entry in entries)
    write_text(path, f'{{"images": [\n{lines}\n]}}\n')


def _read_entry(entry: Any, path: Path, number: int) -> Annotation:
    place = f'{path}: images[{number}]'
    if not isinstance(entry, dict):
        raise UserError(f'{place}: expected an object, found {_kind(entry)}')
    if isinstance(entry.get('file'), str):
        place = f'{path}: {entry["file"]}'
    for key in REQUIRED:
        if key not in entry:
            raise UserError(f'{place}: {key}: missing')
    strange = [key for key in entry if key not in (*REQUIRED, *OPTIONAL)]
    if strange:
        raise UserError(f'{place}: {strange[0]}: no such key, expected some of {", ".join((*REQUIRED, *OPTIONAL))}')
    size = (_whole(entry, 'height', place), _whole(entry, 'width', place))
    if entry['split'] not in SPLITS:
        raise UserError(f'{place}: split: expected one of {", ".join(SPLITS)}, found {entry["split"]!r}')
    junctions = _rows(entry, 'junctions', place)
    lines = _rows(entry, 'lines', place, whole=True)
    faces = entry.get('faces') or ()
    if not isinstance(faces, (list, tuple)) or not all(_is_list_of_whole(face) for face in faces):
        raise UserError(f'{place}: faces: expected lists of junction indices, found {_kind(faces)}')
    graph = RoofGraph.make(
        junctions, lines, _line_types(entry, len(lines), place), faces,
        _numbers(entry, 'junction_types', len(junctions), place, whole=True),
        _numbers(entry, 'heights', len(junctions), place),
        _occlusions(entry, len(lines), place))
    graph.check(size, place)
    return Annotation(_file(entry, place), size[1], size[0], entry['split'], graph, **_georeference(entry, place))


def _entry(annotation: Annotation) -> dict[str, Any]:
    """Return the JSON object of an image; what has its default is left out."""
    graph = annotation.graph
    entry: dict[str, Any] = dict(
        file=annotation.file, width=int(annotation.width), height=int(annotation.height), split=annotation.split,
        junctions=graph.junctions.tolist(), lines=graph.lines.tolist(), line_type=graph.types.tolist(),
        faces=[[int(index) for index in face] for face in graph.faces])
    if graph.junction_types.any():
        entry['junction_types'] = graph.junction_types.tolist()
    if graph.heights is not None:
        entry['heights'] = graph.heights.tolist()
    known = ~np.isnan(graph.occlusions).any(axis=1)
    if known.any():
        entry['occlusions'] = [pair.tolist() if there else None
                               for pair, there in zip(graph.occlusions, known, strict=True)]
    if annotation.resolution is not None:
        entry['resolution'] = float(annotation.resolution)
    if annotation.crs is not None:
        entry['crs'] = annotation.crs
    if annotation.transform is not None:
        entry['transform'] = [float(value) for value in annotation.transform]
    return entry


def _file(entry: dict, place: str) -> str:
    name = entry['file']
    if not isinstance(name, str) or not name or PurePosixPath(name).is_absolute() or '..' in PurePosixPath(name).parts:
        raise UserError(f'{place}: file: expected a path below {IMAGE_FOLDER}/, found {name!r}')
    return name


def _whole(entry: dict, key: str, place: str) -> int:
    value = entry[key]
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(f'{place}: {key}: expected a whole number of pixels of at least 1, found {value!r}')
    return value


def _rows(entry: dict, key: str, place: str, whole: bool = False) -> np.ndarray:
    """Return a list of pairs as (N, 2)."""
    rows = entry[key]
    kind = int if whole else (int, float)
    if not isinstance(rows, list):
        raise UserError(f'{place}: {key}: expected a list of pairs, found {_kind(rows)}')
    for number, row in enumerate(rows):
        if not isinstance(row, (list, tuple)) or len(row) != 2 or not all(
                isinstance(value, kind) and not isinstance(value, bool) for value in row):
            raise UserError(f'{place}: {key}[{number}]: expected a pair of {"indices" if whole else "numbers"}, found '
                            f'{_short(row)}')
    return np.array(rows, np.int64 if whole else np.float64).reshape(-1, 2)


def _is_list_of_whole(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(
        isinstance(index, int) and not isinstance(index, bool) for index in value)


def _numbers(entry: dict, key: str, length: int, place: str, whole: bool = False) -> np.ndarray | None:
    """Return a list of numbers, one a junction, or None where there is no list."""
    values = entry.get(key)
    if values is None:
        return None
    kind = int if whole else (int, float)
    if not isinstance(values, list) or len(values) != length or not all(
            isinstance(value, kind) and not isinstance(value, bool) for value in values):
        raise UserError(f'{place}: {key}: expected {length} numbers, one a junction, found {_kind(values)}')
    if whole and not all(0 <= value <= 255 for value in values):
        raise UserError(f'{place}: {key}: expected whole numbers in 0..255, found {min(values)} to {max(values)}')
    return np.array(values, np.uint8) if whole else np.array(values, np.float64)


def _line_types(entry: dict, length: int, place: str) -> np.ndarray | None:
    values = entry.get('line_type')
    if values is None:
        return None
    if not isinstance(values, list) or len(values) != length:
        raise UserError(f'{place}: line_type: expected {length} types, one a line, found {_kind(values)}')
    indices = []
    for number, value in enumerate(values):
        if value in LINE_TYPES:
            indices.append(LINE_TYPES.index(value))
        elif isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(LINE_TYPES):
            indices.append(value)
        else:
            raise UserError(f'{place}: line_type[{number}]: expected 0..{len(LINE_TYPES) - 1} or one of '
                            f'{", ".join(LINE_TYPES)}, found {value!r}')
    return np.array(indices, np.uint8)


def _occlusions(entry: dict, length: int, place: str) -> np.ndarray | None:
    values = entry.get('occlusions')
    if values is None:
        return None
    if not isinstance(values, list) or len(values) != length:
        raise UserError(f'{place}: occlusions: expected {length} intervals or nulls, one a line, found {_kind(values)}')
    intervals = np.full((length, 2), np.nan)
    for number, value in enumerate(values):
        if value is None:
            continue
        if not isinstance(value, (list, tuple)) or len(value) != 2 or not all(
                isinstance(share, (int, float)) and not isinstance(share, bool) for share in value) or not (
                0 <= value[0] <= value[1] <= 1):
            raise UserError(f'{place}: occlusions[{number}]: expected [s_f, s_b] with 0 <= s_f <= s_b <= 1 or null, '
                            f'found {_short(value)}')
        intervals[number] = value
    return intervals


def _georeference(entry: dict, place: str) -> dict[str, Any]:
    resolution, crs, transform = (entry.get(key) for key in ('resolution', 'crs', 'transform'))
    if resolution is not None and not (_is_number(resolution) and resolution > 0):
        raise UserError(f'{place}: resolution: expected metres a pixel above 0, found {_short(resolution)}')
    if crs is not None and not (isinstance(crs, str) and crs):
        raise UserError(f'{place}: crs: expected a name like EPSG:2154, found {_short(crs)}')
    if transform is not None and not (isinstance(transform, (list, tuple)) and len(transform) == 6 and all(
            _is_number(value) for value in transform)):
        raise UserError(f'{place}: transform: expected six numbers [a, b, c, d, e, f], found {_short(transform)}')
    return dict(resolution=None if resolution is None else float(resolution), crs=crs,
                transform=None if transform is None else tuple(float(value) for value in transform))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)


def _kind(value: Any) -> str:
    """Name a JSON value for a message."""
    if isinstance(value, (list, tuple)):
        return f'a list of {len(value)}'
    return _short(value) if not isinstance(value, dict) else f'an object with {", ".join(map(str, value)) or "no key"}'


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f'{text[:57]}...'
