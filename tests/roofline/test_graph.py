"""The graph of a roof: what is refused, how it moves, and what clipping leaves."""

import json

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from projects.engine.errors import UserError
from projects.roofline.graph import LINE_TYPES, RoofGraph

TRIANGLE = dict(junctions=[[10, 10], [50, 10], [30, 40]], lines=[[0, 1], [1, 2], [2, 0]])


def test_lists_become_arrays_with_defaults():
    graph = RoofGraph.make(**TRIANGLE)
    assert graph.junctions.dtype == np.float64 and graph.lines.dtype == np.int64 and graph.types.dtype == np.uint8
    assert graph.junctions.tolist() == [[10, 10], [50, 10], [30, 40]]
    assert graph.types.tolist() == [0, 0, 0] and graph.junction_types.tolist() == [0, 0, 0]
    assert graph.heights is None and np.isnan(graph.occlusions).all() and graph.occlusions.shape == (3, 2)
    assert graph.segments().tolist()[2] == [[30, 40], [10, 10]]
    assert not graph.empty


def test_a_graph_without_anything():
    graph = RoofGraph.make([], [])
    graph.check((4, 4), 'a.png')
    assert graph.empty and graph.segments().shape == (0, 2, 2)
    assert graph.moved([[1, 0, 3], [0, 1, 4]]).clipped((4, 4)).empty
    alone = RoofGraph.make([[1, 2]], [])
    alone.check((4, 4), 'a.png')
    assert alone.empty


def test_types_come_from_faces():
    graph = RoofGraph.make([[0, 0], [4, 0], [4, 4], [0, 4]], [[0, 1], [2, 0], [3, 0], [1, 2], [1, 3]],
                           faces=[[0, 1, 2], (2, 3, 0)])
    assert [LINE_TYPES[kind] for kind in graph.types] == ['outline', 'inner', 'outline', 'outline', 'outline']
    assert graph.faces == ((0, 1, 2), (2, 3, 0))


def test_types_by_name():
    graph = RoofGraph.make(**TRIANGLE, types=['ridge', 7, 'eave'])
    assert graph.types.tolist() == [2, 7, 5]


@pytest.mark.parametrize('types', [['roof', 0, 0], [0, 8, 0], [0, -1, 0], [0, 0.5, 0]])
def test_unknown_types_are_refused(types):
    with pytest.raises(UserError, match='types: expected one of outline, .* or its place 0 to 7, found'):
        RoofGraph.make(**TRIANGLE, types=types)


@pytest.mark.parametrize('change, message', [
    (dict(junctions=[[1, 2, 3]]), 'junctions: expected N x 2 numbers, found 1 x 3'),
    (dict(junctions=[[1, 2], [3]]), 'junctions: expected N x 2 numbers, found'),
    (dict(junctions=['a']), 'junctions: expected N x 2 numbers, found'),
    (dict(lines=[0, 1]), 'lines: expected N x 2 numbers, found 2'),
    (dict(lines=[[0.5, 1]]), 'lines: expected whole numbers, found 0.5'),
    (dict(types=[0]), 'types: expected 3 numbers, found 1'),
    (dict(junction_types=[0, 1, -1]), 'junction_types: expected whole numbers, found -1'),
    (dict(junction_types=[0, 1, 256]), 'junction_types: expected whole numbers, found 256'),
    (dict(heights=[1.0]), 'heights: expected 3 numbers, found 1'),
    (dict(occlusions=[[0, 1]]), 'occlusions: expected 3 x 2 numbers, found 1 x 2'),
])
def test_fields_of_another_shape_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        RoofGraph.make(**{**TRIANGLE, **change})


def refusal(size=(60, 60), **change) -> str:
    with pytest.raises(UserError) as error:
        RoofGraph.make(**{**TRIANGLE, **change}).check(size, 'roofs.json: a.png')
    message = str(error.value)
    assert message.startswith('roofs.json: a.png: ') and '\n' not in message
    return message


def test_check_finds_a_junction_outside():
    assert 'within 60 x 60 pixels, found (61, 10) at junction 1' in refusal(junctions=[[10, 10], [61, 10], [30, 40]])
    assert 'found (10, -0.5) at junction 0' in refusal(junctions=[[10, -0.5], [50, 10], [30, 40]])
    assert 'look like' not in refusal(junctions=[[10, 10], [61, 10], [30, 40]])


def test_check_names_swapped_coordinates():
    message = refusal(size=(30, 60), junctions=[[10, 10], [10, 50], [25, 40]])
    assert 'within 60 x 30 pixels, found (10, 50) at junction 1; coordinates look like (y, x): swap them' in message


def test_check_allows_the_border_itself_and_rounding():
    RoofGraph.make([[0, 0], [60, 0], [60, 30], [-1e-9, 30 + 1e-9]], [[0, 1], [1, 2], [2, 3], [3, 0]]).check(
        (30, 60), 'a.png')


