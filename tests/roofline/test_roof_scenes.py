"""The roofs of made villages as graphs: exact, on the picture's own edges, hidden where leaves are."""

from collections import Counter

import numpy as np
import pytest
import small_villages as small

from projects.engine.errors import UserError
from projects.roofline.graph import LINE_TYPES
from projects.roofline.scenes.village import VillageRoofs, village_graph
from projects.scenes.objects import OBJECTS
from projects.scenes.render import Renderer
from projects.scenes.scene import make_scene
from projects.scenes.yard_trees import with_yard_trees

R = 0.15
WHOLE = (0.0, 0.0, 60.0, 60.0)
# Leaves and buildings on a ground of 240 m: 1600 pixels a side
BOUNDS = (180.0, 180.0, 420.0, 420.0)


def pixels(points: np.ndarray, bounds: tuple[float, ...] = WHOLE) -> np.ndarray:
    """Scene metres (N, 2) as pixels, by hand."""
    return np.column_stack([points[:, 0] - bounds[0], bounds[3] - points[:, 1]]) / R


def kinds(graph) -> Counter:
    return Counter(LINE_TYPES[t] for t in graph.types)


def sorted_rows(points: np.ndarray) -> np.ndarray:
    points = np.asarray(points).round(6)
    return points[np.lexsort(points.T)]


@pytest.fixture(scope='module')
def village():
    return with_yard_trees(make_scene(1, 600), 0.7)


@pytest.fixture(scope='module')
def roofs(village):
    return VillageRoofs(village, R)


@pytest.fixture(scope='module')
def view(village):
    return Renderer(village, R).render(BOUNDS)


@pytest.mark.parametrize('roof, lines, faces', [
    ('flat', {'eave': 4}, 1),
    ('gable', {'ridge': 1, 'eave': 2, 'verge': 4}, 2),
    ('hip', {'ridge': 1, 'hip': 4, 'eave': 4}, 4),
    ('mansard', {'ridge': 1, 'hip': 8, 'eave': 4, 'break': 4}, 8),
    ('gambrel', {'ridge': 1, 'eave': 2, 'verge': 8, 'break': 2}, 4),
])
def test_a_roof_alone(roof: str, lines: dict, faces: int) -> None:
    house = small.building(roof, 30, 30, 12, 8, 4)
    graph = village_graph(small.scene(house), WHOLE, R)
    graph.check((400, 400), roof)
    assert kinds(graph) == lines
    assert len(graph.faces) == faces
    surface = np.unique([[*edge.start, *edge.end] for edge in house.roof_lines()], axis=0).reshape(-1, 3)
    surface = np.unique(surface.round(9), axis=0)
    np.testing.assert_allclose(sorted_rows(graph.junctions), sorted_rows(pixels(surface)), atol=1e-6)
    for junction, height in zip(graph.junctions, graph.heights):
        k = np.linalg.norm(pixels(surface) - junction, axis=1).argmin()
        assert height == pytest.approx(surface[k, 2], abs=1e-6)
    assert (graph.occlusions == 0).all()


def test_an_l_has_one_valley_and_shares_its_junctions() -> None:
    house = small.building('gable', 30, 30, 16, 6, 3, depth=12)
    graph = village_graph(small.scene(house), WHOLE, R)
    assert kinds(graph) == {'ridge': 2, 'hip': 1, 'valley': 1, 'eave': 4, 'verge': 4}
    inner = graph.lines[graph.types == LINE_TYPES.index('valley')][0]
    degrees = np.bincount(graph.lines.ravel())
    assert sorted(degrees[inner]) == [3, 4]  # the eaves' inner corner; two ridges, hip and valley


