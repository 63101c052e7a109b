import numpy as np
import pytest
import shapely

from projects.engine.errors import UserError
from projects.scenes.buildings import make_building
from projects.scenes.layout import Area
from projects.scenes.lidar import LidarPoints, Scanner, sample_lidar
from projects.scenes.lidar_flight import Flight
from projects.scenes.lidar_ground import Ground, Patch
from projects.scenes.lidar_pairs import PulseGrid, expanded
from projects.scenes.lidar_random import exponential, keys_of, normal, uniform
from projects.scenes.lidar_returns import Echoes, returns_of
from projects.scenes.lidar_surfaces import convex_pieces, make_faces
from projects.scenes.objects import OBJECTS, PARTS
from projects.scenes.scene import Scene
from projects.scenes.terrain import Terrain
from projects.scenes.vegetation import Planter, crown_surface

BOUNDS = (20.0, 20.0, 180.0, 140.0)


class _Plain(Terrain):
    """Level ground."""

    def height(self, x, y):
        return np.full(np.broadcast(x, y).shape, 180.0)

    def height_grid(self, x, y):
        return np.full((len(y), len(x)), 180.0, np.float32)


def _lone(kind: str = 'barn', roof: str = 'flat', wall: float = 20.0, length: float = 24.0) -> Scene:
    """One building in the middle of 120 x 120 m of asphalt."""
    terrain = _Plain(0)
    rng = np.random.default_rng(0)
    block = make_building(rng, terrain, kind, roof, 60.0, 60.0, 0.4, length, 12.0, wall, 'gravel')
    ground = Area('road', 'asphalt', shapely.box(-200, -200, 320, 320), seed=1)
    trees = Planter(rng, terrain).trees(shapely.Polygon())
    return Scene(0, (120.0, 120.0), (700_000, 6_600_000), terrain, [ground], [], [], trees, [block], [], wall + 2)


@pytest.fixture(scope='module')
def scanner(hamlet: Scene) -> Scanner:
    return Scanner(hamlet, 12.0, colour=False)


@pytest.fixture(scope='module')
def points(scanner: Scanner) -> LidarPoints:
    return scanner.sample(BOUNDS)


@pytest.fixture(scope='module')
def exact(hamlet: Scene) -> tuple[Scanner, LidarPoints]:
    scanner = Scanner(hamlet, 12.0, noise=0, colour=False)
    return scanner, scanner.sample(BOUNDS)


def _names(points: LidarPoints) -> np.ndarray:
    """What makes a point: sorted rows of time, return and place."""
    rows = np.column_stack([points.gps_time, points.return_number, points.xyz, points.intensity, points.object,
                            points.part, points.height])
    return rows[np.lexsort((rows[:, 1], rows[:, 0]))]


def test_tiles_share_and_lose_no_point(scanner: Scanner, points: LidarPoints):
    pieces = [scanner.sample((x0, y0, x1, y1)) for x0, x1 in ((20, 57.31), (57.31, 110), (110, 180))
              for y0, y1 in ((20, 90), (90, 140))]
    joined = LidarPoints.joined(pieces)
    assert len(joined) == len(points)
    assert np.array_equal(_names(joined), _names(points))
    rows = _names(points)
    assert len(np.unique(rows[:, :2], axis=0)) == len(rows)


def test_the_same_scene_and_seed_give_the_same_points(hamlet: Scene, points: LidarPoints):
    bounds = (60.0, 60.0, 100.0, 90.0)
    again, other = (sample_lidar(hamlet, bounds, 12.0, seed, colour=False) for seed in (None, 9))
    inside = points.kept((np.rint(points.xyz[:, :2] * 100) >= [6000, 6000]).all(axis=1)
                         & (np.rint(points.xyz[:, :2] * 100) < [10000, 9000]).all(axis=1))
    assert np.array_equal(_names(again), _names(inside))
    assert not np.array_equal(other.gps_time, again.gps_time[:len(other)])


def test_half_open_bounds_hold_after_rounding_to_centimetres(points: LidarPoints):
    cm = np.rint(points.xyz[:, :2] * 100)
    assert (cm >= [2000, 2000]).all() and (cm < [18000, 14000]).all()


