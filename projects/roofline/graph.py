"""The graph of a roof: junctions, typed lines between them and faces, in the pixels of an image.

Coordinates are (x, y), x to the right, y down, with the origin at the corner of the first pixel: pixel i covers
[i, i + 1), its centre is i + 0.5 (specs/roofline.md, "Labels and data").
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from projects.engine.errors import UserError

LINE_TYPES = ('outline', 'inner', 'ridge', 'hip', 'valley', 'eave', 'verge', 'break')
"""What a line can be; its place in this tuple is what is stored."""

OUTSIDE = 1e-6  # pixels: rounding of a transform is not a junction outside the image
SHORTEST_PIECE = 1.0  # pixels: what clipping leaves of a line below it is dropped


@dataclass(frozen=True, eq=False)
class RoofGraph:
    """Junctions, lines and faces of one image.

    Args:
        junctions: (N, 2) float64, (x, y) in pixels.
        lines: (M, 2) int64, the two different junctions of each line.
        types: (M,) uint8, places in :data:`LINE_TYPES`.
        faces: Rings of junctions, not closed: the last is joined to the first.
        junction_types: (N,) uint8, classes of junctions where there are several; zeros by default.
        heights: (N,) float64, metres; NaN where one is not known, None where none is.
        occlusions: (M, 2) float64, which share (s_f, s_b) of each line, from its first junction, is hidden:
            0 <= s_f <= s_b <= 1, s_f = s_b where nothing is; NaN where nobody knows, which is the default.

    Raises:
        UserError: A field of another shape or length, a type that does not exist.
    """

    junctions: np.ndarray
    lines: np.ndarray
    types: np.ndarray
    faces: tuple[tuple[int, ...], ...] = ()
    junction_types: np.ndarray | None = None
    heights: np.ndarray | None = None
    occlusions: np.ndarray | None = None

    def __post_init__(self) -> None:
        junctions = _numbers(self.junctions, 'junctions', np.float64, (None, 2))
        lines = _numbers(self.lines, 'lines', np.int64, (None, 2))
        count, number = len(junctions), len(lines)
        values = {
            'junctions': junctions,
            'lines': lines,
            'types': _line_types(self.types, number),
            'faces': tuple(tuple(int(corner) for corner in face) for face in self.faces),
            'junction_types': (np.zeros(count, np.uint8) if self.junction_types is None else
                               _numbers(self.junction_types, 'junction_types', np.uint8, (count,))),
            'heights': None if self.heights is None else _numbers(self.heights, 'heights', np.float64, (count,)),
            'occlusions': (np.full((number, 2), np.nan) if self.occlusions is None else
                           _numbers(self.occlusions, 'occlusions', np.float64, (number, 2))),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)  # frozen for others

    @classmethod
    def make(cls, junctions: Any, lines: Any, types: Any = None, faces: Sequence[Sequence[int]] = (),
             junction_types: Any = None, heights: Any = None, occlusions: Any = None) -> 'RoofGraph':
        """Make a graph from lists or arrays.

        Args:
            types: Names of :data:`LINE_TYPES` or places in it. None: an edge of two faces or more is ``inner``, any
                other line ``outline``.
            junctions, lines, faces, junction_types, heights, occlusions: As in the class; lists are converted.
        """
        if types is None:
            types = _types_from_faces(_numbers(lines, 'lines', np.int64, (None, 2)), faces)
        return cls(junctions, lines, types, faces, junction_types, heights, occlusions)

    @property
    def empty(self) -> bool:
        """Whether there is no line."""
        return len(self.lines) == 0

    def segments(self) -> np.ndarray:
        """Return the lines' ends: (M, 2, 2) float64, first and second end, (x, y) in pixels."""
        return self.junctions[self.lines]

    def check(self, size: tuple[int, int], place: str) -> None:
        """Make sure that a graph from a file fits its image.

        Args:
            size: (height, width) of the image in pixels.
            place: The file, and the image in it, for the message.

        Raises:
            UserError: A number that is not finite, a junction outside the image (by more than 1e-6 pixels; it says so
                where x and y look swapped), an index that is no junction, a line without length, a line given twice in
                either direction, an occlusion that is no interval within 0..1.
        """
        _check_junctions(self, size, place)
        _check_indices(self, place)
        _check_lines(self, place)
        _check_occlusions(self, place)

    def moved(self, matrix: np.ndarray) -> 'RoofGraph':
        """Return the graph after an affine map of the plane: (2, 3), applied to (x, y, 1). Nothing is cut off."""
        matrix = np.asarray(matrix, np.float64)
        return replace(self, junctions=self.junctions @ matrix[:, :2].T + matrix[:, 2])

    def clipped(self, size: tuple[int, int]) -> 'RoofGraph':
        """Cut the graph off at the borders of an image.

        An end that is cut off becomes a new junction of the lost end's type, with the height interpolated. Lines are
        cut by Liang and Barsky's parametric test. What is left of a cut line is dropped when it is shorter than one
        pixel; junctions that no line uses any more and faces that lost a junction are dropped; occlusions are given
        as shares of the piece. A graph inside the image keeps all its lines as they are.

        Args:
            size: (height, width) in pixels; what lies in 0..width, 0..height stays.
        """
        corner = np.array(size[::-1], np.float64)
        near = np.clip(self.junctions, 0.0, corner)
        junctions = np.where(np.abs(near - self.junctions) <= OUTSIDE, near, self.junctions)
        inside = ((junctions >= 0.0) & (junctions <= corner)).all(axis=1)

        start, end = junctions[self.lines[:, 0]], junctions[self.lines[:, 1]]
        first, last = _visible_share(start, end, corner)
        first[inside[self.lines[:, 0]]] = 0.0
        last[inside[self.lines[:, 1]]] = 1.0
        whole = inside[self.lines].all(axis=1)
        lengths = np.linalg.norm(end - start, axis=1) * (last - first)
        kept = np.where(whole, lengths > 0, (last > first) & (lengths >= SHORTEST_PIECE))

        lines, start, end, first, last = (values[kept] for values in (self.lines, start, end, first, last))
        shares = np.stack([first, last], axis=1)  # (K, 2): where the piece begins and ends on its line
        cut = ~inside[lines]
        made = lines[cut]  # the lost end of each new junction
        share = shares[cut][:, None]
        owner = np.nonzero(cut)[0]
        points = np.clip(start[owner] + share * (end - start)[owner], 0.0, corner)
        pieces = lines.copy()
        pieces[cut] = len(junctions) + np.arange(len(made))

        heights = None
        if self.heights is not None:
            low, high = self.heights[lines[owner, 0]], self.heights[lines[owner, 1]]
            heights = np.concatenate([self.heights, low + share[:, 0] * (high - low)])
        with np.errstate(invalid='ignore'):
            occlusions = np.clip((self.occlusions[kept] - first[:, None]) / (last - first)[:, None], 0.0, 1.0)

        used = np.zeros(len(junctions) + len(made), bool)
        used[pieces] = True
        place = np.cumsum(used) - 1
        return RoofGraph(
            junctions=np.concatenate([junctions, points])[used], lines=place[pieces], types=self.types[kept],
            faces=tuple(tuple(int(place[corner]) for corner in face) for face in self.faces
                        if used[list(face)].all()),
            junction_types=np.concatenate([self.junction_types, self.junction_types[made]])[used],
            heights=None if heights is None else heights[used], occlusions=occlusions)


