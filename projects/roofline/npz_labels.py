"""The label file of an image in the seed's layout, ``NAME_label.npz``: a graph in cells and its maps, both ways.

Keys (specs/roofline.md, "Labels and data"; the arrays of L-CNN): ``jmap`` f4 (T, h, w), ``joff`` f4 (T, 2, h, w) as
(dy, dx) in -1/2 <= d < 1/2, ``lmap`` f4 (h, w), ``junc`` f4 (N, 3) as (y, x, type) in cells, ``Lpos`` i8 (M, 2) and
``Lneg`` i8 (K, 2) pairs of junctions, ``lpos`` f4 (M, 2, 3) and ``lneg`` f4 (K, 2, 3) their rows of ``junc``.

What a graph knows beyond that stands in further keys, each only where there is something to say; readers of the eight
keys never see them: ``line_type`` u1 (M,), ``height`` f8 (N,), ``occlusion`` f8 (M, 2), and ``face_size`` i8 (F,)
with ``face_corner`` i8, all rings one after the other.
"""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from projects.engine.errors import UserError
from projects.engine.files import atomic_path
from projects.roofline.graph import RoofGraph
from projects.roofline.labels import cells_of, draw_maps, hard_negatives

SUFFIX = '_label.npz'
KEYS = ('jmap', 'joff', 'lmap', 'junc', 'Lpos', 'Lneg', 'lpos', 'lneg')


def write_npz(path: str | Path, graph: RoofGraph, image_size: tuple[int, int], map_size: tuple[int, int] = (128, 128),
              n_types: int = 1, negatives: int = 2000) -> None:
    """Write the labels of an image.

    Args:
        path: ``NAME_label.npz`` beside the image ``NAME.png``.
        graph: In pixels of the image.
        image_size: (height, width) in pixels.
        map_size: (h, w) of the maps in cells.
        n_types: T, classes of junctions; 1 takes all of them for one, and says so in ``junc``.
        negatives: At most so many pairs in ``Lneg``.

    Raises:
        UserError: The graph does not fit the image (see :meth:`RoofGraph.check`), or has more classes of junctions.
    """
    graph.check(image_size, str(path))
    cells = cells_of(graph, _stride(image_size, map_size))
    try:
        maps = draw_maps(cells, graph.lines, map_size, graph.junction_types, n_types)
    except UserError as error:
        raise UserError(f'{path}: {error}') from error
    kinds = graph.junction_types if n_types > 1 else np.zeros(len(cells))
    junctions = np.column_stack([cells, kinds]).astype(np.float32)
    pairs = hard_negatives(cells, graph.lines, maps.lmap, negatives)
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, jmap=maps.jmap, joff=maps.joff, lmap=maps.lmap, junc=junctions,
                            Lpos=graph.lines, Lneg=pairs, lpos=junctions[graph.lines], lneg=junctions[pairs],
                            **_beyond(graph))


def read_npz(path: str | Path, image_size: tuple[int, int], place: str | None = None) -> RoofGraph:
    """Read the graph of a label file, ours or the seed's; its maps are not read, since they are drawn anew.

    Args:
        path: ``NAME_label.npz``.
        image_size: (height, width) of the image in pixels; the size of ``lmap`` says how many of them a cell has.
        place: For the message of an error; default ``path``.

    Returns:
        The graph in pixels, exact to float32 in cells (1e-4 pixels at 4,096). Lines without ``line_type`` are edges
        of one face or of two where faces are stored, else ``outline``.

    Raises:
        UserError: No such file, no label file, a key missing or of another shape, an index that is no junction, and
            all that :meth:`RoofGraph.check` refuses.
    """
    place = place or str(path)
    arrays = _load(Path(path), place)
    size = arrays['lmap'].shape
    junctions, lines = arrays['junc'], arrays['Lpos']
    if len(size) != 2 or 0 in size:
        raise UserError(f'{place}: lmap: expected (h, w) cells, found shape {size}')
    if not len(junctions):
        junctions, lines = junctions.reshape(0, 3), lines.reshape(0, 2)
    if junctions.ndim != 2 or junctions.shape[1] != 3:
        raise UserError(f'{place}: junc: expected (N, 3) as (y, x, type), found shape {junctions.shape}')
    try:
        graph = RoofGraph.make(
            junctions[:, 1::-1] * np.asarray(_stride(image_size, size))[::-1], lines, arrays.get('line_type'),
            _faces(arrays, place), junctions[:, 2], arrays.get('height'), arrays.get('occlusion'))
    except UserError as error:
        raise UserError(f'{place}: {error}') from error
    graph.check(image_size, place)
    return graph


def _stride(image_size: tuple[int, int], map_size: tuple[int, int]) -> tuple[float, float]:
    return image_size[0] / map_size[0], image_size[1] / map_size[1]


def _beyond(graph: RoofGraph) -> dict[str, np.ndarray]:
    """Return what the eight keys have no room for."""
    extra: dict[str, np.ndarray] = {}
    if graph.types.any() or graph.faces:
        extra['line_type'] = graph.types
    if graph.heights is not None:
        extra['height'] = graph.heights
    if not np.isnan(graph.occlusions).all():
        extra['occlusion'] = graph.occlusions
    if graph.faces:
        extra['face_size'] = np.array([len(face) for face in graph.faces], np.int64)
        extra['face_corner'] = np.concatenate(graph.faces).astype(np.int64)
    return extra


def _load(path: Path, place: str) -> dict[str, Any]:
    """Return the arrays that a graph is made of; numbers as float64."""
    if not path.is_file():
        raise UserError(f'{place}: no such file: expected the labels of an image')
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [key for key in ('junc', 'Lpos', 'lmap') if key not in archive]
            if missing:
                raise UserError(f'{place}: {missing[0]}: missing, found {", ".join(archive.files) or "no key"}')
            wanted = ('junc', 'Lpos', 'lmap', 'line_type', 'height', 'occlusion', 'face_size', 'face_corner')
            return {key: np.asarray(archive[key], np.float64) for key in wanted if key in archive}
    except (OSError, ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f'{place}: not readable as a label file (.npz): {error}') from error


def _faces(arrays: dict[str, Any], place: str) -> list[list[int]]:
    if 'face_size' not in arrays:
        return []
    sizes, corners = arrays['face_size'].astype(np.int64).ravel(), arrays.get('face_corner', np.zeros(0)).ravel()
    if (sizes < 1).any() or sizes.sum() != len(corners):
        raise UserError(f'{place}: face_corner: expected {sizes.sum()} junctions, as face_size says, '
                        f'found {len(corners)}')
    return [ring.astype(np.int64).tolist() for ring in np.split(corners, np.cumsum(sizes)[:-1])]
