"""Planes, heights and line types from laser points: by formulas, and in a scanned scene."""

from pathlib import Path

import laspy
import numpy as np
import pytest
import shapely
import small_villages
from affine import Affine
from rasterio.crs import CRS
from scipy.spatial import cKDTree

from projects.engine.errors import UserError
from projects.geo.point_clouds import write_points
from projects.roofline.geometry.faces import find_faces
from projects.roofline.geometry.place import Place
from projects.roofline.graph import LINE_TYPES
from projects.roofline.scenes.village import village_graph
from projects.roofline.vectorizing.heights import SOURCES, fit_planes, junction_heights, line_types
from projects.roofline.vectorizing.obj import write_obj
from projects.roofline.vectorizing.planes import fit_plane
from projects.roofline.vectorizing.roof_plan import RoofPlan
from projects.roofline.vectorizing.roof_points import points_of_faces, read_lidar, tiles_with_points
from projects.roofline.vectorizing.vectorize import with_heights
from projects.roofline.wireframe import Wireframe
from projects.scenes.lidar import Scanner
from projects.scenes.lidar_files import write_lidar

# A gable of 10 x 8 m, ridge along x at height 5, eaves at 2, and a line that hangs off its corner
GABLE = np.array([[0, 0], [10, 0], [10, 8], [0, 8], [0, 4], [10, 4], [-5, 0]], float)
LINES = np.array([[0, 1], [1, 5], [5, 2], [2, 3], [3, 4], [4, 0], [4, 5], [0, 6]])


def gable_points(generator: np.random.Generator, count: int = 800) -> np.ndarray:
    x, y = generator.uniform(0, 10, count), generator.uniform(0, 8, count)
    z = 5 - 0.75 * np.abs(y - 4) + generator.normal(0, 0.02, count)
    return np.column_stack([x, y, z])


def test_a_plane_through_a_fifth_of_outliers():
    generator = np.random.default_rng(0)
    xy = generator.uniform(-5, 5, (500, 2))
    z = 0.6 * xy[:, 0] - 0.3 * xy[:, 1] + 7 + generator.normal(0, 0.02, 500)
    z[:100] += generator.uniform(0.5, 3, 100)
    plane, count, rms = fit_plane(np.column_stack([xy, z]), generator)
    np.testing.assert_allclose(plane, [0.6, -0.3, 7], atol=0.01)
    assert 395 <= count <= 405 and 0.01 < rms < 0.03


def test_what_is_no_plane():
    generator = np.random.default_rng(0)
    assert fit_plane(np.zeros((5, 3)), generator) is None
    assert fit_plane(np.column_stack([np.arange(50.0), np.zeros((50, 2))]), generator) is None  # in a row
    assert fit_plane(generator.uniform(0, 10, (200, 3)), generator) is None
    wall = np.column_stack([generator.uniform(0, 9, 200), np.zeros(200), generator.uniform(0, 9, 200)])
    assert fit_plane(wall, generator) is None


def gable(points: np.ndarray):
    faces = find_faces(GABLE, LINES)
    inside = [points[shapely.contains_xy(polygon, points[:, :2])] for polygon in faces.polygons]
    planes = fit_planes(faces, GABLE, inside)
    return faces, planes, junction_heights(faces, GABLE, LINES, planes)


def test_a_gable_by_its_points():
    faces, planes, heights = gable(gable_points(np.random.default_rng(1)))
    np.testing.assert_allclose(heights.junctions, [2, 2, 2, 2, 5, 5, 2], atol=0.02)
    assert [SOURCES[s] for s in heights.sources] == ['planes'] * 6 + ['interpolated']
    np.testing.assert_allclose(planes.slopes(), np.degrees(np.arctan(0.75)), atol=0.3)
    south = int(np.argmin([polygon.centroid.y for polygon in faces.polygons]))
    assert planes.azimuths()[south] == pytest.approx(180, abs=0.5)
    assert planes.azimuths()[1 - south] % 360 == pytest.approx(0, abs=0.5) or planes.azimuths()[1 - south] > 359.5
    names = [LINE_TYPES[t] for t in line_types(faces, GABLE, LINES, heights)]
    assert names == ['eave', 'verge', 'verge', 'eave', 'verge', 'verge', 'ridge', 'outline']


