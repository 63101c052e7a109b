"""Scales of a config that is not run, and the seed's YAML files as they stand."""

import re

import pytest

from projects.engine.errors import UserError
from projects.lidar.classes import BUILDING, IGNORE, LOD3
from projects.lidar.exporting import ExportOptions
from projects.lidar.preparation.seed_yaml import OUTCOMES, export_options, read_seed_yaml
from projects.lidar.preparation.settings import Scale, read_mapping, read_scales

# The keys and values of the seed's first file.
SEED = """
processor:
  lod_level: LOD3
  architecture: hybrid
  use_gpu: true
  num_workers: 2
  patch_size: 50.0 # Small patches for details
  patch_overlap: 0.15 # Higher overlap for small patches
  num_points: 24576 # 24k points per patch
  augment: true
  num_augmentations: 5 # More augmentation for diversity
  pin_memory: true

features:
  mode: full
  k_neighbors: 20 # Smaller neighborhood for fine details
  include_extra: true
  use_rgb: true
  use_infrared: true
  compute_ndvi: true
  sampling_method: fps
  normalize_xyz: true
  normalize_features: true
  gpu_batch_size: 1000000
  use_gpu_chunked: true

preprocess:
  enabled: true
  sor_k: 8 # Less aggressive for small patches
  sor_std: 1.5
  ror_radius: 0.5
  ror_neighbors: 3
  voxel_enabled: false

stitching:
  enabled: true
  buffer_size: 8.0 # Smaller buffer for 50m patches
  auto_detect_neighbors: true
  auto_download_neighbors: true
  cache_enabled: true

output:
  format: npz,laz
  processing_mode: patches_only
  save_stats: true
  save_metadata: true
  compression: null

input_dir: /data/enriched_tiles
output_dir: /data/patches_50m
"""


def seed_file(folder, *changes, name='seed.yaml'):
    text = SEED
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / name
    path.write_text(text)
    return path


def test_the_scales_of_the_repository(repository):
    settings = read_scales(repository / 'configs/lidar/_base_/scales.py')
    assert settings.block_size == 250.0
    assert settings.scales['150'] == Scale(150.0, 0.1, 32768, 30, 15.0, {'k': 12, 'std': 2.0},
                                           {'radius': 1.0, 'neighbours': 4})
    assert list(settings.chosen(['100', '50'], '').scales) == ['50', '100']
    assert settings.buffer == 15.0
    with pytest.raises(UserError, match='expected some of 50, 100, 150, found 75'):
        settings.chosen(['75'], 'x')


@pytest.mark.parametrize(('text', 'message'), [
    ('patch_scales = open("x")', 'expected a plain value'),
    ('import os', 'expected NAME = VALUE'),
    ('patch_scales = {}\nblocksize = 3', 'blocksize: unknown key'),
    ('patch_scales = dict()', 'expected a dict of scales'),
    ('patch_scales = {"50": dict(size=60.0, overlap=0, points=1, neighbours=9, buffer=0)}', "expected the key '60'"),
    ('patch_scales = {"50": dict(size=50.0, overlap=1, points=1, neighbours=9, buffer=0)}', 'overlap: expected a num'),
    ('patch_scales = {"50": dict(size=50.0, overlap=0, points=1, neighbors=9, buffer=0)}', 'neighbors: unknown key'),
    ('patch_scales = {"50": dict(size=50.0, overlap=0, points=1.5, neighbours=9, buffer=0)}', 'a whole number'),
    ('patch_scales = {"50": dict(size=50.0, overlap=0, points=1, neighbours=9, buffer=0, sor=dict(k=3))}', 'k and std'),
])
def test_a_config_that_is_wrong_is_told(tmp_path, text, message):
    path = tmp_path / 'scales.py'
    path.write_text(text)
    with pytest.raises(UserError, match=re.escape(message)) as error:
        read_scales(path)
    assert str(path) in str(error.value)


def test_codes_are_mapped_by_name():
    assert read_mapping(['20=other', '19=building', '208=ignore']) == (
        (19, BUILDING), (20, LOD3.index('other')), (208, IGNORE))
    for pair in ('20', 'x=other', '300=other', '20=house'):
        with pytest.raises(UserError, match='--map'):
            read_mapping([pair])


def test_the_seed_runs_as_it_stands(tmp_path):
    seed = read_seed_yaml([seed_file(tmp_path)])
    assert seed.settings.scales == {'50': Scale(50.0, 0.15, 24576, 20, 8.0, {'k': 8, 'std': 1.5},
                                                {'radius': 0.5, 'neighbours': 3})}
    assert (seed.input_dir, seed.output_dir, seed.workers, seed.cache) == (
        '/data/enriched_tiles', '/data/patches_50m', 2, True)
    assert seed.settings.export == {'formats': ['npz', 'laz'], 'lod': 'LOD3', 'normalize_xyz': True,
                                    'normalize_features': True, 'compression': None}
    assert seed.settings.training == {'architecture': 'hybrid', 'augment': True, 'pin_memory': True,
                                      'num_augmentations': {'50': 5}}
    assert (seed.settings.voxel, seed.settings.save_stats, seed.settings.save_metadata) == (None, True, True)
    assert len(seed.notes) == 1
    assert 'use_gpu' in seed.notes[0]
    assert len(seed.warnings) == 1
    assert 'nothing is downloaded' in seed.warnings[0]


