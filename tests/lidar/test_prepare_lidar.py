"""tools/lidar/prepare.py: what comes into the store, seams, faults that stay with their tile, reruns."""

import io
import json
import os
import runpy
import signal
import subprocess
import sys
import zipfile
from contextlib import redirect_stderr, redirect_stdout

import numpy as np
import pytest
from small_tiles import SCALES, cloud, small_tiles, write_cloud

from projects.engine.files import write_json
from projects.lidar.classes import BUILDING, IGNORE, LOD3
from projects.lidar.preparation.statistics import is_removed
from projects.lidar.store import open_store


@pytest.fixture
def call(repository, monkeypatch, tmp_path):
    """Return a function that runs a tool of tools/lidar in this process."""
    (tmp_path / 'scales.py').write_text(SCALES)

    def run(name, *arguments):
        path = str(repository / 'tools/lidar' / name)
        out, errors, before = io.StringIO(), io.StringIO(), signal.getsignal(signal.SIGTERM)
        monkeypatch.setattr(sys, 'argv', [path, *map(str, arguments)])
        try:
            with redirect_stdout(out), redirect_stderr(errors), pytest.raises(SystemExit) as end:
                runpy.run_path(path, run_name='__main__')
        finally:
            signal.signal(signal.SIGTERM, before)
        return end.value.code or 0, out.getvalue(), errors.getvalue()

    def prepare(inputs, *arguments, out='store'):
        inputs = inputs if isinstance(inputs, tuple) else (inputs,)
        return run('prepare.py', *inputs, '--config', tmp_path / 'scales.py', '--out', tmp_path / out, *arguments)

    run.prepare = prepare
    return run


def by_source(tile, name):
    """Return an array in the order of the tile's file."""
    values = tile.array(name)
    out = np.empty_like(values)
    out[tile.array('source_index')] = values
    return out


def test_what_is_in_a_store(call, tmp_path):
    points = small_tiles(tmp_path / 'in', tiles=1)
    status, out, errors = call.prepare(tmp_path / 'in')
    assert (status, errors) == (0, 'warning: blocks of 30 m: patches of 40 m are cut inside blocks and become as small '
                                'as these\nwarning: tile_0.laz: no colours, no infrared: masked\n')
    assert '1 tiles prepared, 0 failed' in out
    assert 'points/s' in out
    store = open_store(tmp_path / 'store')
    tile = store.tiles['tile_0']
    xyz = np.empty_like(points['xyz'])
    xyz[tile.array('source_index')] = tile.positions()
    np.testing.assert_allclose(xyz, points['xyz'], atol=1e-6)
    np.testing.assert_array_equal(by_source(tile, 'intensity'), points['intensity'])
    np.testing.assert_array_equal(by_source(tile, 'classification'), points['classification'])
    label = by_source(tile, 'label')
    assert (label[points['classification'] == 6] == BUILDING).all()
    assert (label[points['classification'] == 2] == LOD3.index('ground')).all()
    area = by_source(tile, 'building_area')
    assert ((area > 0) == (label == BUILDING)).all()
    assert 80 < np.median(area[label == BUILDING]) < 125
    assert tile.kind == 'real'
    assert {ref.block for ref in store.patches('20')} == {0, 1, 2, 3}
    assert (len(store.patches('20')), len(store.patches('40'))) == (16, 4)
    statistics = store.manifest['statistics']
    assert statistics['points'] == len(label)
    assert statistics['classification'] == {str(code): int((points['classification'] == code).sum())
                                            for code in (2, 5, 6)}
    assert statistics['scales']['20']['patches'] == 16
    removed = int(is_removed(tile.array('20/outlier')).sum())
    assert sum(statistics['scales']['20']['outliers_removed'].values()) == removed > 0
    assert tile.record['metadata']['point_format'] == 6
    patch = tile.read_patch('20', 5)
    assert not is_removed(tile.array('20/outlier')[patch.rows]).any()
    assert set(tile.array('block')[patch.rows].tolist()) == {int(tile.array('20/patch_block')[5])}
    head = patch.xyz[:64].astype(float)
    gaps = np.sqrt(((head[:, None] - head[None]) ** 2).sum(-1) + np.eye(64) * 1e9).min(1)
    assert gaps.min() > 1.0  # a farthest-point head covers the patch; 64 neighbours in a row would not