def test_the_ridge_keeps_its_height_when_its_place_is_wrong():
    points = gable_points(np.random.default_rng(2))
    moved = GABLE.copy()
    moved[4:6, 1] += 0.4  # two pixels of 0.2 m
    faces = find_faces(moved, LINES)
    inside = [points[shapely.contains_xy(polygon.buffer(-0.5), points[:, :2])] for polygon in faces.polygons]
    heights = junction_heights(faces, moved, LINES, fit_planes(faces, moved, inside))
    np.testing.assert_allclose(heights.junctions[4:6], 5, atol=0.03)
    np.testing.assert_allclose(heights.spread[4:6], 0.6, atol=0.05)  # the two planes, 0.75 x 0.4 m up and down
    assert LINE_TYPES[line_types(faces, moved, LINES, heights)[6]] == 'ridge'


def test_a_roof_over_a_lower_one_has_the_upper_height():
    junctions = np.array([[0, 0], [10, 0], [10, 10], [0, 10], [20, 0], [20, 10]], float)
    lines = np.array([[0, 1], [1, 2], [2, 3], [3, 0], [1, 4], [4, 5], [5, 2]])
    faces = find_faces(junctions, lines)
    generator = np.random.default_rng(3)
    points = []
    for polygon in faces.polygons:
        low, high = polygon.bounds[0], polygon.bounds[2]
        z = 8.0 if low == 0 else 3.0
        points.append(np.column_stack([generator.uniform(low, high, 100), generator.uniform(0, 10, 100),
                                       np.full(100, z)]))
    heights = junction_heights(faces, junctions, lines, fit_planes(faces, junctions, points))
    np.testing.assert_allclose(heights.junctions, [8, 8, 8, 8, 3, 3], atol=1e-6)
    np.testing.assert_allclose(heights.spread, [0, 5, 5, 0, 0, 0], atol=1e-6)
    assert LINE_TYPES[line_types(faces, junctions, lines, heights)[1]] == 'eave'


def heights_over(junctions: np.ndarray, lines: np.ndarray, roof) -> tuple[np.ndarray, list[str]]:
    """Heights and line types of a wireframe over the surface ``roof(x, y, face's centre)``."""
    faces = find_faces(junctions, lines)
    xy = np.random.default_rng(5).uniform(junctions.min(axis=0), junctions.max(axis=0), (4000, 2))
    points = []
    for polygon in faces.polygons:
        x, y = xy[shapely.contains_xy(polygon, xy)].T
        points.append(np.column_stack([x, y, roof(x, y, polygon.centroid)]))
    heights = junction_heights(faces, junctions, lines, fit_planes(faces, junctions, points))
    return heights.junctions, [LINE_TYPES[kind] for kind in line_types(faces, junctions, lines, heights)]


def test_a_ridge_that_ends_under_a_steep_tower_has_the_height_of_its_eave():
    junctions = np.array([[-3, -10], [0, -10], [3, -10], [3, 0], [2, 0], [0, 0], [-2, 0], [-3, 0], [0, 2]], float)
    lines = np.array([[0, 1], [1, 2], [2, 3], [3, 4], [4, 5], [5, 6], [6, 7], [7, 0], [1, 5], [4, 8], [8, 6]])
    found, types = heights_over(
        junctions, lines, lambda x, y, centre: 6 + 1.7 * y if centre.y > 0 else 5 - 1.2 * np.abs(x))
    np.testing.assert_allclose(found, [1.4, 5, 1.4, 1.4, 6, 6, 6, 1.4, 9.4], atol=1e-6)
    assert types[4:6] == ['eave', 'eave'] and types[8] == 'ridge'


