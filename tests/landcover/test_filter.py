"""tools/landcover/filter.py: the seed's statistics on a data set of known shares; nothing is lost by a kill; undo."""

import os
import random
import signal
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from projects.engine.errors import UserError
from projects.landcover.data.changes import FOLDER, changing, check_settled, recover
from projects.landcover.data.check import check_prepared
from projects.landcover.data.combine import combine
from projects.landcover.data.filter import filter_class, shares_of, undo_filter
from projects.landcover.data.layouts import list_samples
from projects.landcover.data.manifest import read_manifest
from projects.landcover.data.prepare import Options, prepare

SIZE = 50
# Settlement pixels of 2500 in each training image: mean 16.30 %, median 7.72 % and largest 96.40 %, and 6.9 % of the
# images above one half, are what the seed reports of its 3,764 images.
COUNTS = [2410, 1338, 1250, 1100, 900, 700, 600, 500, 400, 350, 300, 250, 220, 200, 193,
          190, 180, 170, 150, 130, 110, 80, 50, 30, 17, 0, 0, 0, 0]


@pytest.fixture
def data(tmp_path) -> Path:
    """29 training, 3 validation and 2 test images: forest, and settlement from the top."""
    generator = np.random.default_rng(0)
    counts = {'train': COUNTS, 'val': [1800, 600, 0], 'test': [2500, 60]}
    for split, wanted in counts.items():
        for index, count in enumerate(wanted):
            mask = np.full(SIZE * SIZE, 1, np.uint8)
            mask[:count] = 4
            image = np.kron(generator.integers(0, 256, (4, 4, 3)), np.ones((13, 13, 1)))[:SIZE, :SIZE]
            for name, array in (('images', image), ('masks', mask.reshape(SIZE, SIZE))):
                path = tmp_path / 'source' / split / name / f's{index:02d}.png'
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array.astype(np.uint8)).save(path)
    prepare(tmp_path / 'source', tmp_path / 'data', Options('folder', split_by='official'))
    return tmp_path / 'data'


def contents(root: Path) -> dict[str, bytes | str]:
    return {str(p.relative_to(root)): os.readlink(p) if p.is_symlink() else p.read_bytes()
            for p in sorted(root.rglob('*')) if p.is_symlink() or p.is_file()}


@pytest.fixture
def run(call_tool):
    """Run the tool in this process."""
    return partial(call_tool, 'filter.py')


def test_the_seeds_statistics_and_undo(data, run):
    before = contents(data)
    done = run(data, '--class', 'Settlement', '--above', '0.5')
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "share of 'Settlement' among the labelled pixels of 29 images (train):",
        'mean       16.30%',
        'median     7.72%',
        'max        96.40% (train-s00)',
        'removed    2 images above 50% (6.9%)',
        'remaining  27 images',
        'worst of the removed (2 of 2):',
        '  1. train-s00 - 96.4%',
        '  2. train-s01 - 53.5%',  # train-s02 has exactly one half and stays
        f'moved 2 images to {data / "filtered"}',
    ]
    manifest = read_manifest(data)
    assert manifest['split']['counts'] == {'train': 27, 'val': 3, 'test': 2} and len(manifest['items']) == 32
    (record,) = manifest['filtered']
    assert (record['number'], record['class'], record['above'], record['splits']) == (1, 'Settlement', 0.5, ['train'])
    assert [item['id'] for item in record['items']] == ['train-s00', 'train-s01']
    report = check_prepared(data)
    assert not report.problems and len(report.patches) == 32
    after = contents(data)
    moved = {f'filtered/1/{kind}/train-s0{index}.png' for kind in ('images', 'masks') for index in (0, 1)}
    assert after.keys() - before.keys() == moved | {'filtered/1/record.json', 'filtered/1/manifest.json'}
    assert all(after[name] == before[name.removeprefix('filtered/1/')] for name in moved)
    assert after['filtered/1/manifest.json'] == before['manifest.json']
    again = run(data, '--class', 'Settlement')
    assert 'removed    0 images above 50% (0.0%)' in again.stdout and contents(data) == after
    assert 'would put 2 images back' in run(data, '--undo', '--dry-run').stdout and contents(data) == after
    done = run(data, '--undo')
    assert done.stdout == f'put 2 images back into {data}\n' and contents(data) == before
    assert sorted(p.name for p in data.iterdir()) == ['images', 'manifest.json', 'masks']
    refused = run(data, '--undo')
    assert refused.returncode == 2 and refused.stderr == f'error: {data}: nothing was filtered, nothing to undo\n'


