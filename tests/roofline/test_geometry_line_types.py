"""What lines are, from planes: hand-made roofs whose types are known."""

import numpy as np
import pytest

from projects.roofline.geometry.line_types import rise_of, rises_from_heights, types_from_planes
from projects.roofline.graph import LINE_TYPES
from projects.roofline.importing.roof_graphs import graph_of_faces

# A hipped roof, 20 x 10, eaves at 3 m, ridge at 6 m: x, y, height.
HIPPED = np.array([[0, 0, 3], [20, 0, 3], [20, 10, 3], [0, 10, 3], [5, 5, 6], [15, 5, 6]], float)
HIPPED_FACES = [[0, 1, 5, 4], [1, 2, 5], [2, 3, 4, 5], [3, 0, 4]]
METRES = np.eye(2)  # a pixel is a metre


def names(graph):
    return {tuple(sorted(line)): LINE_TYPES[kind] for line, kind in zip(graph.lines.tolist(), graph.types, strict=True)}


def test_a_hipped_roof():
    found = names(graph_of_faces(HIPPED, HIPPED_FACES, 'x', METRES))
    assert found == {(0, 1): 'eave', (1, 2): 'eave', (2, 3): 'eave', (0, 3): 'eave', (4, 5): 'ridge', (0, 4): 'hip',
                     (1, 5): 'hip', (2, 5): 'hip', (3, 4): 'hip'}


@pytest.mark.parametrize('turn', [0.0, 30.0, 90.0, 200.0])
@pytest.mark.parametrize('mirror', [1.0, -1.0])
def test_types_do_not_depend_on_how_a_roof_lies(turn, mirror):
    angle = np.radians(turn)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * [1.0, mirror]
    moved = HIPPED.copy()
    moved[:, :2] = HIPPED[:, :2] @ matrix.T + 7.0
    assert names(graph_of_faces(moved, [face[::-1] for face in HIPPED_FACES], 'x', METRES)) == names(
        graph_of_faces(HIPPED, HIPPED_FACES, 'x', METRES))


def test_a_roof_turned_inside_out_has_valleys():
    hollow = HIPPED * [1, 1, -1]
    found = names(graph_of_faces(hollow, HIPPED_FACES, 'x', METRES))
    assert {found[line] for line in ((4, 5), (0, 4), (1, 5), (2, 5), (3, 4))} == {'valley'}
    assert found[0, 1] == 'outline'  # the roof falls from it: no eave


def test_a_mansard_breaks_and_gables_have_verges():
    # Along y: 0..2 rises by 3, 2..5 by 1, then a ridge at 5, and mirrored.
    rows = [(0, 0.0), (2, 3.0), (5, 4.0), (8, 3.0), (10, 0.0)]
    verts = np.array([[x, y, z] for y, z in rows for x in (0, 20)], float)
    found = names(graph_of_faces(verts, [[2 * k, 2 * k + 1, 2 * k + 3, 2 * k + 2] for k in range(4)], 'x', METRES))
    assert [found[2 * k, 2 * k + 1] for k in range(5)] == ['eave', 'break', 'ridge', 'break', 'eave']
    assert {found[k, k + 2] for k in range(8)} == {'verge'}


def test_unknown_planes_stay_outline_and_inner():
    graph = graph_of_faces(HIPPED[:, :2], HIPPED_FACES, 'x', METRES)
    assert names(graph)[4, 5] == 'inner'
    assert names(graph)[0, 1] == 'outline'
    rises = np.full((4, 2), np.nan)
    rises[1] = (-0.6, 0.0)
    types = types_from_planes(HIPPED[:, :2], graph.lines, graph.faces, rises)
    found = {tuple(line): LINE_TYPES[kind] for line, kind in zip(graph.lines.tolist(), types, strict=True)}
    assert found[1, 2] == 'eave'
    assert found[1, 5] == 'inner'  # one plane alone does not say
    assert found[0, 1] == 'outline'


@pytest.mark.parametrize('step', [0.05, 0.3])
def test_types_are_told_by_metres_and_not_by_pixels(step):
    found = names(graph_of_faces(HIPPED / [step, step, 1.0], HIPPED_FACES, 'x', step * np.eye(2)))
    assert found == names(graph_of_faces(HIPPED, HIPPED_FACES, 'x', METRES))
    assert found[4, 5] == 'ridge'


def test_heights_without_metres_a_pixel_are_kept_and_tell_no_types():
    graph = graph_of_faces(HIPPED, HIPPED_FACES, 'x')
    assert set(names(graph).values()) == {'outline', 'inner'}
    assert graph.heights.tolist() == HIPPED[:, 2].tolist()


def test_rises():
    assert rise_of(0.0, 45.0) == pytest.approx([0.0, 1.0])  # looks south: uphill is north
    assert rise_of(90.0, 45.0) == pytest.approx([1.0, 0.0])  # looks west
    assert rise_of(90.0, 45.0, 'north') == pytest.approx([-1.0, 0.0])  # looks east
    assert rise_of(None, 0.0).tolist() == [0.0, 0.0]
    assert np.isnan(rise_of(None, 35.0)).all()
    assert np.isnan(rise_of(10.0, None)).all()
    heights = np.array([0.0, 2.0, np.nan, 1.0])
    ground = np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 2.0], [0.0, 2.0]])
    found = rises_from_heights(ground, heights, [(0, 1, 2, 3), (0, 1, 2)])
    assert found[0] == pytest.approx([0.5, 0.5])
    assert np.isnan(found[1]).all()