def test_a_ridge_whose_end_is_welded_to_a_lower_ridge_keeps_its_height():
    junctions = np.array([[-10, -5], [0, -5], [10, -5], [10, 5], [0, 5], [-10, 5], [-10, 0], [0, 0], [10, 0.6]])
    lines = np.array([[0, 1], [1, 2], [2, 8], [8, 3], [3, 4], [4, 5], [5, 6], [6, 0], [6, 7], [7, 8], [1, 7], [7, 4]])
    found, types = heights_over(
        junctions, lines, lambda x, y, centre: 5 - np.abs(y) if centre.x < 0 else 7.2 - np.abs(y - 0.6))
    np.testing.assert_allclose(found[6:], [5, 7.2, 7.2], atol=0.03)
    assert types[8:] == ['ridge', 'ridge', 'verge', 'verge']


def test_a_wall_between_roofs_that_cross_is_a_step():
    junctions = np.array([[0, 0], [10, 0], [10, 4], [5, 4], [0, 4], [5, 20], [10, 20], [0, 20]], float)
    lines = np.array([[0, 1], [1, 2], [2, 3], [3, 4], [4, 0], [3, 5], [5, 6], [6, 2], [5, 7], [7, 4]])
    found, types = heights_over(
        junctions, lines, lambda x, y, centre: np.full(len(x), 5.0) if centre.y < 4 else 7 - 0.8 * np.abs(x - 5))
    np.testing.assert_allclose(found[2:5], [5, 7, 5], atol=1e-6)  # the gable is 2 m above the flat roof, then 2 below
    assert types[2:4] == ['verge', 'verge'] and types[5] == 'ridge'


def test_faces_without_points_get_no_heights():
    _, planes, heights = gable(np.zeros((0, 3)))
    assert not planes.known.any() and np.isnan(heights.junctions).all() and (heights.sources == 0).all()


def write_cloud(path: Path, xyz: np.ndarray, code: np.ndarray) -> Path:
    write_points(path, xyz, {'classification': code.astype(np.uint8)}, point_format=6)
    return path


def test_which_points_count(tmp_path: Path):
    generator = np.random.default_rng(4)
    roof = np.column_stack([generator.uniform(0, 20, (600, 2)), np.full(600, 8.0)])
    ground = np.column_stack([generator.uniform(-15, 35, (600, 2)), np.full(600, 1.0)])
    tree = np.column_stack([generator.uniform(0, 20, (300, 2)), np.full(300, 15.0)])
    noise = np.column_stack([generator.uniform(0, 20, (20, 2)), np.full(20, -50.0)])
    xyz = np.concatenate([roof, ground, tree, noise])
    face = np.array([shapely.box(0, 0, 20, 20)], dtype=object)
    for roof_code, ground_code in ((6, 2), (1, 2), (1, 1)):  # the roof is building, unclassified, as is the ground
        code = np.repeat([roof_code, ground_code, 5, 7], [600, 600, 300, 20])
        path = write_cloud(tmp_path / f'{roof_code}{ground_code}.laz', xyz, code)
        place = Place(Affine(0.2, 0, -20, 0, -0.2, 40), CRS.from_epsg(2154))
        found, = points_of_faces(read_lidar([path], place, 'a.tif', (300, 300)), face)
        inside = ((roof[:, :2] > 0.4) & (roof[:, :2] < 19.6)).all(axis=1)
        assert len(found) == inside.sum() and (found[:, 2] == 8).all()


def test_lidar_that_does_not_fit(tmp_path: Path):
    path = write_cloud(tmp_path / 'a.las', np.array([[700_000.0, 6_600_000, 5]] * 3), np.full(3, 6))
    there = Place(Affine(0.2, 0, 700_000 - 10, 0, -0.2, 6_600_000 + 10), CRS.from_epsg(2154))
    header, = read_lidar([path], there, 'a.tif', (100, 100))
    assert header.crs == 'EPSG:2154'
    for place, message in (
            (Place(there.transform, CRS.from_epsg(32631)), r'the CRS of a\.tif \(EPSG:32631\), found EPSG:2154'),
            (Place(Affine(0.2, 0, 0, 0, -0.2, 0), CRS.from_epsg(2154)), r'expected a tile over a\.tif'),
            (Place(), 'no georeference'),
            (Place(Affine(1e-6, 0, 2, 0, -1e-6, 46), CRS.from_epsg(4326)), 'expected an image on a plane in metres')):
        with pytest.raises(UserError, match=message) as caught:
            read_lidar([path], place, 'a.tif', (100, 100))
        assert '\n' not in str(caught.value)