def test_check_finds_what_is_not_finite():
    assert 'finite numbers, found [nan, 10.0] at junction 0' in refusal(junctions=[[np.nan, 10], [50, 10], [30, 40]])
    assert 'heights: expected finite numbers, found inf at junction 2' in refusal(heights=[1, np.nan, np.inf])
    RoofGraph.make(**TRIANGLE, heights=[1, 2, np.nan]).check((60, 60), 'a.png')  # not known is allowed


def test_check_finds_an_index_that_is_no_junction():
    assert 'lines: expected junctions 0 to 2, found 3' in refusal(lines=[[0, 1], [1, 2], [2, 3]])
    assert 'lines: expected junctions 0 to 2, found -1' in refusal(lines=[[0, 1], [1, 2], [2, -1]])
    assert 'faces: expected junctions 0 to 2, found 9' in refusal(faces=[[0, 1, 9]])


def test_check_finds_rings_that_are_no_face():
    assert 'faces: expected rings of three junctions or more, not closed, found [0, 1] at face 0' in refusal(
        faces=[[0, 1]])
    assert 'found [0, 1, 2, 0] at face 1' in refusal(faces=[[0, 1, 2], [0, 1, 2, 0]])


def test_check_finds_a_line_of_length_zero():
    assert 'length zero at (10, 10): line 1' in refusal(lines=[[0, 1], [0, 0], [1, 2]])
    assert 'length zero at (50, 10): line 1' in refusal(junctions=[[10, 10], [50, 10], [50, 10]])


def test_check_finds_a_line_given_twice():
    assert '(10, 10) to (50, 10) twice: lines 0 and 2' in refusal(lines=[[0, 1], [1, 2], [0, 1]])
    assert '(10, 10) to (50, 10) twice: lines 0 and 2' in refusal(lines=[[0, 1], [1, 2], [1, 0]])
    doubled = [[10, 10], [50, 10], [30, 40], [10, 10], [50, 10]]  # every face with junctions of its own
    assert 'twice: lines 0 and 1' in refusal(junctions=doubled, lines=[[0, 1], [4, 3], [1, 2]])


@pytest.mark.parametrize('interval', [[0.6, 0.5], [-0.1, 0.5], [0.5, 1.1], [np.nan, 1.0]])
def test_check_finds_an_occlusion_that_is_no_interval(interval):
    assert 'occlusions: expected 0 <= s_f <= s_b <= 1, found' in refusal(
        occlusions=[[0, 0], interval, [np.nan, np.nan]])


def test_real_roofs_pass(shared_data):
    records = json.loads((shared_data / 'roofline/roofgraph/annotations.json').read_text())['images']
    for record in records:
        graph = RoofGraph.make(record['junctions'], record['lines'], None, record['faces'])
        graph.check((record['height'], record['width']), record['file'])
        assert graph.types.tolist() == record['line_type']


def test_moved_is_the_affine_map():
    graph = RoofGraph.make(**TRIANGLE, heights=[1, 2, 3], occlusions=[[0, 0.5]] * 3, types=[2, 3, 4])
    moved = graph.moved(np.array([[0, 2, 5], [-1, 0, 60]]))
    assert moved.junctions.tolist() == [[25, 50], [25, 10], [85, 30]]
    for name in ('lines', 'types', 'heights', 'occlusions', 'junction_types'):
        np.testing.assert_array_equal(getattr(moved, name), getattr(graph, name))


def test_clipping_keeps_a_roof_on_the_border_as_it_is():
    graph = RoofGraph.make([[0, 0], [60, 0], [60, 30], [0, 30]], [[0, 1], [1, 2], [2, 3], [3, 0]], faces=[(0, 1, 2, 3)])
    clipped = graph.clipped((30, 60))
    assert clipped.junctions.tolist() == graph.junctions.tolist()
    assert clipped.lines.tolist() == graph.lines.tolist() and clipped.faces == graph.faces


def test_a_cut_end_becomes_a_junction_with_height_type_and_rest_of_the_occlusion():
    graph = RoofGraph.make([[-10, 5], [10, 5], [10, 9]], [[0, 1], [1, 2], [1, 0]], types=['ridge', 'hip', 'eave'],
                           junction_types=[3, 1, 2], heights=[0, 4, 8],
                           occlusions=[[0.25, 0.75], [0.1, 0.2], [0.0, 0.125]])
    clipped = graph.clipped((10, 20))
    assert clipped.junctions.tolist() == [[10, 5], [10, 9], [0, 5], [0, 5]]
    assert clipped.lines.tolist() == [[2, 0], [0, 1], [0, 3]]
    assert clipped.types.tolist() == [2, 3, 5]
    assert clipped.junction_types.tolist() == [1, 2, 3, 3]
    assert clipped.heights.tolist() == [4, 8, 2, 2]
    np.testing.assert_allclose(clipped.occlusions, [[0, 0.5], [0.1, 0.2], [0, 0.25]])