@pytest.mark.parametrize('density', [5.0, 20.0])
def test_density_is_what_was_asked_for(hamlet: Scene, density: float):
    found = sample_lidar(hamlet, (30, 30, 130, 130), density, colour=False)
    first = np.count_nonzero(found.return_number == 1) / 100**2
    assert abs(first / density - 1) < 0.1
    assert 1.0 < len(found) / 100**2 / density < 1.5


def test_returns_are_numbered_in_order_from_the_sky_down(points: LidarPoints):
    assert points.return_number.min() == 1
    assert (points.return_number <= points.number_of_returns).all()
    assert points.number_of_returns.max() >= 4
    order = np.lexsort((points.return_number, points.gps_time))
    time, number, total, z = (v[order] for v in (points.gps_time, points.return_number, points.number_of_returns,
                                                 points.xyz[:, 2]))
    same = time[1:] == time[:-1]
    assert np.count_nonzero(same) > 1000
    assert (np.diff(number.astype(int))[same] > 0).all() and (np.diff(total.astype(int))[same] == 0).all()
    ordinary = same & (points.object[order][1:] != 0) & (points.object[order][:-1] != 0)
    assert (np.diff(z)[ordinary] < -0.4).all()


def test_trees_are_porous_and_show_the_ground_below(points: LidarPoints):
    tree, ground = points.object == OBJECTS['tree'], (points.height < 0.3) & (points.part == 0)
    assert np.count_nonzero(tree) > 3000
    share = np.bincount(points.number_of_returns[tree], minlength=6)[1:] / np.count_nonzero(tree)
    assert 0.15 < share[0] < 0.6 and share[4] < 0.12
    assert np.count_nonzero(ground & (points.number_of_returns > 1)) > 1000
    assert np.percentile(points.height[tree], 95) > 6 and points.height[tree].min() > -0.5


def test_exact_points_lie_on_the_planes_of_their_own_solids(hamlet: Scene, exact):
    scanner, points = exact
    rows = np.flatnonzero(points.face >= 0)
    assert len(rows) > 3000
    flight, faces = scanner.flight, scanner.faces
    s, c = flight.to_flight(points.xyz[rows, 0], points.xyz[rows, 1])
    n = faces.normal[points.face[rows]]
    off = n[:, 0] * s + n[:, 1] * c + n[:, 2] * points.xyz[rows, 2] - faces.offset[points.face[rows]]
    assert np.abs(off).max() < 1e-6
    # And by the scene itself: some face of that name of that building holds the point
    wanted = rows[points.building[rows] >= 0][::17]
    for row in wanted:
        p, name = points.xyz[row], PARTS[points.part[row] - 1]
        planes = [(solid.polygon(f)[0], solid.normal(f)) for solid in hamlet.buildings[points.building[row]].solids
                  for f, part in enumerate(solid.parts) if part == name]
        assert min(abs((p - q) @ n) for q, n in planes) < 1e-6
        x0, y0, x1, y1 = shapely.Polygon(hamlet.buildings[points.building[row]].footprint).buffer(3).bounds
        assert x0 < p[0] < x1 and y0 < p[1] < y1


def test_facades_are_seen_only_by_strips_that_they_face(hamlet: Scene, exact):
    scanner, points = exact
    walls = np.isin(points.part, [PARTS.index(p) + 1 for p in ('wall_plain', 'wall_with_windows', 'wall_with_door')])
    assert np.count_nonzero(walls) > 150
    rows = np.flatnonzero(points.face >= 0)
    n = scanner.faces.normal[points.face[rows]]
    assert np.abs(n[:, 2]).min() < 1e-9  # upright ones among them
    along = np.where(points.channel[rows] == 1, scanner.flight.tilt, -scanner.flight.tilt)
    ray = np.column_stack([along, np.tan(np.radians(points.scan_angle[rows])), -np.ones(len(rows))])
    assert ((n * ray).sum(axis=1) < 0).all()
    assert n[:, 2].min() > -0.4