@pytest.mark.parametrize('image, tile, same', [
    ('EPSG:5698', 'EPSG:2154', True),  # Lambert-93 with heights above IGN69
    ('EPSG:2154+5720', 'EPSG:2154', True),
    ('EPSG:2154', 'EPSG:5698', True),
    ('EPSG:5698', 'EPSG:5699', True),  # the same plane, other heights
    ('EPSG:5698', 'EPSG:32631', False),
    ('EPSG:7415', 'EPSG:2154', False),  # RD New with heights above NAP
])
@pytest.mark.parametrize('point_format', [3, 6])  # CRS by number, and as text
def test_crs_with_heights_are_compared_by_their_planes(tmp_path: Path, image: str, tile: str, same: bool,
                                                       point_format: int):
    path = tmp_path / 'a.laz'
    write_points(path, np.array([[700_000.0, 6_600_000, 5]] * 3), point_format=point_format, crs=tile)
    place = Place(Affine(0.2, 0, 700_000 - 10, 0, -0.2, 6_600_000 + 10), CRS.from_user_input(image))
    if same:
        header, = read_lidar([path], place, 'a.tif', (100, 100))
        assert header.path == path
        return
    with pytest.raises(UserError, match=rf'a\.laz: --lidar: expected the CRS of a\.tif .*, found {tile}$'):
        read_lidar([path], place, 'a.tif', (100, 100))


@pytest.mark.parametrize('suffix', ['las', 'laz'])
def test_tiles_without_points_are_left_out(tmp_path: Path, suffix: str):
    path = write_cloud(tmp_path / 'a.laz', np.array([[700_000.0, 6_600_000, 5]] * 3), np.full(3, 6))
    empty = [tmp_path / f'{name}.{suffix}' for name in 'bc']
    for file in empty:
        laspy.LasData(laspy.LasHeader(point_format=6, version='1.4')).write(str(file))
    place = Place(Affine(0.2, 0, 700_000 - 10, 0, -0.2, 6_600_000 + 10), CRS.from_epsg(2154))
    header, = read_lidar([empty[0], path, empty[1]], place, 'a.tif', (100, 100))
    assert header.path == path
    assert tiles_with_points([empty[0], path, empty[1]]) == ([header], empty)
    for paths, message in ((empty, r'expected points, found none \(nor in 1 more\)$'),
                           (empty[:1], 'expected points, found none$')):
        with pytest.raises(UserError, match=rf'b\.{suffix}: --lidar: {message}'):
            read_lidar(paths, place, 'a.tif', (100, 100))


@pytest.fixture(scope='module')
def scanned(tmp_path_factory: pytest.TempPathFactory):
    """Four known roofs of a scene, scanned, with their true graph as prediction."""
    buildings = [small_villages.building('gable', 15, 15, 12, 8, 4), small_villages.building('hip', 42, 15, 14, 9, 5),
                 small_villages.building('mansard', 15, 42, 14, 10, 5),
                 small_villages.building('gambrel', 43, 43, 13, 9, 4)]
    scene = small_villages.scene(*buildings)
    resolution = 0.2
    graph = village_graph(scene, (0, 0, 60, 60), resolution)
    path = tmp_path_factory.mktemp('lidar') / 'tile.laz'
    write_lidar(path, Scanner(scene, 10.0).sample((0.0, 0.0, 60.0, 60.0)), scene.origin)
    place = Place(Affine(resolution, 0, scene.origin[0], 0, -resolution, scene.origin[1] + 60), CRS.from_epsg(2154))
    plan = RoofPlan.of('a.tif', Wireframe.make(graph.junctions, graph.lines), place)
    return graph, with_heights(plan, read_lidar([path], place, 'a.tif', (300, 300)))


