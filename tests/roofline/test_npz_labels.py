"""The seed's label files: what is in them, and that a graph comes back as it went in."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from projects.engine.errors import UserError
from projects.roofline.annotations import read_annotations
from projects.roofline.graph import RoofGraph
from projects.roofline.npz_labels import KEYS, read_npz, write_npz

TRIANGLE = RoofGraph.make([[10, 10], [50.3, 10], [30, 41]], [[0, 1], [1, 2], [2, 0]])
BORDER = RoofGraph.make([[0, 0], [512, 0], [512, 512], [0, 512]], [[0, 1], [1, 2], [2, 3], [3, 0]])
T_JUNCTION = RoofGraph.make([[6, 10], [30, 10], [54, 10], [30, 34]], [[0, 1], [1, 2], [1, 3]])
NEIGHBOURS = RoofGraph.make([[100, 100], [101, 102], [300.7, 99.9]], [[0, 2], [1, 2]])  # two junctions in one cell
SINGLE = RoofGraph.make([[100, 100], [101, 102]], [[1, 0]])
NOTHING = RoofGraph.make([], [])


def there_and_back(path, graph, size=(512, 512), **options) -> RoofGraph:
    write_npz(path / 'a_label.npz', graph, size, **options)
    return read_npz(path / 'a_label.npz', size)


@pytest.mark.parametrize('graph', [TRIANGLE, BORDER, T_JUNCTION, NEIGHBOURS, SINGLE, NOTHING])
def test_graphs_come_back(graph, tmp_path):
    back = there_and_back(tmp_path, graph)
    np.testing.assert_allclose(back.junctions, graph.junctions, rtol=0, atol=1e-3)
    np.testing.assert_array_equal(back.lines, graph.lines)
    assert back.faces == () and back.heights is None and np.isnan(back.occlusions).all()
    with np.load(tmp_path / 'a_label.npz') as arrays:
        assert set(arrays) == set(KEYS)


@given(points=st.lists(st.tuples(st.floats(0, 700), st.floats(0, 500)), min_size=2, max_size=12),
       kinds=st.integers(1, 3))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_graph_comes_back(points, kinds, tmp_path):
    points = np.unique(np.array(points).round(3), axis=0)
    lines = [[k, k + 1] for k in range(len(points) - 1)]
    graph = RoofGraph.make(points, lines, junction_types=np.arange(len(points)) % kinds)
    back = there_and_back(tmp_path, graph, (500, 700), map_size=(125, 100), n_types=3, negatives=10)
    np.testing.assert_allclose(back.junctions, graph.junctions, rtol=0, atol=1e-3)
    np.testing.assert_array_equal(back.lines, graph.lines)
    np.testing.assert_array_equal(back.junction_types, graph.junction_types)


def test_the_arrays_of_a_triangle(tmp_path):
    write_npz(tmp_path / 'a_label.npz', TRIANGLE, (512, 512))
    with np.load(tmp_path / 'a_label.npz') as archive:
        arrays = dict(archive)
    shapes = {key: (array.dtype.str[1:], array.shape) for key, array in arrays.items()}
    assert shapes == dict(jmap=('f4', (1, 128, 128)), joff=('f4', (1, 2, 128, 128)), lmap=('f4', (128, 128)),
                          junc=('f4', (3, 3)), Lpos=('i8', (3, 2)), Lneg=('i8', (0, 2)), lpos=('f4', (3, 2, 3)),
                          lneg=('f4', (0, 2, 3)))
    np.testing.assert_allclose(arrays['junc'], [[2.5, 2.5, 0], [2.5, 12.575, 0], [10.25, 7.5, 0]], rtol=1e-6)
    assert arrays['Lpos'].tolist() == [[0, 1], [1, 2], [2, 0]]
    np.testing.assert_array_equal(arrays['lpos'], arrays['junc'][arrays['Lpos']])
    assert np.argwhere(arrays['jmap'][0]).tolist() == [[2, 2], [2, 12], [10, 7]]
    np.testing.assert_allclose(arrays['joff'][0, :, 2, 12], [0, 0.075], atol=1e-6)  # (dy, dx), from the centre
    np.testing.assert_allclose(arrays['joff'][0, :, 10, 7], [-0.25, 0], atol=1e-6)


def test_the_arrays_of_a_t(tmp_path):
    graph = RoofGraph.make(T_JUNCTION.junctions, T_JUNCTION.lines, junction_types=[0, 2, 0, 1])
    write_npz(tmp_path / 'a_label.npz', graph, (64, 128), map_size=(16, 32), n_types=3, negatives=2)
    with np.load(tmp_path / 'a_label.npz') as arrays:
        assert arrays['jmap'].shape == (3, 16, 32) and arrays['joff'].shape == (3, 2, 16, 32)
        assert np.argwhere(arrays['jmap']).tolist() == [[0, 2, 1], [0, 2, 13], [1, 8, 7], [2, 2, 7]]
        assert arrays['junc'][:, 2].tolist() == [0, 2, 0, 1]
        assert arrays['Lneg'].shape == (2, 2) and arrays['Lneg'][0].tolist() == [0, 2]  # along two lines
        np.testing.assert_array_equal(arrays['lneg'], arrays['junc'][arrays['Lneg']])
        assert ((arrays['joff'] >= -0.5) & (arrays['joff'] < 0.5)).all()


def test_one_type_takes_all_junctions_for_one(tmp_path):
    graph = RoofGraph.make(T_JUNCTION.junctions, T_JUNCTION.lines, junction_types=[0, 2, 0, 1])
    assert there_and_back(tmp_path, graph).junction_types.tolist() == [0, 0, 0, 0]
    with pytest.raises(UserError, match='a_label.npz: junction_types: expected classes below n_types = 2, found 2'):
        write_npz(tmp_path / 'a_label.npz', graph, (512, 512), n_types=2)


def test_what_the_format_has_no_room_for_comes_back_too(tmp_path):
    graph = RoofGraph.make([[0, 0], [40, 0], [40, 40], [0, 40]], [[0, 1], [1, 2], [2, 3], [3, 0], [0, 2]],
                           types=['eave', 'verge', 'eave', 'verge', 'valley'], faces=[(0, 1, 2), (0, 2, 3)],
                           heights=[3.2, np.nan, 4, 5],
                           occlusions=[[0, 0.5], [np.nan, np.nan], [0, 0], [0.25, 1], [0, 0]])
    back = there_and_back(tmp_path, graph)
    assert back.types.tolist() == graph.types.tolist() and back.faces == graph.faces
    np.testing.assert_array_equal(back.heights, graph.heights)
    np.testing.assert_array_equal(back.occlusions, graph.occlusions)


def test_real_roofs_come_back(shared_data, tmp_path):
    for annotation in read_annotations(shared_data / 'roofline/roofgraph')[::15]:
        back = there_and_back(tmp_path, annotation.graph, (annotation.height, annotation.width))
        np.testing.assert_allclose(back.junctions, annotation.graph.junctions, rtol=0, atol=1e-3)
        np.testing.assert_array_equal(back.lines, annotation.graph.lines)
        np.testing.assert_array_equal(back.types, annotation.graph.types)
        assert back.faces == annotation.graph.faces


def test_a_file_without_our_keys_is_read(tmp_path):
    """As other converters of the seed's layout write it: int32 or int64, all pairs as negatives, maps aside."""
    np.savez(tmp_path / 'a_label.npz', lmap=np.zeros((128, 128), np.float32), Lpos=np.array([[1, 0]], np.int32),
             junc=np.array([[10.5, 20.25, 0], [127.9, 3, 0]], np.float32))
    graph = read_npz(tmp_path / 'a_label.npz', (256, 512))
    np.testing.assert_allclose(graph.junctions, [[81, 21], [12, 255.8]], atol=1e-4)
    assert graph.lines.tolist() == [[1, 0]] and graph.types.tolist() == [0]


