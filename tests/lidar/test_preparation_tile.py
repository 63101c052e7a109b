"""One tile and its neighbours: what it takes from them, what it does not, and what it says about it."""

import os

import numpy as np
import pytest
from small_tiles import CORNER, cloud, write_cloud

from projects.geo.executors import SerialExecutor
from projects.geo.point_clouds import read_header
from projects.geo.point_tiles import TileIndex
from projects.lidar.preparation.prepare import plan, prepare
from projects.lidar.preparation.settings import Scale, Settings
from projects.lidar.preparation.tile import HEIGHT, NEIGHBOURHOOD, reach, tile_arrays
from projects.lidar.store import open_store


def settings(buffer=8.0):
    return Settings({'20': Scale(20.0, 0.0, 64, 12, buffer, None, None)}, block_size=None)


def arrays_of(*paths, **options):
    """Return the arrays and records of tiles."""
    index = TileIndex([read_header(path) for path in paths])
    return [tile_arrays(header, index, settings(**options)) for header in index.headers]


def by_source(arrays, name):
    values = np.empty_like(arrays[name])
    values[arrays['source_index']] = arrays[name]
    return values


def halves(folder, points, cut):
    """Write a cloud as two tiles; return their paths and rows."""
    west = points['xyz'][:, 0] < CORNER[0] + cut
    rows = [np.flatnonzero(west), np.flatnonzero(~west)]
    return [write_cloud(folder / f'{name}.laz', points, mine) for name, mine in zip('ab', rows)], rows


def test_a_tile_without_a_classification_finds_its_own_ground_beside_one_with(tmp_path):
    points = cloud((160, 60), density=2.0)
    x = points['xyz'][:, 0] - CORNER[0]
    points['xyz'][:, 2] += 4 * np.sin(x / 10)  # what a plane from 8 m of the neighbour says nothing about
    truth = by_source(arrays_of(write_cloud(tmp_path / 'all.laz', points))[0][0], 'height').astype(float)
    points['classification'][x < 100] = 0
    paths, rows = halves(tmp_path, points, 100)
    (raw, _), (classified, _) = arrays_of(*paths)
    wrong = np.abs(by_source(raw, 'height') - truth[rows[0]])
    assert wrong.mean() < 0.3 and np.quantile(wrong, 0.99) < 1.5
    wrong = np.abs(by_source(classified, 'height') - truth[rows[1]])
    assert wrong[x[rows[1]] > 125].max() < 0.01  # the other tile keeps to its classification


def test_heights_without_a_mark_are_those_of_the_merged_tile(tmp_path):
    rng = np.random.default_rng(0)
    points = cloud((120, 60))
    xy = points['xyz'][:, :2] - CORNER
    points['xyz'][:, 2] += rng.normal(0, 0.3, len(xy))
    points['classification'][(np.abs(xy - [62, 30]) < [9, 12]).all(1)] = 6  # a hall on the seam hides the ground
    (merged, _), = arrays_of(write_cloud(tmp_path / 'all.laz', points))
    truth = by_source(merged, 'height').astype(float)
    paths, rows = halves(tmp_path, points, 60)
    marked = wrong = 0
    for (arrays, record), mine in zip(arrays_of(*paths), rows):
        bits = by_source(arrays, '20/incomplete')
        assert set(np.unique(bits)) <= {0, NEIGHBOURHOOD, HEIGHT, NEIGHBOURHOOD | HEIGHT}
        apart = np.abs(by_source(arrays, 'height') - truth[mine]) > 1e-5
        assert not apart[bits & HEIGHT == 0].any()
        marked, wrong = marked + ((bits & HEIGHT) > 0).sum(), wrong + apart.sum()
        assert record['statistics']['scales']['20']['incomplete'] == (bits & NEIGHBOURHOOD > 0).sum()
        assert (bits & NEIGHBOURHOOD > 0).mean() < 0.05
    assert 20 < wrong <= marked < 0.5 * len(truth)


def damage(path):
    """Damage a file's points, not its header; return what it was."""
    whole = path.read_bytes()
    path.write_bytes(whole[:2000] + bytes(len(whole) - 3000) + whole[-1000:])
    return whole


def test_a_damaged_neighbour_is_told_and_its_repair_redoes_the_tile(tmp_path):
    paths, _ = halves(tmp_path, cloud((80, 40)), 40)
    straight = prepare(plan(paths), tmp_path / 'straight', settings(), SerialExecutor())
    assert straight.done == ['a', 'b']
    whole = damage(paths[1])
    report = prepare(plan(paths), tmp_path / 'store', settings(), SerialExecutor())
    assert (report.done, list(report.failed)) == (['a'], ['b'])
    assert [line for line in report.warnings if 'a.laz: prepared without its neighbour b.laz: ' in line]
    assert open_store(tmp_path / 'store').tiles['a'].record['unread'] == ['b.laz']
    paths[1].write_bytes(whole)
    os.utime(paths[1], ns=(1, 1))  # a copy of its own time, which is not that of the damaged file
    report = prepare(plan(paths), tmp_path / 'store', settings(), SerialExecutor())
    assert (report.done, report.failed, report.kept) == (['a', 'b'], {}, [])
    for name in ('straight', 'store'):
        record = open_store(tmp_path / name).tiles['a'].record
        assert 'unread' not in record and not any('neighbour' in note for note in record['notes'])
    one, two = (open_store(tmp_path / name).manifest['items'] for name in ('straight', 'store'))
    assert [item['sha256'] for item in one] == [item['sha256'] for item in two]


@pytest.mark.parametrize('buffer', [0.0, 0.001, 8.0])
def test_points_on_a_shared_border_are_listed_once_with_any_buffer(tmp_path, buffer):
    points = cloud((80, 40))
    x = points['xyz'][:, 0]
    x[:50] = CORNER[0] + 40
    paths = [write_cloud(tmp_path / f'{name}.laz', points, mine)
             for name, mine in (('a', x <= CORNER[0] + 40), ('b', x >= CORNER[0] + 40))]
    places = []
    for arrays, record in arrays_of(*paths, buffer=buffer):
        xyz = np.rint((arrays['xyz'] * record['quantum'] + record['origin']) * 100).astype(int)
        places.append({tuple(place) for place in xyz[arrays['20/patch_index']].tolist()})
    assert not places[0] & places[1]
    assert len(places[0] | places[1]) > 0.95 * len(x)
    assert reach(settings(buffer)) == max(buffer, 0.01)


def test_without_a_buffer_the_neighbour_changes_no_value(tmp_path):
    paths, _ = halves(tmp_path, cloud((80, 40)), 40)
    (alone, _), = arrays_of(paths[0], buffer=0.0)
    (beside, _), _ = arrays_of(*paths, buffer=0.0)
    for name in ('height', 'building_area', '20/geometry', '20/incomplete'):
        np.testing.assert_array_equal(beside[name], alone[name])
