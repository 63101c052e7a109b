"""Augmentation of points: what moves together, and what stays."""

import numpy as np
import pytest
from mmseg.registry import TRANSFORMS

from projects.engine.errors import UserError
from projects.lidar.datasets.transforms.selection import POINT_KEYS
from projects.lidar.features import FEATURE_NAMES, INDEX, network_features


def build(name, **arguments):
    return TRANSFORMS.build(dict(type=name, **arguments))


@pytest.fixture
def item():
    rng = np.random.default_rng(0)
    n = 500
    normal = rng.normal(size=(n, 3))
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    geometry = np.concatenate([rng.random((n, 6)), normal], axis=1)
    height = rng.uniform(-5, 25, n)
    features = network_features(
        geometry, np.log1p(rng.uniform(1, 40, n)), height, rng.integers(0, 5000, n), np.ones(n), np.ones(n),
        rng.integers(0, 40000, (n, 3)), rng.integers(0, 40000, n))
    points = np.concatenate([rng.uniform(-25, 25, (n, 2)), height[:, None]], axis=1).astype(np.float32)
    return dict(
        points=points, features=features, labels=rng.integers(0, 30, n).astype(np.uint8),
        building_area=rng.choice([0.0, 100.0, 300.0], n).astype(np.float32), rows=np.arange(n, dtype=np.uint32),
        border=(25 - np.abs(points[:, :2])).min(axis=1), patch_size=50.0, density=20.0, sample_id='a/50/0', tile='a',
        scale='50', number=0, split='train', kind='real')


def copy_of(item):
    return {key: value.copy() if isinstance(value, np.ndarray) else value for key, value in item.items()}


def same(a, b, but=()):
    return [key for key in a if key not in but and not np.array_equal(a[key], b[key])] == []


def test_rotation_turns_points_and_normals_alike(item):
    before = copy_of(item)
    out = build('RotateAboutZ', degrees=(90, 90))(item)
    assert same(item, before)  # what came in is not changed
    assert np.allclose(out['points'][:, 0], -before['points'][:, 1], atol=1e-5)  # counter-clockwise
    assert np.allclose(out['points'][:, 1], before['points'][:, 0], atol=1e-5)
    assert np.array_equal(out['points'][:, 2], before['points'][:, 2])
    normals = [INDEX[f'normal_{axis}'] for axis in 'xyz']
    old, new = before['features'][:, normals], out['features'][:, normals]
    assert np.allclose(new, np.stack([-old[:, 1], old[:, 0], old[:, 2]], axis=1), atol=1e-6)
    others = [column for column in range(21) if column not in normals]
    assert np.array_equal(out['features'][:, others], before['features'][:, others])
    assert same(out, before, ('points', 'features'))


def test_any_angle_keeps_the_angle_between_point_and_normal(item):
    np.random.seed(4)
    out = build('RotateAboutZ')(item)
    normals = [INDEX[f'normal_{axis}'] for axis in 'xyz']
    assert not np.allclose(out['points'], item['points'], atol=1)
    assert np.allclose((out['points'] * out['features'][:, normals]).sum(1),
                       (item['points'] * item['features'][:, normals]).sum(1), atol=1e-4)


@pytest.mark.parametrize('factor', [0.9, 1.1])
def test_scaling_is_what_preparing_the_scaled_tile_would_give(item, factor):
    out = build('ScalePoints', limits=(factor, factor))(copy_of(item))
    assert np.allclose(out['points'], item['points'] * factor, atol=1e-5)
    assert out['patch_size'] == pytest.approx(50 * factor) and out['density'] == pytest.approx(20 / factor**2)
    assert np.allclose(out['border'], item['border'] * factor, atol=1e-5)
    assert np.allclose(out['building_area'], item['building_area'] * factor**2)
    density = np.expm1((item['features'][:, INDEX['log_density']] + 1) * 3) / factor**2  # points per m² of surface
    n = len(density)
    expected = network_features(np.zeros((n, 9)), np.log1p(density), item['points'][:, 2] * factor, np.zeros(n),
                                np.ones(n), np.ones(n))
    for name in ('log_density', 'height'):
        assert np.allclose(out['features'][:, INDEX[name]], expected[:, INDEX[name]], atol=1e-5), name
    others = [column for column, name in enumerate(FEATURE_NAMES) if name not in ('log_density', 'height')]
    assert np.array_equal(out['features'][:, others], item['features'][:, others])


def test_scaling_keeps_a_height_that_is_out_of_range(item):
    item['features'][0, INDEX['height']], item['features'][1, INDEX['height']] = 3.0, -1.0
    out = build('ScalePoints', limits=(0.9, 0.9))(item)
    assert out['features'][0, INDEX['height']] == 3.0 and out['features'][1, INDEX['height']] == -1.0


