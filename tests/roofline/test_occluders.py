"""Pasted crowns: what they hide is what the pixels say, in the direction of each line, also after later transforms."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import shapely
from scipy.ndimage import map_coordinates

from projects.engine.random_state import seed_cpu
from projects.roofline.datasets.occluders.hiding import hidden_parts, hide
from projects.roofline.datasets.occluders.outlines import random_crown
from projects.roofline.datasets.occluders.painting import coverage, paint_crown
from projects.roofline.datasets.transforms import (
    AssumeVisible,
    LetterboxRoof,
    PackRoofline,
    PasteOccluders,
    RandomQuarterTurn,
    RandomRoofCrop,
    RandomRoofFlip,
    RandomRoofRotation,
)
from projects.roofline.graph import RoofGraph

SIZE = (240, 320)
ROOF = RoofGraph.make([[30, 40], [290, 50], [280, 200], [40, 190], [100, 120], [220, 125]],
                      [[0, 1], [2, 1], [2, 3], [0, 3], [4, 5], [0, 4], [4, 3], [1, 5], [5, 2]])
LINE = np.array([[0.0, 0.0], [40.0, 30.0]])  # 50 px


def box(x0, y0, x1, y1):
    return shapely.box(x0, y0, x1, y1)


def grey(graph=ROOF):
    """On grey, coloured is leaf: a shadow only makes it darker."""
    return dict(img=np.full((*SIZE, 3), 190, np.uint8), graph=graph, img_shape=SIZE, ori_shape=SIZE,
                letterbox=(1.0, 0.0, 0.0), source_graph=graph)


def seen_hidden(image, segment, steps=4001):
    """The first and last coloured place on a line, as shares of its length; None without."""
    shares = np.linspace(0, 1, steps)
    points = segment[0] + shares[:, None] * (segment[1] - segment[0])
    chroma = image.max(axis=2).astype(float) - image.min(axis=2)
    coloured = map_coordinates(chroma, points[:, ::-1].T - 0.5, order=1, mode='nearest') > 5
    return (shares[coloured].min(), shares[coloured].max()) if coloured.any() else None


def test_hidden_parts_by_hand():
    assert hidden_parts(LINE, box(10, 0, 20, 30)).tolist() == [[0.25, 0.5]]
    assert hidden_parts(LINE[::-1], box(10, 0, 20, 30)).tolist() == [[0.5, 0.75]]
    assert hidden_parts(LINE, box(-5, -5, 10, 10)).tolist() == [[0.0, 0.25]]
    assert hidden_parts(LINE, box(-5, -5, 50, 50)).tolist() == [[0.0, 1.0]]
    assert hidden_parts(LINE, box(0, 29, 5, 30)).shape == (0, 2)
    assert hidden_parts(LINE, box(40, 30, 50, 50)).shape == (0, 2)  # only touched
    two = shapely.union_all([box(4, 0, 8, 30), box(20, 0, 30, 30)])
    assert hidden_parts(LINE, two).tolist() == [[0.1, 0.2], [0.5, 0.75]]
    near = shapely.union_all([box(4, 0, 8, 30), box(8.4, 0, 12, 30)])  # half a pixel is seen between them
    np.testing.assert_allclose(hidden_parts(LINE, near), [[0.1, 0.3]])
    np.testing.assert_allclose(hidden_parts(LINE, box(10, 0, 20, 30), np.array([0.45, 0.6])), [[0.25, 0.6]])
    np.testing.assert_allclose(hidden_parts(LINE, box(10, 0, 20, 30), np.array([0.8, 0.9])), [[0.25, 0.5], [0.8, 0.9]])
    assert hidden_parts(LINE, box(10, 0, 20, 30), np.array([0.0, 0.0])).tolist() == [[0.25, 0.5]]


def test_hiding_a_graph_by_hand():
    graph = RoofGraph.make([[0, 0], [40, 30], [80, 0]], [[0, 1], [1, 0 + 2], [0, 2]],
                           occlusions=[[np.nan, np.nan], [0.0, 0.0], [np.nan, np.nan]])
    occlusions, shares = hide(graph, box(10, 5, 20, 30))
    np.testing.assert_allclose(occlusions, [[0.25, 0.5], [0, 0], [np.nan, np.nan]])
    np.testing.assert_allclose(shares, [0.25, 0, 0])
    occlusions, shares = hide(graph, shapely.union_all([box(4, 0, 8, 30), box(20, 5, 30, 30)]))
    np.testing.assert_allclose(occlusions, [[np.nan] * 2, [0, 0], [0.05, 0.1]])
    np.testing.assert_allclose(shares, [0.1 + 0.25, 0, 0.05])


def test_coverage_is_the_share_of_each_pixel():
    shape = shapely.Polygon([(2.5, 1.0), (6.0, 1.0), (6.0, 3.25), (2.5, 3.25)])
    expected = np.zeros((5, 8))
    expected[1:3, 2:6] = [0.5, 1, 1, 1]
    expected[3, 2:6] = [0.125, 0.25, 0.25, 0.25]
    assert np.abs(coverage(shape, (0, 0, 8, 5)) - expected).max() < 0.13  # OpenCV's fills are an eighth too wide
    moved = coverage(shape, (2, 1, 8, 5))
    np.testing.assert_array_equal(moved, coverage(shape, (0, 0, 8, 5))[1:, 2:])
    seed_cpu(0)
    crown = random_crown((50, 60), 40)
    assert coverage(crown.outline, (0, 0, 100, 120)).sum() == pytest.approx(crown.outline.area, rel=0.03)


def test_crowns_have_the_size_asked_for_and_differ():
    seed_cpu(1)
    crowns = [random_crown((100.0, 80.0), 36.0) for _ in range(20)]
    for crown in crowns:
        assert crown.outline.is_valid and not crown.outline.interiors
        assert crown.outline.area == pytest.approx(np.pi * 18**2)
        assert crown.outline.length > 1.15 * 2 * np.pi * 18  # ragged, no disc
        assert np.hypot(*(np.array(crown.outline.centroid.coords[0]) - (100, 80))) < 9
    assert len({round(crown.outline.length, 3) for crown in crowns}) == 20


def test_crowns_look_like_trees():
    """Textured, lit from one side, greens and browns, and only within their outline but for the shadow."""
    seed_cpu(4)
    hues, contrasts, lit = [], [], []
    y, x = np.mgrid[:120, :120] + 0.5
    for _ in range(25):
        before = np.full((120, 120, 3), 190, np.uint8)
        crown = random_crown((60, 60), 60)
        after = paint_crown(before, crown, (1.0, 0.0)).astype(float)
        assert (before == 190).all()  # a copy
        cover = coverage(crown.outline, (0, 0, 120, 120))
        outside = cover == 0
        assert (np.ptp(after[outside], axis=1) == 0).all() and (after[outside] <= 190).all()
        assert (after[outside] < 150).any()  # its shadow
        leaves = after[cover == 1]
        hues.append(leaves.mean(axis=0))
        contrasts.append(leaves.mean(axis=1).std() / leaves.mean())
        right = cover == 1
        lit.append(after.mean(axis=2)[right & (x > 66)].mean() - after.mean(axis=2)[right & (x < 54)].mean())
        assert np.hypot(x - 60, y - 60)[cover == 1].max() < 60
    hues = np.array(hues)
    assert (hues[:, 2] < hues[:, :2].max(axis=1)).all()  # never blue
    assert (hues[:, 1] > hues[:, 0]).mean() > 0.5  # mostly green
    assert 0.15 < np.mean(contrasts) < 0.7
    assert np.mean(lit) > 5


@pytest.mark.parametrize('later', [
    [], [RandomRoofFlip(1.0)], [RandomQuarterTurn(1.0)], [RandomRoofCrop((150, 200), (1.0, 1.0))],
    [RandomRoofRotation(30, 1.0)], [LetterboxRoof(400)], [RandomRoofFlip(1.0), RandomRoofCrop(180, (0.9, 1.3))],
])
def test_intervals_are_what_the_pixels_say(later):
    seed_cpu(11)
    paste = PasteOccluders(prob=1.0, number=(1, 3))
    errors = []
    for _ in range(6):
        results = paste(grey())
        for step in later:
            results = step(results)
        results['img'] = np.where(results['img'] == (124, 116, 104), 190, results['img']).astype(np.uint8)
        graph = results['graph']
        graph.check(results['img_shape'], 'pasted')
        for segment, (first, last) in zip(graph.segments(), graph.occlusions, strict=True):
            length = np.linalg.norm(segment[1] - segment[0])
            if np.isfinite(first) and (last - first) * length > 4:
                seen = seen_hidden(results['img'], segment)
                errors += [abs(seen[0] - first) * length, abs(seen[1] - last) * length]
    assert len(errors) >= 10
    # Rims are antialiased and, scaled, blurred; at grazing angles that is some pixels along the line.
    assert np.median(errors) < 1 and np.quantile(errors, 0.9) < 4


def test_a_flip_keeps_each_line_s_order():
    seed_cpu(2)
    results = PasteOccluders(prob=1.0)(grey())
    before = results['graph'].occlusions
    flipped = RandomRoofFlip(1.0)(results)['graph']
    np.testing.assert_array_equal(flipped.occlusions, before)
    assert flipped.lines.tolist() == ROOF.lines.tolist()
    assert np.isfinite(before).any()


def test_sizes_follow_the_lines_and_no_line_vanishes():
    seed_cpu(3)
    paste = PasteOccluders(prob=1.0, number=(4, 4), share=(0.2, 0.5), largest=0.25, most=0.6)
    lengths = np.linalg.norm(np.diff(ROOF.segments(), axis=1)[:, 0], axis=1)
    for _ in range(20):
        crowns = paste._crowns(ROOF, SIZE)
        for crown in crowns:
            diameter = 2 * crown.radius
            assert 0.2 * lengths.min() <= diameter <= 0.25 * 240 + 1e-9
        shares = hide(ROOF, shapely.union_all([crown.outline for crown in crowns]))[1]
        assert (shares > 0).any() and shares.max() < 0.6


def test_crowns_stand_on_lines_by_chance_of_their_length():
    seed_cpu(5)
    graph = RoofGraph.make([[10, 10], [310, 10], [10, 200], [40, 200], [100, 230], [108, 230]],
                           [[0, 1], [2, 3], [4, 5]])
    hits = np.zeros(3)
    for _ in range(60):
        for crown in PasteOccluders(prob=1.0, number=(1, 1), share=(0.15, 0.3))._crowns(graph, SIZE):
            hits += hide(graph, crown.outline)[1] > 0
    assert hits[0] > 4 * hits[1] > 0 and hits[2] == 0  # the last is too short to be chosen


def test_what_is_known_stays_and_the_rest_can_be_taken_as_visible():
    known = replace(ROOF, occlusions=np.vstack([[0.2, 0.3], np.full((8, 2), np.nan)]))
    untouched = PasteOccluders(prob=0.0)(grey(known))
    np.testing.assert_array_equal(untouched['graph'].occlusions, known.occlusions)
    assert (untouched['img'] == 190).all()
    visible = AssumeVisible()(grey(known))
    assert visible['graph'].occlusions.tolist() == [[0.2, 0.3]] + [[0, 0]] * 8
    np.testing.assert_array_equal(visible['source_graph'].occlusions, known.occlusions)  # the file's is left alone
    for graph in (None, RoofGraph.make([], [])):
        assert AssumeVisible()(grey(graph))['graph'] is graph


def test_crowns_on_lines_taken_as_visible():
    seed_cpu(8)
    alone = PasteOccluders(prob=1.0)(grey())
    seed_cpu(8)
    both = PasteOccluders(prob=1.0)(AssumeVisible()(grey()))
    np.testing.assert_array_equal(both['img'], alone['img'])  # the same crowns
    before, crowned = alone['graph'].occlusions, both['graph'].occlusions
    hidden = np.isfinite(before[:, 0])
    np.testing.assert_array_equal(crowned[hidden], before[hidden])
    assert hidden.any() and (crowned == 0).all(axis=1).any()


def test_several_hidden_parts_of_a_line_taken_as_visible_are_not_known():
    graph = AssumeVisible()(grey())['graph']
    two = shapely.union_all([box(60, 30, 80, 60), box(160, 30, 180, 60)])  # both on the first line
    assert np.isnan(hide(graph, two)[0][0]).all() and (hide(graph, two)[0][1:] == 0).all()


def test_images_without_lines_without_truth_and_with_short_lines_only():
    for graph in (None, RoofGraph.make([], []), RoofGraph.make([[1, 1], [9, 1]], [[0, 1]])):
        results = PasteOccluders(prob=1.0)(grey(graph))
        assert (results['img'] == 190).all()


def test_the_same_seed_pastes_the_same_crowns():
    paste = PasteOccluders(prob=0.7)
    runs = []
    for _ in range(2):
        seed_cpu(6)
        runs.append([paste(grey()) for _ in range(4)])
    for one, two in zip(*runs, strict=True):
        np.testing.assert_array_equal(one['img'], two['img'])
        np.testing.assert_array_equal(one['graph'].occlusions, two['graph'].occlusions)
    assert not np.array_equal(runs[0][0]['img'], runs[0][1]['img'])


def test_intervals_reach_the_network():
    seed_cpu(9)
    results = PasteOccluders(prob=1.0)(grey())
    data = PackRoofline()(results)['data_samples']
    np.testing.assert_allclose(data.occlusions.numpy(), results['graph'].occlusions, atol=1e-6)


def test_crowns_reach_out_of_the_image():
    seed_cpu(0)
    image = np.full((60, 80, 3), 190, np.uint8)
    for centre in ((0, 0), (80, 30), (40, 60), (-200, -200)):
        painted = paint_crown(image, random_crown(centre, 50), (0.0, 1.0))
        assert painted.shape == image.shape and (painted != image).any() == (centre[0] >= 0)
    tiny = paint_crown(image, random_crown((40, 30), 6), (0.0, 1.0))
    assert 10 < (cv2.absdiff(tiny, image).max(axis=2) > 30).sum() < 120
