"""The data set: which patches, which points of them, and what an item holds."""

import pickle

import numpy as np
import pytest
from small_store import ORIGIN, small_store

from projects.engine.errors import UserError
from projects.lidar.classes import LOD3
from projects.lidar.datasets import LidarPatchDataset
from projects.lidar.merge import merge_of, weighted_merge, write_merge


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp('store')
    small_store(folder)
    return folder


def ids(dataset):
    return [dataset.get_data_info(index)['sample_id'] for index in range(len(dataset))]


def test_items_hold_the_points_of_the_patch(root):
    dataset = LidarPatchDataset(str(root), split='train', scales=['50'])
    info, item = dataset.get_data_info(3), dataset[3]
    patch = dataset.stores[0].tiles[info['tile']].read_patch('50', info['number'], 256)
    assert np.array_equal(item['points'], patch.xyz) and np.array_equal(item['labels'], patch.label)
    tile = dataset.stores[0].tiles[info['tile']]
    assert np.allclose(tile.positions(item['rows']) - patch.centre, item['points'], atol=1e-4)
    nearest = np.minimum(25 - np.abs(item['points'][:, 0]), 25 - np.abs(item['points'][:, 1]))
    assert np.allclose(item['border'], nearest, atol=1e-4) and item['border'].min() >= 0
    assert item['patch_size'] == 50 and item['density'] == pytest.approx(
        len(tile.patch_rows('50', info['number'])) / 2500)
    assert item['sample_id'] == f'{info["tile"]}/50/{info["number"]}' and item['kind'] == 'synthetic'
    assert item['features'].shape == (len(item['points']), 21)


def test_an_item_may_be_changed_without_changing_the_store(root):
    dataset = LidarPatchDataset(str(root), split='train', scales=['50'])
    item = dataset[0]
    for key in ('points', 'features', 'labels', 'building_area'):
        item[key][:] = 0
    assert dataset[0]['labels'].any() and dataset[0]['building_area'].any()


def test_splits_scales_and_their_order(root):
    parts = {split: set(ids(LidarPatchDataset(str(root), split=split))) for split in ('train', 'val', 'test')}
    every = LidarPatchDataset(str(root))
    assert sum(map(len, parts.values())) == len(every) == len(set.union(*parts.values()))
    scales = [every.get_data_info(index)['scale'] for index in range(len(every))]
    assert scales == sorted(scales, key=['50', '100', '150'].index)
    assert {ident.split('/')[1] for ident in ids(LidarPatchDataset(str(root), scales=['150']))} == {'150'}
    for split in ('train', 'val'):
        dataset = LidarPatchDataset(str(root), split=split)
        assert {dataset.get_data_info(index)['split'] for index in range(len(dataset))} == {split}


def test_metainfo_needs_no_data():
    meta = LidarPatchDataset.metainfo_of(data_root='/nowhere', split='train')
    assert meta['classes'] == LOD3 and len(meta['palette']) == 30
    assert meta == {key: LidarPatchDataset.METAINFO[key] for key in meta}


def test_weights_are_shares_of_the_set(root):
    dataset = LidarPatchDataset(str(root), split='train', weights={'50': 0.5, '100': 0.25, '150': 0.25}, seed=3)
    scales = [dataset.get_data_info(index)['scale'] for index in range(len(dataset))]
    shares = {scale: scales.count(scale) / len(scales) for scale in ('50', '100', '150')}
    assert shares == pytest.approx({'50': 0.5, '100': 0.25, '150': 0.25}, abs=0.5 / len(scales))
    again = LidarPatchDataset(str(root), split='train', weights={'50': 0.5, '100': 0.25, '150': 0.25}, seed=3)
    assert ids(dataset) == ids(again) and len(set(ids(dataset))) == len(dataset)


def test_a_merge_file_names_the_patches(root, tmp_path):
    store = LidarPatchDataset(str(root)).stores[0]
    refs = [ref for scale in ('50', '100', '150') for ref in store.patches(scale, 'train')]
    write_merge(tmp_path / 'merge.json', merge_of(refs, {'50': 0.6, '150': 0.4}, split='train'))
    dataset = LidarPatchDataset(str(root), split='train', merge_file=str(tmp_path / 'merge.json'))
    assert ids(dataset) == [ref.sample_id for ref in weighted_merge(refs, {'50': 0.6, '150': 0.4})]
    with pytest.raises(UserError, match=r'merge_file .*merge.json: expected scales among 50, 100, found 150'):
        LidarPatchDataset(str(root), split='train', scales=['50', '100'], merge_file=str(tmp_path / 'merge.json'))