def _numbers(values: Any, name: str, dtype: type, shape: tuple[int | None, ...]) -> np.ndarray:
    expected = ' x '.join('N' if length is None else str(length) for length in shape)
    try:
        array = np.asarray(values)
        if array.size == 0 and shape[0] in (None, 0):
            return np.zeros([length or 0 for length in shape], dtype)
        numbers = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f'{name}: expected {expected} numbers, found {str(values)[:60]}') from error
    if numbers.ndim != len(shape) or any(length not in (None, found)
                                         for length, found in zip(shape, numbers.shape, strict=True)):
        raise UserError(f'{name}: expected {expected} numbers, found {" x ".join(map(str, numbers.shape)) or "one"}')
    if dtype is np.float64:
        return numbers
    highest = np.iinfo(dtype).max if dtype is np.uint8 else 2.0 ** 53
    wrong = ~((numbers == np.floor(numbers)) & (np.abs(numbers) <= highest))
    if dtype is np.uint8:
        wrong |= numbers < 0
    if wrong.any():
        raise UserError(f'{name}: expected whole numbers, found {numbers[wrong][0]:g}')
    return numbers.astype(dtype)


def _line_types(types: Any, number: int) -> np.ndarray:
    places = []
    for kind in types:
        place = LINE_TYPES.index(kind) if isinstance(kind, str) and kind in LINE_TYPES else kind
        if isinstance(place, str) or place not in range(len(LINE_TYPES)):
            raise UserError(f'types: expected one of {", ".join(LINE_TYPES)} or its place 0 to {len(LINE_TYPES) - 1}, '
                            f'found {place!s}')
        places.append(place)
    return _numbers(places, 'types', np.uint8, (number,))