def test_what_stands_behind_a_house_lies_in_its_shadow():
    scene = _lone()
    scanner = Scanner(scene, 20.0, noise=0, colour=False)
    points = scanner.sample((10, 10, 110, 110))
    house = shapely.Polygon(scene.buildings[0].footprint)
    ground = points.kept(points.part == 0)
    inside = shapely.contains_xy(house.buffer(-0.05), ground.xyz[:, 0], ground.xyz[:, 1])
    assert not inside.any()  # nothing below a roof
    top = float(scene.buildings[0].solids[-1].vertices[:, 2].max())
    for strip in np.unique(ground.strip):
        for channel in (0, 1):
            own = ground.kept((ground.strip == strip) & (ground.channel == channel))
            # Going up its ray, no ground point passes through the house
            tc = np.tan(np.radians(own.scan_angle.astype(float)))
            ts = scanner.flight.slope_along(channel)
            dx, dy = scanner.flight.to_scene(ts, tc)
            for rise in np.linspace(0.5, top - 181, 12):
                x, y = own.xyz[:, 0] - dx * rise, own.xyz[:, 1] - dy * rise
                assert not shapely.contains_xy(house.buffer(-0.01), x, y).any()
            # And the shadow is there: without the house there were points
            shadow = shapely.union_all([shapely.affinity.translate(house, float(np.median(dx)) * r, float(
                np.median(dy)) * r) for r in (2.0, 5.0)]).difference(house.buffer(1.5))
            level = shapely.contains_xy(shadow.buffer(-0.5), own.xyz[:, 0], own.xyz[:, 1])
            assert np.count_nonzero(level) <= 0.15 * 5 * max(shadow.buffer(-0.5).area, 1)


def test_all_four_walls_of_a_house_are_seen():
    scene = _lone()
    scanner = Scanner(scene, 20.0, noise=0, colour=False)
    points = scanner.sample((10, 10, 110, 110))
    wall = points.part == PARTS.index('wall_plain') + 1
    seen = np.unique(scanner.faces.normal[points.face[wall]].round(6), axis=0)
    assert len(seen) >= 3  # the fourth holds the garage door
    door = PARTS.index('garage_door') + 1, PARTS.index('wall_with_door') + 1
    assert np.isin(points.part, door).any()


def test_edges_of_roofs_split_a_pulse():
    points = Scanner(_lone(), 20.0, noise=0, colour=False).sample((10, 10, 110, 110))
    double = points.kept(points.number_of_returns == 2)
    assert len(double) > 60
    order = np.lexsort((double.return_number, double.gps_time))
    z = double.xyz[order, 2].reshape(-1, 2)
    assert (z[:, 0] - z[:, 1] > 0.6).all()
    assert (points.number_of_returns <= 2).all()


def test_ground_without_anything_on_it():
    scene = _lone()
    scene.buildings.clear()
    scanner = Scanner(scene, 5.0, noise=0, colour=False)
    points = scanner.sample((30, 30, 90, 90))
    assert len(scanner.faces) == 0 and len(points) == pytest.approx(5 * 60 * 60, rel=0.05)
    assert (points.xyz[:, 2] == 180).all() and (points.face == -1).all() and (points.building == -1).all()


def test_intensity_tells_materials_apart(points: LidarPoints):
    median = {name: np.median(points.intensity[points.object == OBJECTS[name]]) for name in ('meadow', 'road', 'tree')}
    assert median['road'] < 0.6 * median['meadow']
    assert points.intensity.min() >= 1 and 300 < np.median(points.intensity) < 2000


def test_noise_is_some_centimetres_and_some_points_are_of_nothing(points: LidarPoints, exact):
    other = exact[1]
    _, i, j = np.intersect1d(points.gps_time + points.return_number * 1e-7, other.gps_time
                             + other.return_number * 1e-7, return_indices=True)
    moved = points.xyz[i] - other.xyz[j]
    ordinary = points.object[i] != 0
    assert 0.015 < moved[ordinary, 2].std() < 0.025 and 0.025 < moved[ordinary, 0].std() < 0.035
    assert 0 < np.count_nonzero(points.object == 0) < 1e-3 * len(points)
    assert np.abs(moved[~ordinary, 2]).min() > 1