def test_shares_are_of_the_labelled_pixels(data):
    item = next(item for item in read_manifest(data)['items'] if item['id'] == 'train-s03')
    manifest = read_manifest(data)
    next(i for i in manifest['items'] if i['id'] == 'train-s03')['pixels'] = [0, 100, 0, 0, 190, 0]
    shares = shares_of(manifest, 'Settlement', 0.5)
    assert item['pixels'] == [0, 1400, 0, 0, 1100, 0] and shares.of['train-s03'] == 190 / 290
    assert shares.removed == ['train-s00', 'train-s03', 'train-s01']
    next(i for i in manifest['items'] if i['id'] == 'train-s03')['pixels'] = [0] * 6
    shares = shares_of(manifest, 'Settlement', 0.5)
    assert shares.of['train-s03'] == 0 and shares.unlabelled == 1


def test_nothing_is_changed_when_only_asked(data, run):
    before = contents(data)
    listed = run(data, '--class', 'Settlement', '--above', '0.4', '--list-only')
    assert listed.stdout.split() == ['train-s00', 'train-s01', 'train-s02', 'train-s03']
    dry = run(data, '--class', 'Settlement', '--dry-run')
    assert f'would move 2 images to {data / "filtered"}' in dry.stdout
    assert contents(data) == before


def test_a_copy_can_be_filtered_instead(data, tmp_path, run):
    before = contents(data)
    done = run(data, '--class', 'Settlement', '--out', tmp_path / 'copy')
    assert f'moved 2 images to {tmp_path / "copy/filtered"}' in done.stdout, done.stderr
    assert contents(data) == before and not check_prepared(tmp_path / 'copy').problems
    assert (tmp_path / 'copy/filtered/1/images/train-s00.png').read_bytes() == before['images/train-s00.png']
    undo_filter(tmp_path / 'copy')
    restored = tmp_path / 'copy/images/train-s00.png'
    assert restored.is_symlink() and restored.read_bytes() == before['images/train-s00.png']
    assert (tmp_path / 'copy/manifest.json').read_bytes() == before['manifest.json']


def test_what_is_refused(data, run):
    before = contents(data)
    for arguments, message in (
        ((data, '--class', 'Settlement', '--split', 'test'), 'a test split is never filtered'),
        ((data, '--class', 'Settlement', '--split', 'val', 'test'), 'a test split is never filtered'),
        ((data, '--class', 'Settlement', '--split', 'foo'), "unknown split 'foo'; expected one of ['train', 'val']"),
        ((data, '--class', 'Setlement'), "did you mean 'Settlement'?"),
        ((data, '--class', 'Settlement', '--above', '50'), 'expected a share from 0 to below 1'),
        ((data, '--class', 'Forest Land', '--above', '0'), "no image would be left in split 'train'"),
        ((data,), '--class: say which class'),
        ((data / 'images', '--class', 'Settlement'), 'not a prepared data set'),
    ):
        done = run(*arguments)
        assert done.returncode == 2 and message in done.stderr and done.stderr.count('\n') == 1
    (data / 'masks/train-s00.png').write_bytes(b'changed')
    with pytest.raises(UserError, match=r'train-s00\.png: changed'):
        filter_class(data, 'Settlement', 0.5)
    (data / 'masks/train-s00.png').write_bytes(before['masks/train-s00.png'])
    assert contents(data) == before


