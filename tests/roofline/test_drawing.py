"""Pictures of wireframes: where lines lie, in which colours, and what is counted as an error."""

import numpy as np
import pytest

from projects.roofline.drawing import (
    BLANK,
    FALSE,
    JUNCTION,
    MATCHED,
    MISSED,
    TYPE_COLOURS,
    canvas_of,
    draw_errors,
    draw_graph,
    draw_junctions,
    draw_lines,
    draw_wireframe,
    line_errors,
    score_colours,
    wireframe_panel,
)
from projects.roofline.graph import LINE_TYPES, RoofGraph
from projects.roofline.wireframe import Wireframe

SIZE = (100, 200)


def graph():
    return RoofGraph.make([[20, 20], [180, 20], [20, 80], [180, 80]], [[0, 1], [2, 3], [0, 2]],
                          ['ridge', 'eave', 'hip'])


def predicted():
    """The first line a little off, a false one, and the third found twice."""
    return Wireframe.make([[20, 21], [180, 20], [100, 50], [20, 80], [150, 60]], [[0, 1], [2, 4], [0, 3], [3, 0]],
                          [0.9, 0.8, 0.7, 0.6])


def test_every_type_has_a_colour_of_its_own():
    assert tuple(TYPE_COLOURS) == LINE_TYPES and len({*TYPE_COLOURS.values()}) == len(LINE_TYPES)


def test_a_line_lies_where_it_is():
    canvas = np.zeros((40, 40, 3), np.uint8)
    draw_lines(canvas, np.array([[[2.0, 5.0], [8.0, 5.0]]]), np.array([[250, 200, 100]]), 4.0, thickness=2)
    # 4 x (2, 5): the line is centred on the boundary between rows 19 and 20
    bright = canvas[..., 0].astype(float)
    rows = bright[:, 12:28].sum(axis=1)
    assert (rows * (np.arange(40) + 0.5)).sum() / rows.sum() == pytest.approx(20, abs=0.3)
    columns = np.flatnonzero(canvas[20, :, 0] > 200)
    assert columns.min() == pytest.approx(8, abs=2) and columns.max() == pytest.approx(32, abs=2)
    assert (canvas[20, 20] == (250, 200, 100)).all()


def test_a_junction_lies_where_it_is():
    canvas = np.zeros((40, 40, 3), np.uint8)
    draw_junctions(canvas, np.array([[3.5, 6.25]]), 4.0)
    weight = (canvas[..., 0] > 200).astype(float)
    rows, columns = np.mgrid[:40, :40] + 0.5
    assert (weight * columns).sum() / weight.sum() == pytest.approx(14, abs=0.3)
    assert (weight * rows).sum() / weight.sum() == pytest.approx(25, abs=0.3)


def test_types_have_their_colours_and_the_image_shows():
    image = np.full((*SIZE, 3), 90, np.uint8)
    picture = draw_graph(image, graph(), SIZE, side=400)
    assert picture.shape == (200, 400, 3) and picture.dtype == np.uint8
    assert tuple(picture[40, 200]) == TYPE_COLOURS['ridge']  # (x, y) = (100, 20)
    assert tuple(picture[160, 200]) == TYPE_COLOURS['eave'] and tuple(picture[100, 40]) == TYPE_COLOURS['hip']
    assert tuple(picture[40, 40]) == JUNCTION and tuple(picture[100, 200]) == (90, 90, 90)
    assert (image == 90).all()  # the caller's is not drawn on


def test_without_an_image_and_with_a_large_one():
    assert tuple(draw_graph(None, graph(), SIZE, side=400)[100, 200]) == (BLANK,) * 3
    assert canvas_of(np.zeros((1000, 500, 3), np.uint8), (1000, 500), 200).shape == (200, 100, 3)
    grey = canvas_of(np.full((10, 20), 7.0), (10, 20), 20)
    assert grey.shape == (10, 20, 3) and (grey == 7).all()


def test_errors():
    errors = line_errors(predicted(), graph(), SIZE)
    assert errors.hits.tolist() == [True, False, True, False] and errors.found.tolist() == [True, False, True]
    picture = draw_errors(None, predicted(), graph(), errors, SIZE, side=400)
    assert tuple(picture[100, 40]) == MATCHED and tuple(picture[160, 200]) == MISSED
    assert tuple(picture[110, 250]) == FALSE  # (125, 55), between (100, 50) and (150, 60)
    nothing = line_errors(Wireframe.make([]), graph(), SIZE)
    assert nothing.hits.shape == (0,) and not nothing.found.any()


def test_scores_are_written_beside_lines():
    one = Wireframe.make([[20, 50], [180, 50]], [[0, 1]], [0.87])
    picture, other = draw_wireframe(None, one, SIZE, 400), draw_wireframe(
        None, Wireframe.make(one.junctions, one.lines, [0.31]), SIZE, 400)
    assert tuple(picture[100, 100]) == tuple(score_colours([0.87])[0]) != tuple(other[100, 100])
    middle = np.s_[92:109, 188:213]
    assert (picture[middle] != other[middle]).any() and (picture[middle] == 255).all(axis=-1).any()
    typed = draw_wireframe(None, one, SIZE, 400, types=np.array([3]))
    assert tuple(typed[100, 100]) == TYPE_COLOURS['hip']


def test_panel():
    image = np.full((*SIZE, 3), 90, np.uint8)
    everything = wireframe_panel(image, graph(), predicted(), SIZE, title='a roof', side=400)
    assert everything.size[0] > 4 * 400
    assert wireframe_panel(None, None, predicted(), SIZE, side=400).size[0] < 500  # the prediction alone
    assert wireframe_panel(None, graph(), Wireframe.make([]), SIZE).size[0] > 3 * 400  # nothing was found
    colours = {tuple(int(v) for v in colour) for colour in np.asarray(everything).reshape(-1, 3)}
    assert {MATCHED, FALSE, MISSED, TYPE_COLOURS['ridge']} <= colours
    without = wireframe_panel(image, graph(), predicted(), SIZE, threshold=0.85, side=400)
    colours = {tuple(int(v) for v in colour) for colour in np.asarray(without)[:-60].reshape(-1, 3)}
    assert FALSE not in colours and MISSED in colours  # the false line scores 0.8
