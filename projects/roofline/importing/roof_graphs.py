"""Roof graphs as vertices and faces: the text files of the RoofGraphDataset, JSON, .npz, and this room's own layout.

The dataset of Ren et al., Intuitive and Efficient Roof Modeling for Reconstruction and Synthesis (SIGGRAPH Asia 2021)
has two files a roof: ``NAME.verts`` with ``x,y`` a row (pixels, x right, y down) and ``NAME.faces`` with the indices of
a closed ring a row, from 0: ``6,5,7,8,6``. A third column of ``.verts`` is a height in metres.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine

from projects.engine.errors import UserError
from projects.geo.raster import open_raster
from projects.roofline.annotations import FILE_NAME, IMAGE_FOLDER, Annotation, read_annotations
from projects.roofline.geometry.line_types import rises_from_heights, types_from_planes
from projects.roofline.geometry.place import read_crs
from projects.roofline.graph import RoofGraph
from projects.roofline.importing.ground import Georeference, georeference, ground_corners, ground_of_pixels
from projects.roofline.importing.images import ImageFolder, check_declared, image_size
from projects.roofline.importing.reading import Imported, Reading, listed

SUFFIXES = ('.verts', '.json', '.npz')


def read_roof_graphs(source: str | Path, images: ImageFolder, labels_only: bool = False,
                     resolution: float | None = None) -> Reading:
    """Read roof graphs.

    Args:
        source: One file, or a folder of ``NAME.verts`` + ``NAME.faces``, ``NAME.json`` or ``NAME.npz`` (keys ``verts``
            and ``faces``; in ``.npz`` rows of faces are padded with -1), or a folder with ``annotations.json``.
        images: Where the images lie; without one a roof has no size.
        labels_only: Take ``annotations.json`` without its images.
        resolution: Metres a pixel of images that are not georeferenced. Heights are in metres: where neither tells,
            lines stay outline and inner, and a note says so.

    Raises:
        UserError: A file is missing or not of that form; an image is missing or of another size; a junction lies
            outside its image; a line has no length or is there twice; a resolution for ``annotations.json``, which
            has its own.
    """
    source = Path(source)
    if source.name == FILE_NAME:
        source = source.parent
    if (source / FILE_NAME).is_file():
        if resolution is not None:
            raise UserError('--resolution: expected with NAME.verts, NAME.json or NAME.npz, found '
                            f'{source / FILE_NAME}, which has its own')
        return _read_own(source, images, labels_only)
    files = [source] if source.is_file() else sorted(
        path for path in source.glob('*') if path.suffix in SUFFIXES and not path.name.startswith('.'))
    if not files:
        raise UserError(f'{source}: expected NAME.verts and NAME.faces, NAME.json, NAME.npz or {FILE_NAME}, found none '
                        'of them')
    found, missing, stems = [], [], {}
    high, unscaled, own = 0, 0, 0
    for path in files:
        if path.stem in stems:
            raise UserError(f'{source}: expected one file for each roof, found {stems[path.stem]} and {path.name}')
        stems[path.stem] = path.name
        verts, faces = _read_one(path)
        image = images.find(path.stem)
        if image is None:
            missing.append(path.stem)
            continue
        size = image_size(image)
        frame = _frame(image)
        if frame is not None:
            metres = ground_of_pixels(frame)
            ground, placed = ground_corners(frame), (frame.crs.to_string(), tuple(map(float, frame.transform[:6])))
        else:
            metres = None if resolution is None else resolution * np.eye(2)
            ground, placed = None, ()
        own += frame is not None
        graph = graph_of_faces(verts, faces, str(path), metres)
        graph.check(size, str(path))
        high, unscaled = high + (verts.shape[1] == 3), unscaled + (verts.shape[1] == 3 and metres is None)
        step = None if metres is None else float(np.sqrt(abs(np.linalg.det(metres))))
        found.append(Imported(Annotation(image.name, size[1], size[0], 'train', graph, step, *placed), image, ground))
    if missing:
        raise UserError(f'{images.folder}: expected an image for each roof, found none for {listed(missing)}; '
                        '--images names their folder')
    notes = images.note_unused()
    if own and resolution is not None:
        notes.append(f'{source}: --resolution: not for {own} images that are georeferenced')
    if unscaled:
        notes.append(f'{source}: {unscaled} of {high} roofs with heights have no metres a pixel: their lines stay '
                     'outline and inner; --resolution METRES tells')
    return Reading(tuple(found), tuple(notes))


def graph_of_faces(verts: np.ndarray, faces: list[list[int]], place: str,
                   metres: np.ndarray | None = None) -> RoofGraph:
    """Return the graph whose lines are the edges of faces.

    Args:
        verts: (N, 2) or (N, 3), x, y in pixels, and heights in metres. With heights and ``metres`` lines get their
            types (ridge, hip, …), without either they are outline or inner.
        faces: Rings of indices, closed or not.
        place: File, for messages.
        metres: (2, 2), metres on the ground for a step of one pixel in x and in y, as columns; None: not known.

    Raises:
        UserError: An index is no vertex, or a ring has fewer than three corners.
    """
    rings = []
    for number, face in enumerate(faces):
        ring = list(face[:-1] if len(face) > 1 and face[0] == face[-1] else face)
        if len(set(ring)) < 3:
            raise UserError(f'{place}: faces: expected rings of three vertices or more, found {face} at face {number}')
        wrong = [index for index in ring if not 0 <= index < len(verts)]
        if wrong:
            raise UserError(f'{place}: faces: expected vertices 0 to {len(verts) - 1}, found {wrong[0]} at face '
                            f'{number}')
        rings.append(tuple(ring))
    edges = {(min(pair), max(pair)) for ring in rings for pair in zip(ring, (*ring[1:], ring[0]), strict=True)}
    lines = np.array(sorted(pair for pair in edges if pair[0] != pair[1]), np.int64).reshape(-1, 2)
    used = np.unique(lines)
    place_of = np.full(len(verts), -1)
    place_of[used] = np.arange(len(used))
    verts, lines = verts[used], place_of[lines]
    rings = tuple(tuple(int(place_of[index]) for index in ring) for ring in rings)
    types, heights = None, None
    if verts.shape[1] == 3:
        heights = verts[:, 2]
    if heights is not None and metres is not None:
        ground = verts[:, :2] @ metres.T
        types = types_from_planes(ground, lines, rings, rises_from_heights(ground, heights, rings))
    return RoofGraph.make(verts[:, :2], lines, types, rings, heights=heights)


def _frame(image: Path) -> Georeference | None:
    """Return where an image lies; None where nothing says so, or on a plane of its own."""
    with open_raster(image) as dataset:
        placed = not dataset.transform.is_identity and dataset.crs is not None and (
            dataset.crs.is_projected or dataset.crs.is_geographic)
    return georeference(image, None) if placed else None


def _read_own(source: Path, images: ImageFolder, labels_only: bool) -> Reading:
    if (source / IMAGE_FOLDER).is_dir() and images.folder == source:
        images = ImageFolder(source / IMAGE_FOLDER)
    found, missing = [], []
    for annotation in read_annotations(source):
        image = images.find(annotation.file)
        if image is None:
            missing.append(annotation.file)
        else:
            check_declared((annotation.height, annotation.width), image, f'{source / FILE_NAME}: {annotation.file}')
            annotation = replace(annotation, file=image.name)
        found.append(Imported(annotation, image, _ground(annotation, f'{source / FILE_NAME}: {annotation.file}: crs')))
    if missing and not labels_only:
        raise UserError(f'{images.folder}: expected an image for each annotation, found none for {listed(missing)}; '
                        '--images names their folder, --labels-only does without')
    notes = images.note_unused()
    if missing:
        notes.append(f'{source}: {len(missing)} annotations without image, {listed(missing)}')
    return Reading(tuple(found), tuple(notes))


def _ground(annotation: Annotation, place: str) -> np.ndarray | None:
    if annotation.crs is None or annotation.transform is None:
        return None
    return ground_corners(Georeference(Affine(*annotation.transform), read_crs(annotation.crs, place),
                                       (annotation.height, annotation.width)), f'{place}: ')


def _read_one(path: Path) -> tuple[np.ndarray, list[list[int]]]:
    if path.suffix == '.verts':
        faces = path.with_suffix('.faces')
        if not faces.is_file():
            raise UserError(f'{faces}: expected the faces of {path.name}, found no file')
        return _vertices(_rows(path), path), [[int(value) for value in row] for row in _rows(faces, whole=True)]
    if path.suffix == '.npz':
        return _read_npz(path)
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (ValueError, OSError) as error:
        raise UserError(f'{path}: expected JSON, found {error}') from error
    _check_keys(path, content if isinstance(content, dict) else {})
    faces = content['faces']
    if not isinstance(faces, list) or not all(isinstance(face, list) and all(
            isinstance(index, int) and not isinstance(index, bool) for index in face) for face in faces):
        raise UserError(f'{path}: faces: expected lists of whole numbers, found others')
    return _vertices(content['verts'], path), faces


def _read_npz(path: Path) -> tuple[np.ndarray, list[list[int]]]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            _check_keys(path, arrays)
            verts, faces = arrays['verts'], arrays['faces']
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f'{path}: expected an .npz of plain arrays verts and faces, found {error}') from error
    if faces.ndim != 2 or faces.dtype.kind not in 'iu':
        raise UserError(f'{path}: faces: expected rows of whole numbers padded with -1, found {faces.dtype} of '
                        f'{faces.ndim} dimensions')
    return _vertices(verts, path), [[int(index) for index in row if index >= 0] for row in faces]


def _check_keys(path: Path, content: Any) -> None:
    missing = [key for key in ('verts', 'faces') if key not in content]
    if missing:
        raise UserError(f'{path}: {missing[0]}: expected verts and faces, found '
                        f'{", ".join(map(str, content)) or "neither"}')


def _rows(path: Path, whole: bool = False) -> list[list[float]]:
    rows = []
    for number, line in enumerate(path.read_text(encoding='utf-8', errors='replace').splitlines(), 1):
        parts = line.replace(',', ' ').split()
        try:
            row = [float(part) for part in parts]
        except ValueError as error:
            raise UserError(f'{path}: line {number}: expected numbers, found {line[:60]!r}') from error
        if whole and not all(value.is_integer() for value in row):
            raise UserError(f'{path}: line {number}: expected whole numbers, found {line[:60]!r}')
        if row:
            rows.append(row)
    return rows


def _vertices(rows: Any, path: Path) -> np.ndarray:
    try:
        verts = np.array(rows, np.float64)
    except (TypeError, ValueError):
        verts = np.zeros(0)
    if verts.ndim != 2 or verts.shape[1] not in (2, 3) or not np.isfinite(verts).all():
        raise UserError(f'{path}: verts: expected rows of x, y or x, y, height, found others')
    return verts
