"""Neighbour lists: exact, within the points, the same whatever a patch is padded to, without torch."""

import subprocess
import sys

import numpy as np
import pytest

from projects.lidar import graph as module
from projects.lidar.graph import build_graph, level_sizes

ALL = (0, 1, 2, 3, 4)


@pytest.fixture(scope='module')
def points() -> np.ndarray:
    return np.random.default_rng(0).uniform(-25, 25, (700, 3)).astype(np.float32)


def test_sizes_are_those_of_the_spec():
    assert level_sizes(24576) == (24576, 6144, 1536, 384, 96)
    assert level_sizes(100) == (100, 25, 7, 2, 1)


def test_lists_are_the_nearest_by_brute_force(points):
    graph = build_graph(points, near_levels=ALL)
    for level, (size, following) in enumerate(zip(level_sizes(700), level_sizes(700)[1:])):
        here, coarse = points[:size].astype(float), points[:following].astype(float)
        distance = np.linalg.norm(here[:, None] - here[None], axis=2)
        k = min(16, size)
        np.testing.assert_array_equal(graph['near'][level][:, :k], np.argsort(distance, axis=1)[:, :k])
        k = min(32, size)
        np.testing.assert_array_equal(graph['down'][level][:, :k], np.argsort(distance[:following], axis=1)[:, :k])
        k = min(3, following)
        to_coarse = np.linalg.norm(here[:, None] - coarse[None], axis=2)
        np.testing.assert_array_equal(graph['up'][level][:, :k], np.argsort(to_coarse, axis=1)[:, :k])


def test_the_nearest_is_repeated_where_a_level_is_short(points):
    graph = build_graph(points[:100], near_levels=ALL)
    assert graph['near'][3].shape == (2, 16) and graph['near'][4].tolist() == [[0] * 16]
    assert graph['near'][3][1].tolist() == [1, 0] + [1] * 14
    assert graph['up'][3].tolist() == [[0, 0, 0], [0, 0, 0]]
    assert (graph['down'][2][0, 7:] == graph['down'][2][0, 0]).all()


def test_padding_changes_no_list_and_is_in_none(points):
    alone = build_graph(points[:600], near_levels=ALL)
    padded = build_graph(np.concatenate((points[:600], np.zeros((424, 3), np.float32))), 600, near_levels=ALL)
    for name, lists in alone.items():
        for level, (own, other) in enumerate(zip(lists, padded[name])):
            np.testing.assert_array_equal(own, other[:len(own)], err_msg=f'{name} {level}')
            assert not other[len(own):].any()


def test_only_the_levels_that_want_them_have_near_lists(points):
    graph = build_graph(points, near_levels=(1, 3))
    assert [lists.shape for lists in graph['near']] == [(700, 0), (175, 16), (44, 0), (11, 16), (3, 0)]
    full = build_graph(points, near_levels=ALL)
    np.testing.assert_array_equal(graph['near'][1], full['near'][1])
    np.testing.assert_array_equal(graph['down'][0], full['down'][0])


def test_scipy_finds_the_same(points, monkeypatch):
    expected = build_graph(points, near_levels=ALL)
    monkeypatch.setattr(module, '_pgeof_search', None)
    for name, lists in build_graph(points, near_levels=ALL).items():
        for own, other in zip(lists, expected[name]):
            np.testing.assert_array_equal(own, other)
            assert own.dtype == np.int32 and own.flags.c_contiguous


def test_wrong_numbers_are_refused(points):
    for valid in (0, 701):
        with pytest.raises(ValueError, match='expected 1 to 700'):
            build_graph(points, valid)
    with pytest.raises(ValueError, match=r'expected \(700, 175'):
        build_graph(points, levels=(700, 100, 20, 5, 1))
    assert len(build_graph(points, levels=(700, 175, 44))['down']) == 2


def test_no_torch_is_imported(repository):
    done = subprocess.run([sys.executable, '-c', 'import sys, projects.lidar.graph; print("torch" in sys.modules)'],
                          capture_output=True, text=True, cwd=repository, timeout=60, check=True)
    assert done.stdout.strip() == 'False'
