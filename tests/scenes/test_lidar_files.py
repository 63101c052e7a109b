from pathlib import Path

import laspy
import numpy as np
import pytest

from projects.engine.errors import UserError
from projects.geo.point_tiles import parse_tile_name
from projects.scenes.lidar import LidarPoints, Scanner
from projects.scenes.lidar_files import asprs_codes, tile_name, write_lidar, write_lidar_tiles
from projects.scenes.objects import OBJECTS, PARTS
from projects.scenes.scene import Scene


@pytest.fixture(scope='module')
def points(hamlet: Scene) -> LidarPoints:
    return Scanner(hamlet, 4.0, resolution=0.5).sample((60, 60, 120, 110))


def test_names_are_those_of_ign():
    assert tile_name(770_000, 6_277_000, 1000) == 'LHD_FXX_0770_6277_PTS_LA93_IGN69.laz'
    assert tile_name(770_550, 6_277_600, 50, '.las') == 'LHD_FXX_77055_627760_PTS_LA93_IGN69.las'
    assert parse_tile_name(tile_name(770_550, 6_277_600, 50)).box == (770_550, 6_277_550, 770_600, 6_277_600)
    assert parse_tile_name(tile_name(770_000, 6_277_000, 1000)).box == (770_000, 6_276_000, 771_000, 6_277_000)


@pytest.mark.parametrize('point_format', [3, 6, 7, 8])
def test_all_that_is_known_is_in_the_file(tmp_path: Path, points: LidarPoints, point_format: int):
    path = tmp_path / 'tile.laz'
    write_lidar(path, points, (712_000, 6_743_000), point_format, {'more': (points.object, 'once more')})
    cloud = laspy.read(path)
    assert cloud.header.point_format.id == point_format and len(cloud) == len(points)
    assert np.allclose(np.asarray(cloud.xyz) - [712_000, 6_743_000, 0], points.xyz, atol=0.0051)
    for name, value in (('object', points.object), ('part', points.part), ('more', points.object),
                        ('intensity', points.intensity), ('return_number', points.return_number),
                        ('number_of_returns', points.number_of_returns), ('gps_time', points.gps_time)):
        assert np.array_equal(np.asarray(cloud[name]), value), name
    names = set(cloud.point_format.dimension_names)
    assert ('red' in names) == (point_format != 6) and ('nir' in names) == (point_format == 8)
    if point_format != 6:
        assert np.array_equal(np.column_stack([cloud.red, cloud.green, cloud.blue]), points.rgb)
    if point_format == 8:
        assert np.array_equal(np.asarray(cloud.nir), points.nir)
    angle = np.asarray(cloud.scan_angle_rank) if point_format == 3 else np.asarray(cloud.scan_angle) * 0.006
    assert np.abs(angle - points.scan_angle).max() < 0.51
    assert set(np.unique(cloud.classification)) <= {1, 2, 3, 4, 5, 6, 7, 9, 65}
    assert np.asarray(cloud.point_source_id).min() >= 1


def test_asprs_codes_follow_object_and_height(points: LidarPoints):
    code = asprs_codes(points)
    by_name = {name: code[points.object == k] for name, k in OBJECTS.items()}
    assert set(by_name['building']) == {6} and set(by_name['road']) <= {2} and set(by_name['car']) <= {1}
    assert set(by_name['tree']) <= {3, 4, 5} and 5 in by_name['tree']
    tall = (points.object == OBJECTS['tree']) & (points.height > 2)
    assert set(code[tall]) == {5}
    assert (code[points.part == PARTS.index('window') + 1] == 6).all()


def test_tiles_hold_what_one_scan_holds(tmp_path: Path, hamlet: Scene):
    scanner = Scanner(hamlet, 4.0, colour=False)
    town = write_lidar_tiles(tmp_path, scanner, (40, 40, 160, 120), 60, 6,
                             lambda points: {'twice': (points.object * 2, 'twice')})
    east, north = hamlet.origin
    assert [p.name for p in town.paths] == [tile_name(east + x, north + y, 60) for y in (120, 60) for x in (40, 100)]
    whole = scanner.sample((40, 40, 160, 120))
    assert town.points == len(whole) == town.counts['twice'].sum()
    clouds = [laspy.read(p) for p in town.paths]
    seen = np.concatenate([np.column_stack([c.gps_time, c.return_number, c.X, c.Y]) for c in clouds])
    cm = np.rint(whole.xyz[:, :2] * 100)
    assert len(np.unique(seen[:, :2], axis=0)) == len(whole)
    absolute = np.concatenate([np.asarray(c.xyz)[:, :2] for c in clouds]) - [east, north]
    order, other = np.lexsort(seen[:, 1::-1].T), np.lexsort((whole.return_number, whole.gps_time))
    assert np.array_equal(np.rint(absolute[order] * 100), cm[other])


def test_tiles_that_have_no_name_are_refused(tmp_path: Path, hamlet: Scene):
    scanner = Scanner(hamlet, 1.0, colour=False)
    for bounds, tile, form, word in (((0, 0, 60, 60), 25, 8, 'tile'), ((0, 0, 60, 65), 60, 8, 'bounds'),
                                     ((0, 0, 60, 60), 60, 2, 'format'), ((0, 0, 60, 60), -10, 8, 'tile')):
        with pytest.raises(UserError, match=word):
            write_lidar_tiles(tmp_path, scanner, bounds, tile, form)
    assert not list(tmp_path.iterdir())