def test_points_are_limited_for_each_scale(root):
    dataset = LidarPatchDataset(str(root), points={'50': 100, '150': 300})
    counts = dataset.point_counts()
    scales = np.array([dataset.get_data_info(index)['scale'] for index in range(len(dataset))])
    assert counts[scales == '50'].max() == 100 and counts[scales == '150'].max() == 300
    assert counts[scales == '100'].max() == 256  # of the store's own settings
    for index in (0, int(np.flatnonzero(scales == '150')[0])):
        assert len(dataset[index]['points']) == counts[index]


def test_random_sampling_draws_other_points_in_farthest_point_order(root):
    fixed = LidarPatchDataset(str(root), scales=['100'], points=64)
    dataset = LidarPatchDataset(str(root), scales=['100'], points=64, sampling='random')
    np.random.seed(1)
    first, second = dataset[0], dataset[0]
    np.random.seed(1)
    assert np.array_equal(dataset[0]['rows'], first['rows'])
    assert set(first['rows']) != set(second['rows']) and len(set(first['rows'])) == 64
    assert first['density'] == fixed[0]['density']
    tile = dataset.stores[0].tiles['tile_00']
    assert set(first['rows']) <= set(tile.patch_rows('100', 0).tolist())
    assert first['points'][:, 2].min() == pytest.approx(fixed[0]['points'][:, 2].min(), abs=1)  # the same ground

    def closest(points):
        gaps = np.linalg.norm(points[:, None] - points[None], axis=2)
        return gaps[~np.eye(len(points), dtype=bool)].min()

    chosen = np.concatenate([dataset[index]['points'][:16, :2] + 1000 * index for index in range(4)])
    others = np.concatenate([dataset[index]['points'][16:32, :2] + 1000 * index for index in range(4)])
    assert closest(chosen) > closest(others)  # the head of a quarter is spread out


def test_several_roots_with_tiles_of_one_name(tmp_path):
    for name, kind in (('a', 'synthetic'), ('b', 'real')):
        small_store(tmp_path / name, tiles=1, scales=('50',), kind=kind)
    dataset = LidarPatchDataset([str(tmp_path / 'a'), str(tmp_path / 'b')], scales=['50'])
    assert len(set(ids(dataset))) == len(dataset)
    last = dataset[len(dataset) - 1]
    assert last['kind'] == 'real' and last['sample_id'].startswith('b/tile_00/50/')
    assert dataset[0]['kind'] == 'synthetic' and dataset[0]['sample_id'].startswith('a/tile_00/50/')


def test_it_travels_to_workers_without_the_tiles(root):
    dataset = LidarPatchDataset(str(root), scales=['50'])
    item = dataset[0]
    packed = pickle.dumps(dataset)
    assert len(packed) < 200_000
    assert np.array_equal(pickle.loads(packed)[0]['points'], item['points'])


def test_coordinates_are_relative_to_the_patch(root):
    item = LidarPatchDataset(str(root), scales=['150'])[0]
    assert np.abs(item['points'][:, :2]).max() <= 75 and ORIGIN.max() > 1e6


@pytest.mark.parametrize('arguments, words', [
    (dict(split='training'), 'split: expected one of train, val, test or all, found'),
    (dict(scales=['50', '70']), "scale: expected one of 50, 100, 150, found '70'"),
    (dict(sampling='best'), "sampling: expected one of fps, random, found 'best'"),
    (dict(points=0), 'points: expected whole numbers of at least 1, found 0'),
    (dict(points={'70': 3}), 'points: expected scales among 50, 100, 150, found 70'),
    (dict(weights={'70': 1}), 'weights: expected scales among 50, 100, 150, found 70'),
    (dict(merge_file='x.json', weights={'50': 1}), 'merge_file: expected one data_root and no weights'),
])
def test_mistakes_are_told(root, arguments, words):
    with pytest.raises(UserError, match=words.replace('(', r'\(')):
        LidarPatchDataset(str(root), **arguments)


def test_a_store_without_splits_or_patches_is_told(tmp_path):
    with pytest.raises(UserError, match='prepare.py'):
        LidarPatchDataset(str(tmp_path))
    small_store(tmp_path, tiles=1, scales=('50',), split=False)
    with pytest.raises(UserError, match='split.py'):
        LidarPatchDataset(str(tmp_path), split='train', scales=['50'])
    assert len(LidarPatchDataset(str(tmp_path), scales=['50']))
