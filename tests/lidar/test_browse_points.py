"""Pictures of what the network sees."""

import numpy as np
import pytest
from PIL import Image
from small_store import small_store

from projects.evaluation.browsing import browse
from projects.lidar.datasets import LidarPatchDataset, collate_points
from projects.lidar.datasets.browse import draw_samples, seen


def config(folder, **options):
    pipeline = [dict(type='ScalePoints', limits=(1.1, 1.1)), dict(type='DropColour', **options),
                dict(type='PackPoints')]
    return dict(train_dataloader=dict(
        collate_fn=dict(type='collate_points'),
        dataset=dict(type='LidarPatchDataset', data_root=str(folder), scales=['50'], pipeline=pipeline)))


def test_a_picture_for_each_view(tmp_path, monkeypatch):
    small_store(tmp_path / 'store', tiles=1, scales=('50',))
    cfg = config(tmp_path / 'store', prob=0.0)
    clouds = []
    monkeypatch.setattr('projects.lidar.datasets.browse.write_picture',
                        lambda path, cloud, by: clouds.append((path, cloud, by)))
    paths = list(browse(draw_samples, cfg, tmp_path / 'out', number=2, views=2))
    assert paths == [path for path, *_ in clouds] and len(set(paths)) == 4
    assert paths[0].name.startswith('train_tile_00') and paths[0].stem.endswith('_1')
    assert [cloud.title.split(':')[0] for _, cloud, _ in clouds] == [
        'tile_00/50/0', 'tile_00/50/0', 'tile_00/50/35', 'tile_00/50/35']
    assert clouds[0][2] == ['class', 'height', 'colour']


def test_the_picture_is_drawn(tmp_path):
    small_store(tmp_path / 'store', tiles=1, scales=('50',))
    path, = browse(draw_samples, config(tmp_path / 'store', prob=1.0), tmp_path / 'out', number=1)
    with Image.open(path) as picture:
        assert len(set(picture.convert('RGB').resize((60, 40)).get_flattened_data())) > 50


def test_it_shows_what_came_out_of_the_pipeline(tmp_path):
    small_store(tmp_path / 'store', tiles=1, scales=('50',))
    made = LidarPatchDataset(**{key: value for key, value in config(
        tmp_path / 'store', prob=1.0)['train_dataloader']['dataset'].items() if key != 'type'})
    plain = LidarPatchDataset(str(tmp_path / 'store'), scales=['50'])[0]
    cloud = seen(collate_points([made[0]]))
    assert np.allclose(cloud.xyz, plain['points'] * 1.1, atol=1e-4) and np.array_equal(cloud.label, plain['labels'])
    assert cloud.rgb is None and '55.0 m' in cloud.title
    assert np.median(cloud.values['height']) == pytest.approx(np.median(plain['features'][:, 10]) * 11, abs=1e-3)