def test_several_filters_are_undone_one_by_one(data):
    states = [contents(data)]
    filter_class(data, 'Settlement', 0.5, ('train', 'val'))
    states.append(contents(data))
    filter_class(data, 'Settlement', 0.35)
    assert [len(record['items']) for record in read_manifest(data)['filtered']] == [3, 3]
    assert not check_prepared(data).problems
    assert undo_filter(data) == ['train-s02', 'train-s03', 'train-s04'] and contents(data) == states[1]
    (data / 'filtered/1/masks/train-s00.png').write_bytes(b'changed')
    with pytest.raises(UserError, match=r'filtered/1/masks/train-s00\.png: changed'):
        undo_filter(data)
    (data / 'filtered/1/masks/train-s00.png').write_bytes(states[1]['filtered/1/masks/train-s00.png'])
    (data / 'images/train-s00.png').write_bytes(b'taken')
    with pytest.raises(UserError, match='in the way'):
        undo_filter(data)
    (data / 'images/train-s00.png').unlink()
    assert undo_filter(data) == ['train-s00', 'train-s01', 'val-s00'] and contents(data) == states[0]


def test_links_stay_links_to_the_same_files(data, tmp_path):
    prepare(tmp_path / 'source', tmp_path / 'other', Options('folder', split_by='official', allow_leaks=True))
    combine((data, tmp_path / 'other'), tmp_path / 'out', names=['target', 'oem'])
    before = contents(tmp_path / 'out')
    shares = filter_class(tmp_path / 'out', 'Settlement', 0.5)
    assert shares.removed == ['oem_train-s00', 'target_train-s00', 'oem_train-s01', 'target_train-s01']
    moved = tmp_path / 'out/filtered/1/images/oem_train-s00.png'
    assert moved.is_symlink() and moved.resolve() == (tmp_path / 'other/images/train-s00.png').resolve()
    assert not check_prepared(tmp_path / 'out').problems
    undo_filter(tmp_path / 'out')
    assert contents(tmp_path / 'out') == before and (tmp_path / 'out/images/oem_train-s00.png').is_file()


MOMENTS = ['before_rename:plan.json', 'before_rename:*record.json', 'before_step:manifest.json',
           'before_step:record.json', 'before_step:train-s00.png', 'before_step:train-s01.png', 'before_end:plan.json',
           'after_end:plan.json']


@pytest.mark.parametrize('moment', MOMENTS)
def test_killed_at_a_moment(data, moment, killed):
    before = contents(data)
    assert killed(filter_class, data, 'Settlement', 0.5, moment=moment) == -signal.SIGKILL
    if (data / FOLDER / 'plan.json').exists():
        for refusing in (check_settled, lambda root: filter_class(root, 'Settlement', 0.5, dry_run=True),
                         lambda root: list_samples(root, 'prepared')):
            with pytest.raises(UserError, match='under way or was interrupted'):
                refusing(data)
    filter_class(data, 'Settlement', 0.5)
    assert not check_prepared(data).problems and len(read_manifest(data)['items']) == 32
    assert not (data / FOLDER).exists()
    middle = contents(data)
    if not moment.startswith('before_rename'):
        assert killed(undo_filter, data, moment=moment) == -signal.SIGKILL
        recover(data)
        assert contents(data) in (before, middle)
        if contents(data) == middle:
            undo_filter(data)
    else:
        undo_filter(data)
    assert contents(data) == before


def test_killed_at_random(data, killed):
    before = contents(data)
    begin = time.monotonic()
    filter_class(data, 'Settlement', 0.0001)
    duration = time.monotonic() - begin
    after = contents(data)
    undo_filter(data)
    generator = random.Random(0)
    for _ in range(8):
        killed(filter_class, data, 'Settlement', 0.0001, seconds=generator.uniform(0, 1.2 * duration))
        recover(data)
        found = contents(data)
        images = {name for name in found if name.endswith('.png')}
        assert {name.removeprefix('filtered/1/') for name in images} == {n for n in before if n.endswith('.png')}
        assert found == before or found.keys() == after.keys()
        assert not check_prepared(data).problems
        if found != before:
            undo_filter(data)
            assert contents(data) == before


def test_one_at_a_time(data):
    with changing(data), pytest.raises(UserError, match='another process is changing this data set'):
        filter_class(data, 'Settlement', 0.5)
