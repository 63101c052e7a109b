"""Polygons drawn one by one become one planar graph."""

import numpy as np

from projects.roofline.importing.polygons import graph_of_polygons


def test_polygons_share_edges_once_and_yards_are_no_faces():
    around = [[(0, 0), (9, 0), (9, 3), (0, 3)], [(0, 6), (9, 6), (9, 9), (0, 9)], [(0, 3), (3, 3), (3, 6), (0, 6)],
              [(6, 3), (9, 3), (9, 6), (6, 6)], [(1, 1), (2, 1), (2, 2), (1, 2)]]
    junctions, lines, faces, owners = graph_of_polygons([[np.array(ring, float)] for ring in around], 0.1)
    # 12 places, of which those at x = 3 and 6 split the long sides of the yard, and four of the dormer.
    assert len(junctions) == 16
    assert len(lines) == 20
    assert sorted(owners.tolist()) == [0, 1, 2, 3, 4]  # not the yard; the dormer is of the smaller polygon
    dormer = faces[owners.tolist().index(4)]
    assert sorted(map(tuple, junctions[list(dormer)].tolist())) == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_no_polygons_make_an_empty_graph():
    junctions, lines, faces, owners = graph_of_polygons([], 1.0)
    assert (junctions.shape, lines.shape, faces, owners.shape) == ((0, 2), (0, 2), (), (0,))
