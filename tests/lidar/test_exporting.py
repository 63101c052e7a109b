"""Patches as the seed's scripts read them: keys, names and links; and as LAZ, at their place on the ground."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from small_store import small_store

from projects.engine.errors import UserError
from projects.geo.point_clouds import read_points
from projects.lidar.classes import BUILDING, COARSE, LOD2, LOD3
from projects.lidar.exporting import ExportOptions, estimated_bytes, export_patches
from projects.lidar.merge import chosen_of, merge_of, write_merge

WEIGHTS = {'50': 0.4, '100': 0.3, '150': 0.3}


@pytest.fixture(scope='module')
def store(tmp_path_factory):
    return small_store(tmp_path_factory.mktemp('store') / 's', tiles=2, points=1500, block_size=100.0)


def refs_of(store, *scales, split=None):
    return [ref for scale in scales or store.scales for ref in store.patches(scale, split)]


def test_npz_files_have_the_seeds_keys_and_the_stores_points(store, tmp_path):
    refs = refs_of(store, '50', split='val')
    made = export_patches(store, refs, tmp_path / 'out', ExportOptions())
    files = sorted((tmp_path / 'out/val/patches_50m').glob('*.npz'))
    assert len(files) == len(refs) == made.patches['50'] and not made.links
    ref = refs[0]
    with np.load(tmp_path / f'out/val/patches_50m/{ref.tile}_{ref.number:04d}.npz') as data:
        assert sorted(data) == ['features', 'labels', 'xyz']
        patch = store.read(ref)
        np.testing.assert_array_equal(data['xyz'], patch.xyz[:256])
        np.testing.assert_array_equal(data['features'], patch.features[:256])
        np.testing.assert_array_equal(data['labels'], patch.label[:256])
        assert data['xyz'].dtype == data['features'].dtype == np.float32
    record = json.loads((tmp_path / 'out/export.json').read_text())
    assert record['complete'] and len(record['features']) == 21 and record['classes'][BUILDING] == 'building'
    told = next(item for item in record['patches'] if item['number'] == ref.number and item['tile'] == ref.tile)
    assert told['centre'] == patch.centre.tolist() and told['points'] == min(256, ref.points)


def test_points_of_the_file_are_where_the_source_has_them(store, tmp_path):
    refs = refs_of(store, '50')[:2]
    export_patches(store, refs, tmp_path / 'out', ExportOptions(('npz', 'laz'), points=0, absolute=True,
                                                                compression=True))
    for ref in refs:
        stem = tmp_path / f'out/{ref.split}/patches_50m/{ref.tile}_{ref.number:04d}'
        tile, patch = store.tiles[ref.tile], store.read(ref)
        with np.load(f'{stem}.npz') as data:
            np.testing.assert_array_equal(data['xyz'], tile.positions(patch.rows))
            assert data['xyz'].dtype == np.float64
        points = read_points(f'{stem}.laz')
        assert len(points.xyz) == ref.points and points.header.point_format == 8
        np.testing.assert_allclose(points.xyz, tile.positions(patch.rows), atol=1e-6)
        for name in ('intensity', 'classification', 'source_index', 'label', 'nir'):
            np.testing.assert_array_equal(points.fields[name], tile.array(name)[patch.rows])
        np.testing.assert_array_equal(points.fields['green'], tile.array('rgb')[patch.rows, 1])
        np.testing.assert_allclose(points.fields['planarity'], tile.array('50/geometry')[patch.rows, 1])


def test_a_tile_without_colour_gives_a_format_without(tmp_path):
    plain = small_store(tmp_path / 's', tiles=1, points=600, scales=('50',), colour=False, kind='real')
    refs = refs_of(plain, '50')[:1]
    export_patches(plain, refs, tmp_path / 'out', ExportOptions(('laz',)))
    points = read_points(next((tmp_path / 'out').rglob('*.laz')))
    assert points.header.point_format == 6 and not points.has_colour


@pytest.mark.parametrize('labels, names', [('lod2', LOD2), ('coarse', COARSE)])
def test_label_sets(store, tmp_path, labels, names):
    ref = max(refs_of(store, '100'), key=lambda ref: ref.points)
    export_patches(store, [ref], tmp_path / 'out', ExportOptions(labels=labels, points=0))
    with np.load(next((tmp_path / 'out').rglob('*.npz'))) as data:
        found = data['labels']
    expected = store.read(ref).label
    for name in ('ground', 'vegetation_high'):
        np.testing.assert_array_equal(found == names.index(name), expected == LOD3.index(name))
    roof = found[expected == LOD3.index('roof_gable')]
    assert len(roof) and (roof == names.index('roof_gable' if labels == 'lod2' else 'building')).all()


def test_asprs_labels_are_the_codes_of_the_file(store, tmp_path):
    ref = refs_of(store, '150')[0]
    export_patches(store, [ref], tmp_path / 'out', ExportOptions(labels='asprs', points=0))
    with np.load(next((tmp_path / 'out').rglob('*.npz'))) as data:
        assert set(data['labels']) == {2, 5, 6}


def test_a_merge_gets_links_in_its_order_and_nothing_is_copied_twice(store, tmp_path):
    merge = merge_of(refs_of(store, split='train'), WEIGHTS, 2, 'train')
    write_merge(tmp_path / 'merge.json', merge)
    refs = chosen_of(tmp_path / 'merge.json', refs_of(store, split='train'))
    made = export_patches(store, refs, tmp_path / 'out', ExportOptions(), merge)
    links = sorted((tmp_path / 'out/train/patches_multiscale').iterdir(), key=lambda path: path.stem[-6:])
    assert made.links == len(links) == len(refs)
    for number, (link, ref) in enumerate(zip(links, refs)):
        assert link.name == f'multiscale_{ref.scale}m_{number:06d}.npz' and link.is_symlink()
        target = tmp_path / f'out/train/patches_{ref.scale}m/{ref.tile}_{ref.number:04d}.npz'
        assert link.resolve() == target.resolve()
        assert not os.path.isabs(os.readlink(link))
    assert Counter(link.name.split('_')[1] for link in links) == {
        f'{scale}m': count for scale, count in merge.counts().items()}
    (tmp_path / 'out').rename(tmp_path / 'moved')  # relative links: a moved export stays whole
    assert np.load(tmp_path / 'moved/train/patches_multiscale' / links[0].name)['xyz'].shape[1] == 3


def test_the_seeds_own_data_set_reads_an_export(store, tmp_path):
    """What `MultiScalePointCloudDataset.__getitem__` of the seed does with a file."""
    export_patches(store, refs_of(store, '50')[:1], tmp_path / 'out', ExportOptions())
    data = np.load(next((tmp_path / 'out').rglob('*.npz')))
    points, features = data['xyz'], data['features']
    labels = data.get('labels', np.zeros(len(points)))
    pad = np.random.default_rng(0).choice(len(points), 300 - len(points) if len(points) < 300 else 0, replace=True)
    points, features = np.vstack([points, points[pad]]), np.vstack([features, features[pad]])
    labels = np.concatenate([labels, labels[pad]])
    points = points @ np.eye(3).T
    assert points.astype(np.float32).shape == (300, 3) and features.astype(np.float32).shape == (300, 21)
    assert labels.astype(np.int64).max() < 31


def test_an_export_is_replaced_only_when_asked_and_never_something_else(store, tmp_path):
    refs = refs_of(store, '100')
    export_patches(store, refs, tmp_path / 'out', ExportOptions())
    for some, options in ((refs[:1], ExportOptions()), (refs, ExportOptions(labels='lod2'))):
        with pytest.raises(UserError, match='another export, of 8 files; --overwrite replaces it'):
            export_patches(store, some, tmp_path / 'out', options)
    export_patches(store, refs[:1], tmp_path / 'out', ExportOptions(overwrite=True))
    assert len(list((tmp_path / 'out').rglob('*.npz'))) == 1  # the old patches would be read with the new ones
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine/notes.txt').write_text('mine')
    with pytest.raises(UserError, match='found other files'):
        export_patches(store, refs, tmp_path / 'mine', ExportOptions(overwrite=True))
    (tmp_path / 'mine/export.json').write_text(json.dumps(
        dict(format='terrace-lidar-export-2', complete=False, files=['../out/export.json'])))
    with pytest.raises(UserError, match='found other files'):
        export_patches(store, refs, tmp_path / 'mine', ExportOptions(overwrite=True))
    assert (tmp_path / 'out/export.json').is_file()


def test_a_killed_export_is_taken_up(store, tmp_path, monkeypatch):
    refs = refs_of(store, '50', split='test')
    name = f'{refs[1].tile}_{refs[1].number:04d}.npz'
    code = (f'from projects.lidar.store import open_store\nfrom projects.lidar.exporting import *\n'
            f's = open_store({str(store.root)!r})\n'
            f"export_patches(s, s.patches('50', 'test'), {str(tmp_path / 'out')!r}, ExportOptions())")
    env = {**os.environ, 'TERRACE_FAIL_POINT': f'before_rename:{name}'}
    assert subprocess.run([sys.executable, '-c', code], env=env, timeout=120).returncode == -9
    assert list((tmp_path / 'out').rglob('.*.tmp-*'))
    made = export_patches(store, refs, tmp_path / 'out', ExportOptions())
    assert made.kept == 1  # what was whole when the first one was killed
    assert len(list((tmp_path / 'out').rglob('*.npz'))) == len(refs)
    assert not list((tmp_path / 'out').rglob('.*.tmp-*'))


def test_a_second_export_writes_what_is_missing_or_of_another_tile(tmp_path):
    store = small_store(tmp_path / 's', tiles=2, points=600, block_size=100.0, scales=('100',))
    refs, out = store.patches('100'), tmp_path / 'out'
    assert export_patches(store, refs, out, ExportOptions()).kept == 0
    files = sorted(out.rglob('*.npz'))
    before = {path: path.stat().st_mtime_ns for path in files}
    files[0].unlink()
    assert export_patches(store, refs, out, ExportOptions()).kept == len(refs) - 1
    store.tiles['tile_01'].record['sha256'] = 'prepared anew'
    assert export_patches(store, refs, out, ExportOptions()).kept == sum(ref.tile == 'tile_00' for ref in refs)
    after = {path: path.stat().st_mtime_ns for path in sorted(out.rglob('*.npz'))}
    assert list(after) == files
    assert {path for path in files[1:] if after[path] == before[path]} == {
        path for path in files[1:] if 'tile_00' in path.name}


def test_the_estimate_is_what_the_files_take(store, tmp_path):
    refs = refs_of(store)
    made = export_patches(store, refs, tmp_path / 'out', ExportOptions())
    assert sum(estimated_bytes(store, refs, ExportOptions()).values()) == pytest.approx(made.bytes, rel=0.02)


def run_tool(name, *args):
    tool = Path(__file__).resolve().parents[2] / 'tools/lidar' / f'{name}.py'
    return subprocess.run([sys.executable, str(tool), *map(str, args)], capture_output=True, text=True, timeout=120)


def test_the_tools_merge_and_export(store, tmp_path):
    merge = run_tool('merge', store.root, '--split', 'train', '--out', tmp_path / 'm.json', '--seed', 4)
    assert merge.returncode == 0 and 'of the set (weight 40.0%)' in merge.stdout, merge.stderr
    again = run_tool('merge', store.root, '--out', tmp_path / 'm.json')
    assert (again.returncode, again.stderr) == (2, f'error: {tmp_path}/m.json: exists; --overwrite replaces it\n')
    made = run_tool('export', store.root, '--merge', tmp_path / 'm.json', '--out', tmp_path / 'out')
    assert made.returncode == 0 and 'links' in made.stdout, made.stderr
    assert len(list((tmp_path / 'out/train/patches_multiscale').iterdir())) == len(
        json.loads((tmp_path / 'm.json').read_text())['patches'])
    for args, told in ((['--format', 'ply'], '--format: expected npz or laz, found ply'),
                       (['--labels', 'lod4'], '--labels: expected one of lod3, lod2, coarse, asprs, found lod4'),
                       (['--scales', '75'], "scale: expected one of 50, 100, 150, found '75'")):
        bad = run_tool('export', store.root, '--out', tmp_path / 'bad', *args)
        assert bad.returncode == 2 and told in bad.stderr and bad.stderr.count('\n') == 1
    dry = run_tool('export', store.root, '--out', tmp_path / 'dry', '--dry-run')
    assert dry.returncode == 0 and 'MB as npz' in dry.stdout and not (tmp_path / 'dry').exists()
    bad = run_tool('merge', store.root, '--weights', '50:0.4', '--out', tmp_path / 'n.json')
    assert bad.returncode == 2 and 'expected SCALE=SHARE' in bad.stderr
