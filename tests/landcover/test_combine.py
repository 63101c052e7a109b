"""tools/landcover/combine.py: shares as made, labels through the map, links that move, undone to the last file."""

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from projects.engine.errors import UserError
from projects.geo.raster import read_mask
from projects.landcover.data.check import check_prepared
from projects.landcover.data.combine import combine, undo_combine
from projects.landcover.data.manifest import read_manifest
from projects.landcover.data.prepare import BadFiles, Options, prepare

SIZE = 16
TOOL = Path(__file__).resolve().parents[2] / 'tools/landcover/combine.py'
OEM_TO_SIX = np.array([0, 5, 2, 4, 4, 1, 0, 3, 4])  # by name: the hard map of the specification


def picture(seed: int) -> np.ndarray:
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.kron(blocks, np.ones((SIZE // 4, SIZE // 4, 1), np.uint8))


def make(root: Path, splits: dict[str, int], classes: int, taxonomy: str, seed: int) -> Path:
    """Prepare as many random images as asked for in each split; labels are drawn, 255 among them."""
    source = root.with_name(f'{root.name}-source')
    generator = np.random.default_rng(seed)
    for split, count in splits.items():
        for name in ('images', 'masks'):
            (source / split / name).mkdir(parents=True)
        for index in range(count):
            labels = generator.integers(0, classes + 1, (SIZE, SIZE)).astype(np.uint8)
            labels[labels == classes] = 255
            number = generator.integers(1 << 60)
            Image.fromarray(picture(number)).save(source / split / f'images/s{index:03d}.png')
            Image.fromarray(labels).save(source / split / f'masks/s{index:03d}.png')
    prepare(source, root, Options('folder', taxonomy=taxonomy, split_by='official'))
    return root


@pytest.fixture
def two(tmp_path) -> tuple[Path, Path]:
    """The seed's proportions at a hundredth: 23 target and 15 OpenEarthMap training images."""
    return (make(tmp_path / 'village', {'train': 23, 'val': 4, 'test': 3}, 6, 'landcover6', 1),
            make(tmp_path / 'oem', {'train': 15, 'val': 5, 'test': 2}, 9, 'openearthmap', 2))


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob('*')) if p.is_file()}


@pytest.fixture
def run(call_tool, tmp_path, monkeypatch):
    """Run the tool in this process and in the folder of the data sets."""
    monkeypatch.chdir(tmp_path)
    return partial(call_tool, 'combine.py')


def test_shares_labels_and_links(two, tmp_path):
    before = contents(tmp_path)
    out = tmp_path / 'combined'
    result = combine(two, out, remaps={'oem': 'by_name'})
    assert (result.images, [len(part.items) for part in result.parts]) == (45, [30, 15])
    lines = result.lines()
    assert lines[2].split() == ['images', '30', '15', '45']
    assert lines[3].split() == ['share', 'of', 'the', 'images', '66.7%', '33.3%', '100.0%']
    assert lines[5].split() == ['train', '23', '15', '38']
    manifest = read_manifest(out)
    assert manifest['split']['counts'] == {'train': 38, 'val': 4, 'test': 3} and manifest['split']['leaks'] == 0
    sources = manifest['combined']['sources']
    assert {name: entry['images'] for name, entry in sources.items()} == {'target': 30, 'oem': 15}
    assert sources['oem']['splits'] == {'train': 15, 'val': 0, 'test': 0}
    wanted = np.zeros(6, int)
    for item in read_manifest(two[1])['items']:
        if item['split'] == 'train':
            labels = read_mask(two[1] / item['mask'])
            made = read_mask(out / f'masks/oem_{item["id"]}.png')
            assert (made == np.where(labels == 255, 255, OEM_TO_SIX[np.minimum(labels, 8)])).all()
            wanted += np.bincount(made[made != 255], minlength=6)
    assert sources['oem']['pixels'] == wanted.tolist() and wanted.sum() < 15 * SIZE * SIZE
    share = wanted[4] / wanted.sum()
    assert f'{wanted[4]:,} ({share:.1%})' in next(line for line in lines if line.startswith('Settlement'))
    for item in read_manifest(two[0])['items']:
        assert (out / f'masks/target_{item["id"]}.png').read_bytes() == (two[0] / item['mask']).read_bytes()
    assert all(path.is_symlink() and not os.path.isabs(os.readlink(path)) for path in (out / 'images').iterdir())
    report = check_prepared(out)
    assert not report.problems and not report.leaks and len(report.patches) == 45
    assert {name: data for name, data in contents(tmp_path).items() if not name.startswith('combined/')} == before

    moved = tmp_path.with_name(tmp_path.name + '-moved')
    tmp_path.rename(moved)
    try:
        assert not check_prepared(moved / 'combined').problems  # the links are relative
    finally:
        moved.rename(tmp_path)
    assert undo_combine(out, dry_run=True) == 45 and out.is_dir()
    assert undo_combine(out) == 45
    assert contents(tmp_path) == before and not out.exists()
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith('.')) == []


