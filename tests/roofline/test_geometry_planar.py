"""Planar cleaning and faces: hand-made graphs with known answers."""

import time

import numpy as np
import pytest
import shapely

from projects.roofline.geometry.faces import find_faces
from projects.roofline.geometry.planar import clean_planar, snap_points
from projects.roofline.graph import LINE_TYPES


def pieces(junctions: np.ndarray, lines: np.ndarray) -> set[tuple[tuple[float, float], ...]]:
    """The lines as a set of coordinate pairs, in no direction."""
    ends = np.round(junctions[lines], 6) + 0.0
    return {tuple(sorted(map(tuple, pair.tolist()))) for pair in ends}


def test_ends_are_snapped_to_their_weighted_mean():
    junctions, lines, origin = clean_planar([[0, 0], [10, 0], [10.4, 0.3], [10, 9]], [[0, 1], [2, 3]], 1.0,
                                            weights=[1, 3, 1, 1])
    np.testing.assert_allclose(junctions, [[0, 0], [10.1, 0.075], [10, 9]])
    assert lines.tolist() == [[0, 1], [1, 2]] and origin.tolist() == [0, 1]


def test_a_t_junction_splits_the_line_and_keeps_its_origin():
    junctions, lines, origin = clean_planar([[0, 0], [10, 0], [4, 0.2], [4, 5]], [[0, 1], [2, 3]], 0.5)
    assert pieces(junctions, lines) == {((0, 0), (4, 0.2)), ((4, 0.2), (10, 0)), ((4, 0.2), (4, 5))}
    assert sorted(origin.tolist()) == [0, 0, 1]


def test_a_line_just_off_a_junction_is_left_alone():
    _, lines, _ = clean_planar([[0, 0], [10, 0], [4, 0.6], [4, 5]], [[0, 1], [2, 3]], 0.5)
    assert lines.tolist() == [[0, 1], [2, 3]]


def test_contact_reaches_further_than_snapping():
    points, lines = [[0, 0], [10, 0], [4, 0.6], [4, 5], [10, 0.6], [20, 5]], [[0, 1], [2, 3], [4, 5]]
    junctions, found, _ = clean_planar(points, lines, 0.5, contact=1.0)
    assert len(junctions) == 6 and len(found) == 4


def test_crossing_lines_get_a_junction():
    junctions, lines, origin = clean_planar([[0, 0], [10, 10], [0, 10], [10, 0]], [[0, 1], [2, 3]], 0.5)
    assert pieces(junctions, lines) == {((0, 0), (5, 5)), ((5, 5), (10, 10)), ((0, 10), (5, 5)), ((5, 5), (10, 0))}
    assert np.bincount(origin).tolist() == [2, 2]


def test_three_lines_through_one_point_share_one_junction():
    angle = np.radians([0, 60, 120])
    ends = 10 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    junctions, lines, _ = clean_planar(np.concatenate([ends, -ends]), [[0, 3], [1, 4], [2, 5]], 0.1)
    assert len(junctions) == 7 and len(lines) == 6
    assert np.abs(junctions).sum(axis=1).min() < 1e-9


def test_zero_length_and_duplicates_go_and_the_better_score_stays():
    points = [[0, 0], [10, 0], [0.1, 0], [10, 0.1], [30, 30], [30.2, 30]]
    _, lines, origin = clean_planar(points, [[0, 1], [3, 2], [4, 5]], 0.5, scores=[0.4, 0.9, 0.8])
    assert len(lines) == 1 and origin.tolist() == [1]


def test_overlapping_collinear_lines_become_one():
    junctions, lines, _ = clean_planar([[0, 0], [10, 0], [5, 0], [15, 0], [12, 0], [30, 0]],
                                       [[0, 1], [2, 3], [4, 5]], 0.5)
    assert pieces(junctions, lines) == {((0, 0), (30, 0))}


def test_an_overlap_that_a_third_line_meets_stays_split():
    junctions, lines, _ = clean_planar([[0, 0], [10, 0], [5, 0], [15, 0], [10, 5]], [[0, 1], [2, 3], [1, 4]], 0.5)
    assert pieces(junctions, lines) == {((0, 0), (10, 0)), ((10, 0), (15, 0)), ((10, 0), (10, 5))}


def test_a_corner_of_two_lines_is_no_split():
    junctions, lines, _ = clean_planar([[0, 0], [5, 0], [10, 0]], [[0, 1], [1, 2]], 0.5)
    assert pieces(junctions, lines) == {((0, 0), (5, 0)), ((5, 0), (10, 0))}