def test_features_do_not_know_the_seam_but_without_a_buffer_they_would(call, tmp_path):
    points = small_tiles(tmp_path / 'in', tiles=2)
    write_cloud(tmp_path / 'merged.laz', points)
    assert call.prepare(tmp_path / 'in')[0] == call.prepare(tmp_path / 'merged.laz', out='one')[0] == 0
    merged = open_store(tmp_path / 'one').tiles['merged']
    whole = {tuple(place): row for row, place in enumerate(np.rint(merged.positions() * 100).astype(int).tolist())}
    apart = 0
    for tile in open_store(tmp_path / 'store').tiles.values():
        rows = np.array([whole[tuple(place)] for place in np.rint(tile.positions() * 100).astype(int).tolist()])
        for scale in ('20', '40'):
            complete = tile.array(f'{scale}/incomplete') == 0
            assert complete.mean() > 0.3
            for name in ('geometry', 'log_density', 'outlier'):
                np.testing.assert_array_equal(tile.array(f'{scale}/{name}')[complete],
                                              merged.array(f'{scale}/{name}')[rows][complete])
        np.testing.assert_allclose(tile.array('height').astype(float), merged.array('height')[rows].astype(float),
                                   atol=1e-5)
        text = SCALES.replace('buffer=8.0', 'buffer=0.0').replace('buffer=12.0', 'buffer=0.0')
    (tmp_path / 'scales.py').write_text(text)
    assert call.prepare(tmp_path / 'in', out='bare')[0] == 0
    for tile in open_store(tmp_path / 'bare').tiles.values():
        rows = np.array([whole[tuple(place)] for place in np.rint(tile.positions() * 100).astype(int).tolist()])
        apart += (tile.array('20/geometry') != merged.array('20/geometry')[rows]).any(1).sum()
    assert apart > 20


def test_a_shift_of_seven_thousand_kilometres_changes_nothing(call, tmp_path):
    for name, shift in (('here', 0.0), ('there', 7_000_000.0)):
        write_cloud(tmp_path / f'{name}.laz', cloud((50, 50), shift=shift))
        assert call.prepare(tmp_path / f'{name}.laz', out=name)[0] == 0
    here, there = (open_store(tmp_path / name).tiles[name] for name in ('here', 'there'))
    for name in ('20/geometry', '20/log_density', 'height'):
        np.testing.assert_allclose(by_source(there, name).astype(float), by_source(here, name).astype(float), atol=1e-4)