def test_a_third_taxonomy_splits_kept_and_images_copied(two, tmp_path, run):
    classes = {'classes': ['open', 'covered'], 'palette': [[0, 0, 0], [9, 9, 9]], 'name': 'two', 'background': None}
    (tmp_path / 'two.json').write_text(json.dumps(classes))
    six = dict.fromkeys(['Background'], None) | dict.fromkeys(
        ['Grassland', 'Cropland', 'SemiNatural Grassland'], 'open') | dict.fromkeys(
        ['Forest Land', 'Settlement'], 'covered')
    nine = {'unknown': None, 'water': None} | dict.fromkeys(['bareland', 'rangeland', 'agriculture', 'road'], 'open') \
        | dict.fromkeys(['developed', 'tree', 'building'], 'covered')
    for name, names in (('six', six), ('nine', nine)):
        (tmp_path / f'{name}.json').write_text(json.dumps(names))
    done = run('village', 'oem', '--out', 'out', '--names', 'own', 'world', '--taxonomy', 'two.json', '--remap',
               'own=six.json', 'world=nine.json', '--copy', '--source-splits', 'keep')
    assert done.returncode == 0 and 'wrote 52 images to out' in done.stdout, done.stderr
    manifest = read_manifest(tmp_path / 'out')
    assert manifest['split']['counts'] == {'train': 38, 'val': 9, 'test': 5}
    assert manifest['taxonomy']['classes'] == ['open', 'covered']
    assert manifest['combined']['sources']['own']['remap'] == [255, 1, 0, 0, 1, 0]
    assert not any(path.is_symlink() for path in (tmp_path / 'out').rglob('*'))
    item = next(item for item in read_manifest(two[0])['items'] if item['split'] == 'val')
    labels = read_mask(two[0] / item['mask'])
    table = np.full(256, 255)
    table[:6] = [255, 1, 0, 0, 1, 0]
    assert (read_mask(tmp_path / f'out/masks/own_{item["id"]}.png') == table[labels]).all()
    assert not check_prepared(tmp_path / 'out').problems


def test_dry_run_writes_nothing(two, tmp_path, run):
    before = contents(tmp_path)
    done = run('village', 'oem', '--out', 'out', '--remap', 'oem=by_name', '--dry-run')
    assert done.returncode == 0 and 'would write 45 images to out' in done.stdout, done.stderr
    assert contents(tmp_path) == before and not (tmp_path / 'out').exists()


def test_what_is_refused(two, tmp_path):
    out, maps = tmp_path / 'out', {'oem': 'by_name'}
    with pytest.raises(UserError, match='choose one of'):
        combine(two, out)
    with pytest.raises(UserError, match='--remap oum'):
        combine(two, out, remaps={'oum': 'by_name'})
    with pytest.raises(UserError, match='different names'):
        combine(two, out, names=['a', 'a'], remaps={})
    with pytest.raises(UserError, match='letters, digits'):
        combine(two, out, names=['a', '../b'])
    with pytest.raises(UserError, match='at least one source'):
        combine(two[:1], out)
    with pytest.raises(UserError, match='holds the source'):
        combine(two, two[0], remaps=maps)
    item = read_manifest(two[1])['items'][0]
    good = (two[1] / item['mask']).read_bytes()
    (two[1] / item['mask']).write_bytes(good + b' ')
    with pytest.raises(BadFiles, match='changed since it was prepared'):
        combine(two, out, remaps=maps)
    (two[1] / item['mask']).write_bytes(good)
    stolen = tmp_path / 'stolen-source'
    for name in ('images', 'masks'):
        (stolen / 'train' / name).mkdir(parents=True)
        for item in read_manifest(two[0])['items']:
            if item['split'] == 'test':
                file = two[0] / item['image' if name == 'images' else 'mask']
                (stolen / 'train' / name / file.name).write_bytes(file.read_bytes())
    prepare(stolen, tmp_path / 'stolen', Options('folder', split_by='official'))
    with pytest.raises(BadFiles, match='3 pairs of images in different splits share ground'):
        combine((two[0], tmp_path / 'stolen'), out)
    assert not out.exists()
    combine((two[0], tmp_path / 'stolen'), out, allow_leaks=True)
    assert read_manifest(out)['split']['leaks'] == len(check_prepared(out).leaks) == 3


def test_errors_name_the_folder_that_was_asked_for(two, tmp_path, run, monkeypatch):
    before = contents(tmp_path)
    monkeypatch.setenv('TERRACE_FAIL_POINT', 'before_rename:manifest.json:full')
    done = run('village', 'oem', '--out', 'out', '--remap', 'oem=by_name')
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, 'error: out/manifest.json: No space left on device')
    assert contents(tmp_path) == before


def test_undo_refuses_what_it_did_not_make(two, tmp_path):
    out = tmp_path / 'out'
    with pytest.raises(UserError, match=r'not made by combine\.py'):
        undo_combine(two[0])
    combine(two, out, remaps={'oem': 'by_name'})
    (out / 'notes.txt').write_text('mine')
    with pytest.raises(UserError, match=r'notes\.txt: not made by'):
        undo_combine(out)
    (out / 'notes.txt').unlink()
    mask = sorted((out / 'masks').iterdir())[0]
    good = mask.read_bytes()
    mask.write_bytes(good + b' ')
    with pytest.raises(UserError, match='changed since it was made'):
        undo_combine(out)
    mask.write_bytes(good)
    assert undo_combine(out) == 45 and not out.exists() and two[0].is_dir()


def test_killed_while_it_writes(two, tmp_path):
    before = contents(tmp_path)
    command = [sys.executable, str(TOOL), 'village', 'oem', '--out', 'out', '--remap', 'oem=by_name']
    done = subprocess.run(command, cwd=tmp_path, capture_output=True,
                          env=dict(os.environ, TERRACE_FAIL_POINT='before_rename:oem_train-s003.png'))
    assert done.returncode == -signal.SIGKILL and not (tmp_path / 'out').exists()
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0
    assert not check_prepared(tmp_path / 'out').problems
    undo_combine(tmp_path / 'out')
    assert contents(tmp_path) == before and sorted(p.name for p in tmp_path.iterdir())[0] == 'oem'