def test_every_key_of_the_seed_has_an_outcome(tmp_path):
    import yaml

    values = yaml.safe_load(SEED)
    keys = {f'{section}.{key}' if isinstance(inner, dict) else section for section, inner in values.items()
            for key in (inner if isinstance(inner, dict) else [''])}
    assert set(OUTCOMES) - keys == {'preprocess.voxel_size'}
    assert keys <= set(OUTCOMES)


def test_other_values_do_what_they_say(tmp_path):
    seed = read_seed_yaml([seed_file(
        tmp_path, ('enabled: true\n  sor_k', 'enabled: false\n  sor_k'), ('auto_detect_neighbors: true', 'auto_detect_'
        'neighbors: false'), ('voxel_enabled: false', 'voxel_enabled: true\n  voxel_size: 0.25'),
        ('use_rgb: true', 'use_rgb: false'), ('save_stats: true', 'save_stats: false'), ('use_gpu: true', 'use_gpu: '
        'false'), ('use_gpu_chunked: true', 'use_gpu_chunked: false'), ('compression: null', 'compression: gzip'),
        ('auto_download_neighbors: true', 'auto_download_neighbors: false'), ('cache_enabled: true', 'cache_enabled: '
        'false'), ('sampling_method: fps', 'sampling_method: random'))])
    scale = seed.settings.scales['50']
    assert (scale.sor, scale.ror, scale.buffer) == (None, None, 0.0)
    assert (seed.settings.voxel, seed.settings.use_rgb, seed.settings.save_stats) == (0.25, False, False)
    assert export_options(seed.settings) == ExportOptions(('npz', 'laz'), compression=True, overwrite=True)
    assert (seed.settings.export['compression'], seed.cache, seed.settings.sampling) == ('gzip', False, 'random')
    assert seed.notes == seed.warnings == ()


@pytest.mark.parametrize(('old', 'new', 'message'), [
    ('sor_k: 8', 'sor_neighbours: 8', 'preprocess.sor_neighbours: unknown key'),
    ('output_dir:', 'outputdir:', 'outputdir: unknown key'),
    ('stitching:', 'stitch:', 'stitch: unknown key'),
    ('mode: full', 'mode: fast', "features.mode: expected full, found 'fast'"),
    ('patch_size: 50.0', 'patch_size: big', "processor.patch_size: expected a number from 1, found 'big'"),
    ('use_rgb: true', 'use_rgb: 1', 'features.use_rgb: expected one of true, false, found 1'),
    ('format: npz,laz', 'format: npz,hdf5', "output.format: expected some of npz, laz, found 'hdf5'"),
    ('processing_mode: patches_only', 'processing_mode: both', 'expected patches_only'),
    ('gpu_batch_size: 1000000', 'gpu_batch_size: many', 'features.gpu_batch_size'),
    ('normalize_features: true', 'normalize_features: false', 'normalize_features: expected true'),
    ('compression: null', 'compression: 7zip', 'output.compression: expected one of null, gzip'),
])
def test_what_is_unknown_or_wrong_is_refused_by_name(tmp_path, old, new, message):
    with pytest.raises(UserError, match=re.escape(message)):
        read_seed_yaml([seed_file(tmp_path, (old, new))])


def test_three_files_make_one_store_unless_they_disagree(tmp_path):
    first = seed_file(tmp_path)
    second = seed_file(tmp_path, ('patch_size: 50.0', 'patch_size: 100.0'), ('num_augmentations: 5', 'num_augmentations'
                       ': 4'), name='second.yaml')
    seed = read_seed_yaml([first, second])
    assert list(seed.settings.scales) == ['50', '100']
    assert seed.settings.training['num_augmentations'] == {'50': 5, '100': 4}
    with pytest.raises(UserError, match='another scale'):
        read_seed_yaml([first, first])
    third = seed_file(tmp_path, ('patch_size: 50.0', 'patch_size: 150.0'), ('use_rgb: true', 'use_rgb: false'),
                      name='third.yaml')
    with pytest.raises(UserError, match=re.escape('features.use_rgb: expected True')):
        read_seed_yaml([first, third])


def test_the_seed_itself(shared):
    (seed,) = (shared / 'seeds').glob('000_*')
    blocks = re.findall(r'```yaml\n(.*?)```', seed.read_text(), re.DOTALL)
    assert len(blocks) == 3
    sizes = []
    for number, block in enumerate(blocks):
        sizes.append(re.search(r'patch_size: (\d+)', block)[1])
        assert set(re.findall(r'^  (\w+):', block, re.MULTILINE)) <= {key.partition('.')[2] for key in OUTCOMES}
        assert number < 3
    assert sizes == ['50', '100', '150']