def test_colours_are_those_of_the_orthophoto(hamlet: Scene):
    scanner = Scanner(hamlet, 5.0, resolution=0.5)
    points = scanner.sample((40, 40, 90, 80))
    image = scanner._renderer.render((40, 40, 90, 80)).rgbn
    row, column = ((80 - points.xyz[:, 1]) / 0.5).astype(int), ((points.xyz[:, 0] - 40) / 0.5).astype(int)
    ok = (row < 80) & (row >= 0) & (column >= 0) & (column < 100)
    assert ok.mean() > 0.99
    got = np.column_stack([points.rgb, points.nir])[ok]
    assert (got == image[row[ok], column[ok]].astype(int) * 257).all(axis=1).mean() > 0.97


def test_rays_meet_the_terrain(hamlet: Scene, exact):
    _, points = exact
    ground = points.kept(np.isin(points.object, [OBJECTS['road'], OBJECTS['bare_field'], OBJECTS['path']]))
    assert len(ground) > 1000
    z = hamlet.terrain.height(ground.xyz[:, 0], ground.xyz[:, 1])
    assert np.abs(ground.xyz[:, 2] - z).max() < 5e-3  # posts of 1 m
    water = points.xyz[points.object == OBJECTS['water']]
    if len(water):
        assert np.abs(water[:, 2] - hamlet.terrain.height(water[:, 0], water[:, 1]) + 0.7).max() < 0.1


def test_crowns_are_those_of_the_view_from_above():
    rng = np.random.default_rng(0)
    for kind in range(5):
        dx, dy, lumps = rng.uniform(-3, 3, 50), rng.uniform(-3, 3, 50), rng.uniform(0, 1, 50)
        expected, share = crown_surface(*(v.astype(np.float32) for v in (dx, dy, lumps)), 9.0, 3.3, kind)
        found, q2 = crown_surface(dx, dy, lumps, np.full(50, 9.0), np.full(50, 3.3), np.full(50, kind))
        assert expected.dtype == np.float32 and found.dtype == np.float64
        assert np.allclose(found, expected, atol=1e-4) and np.allclose(q2, share, rtol=1e-5)


def test_patches_agree_wherever_they_overlap(hamlet: Scene):
    ground = Ground(hamlet)
    one, two = Patch(ground, (10, 10, 90, 90)), Patch(ground, (33.3, 41.7, 120, 70))
    x, y = np.random.default_rng(1).uniform((45, 45), (88, 68), (500, 2)).T
    assert np.array_equal(one.terrain(x, y), two.terrain(x, y))
    area = one.area(x, y)
    assert np.array_equal(area, two.area(x, y))
    assert np.array_equal(one.plants(area, x, y), two.plants(area, x, y))
    assert np.allclose(one.terrain(x, y), hamlet.terrain.height(x, y), atol=5e-3)
    on = [shapely.contains_xy(hamlet.areas[a].polygon, px, py) for a, px, py in zip(area, x, y)]
    assert np.mean(on) > 0.95  # pixels of 0.25 m


def test_flights_aim_in_perspective():
    flight = Flight(3, 10.0, 1800.0, 20.0, 180.0)
    s, c, drop = np.array([5.0, -80]), np.array([33.0, 400]), np.array([-7.0, 12])
    for strip, channel in ((0, 0), (-1, 1)):
        aim_s, aim_c = flight.aimed(s, c, drop, strip, channel)
        slope = (aim_c - flight.line_of(strip)) / flight.height
        assert np.allclose(aim_s + drop * flight.slope_along(channel), s) and np.allclose(aim_c + drop * slope, c)
    x, y = flight.to_scene(s, c)
    assert np.allclose(flight.to_flight(x, y), (s, c))
    pulses = flight.pulses(0.0, 0.0, 100.0)
    assert sum(map(len, pulses)) == pytest.approx(100_000, rel=0.02)
    assert all((np.abs(p.tc) <= np.tan(np.radians(20)) + 1e-3).all() for p in pulses)
    times = np.concatenate([p.time for p in pulses])
    assert len(np.unique(times)) == len(times)