def test_chains_of_points_do_not_run_away():
    points = np.stack([np.arange(20) * 0.9, np.zeros(20)], axis=1)
    merged, labels = snap_points(points, 1.0)
    assert len(merged) >= 10
    for group in range(len(merged)):
        assert np.ptp(points[labels == group, 0]) <= 1.0


def test_untouched_points_stay_to_the_last_bit():
    points = np.random.default_rng(0).uniform(0, 1e6, (50, 2))
    merged, labels = snap_points(points, 1e-3)
    assert (merged[labels] == points).all()


def test_nothing_and_a_negative_tolerance():
    junctions, lines, origin = clean_planar(np.zeros((0, 2)), np.zeros((0, 2), int), 1.0)
    assert junctions.shape == (0, 2) and lines.shape == (0, 2) and len(origin) == 0
    with pytest.raises(ValueError, match='tolerance'):
        clean_planar([[0, 0], [1, 1]], [[0, 1]], -1.0)


def test_the_result_is_planar_and_stays_as_it_is():
    generator = np.random.default_rng(1)
    middle, half = generator.uniform(0, 300, (150, 2)), generator.normal(0, 25, (150, 2))
    lines = np.arange(300).reshape(2, 150).T
    junctions, lines, _ = clean_planar(np.concatenate([middle - half, middle + half]), lines, 0.5)
    segments = shapely.linestrings(junctions[lines])
    one, other = shapely.STRtree(segments).query(segments, predicate='crosses')
    assert len(one) == 0
    again, same, _ = clean_planar(junctions, lines, 1e-6)
    assert pieces(again, same) == pieces(junctions, lines)


def test_twenty_thousand_lines_take_seconds():
    generator = np.random.default_rng(2)
    middle, half = generator.uniform(0, 20_000, (20_000, 2)), generator.normal(0, 30, (20_000, 2))
    start = time.process_time()
    _, lines, _ = clean_planar(np.concatenate([middle - half, middle + half]),
                               np.arange(40_000).reshape(2, 20_000).T, 2.0)
    assert time.process_time() - start < 15
    assert len(lines) > 20_000


def test_faces_of_a_hip_roof():
    junctions = np.array([[0, 0], [10, 0], [10, 6], [0, 6], [3, 3], [7, 3]], float)
    lines = np.array([[0, 1], [1, 2], [2, 3], [3, 0], [0, 4], [3, 4], [1, 5], [2, 5], [4, 5]])
    faces = find_faces(junctions, lines)
    assert len(faces) == 4 and set(faces.buildings) == {0}
    assert sorted(len(rings[0]) for rings in faces.rings) == [3, 3, 4, 4]
    assert [LINE_TYPES[t] for t in faces.types] == ['outline'] * 4 + ['inner'] * 5
    assert (faces.line_faces[:4, 1] == -1).all() and (faces.line_faces[:4, 0] >= 0).all()
    ridge = faces.line_faces[8]
    assert {len(faces.rings[face][0]) for face in ridge} == {4}
    assert sum(polygon.area for polygon in faces.polygons) == pytest.approx(60.0)


def test_a_face_with_a_hole_two_buildings_and_a_dangling_line():
    square = np.array([[0, 0], [10, 0], [10, 10], [0, 10]], float)
    junctions = np.concatenate([square, square * 0.2 + 4, square + [20, 0], [[30, 20]]])
    ring = np.array([[0, 1], [1, 2], [2, 3], [3, 0]])
    lines = np.concatenate([ring, ring + 4, ring + 8, [[10, 12]]])
    faces = find_faces(junctions, lines)
    assert sorted(round(polygon.area, 6) for polygon in faces.polygons) == [4, 96, 100]
    holed = next(k for k, rings in enumerate(faces.rings) if len(rings) == 2)
    assert set(faces.rings[holed][0]) == {0, 1, 2, 3} and set(faces.rings[holed][1]) == {4, 5, 6, 7}
    assert len(set(faces.buildings)) == 3
    assert (faces.types[4:8] == LINE_TYPES.index('inner')).all()
    assert faces.line_faces[-1].tolist() == [-1, -1]


def test_no_lines_make_no_faces():
    faces = find_faces(np.zeros((0, 2)), np.zeros((0, 2), int))
    assert len(faces) == 0 and faces.types.shape == (0,)
