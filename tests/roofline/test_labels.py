"""The heat maps of a graph: their values, that drawing commutes with moving the graph, and hard negatives."""

import time

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from projects.engine.errors import UserError
from projects.roofline.graph import RoofGraph
from projects.roofline.labels import Maps, cells_of, draw_maps, hard_negatives

STRIDE = 4
HEIGHT, WIDTH = 48, 64  # pixels: 12 x 16 cells


def draw(graph: RoofGraph, size=(HEIGHT, WIDTH), stride=STRIDE, n_types=1) -> Maps:
    cells = cells_of(graph, stride)
    return draw_maps(cells, graph.lines, (size[0] // stride, size[1] // stride), graph.junction_types, n_types)


def decode(maps: Maps, stride=STRIDE) -> list[list[float]]:
    """The junctions (x, y) in pixels, row by row."""
    kind, y, x = np.nonzero(maps.jmap)
    dy, dx = maps.joff[kind, :, y, x].T
    return (np.stack([x + dx + 0.5, y + dy + 0.5], axis=1) * stride).tolist()


def by_definition(cells: np.ndarray, lines: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """max over lines of clip(1 - distance, 0, 1), every cell against every line: (M, h, w)."""
    centres = np.stack(np.mgrid[:size[0], :size[1]], axis=-1) + 0.5
    drawn = np.zeros((len(lines), *size))
    for number, (first, second) in enumerate(np.asarray(cells, np.float64)[lines]):
        step = second - first
        share = np.clip((centres - first) @ step / max(step @ step, 1e-300), 0, 1)
        drawn[number] = 1 - np.linalg.norm(centres - first - share[..., None] * step, axis=-1)
    return np.clip(drawn, 0, 1)


def test_a_triangle():
    graph = RoofGraph.make([[10, 10], [50, 10], [30, 41]], [[0, 1], [1, 2], [2, 0]])
    maps = draw(graph)
    assert maps.jmap.shape == (1, 12, 16) and maps.joff.shape == (1, 2, 12, 16) and maps.lmap.shape == (12, 16)
    assert {array.dtype for array in (maps.jmap, maps.joff, maps.lmap)} == {np.dtype(np.float32)}
    assert np.argwhere(maps.jmap[0]).tolist() == [[2, 2], [2, 12], [10, 7]]
    assert maps.joff[0, :, 10, 7].tolist() == [-0.25, 0.0]  # (41, 30) / 4 = (10.25, 7.5)
    assert maps.joff[0, :, 2, 12].tolist() == [0.0, 0.0]
    assert np.count_nonzero(maps.joff) == 1
    assert decode(maps) == [[10, 10], [50, 10], [30, 41]]
    assert maps.lmap[2, 2:13].tolist() == [1.0] * 11  # from centre to centre
    assert maps.lmap[2, 1] == maps.lmap[1, 5] == 0.0  # one cell off
    np.testing.assert_allclose(maps.lmap, by_definition(cells_of(graph, 4), graph.lines, (12, 16)).max(0), atol=1e-6)


def test_a_roof_on_the_border():
    graph = RoofGraph.make([[0, 0], [64, 0], [64, 48], [0, 48]], [[0, 1], [1, 2], [2, 3], [3, 0]])
    maps = draw(graph)
    assert np.argwhere(maps.jmap[0]).tolist() == [[0, 0], [0, 15], [11, 0], [11, 15]]
    assert ((maps.joff >= -0.5) & (maps.joff < 0.5)).all()
    np.testing.assert_allclose(decode(maps), [[0, 0], [64, 0], [0, 48], [64, 48]], atol=1e-6)
    ring = np.ones((12, 16), bool)
    ring[1:-1, 1:-1] = False
    assert (maps.lmap[ring] == 0.5).all() and (maps.lmap[~ring] == 0).all()


def test_a_t_junction():
    graph = RoofGraph.make([[6, 10], [30, 10], [54, 10], [30, 34]], [[0, 1], [1, 2], [1, 3]])
    maps = draw(graph)
    assert decode(maps) == [[6, 10], [30, 10], [54, 10], [30, 34]]
    assert (maps.lmap[2, 1:14] == 1).all() and (maps.lmap[2:9, 7] == 1).all() and maps.lmap.sum() == 13 + 6


def test_an_image_without_lines():
    maps = draw(RoofGraph.make([], []))
    assert not maps.jmap.any() and not maps.joff.any() and not maps.lmap.any() and maps.lmap.shape == (12, 16)
    assert hard_negatives(np.zeros((0, 2)), np.zeros((0, 2)), maps.lmap).shape == (0, 2)
    alone = draw(RoofGraph.make([[5, 6]], []))
    assert decode(alone) == [[5, 6]] and not alone.lmap.any()


def test_of_two_junctions_in_a_cell_the_offset_is_that_of_the_nearer_to_its_centre():
    for cells in ([[3.4, 3.6], [3.1, 3.1]], [[3.1, 3.1], [3.4, 3.6]]):
        maps = draw_maps(np.array(cells), np.array([[0, 1]]), (8, 8))
        assert maps.jmap.sum() == 1
        np.testing.assert_allclose(maps.joff[0, :, 3, 3], [-0.1, 0.1], atol=1e-6)


def test_several_types_of_junctions():
    cells = np.array([[1.25, 1.5], [1.5, 1.75], [5.5, 2.5]])
    maps = draw_maps(cells, np.array([[0, 2]]), (8, 4), np.array([2, 0, 2]), n_types=3)
    assert np.argwhere(maps.jmap).tolist() == [[0, 1, 1], [2, 1, 1], [2, 5, 2]]
    assert maps.joff[0, :, 1, 1].tolist() == [0, 0.25] and maps.joff[2, :, 1, 1].tolist() == [-0.25, 0]
    assert draw_maps(cells, np.array([[0, 2]]), (8, 4), np.array([2, 0, 2])).jmap.shape == (1, 8, 4)
    with pytest.raises(UserError, match='junction_types: expected classes below n_types = 2, found 2'):
        draw_maps(cells, np.array([[0, 2]]), (8, 4), np.array([2, 0, 2]), n_types=2)


def test_a_junction_outside_the_map_is_a_mistake_of_the_program():
    with pytest.raises(ValueError, match='cells: expected .* within 8 x 4'):
        draw_maps(np.array([[1.0, 4.5]]), np.zeros((0, 2)), (8, 4))


@pytest.mark.parametrize('stride', [1, 2, 4, 8, (4, 8)])
def test_any_stride(stride):
    graph = RoofGraph.make([[9, 13], [43, 31]], [[0, 1]])
    size = tuple(np.array([48, 64]) // stride)
    cells = cells_of(graph, stride)
    np.testing.assert_array_equal(cells * np.broadcast_to(stride, 2), [[13, 9], [31, 43]])
    maps = draw_maps(cells, graph.lines, size)
    kind, y, x = np.nonzero(maps.jmap)
    found = (np.stack([y, x], axis=1) + maps.joff[kind, :, y, x] + 0.5) * stride
    np.testing.assert_allclose(found, [[13, 9], [31, 43]], atol=1e-5)


@given(seed=st.integers(0, 10**6), height=st.integers(1, 40), width=st.integers(1, 40), coarse=st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_line_map_is_one_less_the_distance(seed, height, width, coarse):
    generator = np.random.default_rng(seed)
    cells = generator.uniform(0, 1, (8, 2)) * (height, width)
    if coarse:  # ends on corners and centres of cells, level and upright lines
        cells = np.round(cells * 2) / 2
    lines = generator.integers(0, 8, (12, 2))
    drawn = draw_maps(cells, lines, (height, width)).lmap
    np.testing.assert_allclose(drawn, by_definition(cells, lines, (height, width)).max(0), atol=1e-6)


@st.composite
def graphs(draw_from, height=HEIGHT, width=WIDTH, stride=STRIDE) -> RoofGraph:
    """Roofs with coordinates in 1/64 pixel, exact in float32, no junction on a border between cells, none unused."""
    def place(side: int):
        return st.integers(1, side * 64 - 1).map(lambda k: (k + (k % (stride * 64) == 0)) / 64)

    junctions = draw_from(st.lists(st.tuples(place(width), place(height)), min_size=2, max_size=10, unique=True))
    count = len(junctions)
    pairs = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)).filter(lambda pair: pair[0] < pair[1])
    lines = [(k, k + 1) for k in range(count - 1)]
    lines += [pair for pair in draw_from(st.lists(pairs, max_size=6, unique=True)) if pair not in lines]
    kinds = draw_from(st.lists(st.integers(0, 1), min_size=count, max_size=count))
    return RoofGraph.make(junctions, lines, junction_types=kinds)


def same(found: Maps, jmap: np.ndarray, joff: np.ndarray, lmap: np.ndarray) -> None:
    np.testing.assert_array_equal(found.jmap, jmap)
    np.testing.assert_array_equal(found.joff, joff)  # coordinates are exact, so the offsets are
    np.testing.assert_allclose(found.lmap, lmap, atol=1e-6)


@given(graph=graphs())
@settings(max_examples=100, deadline=None)
def test_flips_commute_with_drawing(graph):
    maps = draw(graph, n_types=2)
    across = draw(graph.moved([[-1, 0, WIDTH], [0, 1, 0]]).clipped((HEIGHT, WIDTH)), n_types=2)
    sign = np.array([1, -1], np.float32).reshape(2, 1, 1)
    same(across, maps.jmap[..., ::-1], maps.joff[..., ::-1] * sign, maps.lmap[:, ::-1])
    down = draw(graph.moved([[1, 0, 0], [0, -1, HEIGHT]]).clipped((HEIGHT, WIDTH)), n_types=2)
    same(down, maps.jmap[..., ::-1, :], maps.joff[..., ::-1, :] * -sign, maps.lmap[::-1])


@given(graph=graphs(), turns=st.integers(1, 3))
@settings(max_examples=100, deadline=None)
def test_quarter_turns_commute_with_drawing(graph, turns):
    maps = draw(graph, n_types=2)
    jmap, joff, lmap = maps.jmap, maps.joff, maps.lmap
    size = (HEIGHT, WIDTH)
    for _ in range(turns):  # as numpy.rot90 turns an image: against the clock
        graph = graph.moved([[0, 1, 0], [-1, 0, size[1]]])
        size = size[::-1]
        jmap, lmap = np.rot90(jmap, axes=(-2, -1)), np.rot90(lmap)
        joff = np.rot90(joff, axes=(-2, -1))
        joff = np.stack([-joff[:, 1], joff[:, 0]], axis=1)
    same(draw(graph.clipped(size), size, n_types=2), jmap, joff, lmap)


@given(graph=graphs(), data=st.data())
@settings(max_examples=150, deadline=None)
def test_crops_commute_with_drawing(graph, data):
    """But for the outermost cells: lines that pass just outside still shine into them, and cut ends lie there."""
    top, left = data.draw(st.integers(0, 8)), data.draw(st.integers(0, 12))
    height, width = data.draw(st.integers(3, 12 - top)), data.draw(st.integers(3, 16 - left))
    maps = draw(graph, n_types=2)
    moved = graph.moved([[1, 0, -left * STRIDE], [0, 1, -top * STRIDE]])
    cropped = draw(moved.clipped((height * STRIDE, width * STRIDE)), (height * STRIDE, width * STRIDE), n_types=2)
    ys, xs = slice(top + 1, top + height - 1), slice(left + 1, left + width - 1)
    np.testing.assert_array_equal(cropped.jmap[:, 1:-1, 1:-1], maps.jmap[:, ys, xs])
    np.testing.assert_array_equal(cropped.joff[..., 1:-1, 1:-1], maps.joff[..., ys, xs])
    np.testing.assert_allclose(cropped.lmap[1:-1, 1:-1], maps.lmap[ys, xs], atol=2e-5)  # cut ends in float32


@given(graph=graphs(), factor=st.sampled_from([0.5, 2, 4]))
@settings(max_examples=50, deadline=None)
def test_scaling_commutes_with_drawing(graph, factor):
    """With a stride that scales as well, nothing changes."""
    scaled = graph.moved([[factor, 0, 0], [0, factor, 0]])
    maps = draw(graph, n_types=2)
    again = draw_maps(cells_of(scaled, STRIDE * factor), scaled.lines, maps.lmap.shape, scaled.junction_types, 2)
    same(again, maps.jmap, maps.joff, maps.lmap)


@given(graph=graphs(), left=st.integers(0, 3), top=st.integers(0, 3))
@settings(max_examples=50, deadline=None)
def test_a_letterbox_by_whole_cells_commutes_with_drawing(graph, left, top):
    maps = draw(graph, n_types=2)
    boxed = draw(graph.moved([[1, 0, left * STRIDE], [0, 1, top * STRIDE]]), (64, 80), n_types=2)
    inside = np.s_[..., top:top + 12, left:left + 16]
    same(Maps(boxed.jmap[inside], boxed.joff[inside], boxed.lmap[inside]), maps.jmap, maps.joff, maps.lmap)
    assert boxed.jmap.sum() == maps.jmap.sum()


@given(seed=st.integers(0, 10**6))
@settings(max_examples=50, deadline=None)
def test_junctions_come_back_from_their_maps(seed):
    generator = np.random.default_rng(seed)
    cells = generator.permutation(128 * 128)[:40]  # one a cell
    cells = np.stack([cells // 128, cells % 128], axis=1) + generator.uniform(0, 1, (40, 2))
    graph = RoofGraph.make(cells[:, ::-1] * 4, [[k, k + 1] for k in range(39)])
    found = decode(draw(graph, (512, 512)))
    expected = graph.junctions[np.lexsort(np.floor(cells).T[::-1])]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def likeness(cells: np.ndarray, pair: tuple[int, int], lmap: np.ndarray) -> float:
    """mean(min(antialiased pair, line map)) on the grid of half the size, by definition."""
    height, width = lmap.shape
    grid = lmap.reshape(height // 2, 2, width // 2, 2).max(axis=(1, 3))
    drawn = by_definition(cells / 2, np.array([pair]), grid.shape)[0]
    return np.minimum(drawn, grid)[drawn > 0].mean()


@given(seed=st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_hard_negatives_are_ranked_by_the_measure(seed):
    generator = np.random.default_rng(seed)
    cells = generator.uniform(0, 1, (9, 2)) * (24, 32)
    lines = np.unique(generator.integers(0, 9, (8, 2)), axis=0)
    lines = lines[lines[:, 0] != lines[:, 1]]
    assume(len(lines))
    lmap = draw_maps(cells, lines, (24, 32)).lmap
    found = hard_negatives(cells, lines, lmap)
    known = {tuple(sorted(line)) for line in lines.tolist()}
    expected = {(u, v) for u in range(9) for v in range(u + 1, 9)} - known
    assert {tuple(pair) for pair in found.tolist()} == expected and len(found) == len(expected)
    scores = [likeness(cells, pair, lmap) for pair in found.tolist()]
    assert all(later <= earlier + 1e-4 for earlier, later in zip(scores, scores[1:]))
    assert hard_negatives(cells, lines, lmap, limit=3).tolist() == found[:3].tolist()


def test_the_hardest_negative_lies_along_lines():
    cells = np.array([[4.5, 4.5], [4.5, 16.5], [4.5, 28.5], [20.5, 16.5]])  # a T: 0-2 runs over two lines
    lines = np.array([[0, 1], [1, 2], [3, 1]])
    found = hard_negatives(cells, lines, draw_maps(cells, lines, (32, 32)).lmap)
    assert found[0].tolist() == [0, 2] and sorted(found.tolist()) == [[0, 2], [0, 3], [2, 3]]


def test_maps_of_odd_size_have_a_last_block_of_their_own():
    cells = np.array([[4.5, 0.5], [4.5, 4.5], [0.5, 4.5]])
    lines = np.array([[0, 1]])
    assert len(hard_negatives(cells, lines, draw_maps(cells, lines, (5, 5)).lmap)) == 2


def quickest(work, times: int = 7) -> float:
    def once() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return min(once() for _ in range(times))


def test_drawing_is_fast():
    generator = np.random.default_rng(0)
    cells = generator.uniform(0, 128, (30, 2)).astype(np.float32)
    lines = np.stack([np.arange(30), (np.arange(30) + 7) % 30], axis=1)
    assert quickest(lambda: draw_maps(cells, lines, (128, 128))) < 0.02  # 0.9 ms measured
    many = generator.uniform(0, 128, (300, 2)).astype(np.float32)
    lmap = draw_maps(many, np.stack([np.arange(300), (np.arange(300) + 7) % 300], axis=1), (128, 128)).lmap
    assert quickest(lambda: hard_negatives(many, lines, lmap), 2) < 4  # 0.45 s measured