def test_random_numbers_have_their_distributions():
    keys = keys_of(7, -3, np.arange(200_000))
    assert len(np.unique(keys)) > 199_900
    for salt in (0, 1, 41):
        u = uniform(keys, salt)
        assert u.min() >= 0 and u.max() < 1 and abs(u.mean() - 0.5) < 5e-3
        assert abs(np.corrcoef(u, uniform(keys, salt + 1))[0, 1]) < 0.01
        assert abs(np.corrcoef(u[1:], u[:-1])[0, 1]) < 0.01
    assert abs(normal(keys, 2).std() - 1) < 0.01 and abs(exponential(keys, 3).mean() - 1) < 0.01


def test_pairs_hold_all_places_inside_the_boxes():
    rng = np.random.default_rng(0)
    s, c = rng.uniform(-20, 30, (2, 900))
    left, bottom = rng.uniform(-30, 35, (2, 60))
    right, top = left + rng.uniform(0, 12, 60), bottom + rng.uniform(0, 12, 60)
    box, place = PulseGrid(s, c).pairs(left, bottom, right, top)
    found = set(zip(box.tolist(), place.tolist()))
    assert len(found) == len(box)
    inside = (s > left[:, None]) & (s < right[:, None]) & (c > bottom[:, None]) & (c < top[:, None])
    assert set(zip(*(v.tolist() for v in np.nonzero(inside)))) <= found
    owner, number = expanded(np.array([3, 9, 4]), np.array([5, 7, 5]))
    assert owner.tolist() == [0, 0, 2] and number.tolist() == [3, 4, 4]


def test_convex_pieces_cover_an_l():
    shape = np.array([[0, 0], [9, 0], [9, 3], [3, 3], [3, 8], [0, 8.0]])
    corners = np.column_stack([shape, 0.5 * shape[:, 0] + 2])
    normal = np.array([-0.5, 0, 1]) / np.sqrt(1.25)
    pieces = convex_pieces(corners, normal)
    assert len(pieces) > 1
    areas = [shapely.Polygon(p[:, :2]).area for p in pieces]
    assert sum(areas) == pytest.approx(shapely.Polygon(shape).area)
    for p in pieces:
        polygon = shapely.Polygon(p[:, :2])
        assert polygon.convex_hull.area == pytest.approx(polygon.area) and polygon.exterior.is_ccw


def test_the_table_of_faces_keeps_every_face_that_can_be_seen(hamlet: Scene):
    flight = Flight(0, 10.0, 1800.0, 20.0, hamlet.terrain.base)
    faces = make_faces(hamlet, flight)
    assert set(np.unique(faces.building)) == {-1, *range(len(hamlet.buildings))}
    assert {'wall_with_windows', 'window', 'balcony', 'car_glass'} <= {PARTS[p - 1] for p in np.unique(faces.part)}
    off = (faces.corners * faces.normal[:, None]).sum(axis=2) - faces.offset[:, None]
    assert np.abs(off).max() < 1e-6


def test_a_receiver_needs_some_way_between_two_returns():
    def column(*values, dtype=float):
        return np.array(values, dtype)

    drop = column(0.0, 0.4, 3.0, 9.0, 5.0)
    echoes = Echoes(column(0, 0, 0, 0, 1, dtype=int), drop, drop, drop, column(0, 0, 0, 1, 1, dtype=bool),
                    column(6, 6, 6, 8, 8, dtype=np.uint8), column(1, 1, 1, 0, 0, dtype=np.uint8), drop, drop)
    found, number, total = returns_of(echoes, keys_of(np.arange(2)))
    assert found.drop.tolist() == [0.0, 3.0, 9.0, 5.0]
    assert number.tolist() == [1, 2, 3, 1] and total.tolist() == [3, 3, 3, 1]


@pytest.mark.parametrize(('options', 'word'), [
    (dict(density=0.0), 'density'), (dict(density=float('nan')), 'density'), (dict(max_angle=35.0), 'max_angle'),
    (dict(height=10.0), 'height')])
def test_values_out_of_range_are_refused(hamlet: Scene, options: dict, word: str):
    with pytest.raises(UserError, match=word):
        Scanner(hamlet, **options)
    with pytest.raises(UserError, match='bounds'):
        sample_lidar(hamlet, (10, 10, 10, 20), colour=False)
