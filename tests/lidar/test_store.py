"""The store: what is written is what is read, in absolute metres."""

import json
import pickle

import numpy as np
import pytest
from small_store import ORIGIN, small_store

from projects.engine.errors import UserError
from projects.lidar.store import SPLIT_NAMES, make_patch, open_store


def test_a_patch_is_centred_and_absolute_positions_come_back(tmp_path):
    store = small_store(tmp_path)
    tile = store.tiles['tile_01']
    patch = tile.read_patch('50', 3)
    x0, y0, x1, y1 = patch.box
    np.testing.assert_allclose(patch.xyz + patch.centre, tile.positions(patch.rows), atol=1e-5)
    assert (np.abs(patch.xyz[:, :2]) <= 25.0001).all()
    assert patch.centre[:2] == pytest.approx([(x0 + x1) / 2, (y0 + y1) / 2])
    ground = tile.positions(patch.rows)[:, 2] - tile.array('height')[patch.rows].astype(float)
    assert patch.centre[2] == pytest.approx(ground.mean(), abs=1e-6)
    assert patch.size == 50.0
    assert patch.density == pytest.approx(len(patch.rows) / 2500)
    assert patch.kind == 'synthetic'


def test_the_head_of_a_patch_keeps_its_ground_and_density(tmp_path):
    tile = small_store(tmp_path, tiles=1).tiles['tile_00']
    whole, head = tile.read_patch('100', 0), tile.read_patch('100', 0, 64)
    assert len(head.rows) == 64
    np.testing.assert_array_equal(head.rows, whole.rows[:64])
    np.testing.assert_array_equal(head.xyz, whole.xyz[:64])
    np.testing.assert_array_equal(head.features, whole.features[:64])
    assert head.density == whole.density


def test_any_rows_make_a_patch(tmp_path):
    tile = small_store(tmp_path, tiles=1).tiles['tile_00']
    box = np.array([ORIGIN[0], ORIGIN[1], ORIGIN[0] + 10, ORIGIN[1] + 20])
    patch = make_patch(tile, '50', np.array([5, 3]), box)
    assert patch.density == pytest.approx(2 / 200)
    np.testing.assert_allclose(patch.xyz[:, :2] + patch.centre[:2], tile.positions([5, 3])[:, :2], atol=1e-5)


def test_patches_by_split_and_all_of_them(tmp_path):
    store = small_store(tmp_path)
    every = store.patches('50')
    by_split = {split: store.patches('50', split) for split in ('train', 'val', 'test')}
    assert sum(map(len, by_split.values())) == len(every)
    assert {ref.block % 4 for ref in by_split['val']} == {2}
    ref = by_split['test'][0]
    assert store.read(ref).rows.size == ref.points
    assert ref.sample_id == f'{ref.tile}/50/{ref.number}'


def test_without_colour_the_masks_are_zero(tmp_path):
    patch = small_store(tmp_path, tiles=1, colour=False).tiles['tile_00'].read_patch('50', 0)
    assert (patch.features[:, 14:] == 0).all()


def test_a_tile_travels_without_its_arrays(tmp_path):
    tile = small_store(tmp_path, tiles=1).tiles['tile_00']
    tile.array('xyz')
    assert len(pickle.dumps(tile)) < 10_000
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(tile)).array('label'), tile.array('label'))


def test_tiles_that_the_manifest_does_not_list_are_refused(tmp_path):
    small_store(tmp_path, tiles=2, scales=('50',))
    path = tmp_path / 'tiles/tile_01.json'
    path.write_text(json.dumps({**json.loads(path.read_text()), 'sha256': '0' * 64}))
    with pytest.raises(UserError, match=r'found 1 others \(tile_01 among them\).*give the prepare command again'):
        open_store(tmp_path)


def test_splits_of_other_ground_are_refused(tmp_path):
    small_store(tmp_path, tiles=1, scales=('50',))
    splits = (tmp_path / 'splits.json').read_bytes()
    store = small_store(tmp_path, tiles=1, scales=('50',), block_size=60.0, split=False)  # the numbers are known, too
    assert (tmp_path / 'splits.json').read_bytes() == splits
    for split in SPLIT_NAMES:
        with pytest.raises(UserError, match=r'splits\.json: .*run tools/lidar/split\.py --overwrite'):
            store.patches('50', split)
    assert {ref.split for ref in store.patches('50')} == {''}


def test_mistakes_are_told(tmp_path):
    with pytest.raises(UserError, match='tools/lidar/prepare.py'):
        open_store(tmp_path)
    store = small_store(tmp_path, tiles=1, scales=('50',), split=False)
    with pytest.raises(UserError, match="expected one of 50, found '100'"):
        store.patches('100')
    with pytest.raises(UserError, match='tools/lidar/split.py'):
        store.patches('50', 'train')
    tile = store.tiles['tile_00']
    with pytest.raises(UserError, match="expected the array 'colour'"):
        tile.array('colour')
    path = tmp_path / 'tiles' / 'tile_00.safetensors'
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match='damaged'):
        open_store(tmp_path).tiles['tile_00'].array('xyz')