def _types_from_faces(lines: np.ndarray, faces: Sequence[Sequence[int]]) -> np.ndarray:
    shared: Counter[tuple[int, int]] = Counter()
    for face in faces:
        shared.update({tuple(sorted(edge)) for edge in zip(face, (*face[1:], face[0]), strict=True)})
    return np.array([shared[tuple(sorted(line))] > 1 for line in lines.tolist()], np.uint8)


def _visible_share(start: np.ndarray, end: np.ndarray, corner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the lines (K, 2) -> (K, 2) enter and leave 0..corner, as shares of their length; empty: leave < enter."""
    step = end - start
    with np.errstate(divide='ignore', invalid='ignore'):
        low, high = -start / step, (corner - start) / step
    level = step == 0.0
    within = (start >= 0.0) & (start <= corner)
    enter = np.where(level, np.where(within, -np.inf, np.inf), np.minimum(low, high))
    leave = np.where(level, np.where(within, np.inf, -np.inf), np.maximum(low, high))
    return np.clip(enter.max(axis=1), 0.0, 1.0), np.clip(leave.min(axis=1), 0.0, 1.0)


def _check_junctions(graph: RoofGraph, size: tuple[int, int], place: str) -> None:
    height, width = size
    heights = np.zeros(0) if graph.heights is None else graph.heights
    for name, wrong in (('junctions', ~np.isfinite(graph.junctions).all(axis=1)), ('heights', np.isinf(heights))):
        if wrong.any():
            number = int(np.argmax(wrong))
            raise UserError(f'{place}: {name}: expected finite numbers, found {getattr(graph, name)[number].tolist()} '
                            f'at junction {number}')

    def outside(corner: tuple[int, int]) -> np.ndarray:
        return ((graph.junctions < -OUTSIDE) | (graph.junctions > np.array(corner) + OUTSIDE)).any(axis=1)

    lost = outside((width, height))
    if lost.any():
        number = int(np.argmax(lost))
        x, y = graph.junctions[number]
        hint = '; coordinates look like (y, x): swap them' if not outside((height, width)).any() else ''
        raise UserError(f'{place}: junctions: expected (x, y) within {width} x {height} pixels, found ({x:g}, {y:g}) '
                        f'at junction {number}{hint}')


def _check_indices(graph: RoofGraph, place: str) -> None:
    count = len(graph.junctions)
    corners = [corner for face in graph.faces for corner in face]
    for name, indices in (('lines', graph.lines.ravel()), ('faces', corners)):
        wrong = [index for index in indices if not 0 <= index < count]
        if wrong:
            raise UserError(f'{place}: {name}: expected junctions 0 to {count - 1}, found {wrong[0]}')
    for number, face in enumerate(graph.faces):
        if len(set(face)) < 3 or face[0] == face[-1]:
            raise UserError(f'{place}: faces: expected rings of three junctions or more, not closed, '
                            f'found {list(face)} at face {number}')


def _check_lines(graph: RoofGraph, place: str) -> None:
    ends = graph.segments().round(6) + 0.0  # no -0.0
    seen: dict[tuple[tuple[float, ...], ...], int] = {}
    for number, line in enumerate(ends.tolist()):
        first, second = sorted(map(tuple, line))
        if first == second:
            raise UserError(f'{place}: lines: expected two different ends, found a line of length zero at '
                            f'({first[0]:g}, {first[1]:g}): line {number}')
        twin = seen.setdefault((first, second), number)
        if twin != number:
            raise UserError(f'{place}: lines: expected each line once, found ({first[0]:g}, {first[1]:g}) to '
                            f'({second[0]:g}, {second[1]:g}) twice: lines {twin} and {number}')


def _check_occlusions(graph: RoofGraph, place: str) -> None:
    first, last = graph.occlusions.T
    unknown = np.isnan(graph.occlusions).all(axis=1)
    wrong = ~unknown & ~((first >= 0.0) & (first <= last) & (last <= 1.0))
    if wrong.any():
        number = int(np.argmax(wrong))
        raise UserError(f'{place}: occlusions: expected 0 <= s_f <= s_b <= 1, '
                        f'found {graph.occlusions[number].tolist()} at line {number}')