def test_jitter_is_two_centimetres_in_every_direction_and_bounded(item):
    np.random.seed(0)
    moves = np.concatenate([build('JitterPoints')(item)['points'] - item['points'] for _ in range(20)])
    assert moves.std(axis=0) == pytest.approx([0.02] * 3, rel=0.05) and np.abs(moves).max() <= 0.0501
    assert np.abs(moves.mean(axis=0)).max() < 0.002
    np.random.seed(7)
    first = build('JitterPoints')(item)['points']
    np.random.seed(7)
    assert np.array_equal(build('JitterPoints')(item)['points'], first)


def test_points_are_left_out_of_everything_and_keep_their_order(item):
    np.random.seed(2)
    out = build('DropPoints', prob=1.0, ratio=0.5)(item)
    rows = out['rows']
    assert 250 <= len(rows) < 500 and (np.diff(rows.astype(int)) > 0).all()
    for key in POINT_KEYS:
        assert np.array_equal(out[key], item[key][rows]), key
    assert build('DropPoints', prob=0.0)(item) is item


def test_at_least_one_point_stays(item):
    one = {key: value[:1] if key in POINT_KEYS else value for key, value in item.items()}
    for seed in range(20):
        np.random.seed(seed)
        assert len(build('DropPoints', prob=1.0, ratio=0.99)(one)['points']) == 1


def test_sampling_takes_the_head_or_any_points_in_their_order(item):
    assert np.array_equal(build('SamplePoints', count=100)(item)['rows'], np.arange(100))
    np.random.seed(1)
    rows = build('SamplePoints', count=100, mode='random')(item)['rows']
    assert len(rows) == 100 and (np.diff(rows.astype(int)) > 0).all() and rows.max() > 400
    assert build('SamplePoints', count=500)(item) is item


def test_missing_colour_has_its_flag_gone(item):
    colours = ['red', 'green', 'blue', 'has_colour']
    infrared = ['nir', 'ndvi', 'has_nir']
    out = build('DropColour', prob=1.0, nir_prob=0.0)(item)['features']
    gone = [INDEX[name] for name in colours + infrared]  # without red there is no NDVI
    assert not out[:, gone].any() and item['features'][:, gone].any(axis=0).all()
    assert np.array_equal(np.delete(out, gone, axis=1), np.delete(item['features'], gone, axis=1))
    out = build('DropColour', prob=0.0, nir_prob=1.0)(item)['features']
    gone = [INDEX[name] for name in infrared]
    assert not out[:, gone].any()
    assert np.array_equal(np.delete(out, gone, axis=1), np.delete(item['features'], gone, axis=1))
    assert build('DropColour', prob=0.0, nir_prob=0.0)(item) is item


def test_brightness_leaves_the_vegetation_index(item):
    np.random.seed(3)
    out = build('VaryColour', ratio=0.3)(item)['features']
    red, nir = INDEX['red'], INDEX['nir']
    factor = out[0, red] / item['features'][0, red]
    assert factor != pytest.approx(1, abs=1e-3) and 0.7 <= factor <= 1.3
    assert np.allclose(out[:, red:nir + 1], item['features'][:, red:nir + 1] * factor, atol=1e-6)
    assert np.allclose((out[:, nir] - out[:, red]) / (out[:, nir] + out[:, red]), out[:, INDEX['ndvi']], atol=1e-5)
    others = [column for column in range(21) if not red <= column <= nir]
    assert np.array_equal(out[:, others], item['features'][:, others])


def test_packing_tells_size_and_density_and_who_it_is(item):
    packed = build('PackPoints', margin=0)(item)
    inputs, sample = packed['inputs'], packed['data_samples']
    assert inputs['context'] == pytest.approx([0.0, np.log(20)], abs=1e-6)
    assert np.array_equal(inputs['points'], item['points']) and np.array_equal(inputs['features'], item['features'])
    assert sample.gt_sem_seg.data.shape == (1, 1, 500)
    assert np.array_equal(sample.gt_sem_seg.data.numpy().ravel(), item['labels'])
    assert np.array_equal(sample.building_area.numpy(), item['building_area'])
    assert np.array_equal(sample.border.numpy(), item['border'])
    assert sample.sample_id == 'a/50/0' and sample.kind == 'real' and sample.scale == '50'
    without = build('PackPoints', groups=False)({**item, 'labels': None})['data_samples']
    assert 'gt_sem_seg' not in without and 'border' not in without and 'building_area' not in without


@pytest.mark.parametrize('config', [
    dict(type='SamplePoints', count=0), dict(type='SamplePoints', count=5, mode='nearest'),
    dict(type='ScalePoints', limits=(0, 1)), dict(type='RotateAboutZ', degrees=(5,)),
    dict(type='JitterPoints', sigma=-1), dict(type='DropPoints', ratio=1), dict(type='DropColour', prob=2),
    dict(type='VaryColour', ratio=1)])
def test_senseless_arguments_are_refused(config):
    with pytest.raises(UserError, match=f'{config["type"]}.*expected'):
        TRANSFORMS.build(config)
