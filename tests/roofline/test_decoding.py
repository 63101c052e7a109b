"""Wireframes from drawn maps: what was drawn comes back, and what was not does not."""

import numpy as np
import pytest

from projects.roofline.decoding import decode_maps
from projects.roofline.labels import draw_maps

SIZE = (32, 40)
Lines = set[tuple[tuple[float, float], ...]]


def decoded(cells: list[tuple[float, float]], lines: list[tuple[int, int]], **options) -> Lines:
    """The lines (ends in cells (y, x), sorted) that come back from the maps of these junctions (y, x) and lines."""
    maps = draw_maps(np.array(cells, np.float32), np.array(lines, np.int64).reshape(-1, 2), SIZE)
    wireframe = decode_maps(maps.jmap, maps.joff, maps.lmap, stride=1.0, **options)
    assert len(wireframe.junctions) == len(cells)
    assert np.all(np.diff(wireframe.scores) <= 0)
    return {tuple(sorted(tuple(end) for end in line)) for line in wireframe.segments()[..., ::-1].round(3).tolist()}


def given(cells: list[tuple[float, float]], lines: list[tuple[int, int]]) -> Lines:
    return {tuple(sorted((cells[first], cells[second]))) for first, second in lines}


@pytest.mark.parametrize('cells, lines', [
    pytest.param([(2.25, 3.5), (20.125, 7.75), (9.5, 33.0)], [(0, 1), (1, 2), (2, 0)], id='triangle'),
    pytest.param([(0.0, 0.0), (0.0, 25.0), (32.0, 25.0), (32.0, 0.0)], [(0, 1), (1, 2), (2, 3), (3, 0)], id='border'),
    pytest.param([(4.0, 4.0), (4.0, 20.0), (4.0, 30.0), (25.5, 20.0)], [(0, 1), (1, 2), (1, 3)], id='T-junction'),
    pytest.param([(5.0, 5.0), (6.0, 6.0), (20.0, 20.0)], [], id='no lines'),
    pytest.param([(4.0, 2.0), (4.0, 12.0), (4.0, 15.0), (4.0, 38.0)], [(0, 1), (2, 3)], id='a gap in a row'),
    pytest.param([(4.0, 2.0), (20.0, 12.0), (4.75, 22.0)], [(0, 1), (1, 2)], id='an open angle'),
    pytest.param([(10.0, 2.0), (9.25, 38.0), (8.5, 20.0)], [(0, 1)], id='a junction beside a line'),
    pytest.param([(4.5, 2.5), (4.5, 3.5), (20.5, 3.5)], [(0, 1), (1, 2)], id='junctions in adjacent cells'),
])
def test_what_was_drawn_comes_back(cells: list[tuple[float, float]], lines: list[tuple[int, int]]):
    assert decoded(cells, lines) == given(cells, lines)


def test_a_line_through_a_junction_comes_back_as_its_two_parts():
    cells = [(4.0, 2.0), (4.0, 12.0), (4.0, 22.0)]
    assert decoded(cells, [(0, 2)]) == given(cells, [(0, 1), (1, 2)])


def test_a_drawn_line_scores_1_and_coordinates_are_pixels():
    cells = np.array([[0.0, 1.3], [31.9, 17.2], [11.7, 39.9]], np.float32)
    maps = draw_maps(cells, np.array([[0, 1], [1, 2], [0, 2]]), SIZE)
    wireframe = decode_maps(maps.jmap, maps.joff, maps.lmap)
    np.testing.assert_allclose(wireframe.scores, 1, atol=1e-4)
    expected = cells[:, ::-1] * 4
    np.testing.assert_allclose(wireframe.junctions[np.argsort(wireframe.junctions[:, 0])], expected, atol=1e-3)


def test_a_pair_that_leaves_the_line_is_refused_by_how_far():
    for bend, kept in ((0.3, True), (1.0, False)):
        # the middle junction is not decoded, so that only the map speaks
        maps = draw_maps(np.array([[10.5, 2.5], [10.5 + bend, 18.5], [10.5, 34.5]], np.float32),
                         np.array([[0, 1], [1, 2]]), SIZE)
        maps.jmap[0, :, 18] = 0
        wireframe = decode_maps(maps.jmap, maps.joff, maps.lmap)
        assert len(wireframe.junctions) == 2
        assert len(wireframe.lines) == kept
        if kept:
            assert wireframe.scores[0] == pytest.approx(1 - bend, abs=0.05)


def test_a_share_of_worst_points_can_be_overlooked():
    maps = draw_maps(np.array([[10.5, 2.5], [10.5, 37.5]], np.float32), np.array([[0, 1]]), SIZE)
    maps.lmap[:, 20] = 0  # 1 of 35 cells
    assert len(decode_maps(maps.jmap, maps.joff, maps.lmap).lines) == 0
    assert len(decode_maps(maps.jmap, maps.joff, maps.lmap, quantile=0.1).lines) == 1


def test_empty_maps_are_an_empty_wireframe():
    maps = draw_maps(np.zeros((0, 2), np.float32), np.zeros((0, 2), np.int64), SIZE)
    wireframe = decode_maps(maps.jmap, maps.joff, maps.lmap)
    assert wireframe.junctions.shape == (0, 2) and wireframe.lines.shape == (0, 2)
    assert wireframe.junction_scores.shape == wireframe.scores.shape == (0,)