def test_a_line_cut_at_both_ends():
    graph = RoofGraph.make([[-10, -10], [30, 30]], [[1, 0]], heights=[0, 40], occlusions=[[0.6, 0.7]])
    clipped = graph.clipped((20, 10))
    np.testing.assert_allclose(clipped.segments(), [[[10, 10], [0, 0]]])
    np.testing.assert_allclose(clipped.heights[clipped.lines], [[20, 10]])
    np.testing.assert_allclose(clipped.occlusions, [[0.4, 0.8]])


@pytest.mark.parametrize('occlusion, expected', [([0, 0], [0, 0]), ([0, 0.2], [0, 0]), ([0.8, 0.9], [0.6, 0.8]),
                                                 ([0, 1], [0, 1]), ([np.nan, np.nan], [np.nan, np.nan])])
def test_occlusions_of_the_second_half(occlusion, expected):
    clipped = RoofGraph.make([[-10, 5], [10, 5]], [[0, 1]], occlusions=[occlusion]).clipped((10, 10))
    np.testing.assert_allclose(clipped.occlusions, [expected], atol=1e-12)


def test_what_clipping_drops():
    graph = RoofGraph.make(
        [[5, 5], [15, 5], [12, 9], [10.5, -0.5], [9.5, -0.5], [10.5, 0.5], [8, 8], [2, 8], [10, 2], [14, 2], [3, 3]],
        [[0, 1], [1, 2], [4, 5], [6, 7], [7, 0], [0, 6], [8, 9]], faces=[(0, 6, 7), (0, 1, 6)])
    clipped = graph.clipped((10, 10))
    # 1-2 lies outside, 4-5 crosses a corner for less than a pixel, 8-9 only touches the border; 10 has no line
    assert clipped.segments().tolist() == [[[5, 5], [10, 5]], [[8, 8], [2, 8]], [[2, 8], [5, 5]], [[5, 5], [8, 8]]]
    assert len(clipped.junctions) == 4
    assert [clipped.junctions[list(face)].tolist() for face in clipped.faces] == [[[5, 5], [8, 8], [2, 8]]]


def test_a_short_line_inside_is_no_piece():
    graph = RoofGraph.make([[5, 5], [5.25, 5]], [[0, 1]])
    assert graph.clipped((10, 10)).segments().tolist() == [[[5, 5], [5.25, 5]]]


def test_rounding_of_a_transform_cuts_nothing():
    graph = RoofGraph.make([[-1e-9, 5], [10 + 1e-9, 5]], [[0, 1]]).clipped((10, 10))
    assert graph.junctions.tolist() == [[0, 5], [10, 5]] and len(graph.lines) == 1
    assert RoofGraph.make([[5, 0], [5, -1e-12]], [[0, 1]]).clipped((10, 10)).empty  # nothing but rounding


coordinates = st.integers(-40 * 1024, 80 * 1024).map(lambda number: number / 1024)
segments = st.lists(st.tuples(coordinates, coordinates, coordinates, coordinates), min_size=1, max_size=12)


@given(segments=segments)
@settings(max_examples=200, deadline=None)
def test_clipping_is_the_intersection_with_the_image(segments):
    ends = np.array(segments).reshape(-1, 2)
    graph = RoofGraph.make(ends, np.arange(len(ends)).reshape(-1, 2), heights=ends @ (2, -3))
    clipped = graph.clipped((30, 40))
    window = shapely.box(0, 0, 40, 30)
    expected = [shapely.intersection(shapely.LineString(line), window).length for line in graph.segments()]
    inside = [bool(((line >= 0) & (line <= (40, 30))).all()) for line in graph.segments()]
    expected = [length for length, whole in zip(expected, inside) if length >= (1e-9 if whole else 1.0)]
    lengths = np.linalg.norm(np.subtract(*clipped.segments().transpose(1, 0, 2)), axis=1)
    if len(lengths) == len(expected):
        np.testing.assert_allclose(lengths, expected, atol=1e-5)
    else:  # a piece of just one pixel may fall on either side
        assert any(abs(length - 1.0) < 1e-5 for length in [*lengths, *expected])
    assert ((clipped.junctions >= 0) & (clipped.junctions <= (40, 30))).all()
    np.testing.assert_allclose(clipped.heights, clipped.junctions @ (2, -3), atol=1e-4)  # a plane stays one


@given(segments=segments)
@settings(max_examples=100, deadline=None)
def test_clipping_twice_changes_nothing(segments):
    ends = np.array(segments).reshape(-1, 2)
    once = RoofGraph.make(ends, np.arange(len(ends)).reshape(-1, 2)).clipped((30, 40))
    twice = once.clipped((30, 40))
    np.testing.assert_array_equal(once.junctions, twice.junctions)
    np.testing.assert_array_equal(once.lines, twice.lines)