def test_workers_the_cache_and_another_order_change_no_byte(call, repository, tmp_path):
    small_tiles(tmp_path / 'in', tiles=3, side=40)
    assert call.prepare(tmp_path / 'in')[0] == 0
    result = subprocess.run(
        [sys.executable, repository / 'tools/lidar/prepare.py', *sorted((tmp_path / 'in').iterdir(), reverse=True),
         '--config', tmp_path / 'scales.py', '--out', tmp_path / 'two', '--workers', '2'],
        capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    one, two = (open_store(tmp_path / name) for name in ('store', 'two'))
    assert [item['sha256'] for item in one.manifest['items']] == [item['sha256'] for item in two.manifest['items']]


def test_a_dry_run_counts_and_writes_nothing(call, tmp_path):
    small_tiles(tmp_path / 'in', tiles=2)
    status, out, _ = call.prepare(tmp_path / 'in', '--dry-run')
    assert status == 0
    assert not (tmp_path / 'store').exists()
    patches = [line.split() for line in out.splitlines() if ' m ' in line]
    assert [(words[0], words[2]) for words in patches] == [('20', '32'), ('40', '8')]
    assert call.prepare(tmp_path / 'in')[0] == 0
    written = sum(path.stat().st_size for path in (tmp_path / 'store/tiles').glob('*.safetensors'))
    told = float(out.splitlines()[-1].split()[1]) * 1e6
    assert told == pytest.approx(written, rel=0.15)


def test_bad_tiles_get_a_line_each_and_the_others_finish(call, tmp_path):
    folder = tmp_path / 'in'
    small_tiles(folder, tiles=1, side=40)
    strange = cloud((40, 40), seed=1)
    strange['classification'][:7] = [19, 20, 20, 208, 214, 214, 214]
    write_cloud(folder / 'strange.laz', {**strange, 'xyz': strange['xyz'] + [0, 500, 0]})
    whole = write_cloud(folder / 'truncated.laz', {**strange, 'xyz': strange['xyz'] + [0, 900, 0]}).read_bytes()
    (folder / 'truncated.laz').write_bytes(whole[:len(whole) // 2])
    empty = bytearray((folder / 'tile_0.laz').read_bytes())
    empty[107:111] = bytes(4)
    empty[247:255] = bytes(8)
    (folder / 'empty.laz').write_bytes(bytes(empty))
    (folder / 'text.las').write_text('no points')
    few = cloud((40, 40), density=0.02)
    write_cloud(folder / 'few.laz', {**few, 'xyz': few['xyz'] + [0, 1500, 0]})
    status, out, errors = call.prepare(folder)
    assert status == 1
    failed = sorted(line for line in errors.splitlines() if line.startswith('failed: '))
    assert len(failed) == 5, errors
    for name, told in (('empty.laz', 'expected points, found none'), ('few.laz', 'gives no patch'),
                       ('strange.laz', 'found 19 (1 points), 20 (2 points), 208 (1 points), 214 (3 points)'),
                       ('text.las', 'text.las'), ('truncated.laz', 'truncated.laz')):
        assert sum(name in line and told in line for line in failed) == 1, (name, failed)
    assert sorted(open_store(tmp_path / 'store').tiles) == ['few', 'tile_0']
    before = (tmp_path / 'store/tiles/tile_0.safetensors').stat().st_mtime_ns

    (folder / 'truncated.laz').write_bytes(whole)
    arguments = ('--map', '19=other', '20=other', '208=ignore', '214=water')
    status, out, errors = call.prepare(folder, *arguments)
    assert (status, 'mapping: expected' in errors) == (2, True)  # other settings: not into the same store unasked
    status, out, errors = call.prepare(folder, '--unknown-classes', 'ignore', out='ignoring')
    assert sum(line.startswith('failed: ') for line in errors.splitlines()) == 3
    tile = open_store(tmp_path / 'ignoring').tiles['strange']
    assert (by_source(tile, 'label')[:7] == IGNORE).all()
    status, out, errors = call.prepare(folder, *arguments, '--overwrite')
    assert status == 1
    label = by_source(open_store(tmp_path / 'store').tiles['strange'], 'label')[:7]
    assert [LOD3[one] if one != IGNORE else '' for one in label] == ['other'] * 3 + [''] + ['water'] * 3
    assert (tmp_path / 'store/tiles/tile_0.safetensors').stat().st_mtime_ns > before


def test_a_rerun_prepares_the_missing_and_the_changed_only(call, tmp_path):
    small_tiles(tmp_path / 'in', tiles=3, side=40)
    tiles = tmp_path / 'store/tiles'
    assert call.prepare(tmp_path / 'in')[0] == 0
    first = {path.name: path.stat().st_mtime_ns for path in tiles.glob('*.safetensors')}
    status, out, _ = call.prepare(tmp_path / 'in')
    assert (status, '0 tiles prepared, 3 were done' in out) == (0, True)
    (tiles / 'tile_1.safetensors').unlink()
    assert '1 tiles prepared, 2 were done' in call.prepare(tmp_path / 'in')[1]
    assert {path.name for path in tiles.glob('*.safetensors')
            if path.stat().st_mtime_ns == first[path.name]} == {'tile_0.safetensors', 'tile_2.safetensors'}
    os.utime(tmp_path / 'in/tile_0.laz', ns=(1, 1))  # its neighbour's buffer is made of it
    assert '2 tiles prepared, 1 were done' in call.prepare(tmp_path / 'in')[1]
    # Given alone, it still is beside its neighbour.
    assert '0 tiles prepared, 1 were done' in call.prepare(tmp_path / 'in/tile_2.laz')[1]
    assert len(open_store(tmp_path / 'store').tiles) == 3


def test_a_store_that_grows_by_parts_sees_the_tiles_that_it_has(call, tmp_path):
    small_tiles(tmp_path / 'in', tiles=2, side=40)
    assert call.prepare(tmp_path / 'in', out='together')[0] == 0
    assert call.prepare(tmp_path / 'in/tile_0.laz')[0] == 0
    status, _, errors = call.prepare(tmp_path / 'in/tile_1.laz')
    (line,) = [line for line in errors.splitlines() if 'border on the inputs' in line]
    assert status == 0
    assert '1 stored tiles border on the inputs (tile_0 among them), but they were prepared without these' in line
    together, parts = (open_store(tmp_path / name).tiles for name in ('together', 'store'))
    assert parts['tile_1'].record == together['tile_1'].record
    assert parts['tile_0'].record['sha256'] != together['tile_0'].record['sha256']
    status, out, errors = call.prepare(tmp_path / 'in')
    assert (status, '1 tiles prepared, 1 were done' in out, 'border on' in errors) == (0, True, False)
    assert open_store(tmp_path / 'store').manifest == open_store(tmp_path / 'together').manifest
    assert 'border on' not in call.prepare(tmp_path / 'in/tile_1.laz')[2]
    (tmp_path / 'elsewhere').mkdir()
    (tmp_path / 'in/tile_0.laz').rename(tmp_path / 'elsewhere/tile_0.laz')
    errors = call.prepare(tmp_path / 'in/tile_1.laz')[2]
    (line,) = [line for line in errors.splitlines() if 'border on the inputs' in line]
    assert 'tile_0 among them), but their files are not beside the inputs' in line


def test_too_many_blocks_cost_their_tile(call, tmp_path):
    small_tiles(tmp_path / 'in', tiles=1, side=40)
    wide = cloud((40, 40), seed=1)
    wide['xyz'][0, :2] += 40_000
    write_cloud(tmp_path / 'in/wide.laz', {**wide, 'xyz': wide['xyz'] + [0, 500, 0]})
    status, _, errors = call.prepare(tmp_path / 'in', '--scales', '20')
    (line,) = [line for line in errors.splitlines() if line.startswith('failed: ')]
    assert (status, 'wide.laz: --block-size: expected at most 65,535 blocks' in line) == (1, True)
    assert list(open_store(tmp_path / 'store').tiles) == ['tile_0']


def test_a_record_is_written_once(call, tmp_path, monkeypatch):
    small_tiles(tmp_path / 'in', tiles=1, side=40)
    written = []
    for module in ('projects.geo.task_manifest', 'projects.lidar.store'):
        monkeypatch.setattr(f'{module}.write_json', lambda path, value: (written.append(path.name),
                                                                         write_json(path, value)))
    assert call.prepare(tmp_path / 'in')[0] == 0
    assert written == ['tile_0.json', 'manifest.json']


@pytest.mark.parametrize(('action', 'told'), [('kill', 'died'), ('full', 'No space left on device')])
def test_a_killed_worker_and_a_full_disk_cost_one_tile(call, repository, tmp_path, action, told):
    small_tiles(tmp_path / 'in', tiles=3, side=40)
    command = [sys.executable, repository / 'tools/lidar/prepare.py', tmp_path / 'in', '--config',
               tmp_path / 'scales.py', '--out', tmp_path / 'store', '--workers', '2', '--scales', '20']
    environment = {**os.environ, 'TERRACE_FAIL_POINT': f'before_rename:tile_1.safetensors:{action}'}
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    failed = [line for line in result.stderr.splitlines() if line.startswith('failed: ')]
    assert (result.returncode, len(failed)) == (1, 1), result.stderr
    assert 'tile_1' in failed[0]
    assert told in failed[0]
    assert sorted(open_store(tmp_path / 'store').tiles) == ['tile_0', 'tile_2']
    status, out, _ = call.prepare(tmp_path / 'in', '--scales', '20')
    assert (status, '1 tiles prepared, 2 were done' in out) == (0, True)
    assert not list((tmp_path / 'store/tiles').glob('.*tmp*'))


def test_labels_of_scenes(call, tmp_path):
    points = cloud((40, 40))
    points['lod3'] = np.where(points['classification'] == 6, LOD3.index('roof_hip'), 255).astype(np.uint8)
    write_cloud(tmp_path / 'town.laz', points)
    assert call.prepare(tmp_path / 'town.laz')[0] == 0
    tile = open_store(tmp_path / 'store').tiles['town']
    assert tile.kind == 'synthetic'
    np.testing.assert_array_equal(by_source(tile, 'label'), points['lod3'])
    assert call.prepare(tmp_path / 'town.laz', '--labels', 'asprs', out='real')[0] == 0
    assert open_store(tmp_path / 'real').tiles['town'].kind == 'real'
    points['lod3'][3] = 99
    write_cloud(tmp_path / 'wrong.laz', points)
    assert '99' in call.prepare(tmp_path / 'wrong.laz', out='wrong')[2]
    write_cloud(tmp_path / 'bare.laz', cloud((40, 40)))
    assert 'lod3: expected a dimension' in call.prepare(tmp_path / 'bare.laz', '--labels', 'lod3', out='bare')[2]


@pytest.mark.parametrize('point_format', [3, 7, 8])
def test_colours_are_kept_as_they_are(call, tmp_path, point_format):
    points = cloud((40, 40))
    rng = np.random.default_rng(0)
    names = ('red', 'green', 'blue', *(['nir'] if point_format == 8 else []))
    points |= {name: rng.integers(0, 65535, len(points['xyz'])).astype(np.uint16) for name in names}
    write_cloud(tmp_path / 'colour.laz', points, point_format=point_format)
    assert call.prepare(tmp_path / 'colour.laz', '--scales', '20')[0] == 0
    tile = open_store(tmp_path / 'store').tiles['colour']
    np.testing.assert_array_equal(by_source(tile, 'rgb')[:, 1], points['green'])
    assert ('nir' in tile) == (point_format == 8)


def test_a_tile_without_classification_has_no_labels(call, tmp_path):
    points = cloud((40, 40))
    points['classification'][:] = 0
    write_cloud(tmp_path / 'raw.laz', points)
    status, _, errors = call.prepare(tmp_path / 'raw.laz')
    assert status == 0
    assert 'warning: raw.laz: classification: every point has 0, so none has a label' in errors
    tile = open_store(tmp_path / 'store').tiles['raw']
    assert (tile.array('label') == IGNORE).all()
    assert -1 < np.median(tile.array('height').astype(float)) < 1


def test_a_name_that_disagrees_is_a_warning_with_both(call, tmp_path):
    write_cloud(tmp_path / 'LHD_FXX_0880_6277_PTS_LA93_IGN69.laz', cloud((40, 40)))
    status, _, errors = call.prepare(tmp_path / 'LHD_FXX_0880_6277_PTS_LA93_IGN69.laz')
    assert status == 0
    (line,) = [line for line in errors.splitlines() if 'its name says' in line]
    assert '880000' in line
    assert '770000' in line


def test_the_seed_yaml_through_the_tool(call, tmp_path):
    small_tiles(tmp_path / 'in', tiles=1)
    text = ('processor:\n  patch_size: 20.0\n  patch_overlap: 0.15\n  num_points: 128\n  num_workers: 1\n'
            'preprocess:\n  enabled: true\n  voxel_enabled: true\n  voxel_size: 2.0\n'
            'stitching:\n  auto_download_neighbors: true\noutput:\n  format: npz,laz\n  save_stats: false\n'
            f'  save_metadata: false\ninput_dir: {tmp_path / "in"}\noutput_dir: {tmp_path / "seed"}\n')
    (tmp_path / 'seed.yaml').write_text(text)
    status, out, errors = call('prepare.py', '--seed-yaml', tmp_path / 'seed.yaml', '--block-size', '30')
    assert status == 0, errors
    assert 'nothing is downloaded' in errors
    store = open_store(tmp_path / 'seed')
    count = len(store.patches('20'))
    assert f'{count} patches as npz and laz, 0 of them were there' in out
    files = sorted((tmp_path / 'seed/patches_20m').iterdir())
    assert [path.name for path in files] == [f'tile_0_{number:04d}.{suffix}' for number in range(count)
                                             for suffix in ('laz', 'npz')]
    patch = store.read(store.patches('20')[3], 128)
    with np.load(files[7]) as data:
        np.testing.assert_array_equal(data['xyz'], patch.xyz)
        np.testing.assert_array_equal(data['labels'], patch.label)
    told = call('prepare.py', '--seed-yaml', tmp_path / 'seed.yaml', '--block-size', '30', '--dry-run')[1]
    assert f'{count} patches as files' in told.splitlines()[-1]
    assert float(told.split()[-2]) * 1e6 == pytest.approx(sum(path.stat().st_size for path in files), rel=0.25)
    again = call('prepare.py', '--seed-yaml', tmp_path / 'seed.yaml', '--block-size', '30')[1]
    assert '0 tiles prepared, 1 were done' in again
    assert f'{count} of them were there' in again
    tile = store.tiles['tile_0']
    assert 'statistics' not in store.manifest
    assert 'metadata' not in tile.record
    xyz = tile.positions(tile.patch_rows('20', 0))
    assert len(np.unique(np.floor(xyz / 2.0), axis=0)) == len(xyz)
    text = text.replace('  save_stats', '  compression: gzip\n  save_stats') + 'features: {normalize_xyz: false}\n'
    (tmp_path / 'seed.yaml').write_text(text.replace('npz,laz', 'npz'))
    assert call('prepare.py', '--seed-yaml', tmp_path / 'seed.yaml', '--block-size', '30')[0] == 0
    assert len(list((tmp_path / 'seed/patches_20m').iterdir())) == count  # the .laz files are not asked for any more
    with np.load(files[7]) as data:
        np.testing.assert_array_equal(data['xyz'], tile.positions(patch.rows))
        assert {entry.compress_type for entry in data.zip.infolist()} == {zipfile.ZIP_DEFLATED}
    status, _, errors = call('prepare.py', tmp_path / 'in', '--seed-yaml', tmp_path / 'seed.yaml', '--config',
                             tmp_path / 'scales.py')
    assert (status, 'expected one of them, found both' in errors) == (2, True)


def test_mistakes_of_the_command_line(call, tmp_path):
    small_tiles(tmp_path / 'in', tiles=1, side=40)
    small_tiles(tmp_path / 'again', tiles=1, side=40)
    for arguments, told in ((((tmp_path / 'nowhere'),), 'expected a file or a folder'),
                            (((tmp_path / 'in', tmp_path / 'again'),), 'expected one tile of the name tile_0'),
                            ((tmp_path / 'in', '--scales', '50'), 'expected some of 20, 40'),
                            ((tmp_path / 'in', '--workers', 2, '--scheduler', 'tcp://x:1'), 'at most one'),
                            ((tmp_path / 'in', '--map', '8=ground', '8=water'), 'expected one class, found'),
                            ((tmp_path / 'in', '--scheduler', 'localhost'), 'expected an address tcp://'),
                            ((tmp_path / 'in', '--slurm', 'queue'), "--slurm: expected KEY=VALUE, found 'queue'"),
                            ((tmp_path / 'in', '--slurm', 'jobs=two'), 'jobs: expected a whole number from 1'),
                            ((tmp_path / 'in', '--workers', 0), '--workers')):
        status, _, errors = call.prepare(*arguments)
        assert (status, told in errors) == (2, True), errors
        assert [line.startswith('error: ') for line in errors.splitlines()
                if not line.startswith('warning: blocks of 30 m')] == [True]
    (tmp_path / 'empty').mkdir()
    assert 'expected .laz or .las files' in call.prepare(tmp_path / 'empty')[2]


def test_no_torch_and_no_dask(repository, tmp_path):
    small_tiles(tmp_path / 'in', tiles=1, side=40)
    (tmp_path / 'scales.py').write_text(SCALES)
    code = ('import runpy, sys\ntry:\n    runpy.run_path(sys.argv[0], run_name="__main__")\nexcept SystemExit as end:\n'
            '    assert not end.code\n'
            'heavy = ("torch", "mmengine", "dask", "distributed", "matplotlib")\n'
            'print([name for name in heavy if name in sys.modules])')
    path = repository / 'tools/lidar/prepare.py'
    result = subprocess.run(
        [sys.executable, '-c', f'import sys; sys.argv = sys.argv[1:]\n{code}', path, tmp_path / 'in', '--config',
         tmp_path / 'scales.py', '--out', tmp_path / 'store'], capture_output=True, text=True, timeout=120, check=False)
    assert result.stdout.splitlines()[-1] == '[]', result.stderr


def test_records_are_plain_and_the_same_every_time(call, tmp_path):
    small_tiles(tmp_path / 'in', tiles=1, side=40)
    records = []
    for out in ('one', 'two'):
        assert call.prepare(tmp_path / 'in', out=out)[0] == 0
        records.append(json.loads((tmp_path / out / 'tiles/tile_0.json').read_text()))
    assert records[0] == records[1]