@pytest.mark.parametrize('change, message', [
    (dict(junc=None), 'junc: missing, found Lpos, lmap'),
    (dict(Lpos=None), 'Lpos: missing'),
    (dict(junc=np.zeros((3, 2))), r'junc: expected \(N, 3\) as \(y, x, type\), found shape \(3, 2\)'),
    (dict(lmap=np.zeros((1, 128, 128))), r'lmap: expected \(h, w\) cells, found shape \(1, 128, 128\)'),
    (dict(Lpos=np.array([[0, 3]])), 'lines: expected junctions 0 to 2, found 3'),
    (dict(Lpos=np.array([[0, 0.5]])), 'lines: expected whole numbers, found 0.5'),
    (dict(Lpos=np.array([[0, 1], [1, 0]])), 'lines: expected each line once'),
    (dict(Lpos=np.array([[2, 2]])), 'lines: expected two different ends'),
    (dict(junc=np.array([[1, 2, 0], [3, 200, 0], [5, 6, 0.0]])), r'junctions: .* found \(800, 12\) at junction 1'),
    (dict(junc=np.array([[1, 2, -1], [3, 4, 0], [5, 6, 0.0]])), 'junction_types: expected whole numbers, found -1'),
    (dict(junc=np.array([['a'] * 3] * 3)), 'not readable as a label file'),
    (dict(junc=np.array([[None] * 3] * 3)), 'not readable as a label file'),  # a pickle, which is never opened
    (dict(line_type=np.array([9])), 'types: expected one of outline, .*, found 9'),
    (dict(face_size=np.array([3]), face_corner=np.array([0, 1])), 'face_corner: expected 3 junctions'),
])
def test_damaged_files_are_told_in_one_line(change, message, tmp_path):
    arrays = dict(junc=np.array([[1, 2, 0], [3, 4, 0], [5, 6, 0.0]]), Lpos=np.array([[0, 1]]),
                  lmap=np.zeros((128, 128)))
    arrays = {key: array for key, array in {**arrays, **change}.items() if array is not None}
    np.savez(tmp_path / 'a_label.npz', **arrays)
    with pytest.raises(UserError, match=f'a_label.npz: {message}') as error:
        read_npz(tmp_path / 'a_label.npz', (512, 512))
    assert '\n' not in str(error.value)


