"""Planar faces: which lines close one, and which faces match, by hand."""

import math

import numpy as np
import pytest
import shapely

from projects.roofline.metrics.faces import face_counts, face_f1, faces_of_lines, true_faces

# Two rooms beside each other, 30 and 20 wide, 20 high: the wall between them is line 6.
CORNERS = np.array([[10, 10], [40, 10], [60, 10], [60, 30], [40, 30], [10, 30]], float)
LINES = np.array([[0, 1], [1, 2], [2, 3], [3, 4], [4, 5], [5, 0], [1, 4]])
ROOMS = ((0, 1, 4, 5), (1, 2, 3, 4))


def areas(lines):
    return sorted(float(area) for area in shapely.area(faces_of_lines(np.asarray(lines, float))))


def test_faces_between_lines():
    lines = CORNERS[LINES]
    assert areas(lines) == [400, 600]
    assert areas(lines[:6]) == [1000]  # without the wall
    assert areas(lines[[0, 1, 2, 3, 4, 6]]) == [400]  # the large room is open
    assert areas(lines[:0]) == [] and areas(lines[:2]) == []


def test_truth_matches_itself_and_halves_do_not_count_twice():
    truth = true_faces(CORNERS, ROOMS)
    assert face_counts(CORNERS[LINES], truth).tolist() == [2, 2, 2]
    counts = face_counts(CORNERS[LINES[:6]], truth)  # one face of 1000: IoU 0.6 with the large room, 0.4 with the other
    assert counts.tolist() == [1, 1, 2] and face_f1(counts) == pytest.approx(2 / 3)
    assert face_counts(CORNERS[LINES], true_faces(CORNERS, ())).tolist() == [0, 2, 0]
    assert math.isnan(face_f1((0, 2, 0))) and face_f1((0, 0, 2)) == 0


@pytest.mark.parametrize(('width', 'matched'), [(9.9, 0), (10.1, 1)])
def test_overlap_of_half(width, matched):
    def square(right):
        corners = np.array([[0, 0], [right, 0], [right, 10], [0, 10]], float)
        return corners, corners[[[0, 1], [1, 2], [2, 3], [3, 0]]]
    truth = true_faces(square(20.0)[0], ((0, 1, 2, 3),))
    assert face_counts(square(width)[1], truth).tolist() == [matched, 1, 1]


def test_lines_are_split_where_they_meet():
    t_junction = [[[0, 0], [30, 0]], [[30, 0], [30, 20]], [[30, 20], [0, 20]], [[0, 20], [0, 0]], [[10, 0], [10, 20]]]
    assert areas(t_junction) == [200, 400]
    overshooting = [*t_junction[:4], [[10, -0.8], [10, 20.8]]]
    assert areas(overshooting) == [200, 400]


def test_a_line_across_better_ones_cuts_no_face():
    lines = CORNERS[LINES]
    across = np.array([[[0, 20], [70, 21]]], float)
    assert areas(np.concatenate([lines, across])) == [400, 600]  # it is the worst
    # it is the best: the three walls that it runs over go, and only dangling lines are left
    assert areas(np.concatenate([across, lines])) == []


def test_slivers_are_no_faces():
    lines = CORNERS[LINES]
    twin = lines[6:] + [[[0.04, 0]]]
    assert areas(np.concatenate([lines, twin])) == pytest.approx([399.2, 600])


def test_a_ring_that_touches_itself_is_repaired():
    corners = np.array([[0, 0], [10, 10], [10, 0], [0, 10]], float)
    assert shapely.area(true_faces(corners, ((0, 1, 2, 3),))).tolist() == [50]