def test_heights_of_a_scanned_scene(scanned):
    graph, plan = scanned
    assert len(plan.faces) == len(graph.faces)
    error = np.abs(plan.heights.junctions - graph.heights)
    ridge = np.unique(graph.lines[graph.types == LINE_TYPES.index('ridge')])
    assert len(ridge) == 8
    assert error[ridge].max() < 0.1  # the issue allows 0.3
    assert error.max() < 0.3
    agree = plan.types == graph.types
    for name in ('ridge', 'hip', 'break'):
        kind = graph.types == LINE_TYPES.index(name)
        assert kind.any() and agree[kind].all(), name
    assert agree.mean() > 0.9


def test_the_scene_as_obj_read_back(scanned, tmp_path: Path):
    graph, plan = scanned
    assert write_obj(tmp_path / 'a.obj', [plan]) == 0
    rows = [line.split() for line in (tmp_path / 'a.obj').read_text().splitlines()]
    origin = np.array(next(row[2:] for row in rows if row[:2] == ['#', 'origin']), float)
    assert ['#', 'crs', 'EPSG:2154'] in rows
    vertices = np.array([row[1:] for row in rows if row[0] == 'v'], float) + origin
    east, north = plan.place.transform.c, plan.place.transform.f
    truth = np.column_stack([east + 0.2 * graph.junctions[:, 0], north - 0.2 * graph.junctions[:, 1], graph.heights])
    distance, nearest = cKDTree(vertices).query(truth)
    assert distance.max() < 0.3 and len(set(nearest.tolist())) == len(truth)
    faces = [np.array(row[1:], int) - 1 for row in rows if row[0] == 'f']
    assert len(faces) == len(graph.faces)
    for face in faces:
        x, y = (vertices[face, :2] - vertices[face[0], :2]).T
        assert x @ np.roll(y, -1) - y @ np.roll(x, -1) > 0  # counter-clockwise from above
    assert sum(row[0] == 'g' for row in rows) == 4


def test_obj_of_a_face_with_a_hole_is_triangles(tmp_path: Path):
    square = np.array([[0, 0], [10, 0], [10, 10], [0, 10]], float)
    ring = np.array([[0, 1], [1, 2], [2, 3], [3, 0]])
    junctions, lines = np.concatenate([square, square * 0.2 + 4]), np.concatenate([ring, ring + 4])
    place = Place(Affine(1, 0, 0, 0, -1, 10), CRS.from_epsg(2154))
    plan = RoofPlan.of('a.tif', Wireframe.make(junctions, lines), place)
    generator = np.random.default_rng(0)
    points = [np.column_stack([generator.uniform(0, 10, (60, 2)), np.full(60, 3.0)]) for _ in plan.faces.polygons]
    metric = place.ground(junctions)
    planes = fit_planes(plan.faces, metric, points)
    plan = RoofPlan(plan.image, plan.wireframe, plan.faces, place,
                    junction_heights(plan.faces, metric, lines, planes))
    write_obj(tmp_path / 'a.obj', [plan])
    rows = [line.split() for line in (tmp_path / 'a.obj').read_text().splitlines()]
    vertices = np.array([row[1:] for row in rows if row[0] == 'v'], float)
    areas = [shapely.Polygon(vertices[np.array(row[1:], int) - 1]).area for row in rows if row[0] == 'f']
    assert sum(areas) == pytest.approx(100.0) and len(areas) == 9


def test_obj_needs_heights(tmp_path: Path):
    plan = RoofPlan.of('a.tif', Wireframe.make([[0, 0], [1, 1]], [[0, 1]]), Place())
    with pytest.raises(UserError, match='--lidar'):
        write_obj(tmp_path / 'a.obj', [plan])