def test_coordinates_in_the_order_x_y_are_named(tmp_path):
    np.savez(tmp_path / 'a_label.npz', junc=np.array([[100, 20, 0], [30, 5, 0.0]]), Lpos=np.array([[0, 1]]),
             lmap=np.zeros((32, 128)))
    with pytest.raises(UserError, match='found .80, 400. at junction 0; coordinates look like .y, x.: swap them'):
        read_npz(tmp_path / 'a_label.npz', (128, 512))


@pytest.mark.parametrize('content', [None, b'', b'no archive', b'PK\x03\x04 cut off'])
def test_what_is_no_archive_is_told_in_one_line(content, tmp_path):
    path = tmp_path / 'a_label.npz'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match='roofs: (no such file|not readable as a label file)'):
        read_npz(path, (512, 512), place='roofs')


def test_a_truncated_file_and_a_plain_array(tmp_path):
    path = tmp_path / 'a_label.npz'
    write_npz(path, TRIANGLE, (512, 512))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match='not readable as a label file'):
        read_npz(path, (512, 512))
    with open(path, 'wb') as file:
        np.save(file, np.zeros(3))
    with pytest.raises(UserError, match='not readable as a label file'):
        read_npz(path, (512, 512))


def test_nothing_is_written_where_the_graph_does_not_fit(tmp_path):
    with pytest.raises(UserError, match=r'a_label.npz: junctions: expected \(x, y\) within 20 x 20 pixels'):
        write_npz(tmp_path / 'a_label.npz', TRIANGLE, (20, 20))
    assert not list(tmp_path.iterdir())