def test_the_ridge_is_where_the_picture_has_it() -> None:
    house = small.building('gable', 30, 30, 12, 8, 4)
    scene = small.scene(house)
    graph, view = village_graph(scene, WHOLE, R), Renderer(scene, R).render(WHOLE)
    ridge = graph.lines[graph.types == LINE_TYPES.index('ridge')][0]
    start, end = graph.junctions[ridge]
    along = start + np.linspace(0.02, 0.98, 60)[:, None] * (end - start)
    column, row = np.floor(along).astype(int).T
    # A pixel's centre lies at most 0.71 pixels from the ridge, on a slope of 40 degrees
    drop = graph.heights[ridge[0]] - view.height[row, column]
    assert drop.min() > -1e-3 and drop.max() < 0.71 * R * np.tan(np.radians(40)) + 1e-3


def test_a_line_ends_where_it_goes_under_a_higher_roof() -> None:
    low = small.building('gable', 25, 30, 14, 6, 3, angle=0.0, overhang=0.0)
    high = small.building('flat', 32, 30, 8, 10, 8, angle=0.0)
    graph = village_graph(small.scene(low, high), WHOLE, R)
    graph.check((400, 400), 'two')
    # The block's western side stands at x = 28; the low roof's eastern end would be at 32
    assert kinds(graph) == {'ridge': 1, 'verge': 2, 'eave': 2 + 4 + 3}
    ridge = graph.junctions[graph.lines[graph.types == LINE_TYPES.index('ridge')][0]]
    np.testing.assert_allclose(sorted_rows(ridge), sorted_rows(pixels(np.array([[18.0, 30.0], [28.0, 30.0]]))),
                               atol=1e-4)
    at = np.linalg.norm(graph.junctions - pixels(np.array([[28.0, 30.0]])), axis=1).argmin()
    assert np.bincount(graph.lines.ravel())[at] == 3  # the block's side is split there
    assert graph.heights[at] == pytest.approx(high.eave, abs=1e-6)
    inside = pixels(np.array([[32.0, 30.0]]))
    assert np.linalg.norm(graph.junctions - inside, axis=1).min() > 10
    assert len(graph.faces) == 3


def test_surfaces_that_cut_each_other_meet_in_a_valley() -> None:
    one = small.building('gable', 25, 30, 10, 8, 4, angle=0.0, overhang=0.0, pitch=45.0)
    other = small.building('gable', 34, 31, 10, 8, 4, angle=0.0, overhang=0.0, pitch=45.0)
    graph = village_graph(small.scene(one, other), WHOLE, R)
    graph.check((400, 400), 'two')
    # They share x 29..30. Southern slopes: z = eave + y - 26 and eave' + y - 27. The first one's northern slope falls
    # from its ridge at y = 30: eave + 34 - y; the second rises there until y = 31
    shift = other.eave - one.eave
    y = (34 + 27 - shift) / 2
    meeting = graph.lines[graph.types == LINE_TYPES.index('valley')]
    assert abs(shift) < 0.9 and len(meeting) == 1
    np.testing.assert_allclose(sorted_rows(graph.junctions[meeting[0]]),
                               sorted_rows(pixels(np.array([[29.0, y], [30.0, y]]))), atol=1e-4)


def test_roofs_side_by_side_share_their_line() -> None:
    one = small.building('flat', 25, 30, 10, 8, 4, angle=0.0)
    other = small.building('flat', 35.02, 30, 10, 8, 5, angle=0.0)  # 2 cm: a seventh of a pixel
    graph = village_graph(small.scene(one, other), WHOLE, R)
    assert len(graph.junctions) == 6 and len(graph.lines) == 7
    shared = graph.lines[(np.abs(graph.segments()[..., 0] - 30 / R) < 0.2).all(axis=1)]
    assert len(shared) == 1 and graph.heights[shared].min() == pytest.approx(other.eave, abs=1e-6)
    apart = village_graph(small.scene(one, other), WHOLE, R, weld=0.05)
    assert len(apart.junctions) == 8 and len(apart.lines) == 8


