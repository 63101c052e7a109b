"""Splits of blocks: no point of one split lies in a patch or block of another, at any scale."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from small_store import small_store
from small_tiles import SCALES, cloud, small_tiles, write_cloud

from projects.engine.errors import UserError
from projects.geo.executors import SerialExecutor
from projects.lidar.preparation.prepare import plan, prepare
from projects.lidar.preparation.settings import read_scales
from projects.lidar.splits import assign, check_splits, write_splits
from projects.lidar.store import open_store


def listed_rows(store, split):
    """Return the points in patches of a split at any scale, as (tile, row)."""
    return {(ref.tile, int(row)) for scale in store.scales for ref in store.patches(scale, split)
            for row in store.read(ref).rows}


def test_three_scales_share_no_point(tmp_path):
    store = small_store(tmp_path, tiles=3, points=3000, split=False)
    write_splits(store, assign(store, (0.5, 0.25, 0.25), seed=1))
    listed = check_splits(open_store(tmp_path))
    train, val, test = (listed_rows(store, split) for split in ('train', 'val', 'test'))
    assert not train & val
    assert not train & test
    assert not val & test
    assert min(len(train), len(val), len(test)) > 1000
    assert {scale: points['val'] for scale, points in listed.items()} == {
        scale: len({(ref.tile, int(row)) for ref in store.patches(scale, 'val') for row in store.read(ref).rows})
        for scale in store.scales}
    for split in ('train', 'val', 'test'):
        for ref in store.patches('50', split):
            tile = store.tiles[ref.tile]
            blocks = set(tile.array('block')[store.read(ref).rows].tolist())
            assert {store.split_of(ref.tile, block) for block in blocks} == {split}


def test_a_leak_is_found(tmp_path):
    store = small_store(tmp_path, tiles=1)
    write_splits(store, assign(store, (0.5, 0.25, 0.25)))
    check_splits(store)
    tile = store.tiles['tile_00']
    train = next(ref for ref in store.patches('100', 'train'))
    other = next(ref for ref in store.patches('100', 'val'))
    data = bytearray(tile.path.read_bytes())
    start = int(np.frombuffer(data[:8], np.uint64)[0]) + 8
    table = json.loads(data[8:start])
    at = start + table['100/patch_index']['data_offsets'][0] + 4 * int(tile.array('100/patch_offset')[train.number])
    data[at:at + 4] = np.uint32(store.read(other).rows[0]).tobytes()
    tile.path.write_bytes(bytes(data))
    with pytest.raises(UserError, match='100 m: 1 points lie in a block of another split than their patch'):
        check_splits(open_store(tmp_path))


def test_ratios_seed_and_block_size(tmp_path):
    store = small_store(tmp_path, tiles=4, points=2000, scales=('50',), block_size=50.0, split=False)
    first = assign(store, (0.6, 0.2, 0.2), seed=3)
    assert first == assign(store, (0.6, 0.2, 0.2), seed=3)
    assert first['blocks'] != assign(store, (0.6, 0.2, 0.2), seed=4)['blocks']
    total = sum(first['points'].values())
    assert [first['points'][split] / total for split in ('train', 'val', 'test')] == pytest.approx(
        [0.6, 0.2, 0.2], abs=0.03)
    large = assign(store, (0.5, 0.25, 0.25), block_size=100.0)
    for name, tile in store.tiles.items():
        for number, box in enumerate(tile.record['blocks']):
            corner = [other for other, there in enumerate(tile.record['blocks'])
                      if there[0] // 100 == box[0] // 100 and there[1] // 100 == box[1] // 100]
            assert len(corner) == 4
            assert {large['blocks'][name][str(other)] for other in corner} == {large['blocks'][name][str(number)]}
    with pytest.raises(UserError, match='--block-size: expected at least the 50 m'):
        assign(store, block_size=30.0)
    with pytest.raises(UserError, match='--ratios'):
        assign(store, (0.5, 0.5, 0.5))
    assert set(assign(store, (0.5, 0.5, 0.0))['blocks']['tile_00'].values()) <= {'train', 'val'}


def test_named_tiles_and_blocks(tmp_path):
    store = small_store(tmp_path, tiles=2, split=False)
    blocks = assign(store, assignment={'train': ['tile_00'], 'val': ['tile_01/0', 'tile_01/1'],
                                       'test': ['tile_01/2', 'tile_01/3']})['blocks']
    assert set(blocks['tile_00'].values()) == {'train'}
    assert list(blocks['tile_01'].values()) == ['val', 'val', 'test', 'test']
    for wrong, told in (({'train': ['tile_00']}, 'found none for tile_01/0 and 3 more'),
                        ({'train': ['tile_07']}, "found 'tile_07'"), ({'dev': ['tile_00']}, "found 'dev'"),
                        ({'train': ['tile_00', 'tile_01'], 'val': ['tile_00/1']}, 'found train and val')):
        with pytest.raises(UserError, match=told):
            assign(store, assignment=wrong)


def test_splits_of_other_blocks_are_refused(tmp_path):
    store = small_store(tmp_path, tiles=1, scales=('50',), split=False)
    with pytest.raises(UserError, match='found no file'):
        check_splits(store)
    write_splits(store, {**assign(store, (0.5, 0.25, 0.25)), 'ground': 'x'})
    with pytest.raises(UserError, match=r'run tools/lidar/split\.py --overwrite'):
        check_splits(open_store(tmp_path))
    with pytest.raises(UserError, match='expected at least 3 blocks'):
        assign(small_store(tmp_path / 'one', tiles=1, block_size=200.0, split=False))


def prepared(folder, scales, block_size=None):
    (folder / 'scales.py').write_text(scales)
    settings = read_scales(folder / 'scales.py')
    report = prepare(plan([folder / 'in']), folder / 'store', settings, SerialExecutor())
    assert not report.failed
    return open_store(folder / 'store')


def test_tiles_that_share_ground_stay_together(tmp_path):
    small_tiles(tmp_path / 'in', tiles=3, side=40, density=2)
    shutil.copy(tmp_path / 'in/tile_1.laz', tmp_path / 'in/copy.laz')
    store = prepared(tmp_path, SCALES)
    for seed in range(4):
        splits = assign(store, (0.4, 0.3, 0.3), seed)
        assert splits['blocks']['copy'] == splits['blocks']['tile_1']
    write_splits(store, splits)
    check_splits(store)
    with pytest.raises(UserError, match='share ground'):
        assign(store, assignment={'train': ['tile_0', 'tile_1'], 'val': ['copy'], 'test': ['tile_2']})
    blocks = {name: {'0': split} for name, split in (('tile_0', 'train'), ('tile_1', 'train'), ('copy', 'val'),
                                                     ('tile_2', 'test'))}
    write_splits(store, {**splits, 'blocks': blocks})
    with pytest.raises(UserError, match='points lie in tile copy and in tile tile_1 at the same place'):
        check_splits(store)


def test_a_border_point_that_both_tiles_have_is_listed_by_one(tmp_path):
    points = cloud((80, 40), density=3)
    points['xyz'][:5, 0] = 770_040.0
    points['xyz'][:5, 1] = 6_277_000 + np.arange(5) * 7 + 3
    x = points['xyz'][:, 0]
    write_cloud(tmp_path / 'in/left.laz', points, x <= 770_040.0)
    write_cloud(tmp_path / 'in/right.laz', points, x >= 770_040.0)
    store = prepared(tmp_path, SCALES.replace('sor=dict(k=8, std=1.5)', 'sor=None').replace(
        'ror=dict(radius=1.5, neighbours=3)', 'ror=None'))
    found = {name: {row for scale in store.scales for ref in store.patches(scale) if ref.tile == name
                    for row in store.read(ref).rows.tolist()} for name in store.tiles}
    for name, tile in store.tiles.items():
        border = np.flatnonzero(np.abs(tile.positions()[:, 0] - 770_040) < 1e-6)
        assert len(border) >= 5
        assert len(found[name] & set(border.tolist())) == (0 if name == 'left' else len(border))
    write_splits(store, assign(store, (0.5, 0.5, 0.0)))
    check_splits(store)


@pytest.mark.parametrize(('overlap', 'together'), [(0.0, False), (0.02, True), (0.3, True)])
def test_tiles_that_overlap_by_centimetres_stay_together(tmp_path, overlap, together):
    """No two points need to be at one place for ground to be shared."""
    for number in range(2):
        points = cloud((40, 40), density=3, seed=number)
        points['xyz'][:2, :2] = [[770_000, 6_277_000], [770_040, 6_277_040]]
        points['xyz'][2:40, 0] = 770_000 + (overlap / 2 if number else 40 - overlap / 2)  # where both are, or touch
        points['xyz'][:, 0] += number * (40 - overlap)
        write_cloud(tmp_path / f'in/tile_{number}.laz', points)
    store = prepared(tmp_path, SCALES.replace('sor=dict(k=8, std=1.5)', 'sor=None').replace(
        'ror=dict(radius=1.5, neighbours=3)', 'ror=None').replace('block_size = 30.0', 'block_size = 20.0'))
    named = {'train': ['tile_0'], 'val': ['tile_1']}
    if together:
        with pytest.raises(UserError, match='share ground'):
            assign(store, assignment=named)
    else:
        write_splits(store, assign(store, assignment=named))
        check_splits(store)
    blocks = {name: dict.fromkeys('0123', split) for name, split in (('tile_0', 'train'), ('tile_1', 'val'))}
    write_splits(store, {'ground': store.ground, 'blocks': blocks})
    if together:
        with pytest.raises(UserError, match=r'points of tile tile_\d, row \d+ among them, lie in blocks of tile'):
            check_splits(store)
    else:
        check_splits(store)


def test_a_drawn_split_of_overlapping_tiles_is_proved(tmp_path):
    for number in range(2):
        points = cloud((60, 60), density=2, seed=number)
        points['xyz'][:, 0] += number * 59.8
        write_cloud(tmp_path / f'in/tile_{number}.laz', points)
    store = prepared(tmp_path, SCALES.replace('block_size = 30.0', 'block_size = 20.0'))
    for seed in range(3):
        write_splits(store, assign(store, (0.4, 0.3, 0.3), seed))
        check_splits(store)


@pytest.mark.slow
def test_the_dense_real_tiles(shared_data, tmp_path, repository):
    settings = read_scales(repository / 'configs/lidar/_base_/scales.py').chosen(['50'], '')
    report = prepare(plan([shared_data / 'lidar/dense_150x100']), tmp_path / 'store',
                     replace(settings, block_size=50.0), SerialExecutor())
    assert (len(report.done), report.points, report.patches) == (6, 417_106, {'50': 6})
    store = open_store(tmp_path / 'store')
    write_splits(store, assign(store, (0.5, 0.25, 0.25)))
    listed = check_splits(store)
    assert sum(listed['50'].values()) > 0.9 * report.points
    assert min(listed['50'].values()) > 40_000