def distances(points: np.ndarray, segments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Signed distance of each point (N, 2) to the nearest segment (M, 2, 2), and which one it is."""
    start, step = segments[:, 0], segments[:, 1] - segments[:, 0]
    offset = points[:, None] - start
    share = np.clip((offset * step).sum(-1) / (step**2).sum(-1), 0, 1)
    apart = np.linalg.norm(offset - share[..., None] * step, axis=-1)
    nearest = apart.argmin(axis=1)
    return apart[np.arange(len(points)), nearest], nearest


def test_borders_of_buildings_are_lines(village, roofs, view) -> None:
    """Wherever two pixels show different buildings, or one and the ground, a line runs between them."""
    graph = roofs.graph(BOUNDS)
    segments = graph.segments()
    eaves = np.array([b.eave for b in village.buildings])
    roof = (view.building >= 0) & (view.height > eaves[view.building] - 0.3)  # balconies hang lower
    leaves = np.isin(view.ids, [OBJECTS['tree'], OBJECTS['garden'], OBJECTS['hedge'], OBJECTS['semi_natural_grass']])
    plain = ~leaves & (roof | (view.building < 0))
    borders, normals = [], []
    for axis, normal in ((1, (1.0, 0.0)), (0, (0.0, 1.0))):
        one, two = np.s_[:, :-1] if axis else np.s_[:-1], np.s_[:, 1:] if axis else np.s_[1:]
        border = (view.building[one] != view.building[two]) & plain[one] & plain[two]
        row, column = np.nonzero(border)
        borders.append(np.column_stack([column + (1.0 if axis else 0.5), row + (0.5 if axis else 1.0)]))
        normals.append(np.broadcast_to(normal, borders[-1].shape))
    points = np.concatenate(borders)
    assert len(points) > 3000
    apart, nearest = distances(points, segments)
    assert (apart < 0.75).mean() > 0.995 and apart.max() < 1.5
    # No half-pixel shift: steps of the border lie as far to one side as to the other
    start, step = segments[nearest, 0], segments[nearest, 1] - segments[nearest, 0]
    normal = np.column_stack([-step[:, 1], step[:, 0]]) / np.linalg.norm(step, axis=1)[:, None]
    normal *= np.where(normal.sum(axis=1) < 0, -1, 1)[:, None]
    signed = ((points - start) * normal).sum(axis=1)
    assert abs(signed.mean()) < 0.05


def test_outer_lines_are_borders_of_buildings(roofs, view) -> None:
    graph = roofs.graph(BOUNDS)
    differs = np.zeros(view.building.shape, bool)
    building = np.pad(view.building, 1, mode='edge')
    for dy in (0, 1, 2):
        for dx in (0, 1, 2):
            differs |= building[dy:dy + len(differs), dx:dx + differs.shape[1]] != view.building
    outer = np.isin(graph.types, [LINE_TYPES.index('eave'), LINE_TYPES.index('verge')])
    seen = (graph.occlusions == 0).all(axis=1)
    hits = []
    for start, end in graph.segments()[outer & seen]:
        count = int(np.linalg.norm(end - start))
        along = start + ((np.arange(count) + 0.5) / max(count, 1))[:, None] * (end - start)
        column, row = np.clip(np.floor(along).astype(int), 0, 1599).T
        hits.append(differs[row, column])
    assert np.concatenate(hits).mean() > 0.99


def test_hidden_parts_against_the_picture(roofs, view) -> None:
    """What the picture shows above a line, pixel by pixel, is what its interval says."""
    graph = roofs.graph(BOUNDS)
    hidden = {OBJECTS[name] for name in ('tree', 'garden', 'hedge', 'semi_natural_grass')}
    apart = []
    for (a, b), line, (first, last) in zip(graph.segments(), graph.lines, graph.occlusions):
        length = float(np.linalg.norm(b - a))
        if length < 12 or (graph.junctions[line] % 1600 == 0).any() or not last - first > 6 / length:
            continue
        count = int(8 * length)
        share = (np.arange(count) + 0.5) / count
        column, row = np.floor(a + share[:, None] * (b - a)).astype(int).T
        level = graph.heights[line[0]] + share * (graph.heights[line[1]] - graph.heights[line[0]])
        above = np.isin(view.ids[row, column], list(hidden)) & (view.height[row, column] > level)
        change = np.flatnonzero(np.diff(above, prepend=False, append=False)).reshape(-1, 2)
        change = change[change[:, 1] - change[:, 0] > 12]  # a pixel's corner may see another place than its centre
        if not len(change):
            continue
        apart += [abs(change[0, 0] / count - first) * length, abs(change[-1, 1] / count - last) * length]
    assert len(apart) > 50
    assert np.quantile(apart, 0.9) < 1.0 and max(apart) < 6  # far where a crown grazes a line
    free = graph.occlusions[:, 1] == 0
    assert 0.4 < free.mean() < 0.98


def test_hidden_twice_is_no_interval_unless_nearly_joined() -> None:
    house = small.building('flat', 30, 30, 24, 8, 3, angle=0.0)
    side = 26.0  # y of the southern eave
    apart = small.scene(house, plants=small.trees((21, side - 1.5, 8, 2.5), (39, side - 1.5, 8, 2.5)))
    graph = village_graph(apart, WHOLE, R)
    south = np.flatnonzero((np.abs(graph.segments()[..., 1] - (60 - side) / R) < 1e-6).all(axis=1))
    assert np.isnan(graph.occlusions[south]).all()
    alone = small.scene(house, plants=small.trees((21, side - 1.5, 8, 2.5)))
    graph = village_graph(alone, WHOLE, R)
    first, last = graph.occlusions[south[0]]
    if graph.segments()[south[0], 0, 0] > graph.segments()[south[0], 1, 0]:
        first, last = 1 - last, 1 - first
    assert 18 + 24 * first < 21 < 18 + 24 * last
    assert 2 < 24 * (last - first) < 5


def test_min_visible_leaves_out_hidden_lines_and_their_faces() -> None:
    house = small.building('gable', 30, 30, 4, 3, 2.2, angle=0.0, overhang=0.0)
    scene = small.scene(house, plants=small.trees((30, 27.5, 9, 3.5)))
    whole = village_graph(scene, WHOLE, R)
    hidden = whole.occlusions[:, 1] - whole.occlusions[:, 0]
    assert len(whole.lines) == 7 and 0 < (hidden > 0.6).sum() < 7
    kept = village_graph(scene, WHOLE, R, min_visible=0.4)
    assert len(kept.lines) == (hidden <= 0.6).sum()
    assert len(kept.faces) < len(whole.faces) == 2


def test_windows_agree_with_the_village(roofs) -> None:
    whole = roofs.graph((0.0, 0.0, 600.0, 600.0))
    for left, bottom in ((240.0, 270.0), (301.5, 319.5)):
        window = roofs.graph((left, bottom, left + 256 * R, bottom + 256 * R))
        shift = np.array([[1, 0, -left / R], [0, 1, -(600 - bottom) / R + 256]])
        cut = whole.moved(shift).clipped((256, 256))
        assert len(window.lines) == len(cut.lines) > 10
        order, other = (np.lexsort(g.segments().reshape(-1, 4).round(4).T) for g in (window, cut))
        np.testing.assert_allclose(window.segments()[order], cut.segments()[other], atol=1e-6)
        assert window.types[order].tolist() == cut.types[other].tolist()
        assert len(window.faces) == len(cut.faces) > 0


def test_every_ring_runs_along_lines(roofs) -> None:
    graph = roofs.graph((0.0, 0.0, 600.0, 600.0))
    lines = {tuple(sorted(line)) for line in graph.lines.tolist()}
    for ring in graph.faces:
        assert all(tuple(sorted(edge)) in lines for edge in zip(ring, (*ring[1:], ring[0])))


@pytest.mark.parametrize('options, words', [
    (dict(min_visible=1.5), 'min_visible: expected a share of 0 to 1, found 1.5'),
    (dict(weld=0.0), 'weld: expected more than 0, found 0'),
    (dict(bounds=(0.0, 0.0, 0.0, 9.0)), 'bounds: expected left < right'),
])
def test_values_out_of_range(options: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        village_graph(**{**dict(scene=small.scene(), bounds=WHOLE, resolution=R), **options})


def test_a_village_without_buildings_has_an_empty_graph() -> None:
    assert village_graph(small.scene(), WHOLE, R).empty
