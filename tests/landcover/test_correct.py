"""tools/landcover/correct.py: what may be replaced, a ledger that proves it, kills that lose nothing, undo."""

import json
import os
import random
import shutil
import signal
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from projects.engine.errors import UserError
from projects.engine.files import sha256_of
from projects.geo.raster import read_mask, write_mask
from projects.landcover.correction.apply import apply_decisions, undo_corrections
from projects.landcover.correction.candidates import find_candidates, members_of, rank
from projects.landcover.correction.ranking import ConfidentLearning
from projects.landcover.data.changes import FOLDER, recover
from projects.landcover.data.check import check_prepared
from projects.landcover.data.decisions import Decision, append_decision
from projects.landcover.data.filter import filter_class, undo_filter
from projects.landcover.data.ledger import original_masks, read_ledger, verify_corrections
from projects.landcover.data.manifest import read_manifest
from projects.landcover.data.prepare import Options, prepare
from projects.landcover.datasets import LandCoverDataset
from projects.landcover.taxonomy import get_taxonomy

SIZE = 16
SIX = get_taxonomy('landcover6')
# As in the seed's proportions (82 and 106 replaced, 25 kept, 2 not found), at a tenth.
CHOICES = ['a'] * 4 + ['b'] * 5 + ['keep'] * 2 + ['skip']


@pytest.fixture
def data(tmp_path) -> Path:
    """12 training, 4 validation and 3 test images of random classes, some pixels not labelled."""
    generator = np.random.default_rng(0)
    for split, count in (('train', 12), ('val', 4), ('test', 3)):
        for index in range(count):
            mask = generator.integers(0, 7, (SIZE, SIZE)).astype(np.uint8)
            mask[mask == 6] = 255
            image = np.kron(generator.integers(0, 256, (4, 4, 3)), np.ones((4, 4, 1)))
            for name, array in (('images', image), ('masks', mask)):
                path = tmp_path / 'source' / split / name / f's{index:02d}.png'
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array.astype(np.uint8)).save(path)
    prepare(tmp_path / 'source', tmp_path / 'data', Options('folder', split_by='official'))
    return tmp_path / 'data'


@pytest.fixture
def candidates(data, tmp_path) -> Path:
    """Candidates of two made-up models for training and validation, and decisions on twelve of them."""
    folder = tmp_path / 'candidates'
    generator = np.random.default_rng(1)
    items = []
    for item in read_manifest(data)['items']:
        if item['split'] == 'test':
            continue
        label = read_mask(data / item['mask'])
        for letter in 'ab':
            mask = generator.integers(0, 6, label.shape).astype(np.uint8)
            mask[label == 255] = 255
            write_mask(folder / f'predictions/{letter}/{item["id"]}.png', mask, SIX.palette)
        paths = {letter: f'predictions/{letter}/{item["id"]}.png' for letter in 'ab'}
        items.append({
            'sample_id': item['id'], 'split': item['split'], 'rank': len(items) + 1, 'score': 0.5,
            'image': item['image'], 'mask': item['mask'], 'mask_sha256': item['mask_sha256'], 'predictions': paths,
            'prediction_sha256': {letter: sha256_of(folder / path) for letter, path in paths.items()}})
    models = [{'letter': letter, 'name': name, 'config': 'c.py', 'checkpoint': f'{name}/best.pth', 'sha256': letter}
              for letter, name in (('a', 'baseline'), ('b', 'distilled'))]
    (folder / 'candidates.json').write_text(json.dumps({
        'version': 1, 'data_root': str(data), 'manifest_sha256': sha256_of(data / 'manifest.json'), 'models': models,
        'items': items}))
    for index, choice in enumerate(CHOICES):
        append_decision(folder / 'decisions.csv', Decision(
            items[index]['sample_id'], choice, f'note {index}', '2026-01-02T03:04:05Z', 'ba'))
    return folder


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob('*')) if p.is_file()}


@pytest.fixture
def run(call_tool):
    """Run the tool in this process."""
    return partial(call_tool, 'correct.py')


def edit(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def decided(choice: str) -> list[str]:
    names = [f'train-s{index:02d}' for index in range(12)]
    return [name for name, own in zip(names, CHOICES) if own == choice]


def test_apply_and_undo(data, candidates, run):
    before = contents(data)
    dry = run('apply', data, candidates, '--dry-run')
    assert dry.returncode == 0, dry.stderr
    assert dry.stdout.splitlines() == [
        'reviewed   12 images', 'a better   4 (baseline)', 'b better   5 (distilled)', 'label best 2', 'skipped    1',
        'replaced   9 labels (4 + 5)', 'dry run: nothing was changed']
    assert contents(data) == before
    assert run('apply', data, candidates, '--by', 'me').stdout.splitlines() == dry.stdout.splitlines()[:-1]
    after = contents(data)
    replaced = {name: letter for letter in 'ab' for name in decided(letter)}
    for item in read_manifest(data)['items']:
        name = item['id']
        letter = replaced.get(name)
        wanted = before[f'masks/{name}.png'] if letter is None else (
            candidates / f'predictions/{letter}/{name}.png').read_bytes()
        assert after[f'masks/{name}.png'] == wanted
        assert item['pixels'] == np.bincount(read_mask(data / item['mask']).ravel(), minlength=256)[:6].tolist()
    rows = read_ledger(data)
    assert {row.sample_id: row.decision for row in rows} == replaced
    assert {(row.split, row.by, row.decided, row.candidates_sha256) for row in rows} == {
        ('train', 'me', '2026-01-02T03:04:05Z', sha256_of(candidates / 'candidates.json'))}
    first = next(row for row in rows if row.sample_id == 'train-s00')
    assert (first.note, first.model, first.checkpoint) == ('note 0', 'baseline', 'best.pth')
    assert first.checkpoint_sha256 == 'a'
    assert read_manifest(data)['corrections'] == {
        'replaced': 9, 'ledger_sha256': sha256_of(data / 'corrections/ledger.jsonl')}
    masks = original_masks(data)
    assert masks.keys() == replaced.keys()
    assert all(path.read_bytes() == before[f'masks/{name}.png'] for name, path in masks.items())
    assert not check_prepared(data).problems and not verify_corrections(data)
    done = run('verify', data)
    assert done.returncode == 0 and done.stdout.endswith(': 9 corrected labels, every byte as the ledger says\n')

    again = run('apply', data, candidates)  # a second time changes nothing
    assert again.stdout.splitlines() == [*dry.stdout.splitlines()[:5], 'replaced   0 labels (0 + 0)',
                                         '           9 more were replaced before']
    assert contents(data) == after
    assert 'would put 9 original labels back' in run('undo', data, '--dry-run').stdout and contents(data) == after
    assert run('undo', data, '--ids', 'train-s00', 'train-s05').returncode == 0
    assert read_manifest(data)['corrections']['replaced'] == 7 and not verify_corrections(data)
    assert (data / 'masks/train-s05.png').read_bytes() == before['masks/train-s05.png']
    assert not check_prepared(data).problems
    done = run('undo', data)
    assert done.stdout == f'put 7 original labels back into {data}\n'
    assert contents(data) == before and sorted(p.name for p in data.iterdir()) == ['images', 'manifest.json', 'masks']
    nothing = run('undo', data)
    assert nothing.returncode == 2 and nothing.stderr.endswith('no label was corrected, nothing to undo\n')
    assert run('verify', data).returncode == 0


def test_a_copy_can_be_corrected_instead(data, candidates, tmp_path, run):
    before = contents(data)
    done = run('apply', data, candidates, '--out', tmp_path / 'copy')
    assert done.returncode == 0 and 'replaced   9 labels' in done.stdout, done.stderr
    assert contents(data) == before and not verify_corrections(tmp_path / 'copy')
    assert not check_prepared(tmp_path / 'copy').problems
    links = list((tmp_path / 'copy/images').iterdir())
    assert all(path.is_symlink() and not os.path.isabs(os.readlink(path)) for path in links)
    refused = run('apply', data, candidates, '--out', tmp_path / 'copy')
    assert refused.returncode == 2 and '--overwrite replaces it' in refused.stderr
    assert run('apply', data, candidates, '--out', tmp_path / 'copy', '--overwrite').returncode == 0
    undo_corrections(tmp_path / 'copy')
    assert contents(tmp_path / 'copy') == before
    (data / 'masks/train-s00.png').write_bytes(b'x')
    refused = run('apply', data, candidates, '--out', tmp_path / 'other')
    assert f'error: {tmp_path}/other/masks/train-s00.png: changed: SHA-256' in refused.stderr
    assert not (tmp_path / 'other').exists()


def test_a_test_split_is_refused(data, candidates, run):
    before = contents(data)
    edit(candidates / 'candidates.json', lambda c: c['items'][0].update(
        sample_id='test-s00', mask='masks/test-s00.png',
        mask_sha256=sha256_of(data / 'masks/test-s00.png')))  # and the split still says train
    append_decision(candidates / 'decisions.csv', Decision('train-s00', ''))
    append_decision(candidates / 'decisions.csv', Decision('test-s00', 'a'))
    done = run('apply', data, candidates)
    assert done.returncode == 2
    assert '(test-s00): belongs to the test split, whose labels are never corrected' in done.stderr
    assert contents(data) == before
    with pytest.raises(UserError, match='--split test: labels of a test split are never corrected'):
        find_candidates(data, members_of('c.py', ['a.pth', 'b.pth']), data.parent / 'out', splits=('val', 'test'))
    assert not (data.parent / 'out').exists()


@pytest.mark.parametrize('damage, message', [
    (lambda data, folder: (data / 'masks/train-s01.png').write_bytes(b'x'), r'masks/train-s01\.png: changed'),
    (lambda data, folder: (folder / 'predictions/a/train-s01.png').write_bytes(b'x'),
     r'predictions/a/train-s01\.png: has changed since the candidates were made'),
    (lambda data, folder: (folder / 'predictions/a/train-s01.png').unlink(), 'no such file'),
    (lambda data, folder: edit(folder / 'candidates.json', lambda c: c['items'][1].update(mask_sha256='0' * 64)),
     'replaced since the candidates were made'),
    (lambda data, folder: edit(folder / 'candidates.json', lambda c: c['items'][1]['predictions'].update(
        a='../data/masks/train-s02.png')), 'refused: expected a path inside'),
    (lambda data, folder: edit(folder / 'candidates.json', lambda c: c['items'].pop(1)), 'not among the candidates'),
    (lambda data, folder: edit(folder / 'candidates.json', lambda c: c.update(version=2)), 'expected 1, found 2'),
    (lambda data, folder: edit(folder / 'candidates.json', lambda c: c['items'][1].pop('mask')), r"\['mask'\] are"),
    (lambda data, folder: edit(folder / 'candidates.json', lambda c: c['models'][1].pop('checkpoint')),
     r"models\[1\]: keys \['checkpoint'\] are missing"),
    (lambda data, folder: edit(folder / 'candidates.json', lambda c: c['models'][1].update(sha256=7)),
     r'models\[1\]: sha256: expected a text, found 7'),
    (lambda data, folder: edit(folder / 'candidates.json', lambda c: c.update(items={})), 'items: expected a list'),
    (lambda data, folder: edit(folder / 'candidates.json', lambda c: c.update(taxonomy='village')),
     'of other classes than'),
    (lambda data, folder: append_decision(folder / 'decisions.csv', Decision('train-s01', 'c')), "found 'c'"),
])
def test_nothing_is_changed_when_anything_is_wrong(data, candidates, damage, message):
    damage(data, candidates)
    before = contents(data)
    with pytest.raises(UserError, match=message):
        apply_decisions(data, candidates)
    assert contents(data) == before


def test_what_verify_finds(data, candidates, run):
    apply_decisions(data, candidates)
    good = contents(data)
    original = next((data / 'corrections/originals').iterdir())
    ledger, mask = data / 'corrections/ledger.jsonl', data / 'masks/train-s00.png'
    lines = ledger.read_text().splitlines(keepends=True)
    for damage, message in (
        (lambda: mask.write_bytes(good['masks/train-s11.png']), 'masks/train-s00.png: expected SHA-256'),
        (lambda: (data / 'masks/test-s00.png').write_bytes(b''), 'masks/test-s00.png: expected SHA-256'),
        (original.unlink, f'{original.name}: missing'),
        (lambda: original.write_bytes(b''), f'{original.name}: expected SHA-256'),
        (lambda: (original.parent / 'new.png').write_bytes(b''), 'the ledger does not know it'),
        (lambda: ledger.write_text(''.join(lines[1:])), 'corrections.replaced: expected 8, found 9'),
        (lambda: ledger.write_text(''.join(lines) + 'x\n'), 'line 10: not a row of a ledger'),
        (lambda: ledger.write_text(''.join(lines).replace('"note 1"', '"other"')), 'ledger_sha256: expected'),
        (lambda: edit(data / 'manifest.json', lambda c: c.pop('corrections')), 'the ledger has 9 rows'),
        (ledger.unlink, 'the ledger has 0 rows'),
    ):
        damage()
        assert any(message in problem for problem in verify_corrections(data)), message
        for path in data.rglob('*'):
            if path.is_file() and str(path.relative_to(data)) not in good:
                path.unlink()
        for name, content in good.items():
            (data / name).write_bytes(content)
        assert not verify_corrections(data)
    mask.write_bytes(b'')
    done = run('verify', data)
    assert done.returncode == 2 and 'masks/train-s00.png: expected SHA-256' in done.stdout
    assert done.stderr == f'error: {data}: 1 problems\n'
    with pytest.raises(UserError, match='changed: the ledger says'):
        undo_corrections(data)


def test_corrections_and_filters_do_not_disturb_each_other(data, candidates):
    before = contents(data)
    apply_decisions(data, candidates)
    corrected = contents(data)
    shares = filter_class(data, 'Settlement', 0.17)
    gone = [name for name in shares.removed if name in original_masks(data)]
    assert gone and not verify_corrections(data) and not check_prepared(data).problems
    with pytest.raises(UserError, match='was moved to filtered/1: undo that filter first'):
        undo_corrections(data)
    left = sorted(set(original_masks(data)) - set(gone))
    undo_corrections(data, left)
    assert not verify_corrections(data) and not check_prepared(data).problems
    undo_filter(data)
    undo_corrections(data)
    assert contents(data) == before

    filter_class(data, 'Settlement', 0.17)
    result = apply_decisions(data, candidates)
    assert result.not_found and result.total + len(result.not_found) == 9
    undo_filter(data)
    apply_decisions(data, candidates)
    assert read_manifest(data)['items'] == json.loads(corrected['manifest.json'])['items']
    undo_corrections(data)
    assert contents(data) == before


def test_a_second_correction_and_the_way_back(data, candidates):
    before = contents(data)
    apply_decisions(data, candidates)
    second = candidates.with_name('second')
    shutil.copytree(candidates, second)
    digest = sha256_of(data / 'masks/train-s00.png')
    edit(second / 'candidates.json', lambda c: c['items'][0].update(mask_sha256=digest))
    (second / 'decisions.csv').unlink()
    append_decision(second / 'decisions.csv', Decision('train-s00', 'b'))
    apply_decisions(data, second)
    assert [row.decision for row in read_ledger(data) if row.sample_id == 'train-s00'] == ['a', 'b']
    assert read_manifest(data)['corrections']['replaced'] == 9 and not verify_corrections(data)
    assert original_masks(data)['train-s00'].read_bytes() == before['masks/train-s00.png']
    undo_corrections(data)
    assert contents(data) == before


def test_the_data_set_reads_both_versions(data, candidates):
    pipeline = [dict(type='LoadRasterImage'), dict(type='LoadIndexMask')]

    def labels(version: str) -> dict[str, np.ndarray]:
        dataset = LandCoverDataset(data, 'train', pipeline, labels_version=version)
        return {dataset[i]['sample_id']: dataset[i]['gt_seg_map'] for i in range(len(dataset))}

    before = labels('current')
    apply_decisions(data, candidates)
    after, original = labels('current'), labels('original')
    assert all((original[name] == before[name]).all() for name in before)
    assert sorted(name for name in before if (after[name] != before[name]).any()) == sorted(original_masks(data))
    with pytest.raises(UserError, match='labels_version: expected one of'):
        LandCoverDataset(data, 'train', pipeline, labels_version='old')
    with pytest.raises(UserError, match='only prepared data have a ledger'):
        LandCoverDataset(data.parent / 'source', 'train', pipeline, layout='folder', labels_version='original')


MOMENTS = ['before_fsync:plan.json', 'before_rename:plan.json', 'before_rename:*train-s04.png',
           'before_step:train-s00.png', 'before_step:train-s04.png', 'before_step:ledger.jsonl',
           'before_step:manifest.json', 'before_end:plan.json', 'after_end:plan.json']


@pytest.mark.parametrize('moment', MOMENTS)
def test_killed_at_a_moment(data, candidates, moment, run, killed):
    before = contents(data)
    assert killed(apply_decisions, data, candidates, moment=moment) == -signal.SIGKILL
    began = (data / FOLDER / 'plan.json').exists()
    assert began == (moment.startswith('before_step') or moment == 'before_end:plan.json')
    if began:
        assert 'a correction was interrupted' in run('verify', data).stdout
        for refusing in (('apply', data, candidates, '--dry-run'), ('undo', data, '--dry-run')):
            done = run(*refusing)
            assert done.returncode == 2 and 'was interrupted' in done.stderr
    apply_decisions(data, candidates)
    assert not verify_corrections(data) and not check_prepared(data).problems and len(read_ledger(data)) == 9
    after = contents(data)
    assert killed(undo_corrections, data, moment=moment) in (-signal.SIGKILL, 0)
    recover(data)
    assert contents(data) in (before, after)
    if contents(data) == after:
        undo_corrections(data)
    assert contents(data) == before


def test_a_full_disk_changes_nothing(data, candidates, run, monkeypatch):
    before = contents(data)
    monkeypatch.setenv('TERRACE_FAIL_POINT', 'before_rename:*train-s04.png:full')
    done = run('apply', data, candidates)
    assert done.returncode == 2 and 'No space left' in done.stderr and contents(data) == before


def test_killed_at_random(data, candidates, killed):
    before = contents(data)
    begin = time.monotonic()
    apply_decisions(data, candidates, by='')
    duration = time.monotonic() - begin
    after = contents(data).keys()
    undo_corrections(data)
    generator = random.Random(0)
    ended = set()
    for _ in range(12):
        killed(apply_decisions, data, candidates, seconds=generator.uniform(0, 1.2 * duration))
        recover(data)
        if contents(data) == before:
            ended.add('before')
        else:
            ended.add('after')
            assert contents(data).keys() == after and not verify_corrections(data) and not check_prepared(data).problems
            undo_corrections(data)
            assert contents(data) == before
    assert ended


def test_thresholds_and_score():
    label = np.array([[0, 0, 1, 1, 255]], np.uint8)
    probabilities = np.array([[[0.9, 0.7, 0.4, 0.9, 0.5]], [[0.1, 0.3, 0.6, 0.1, 0.5]]], np.float32)
    learning = ConfidentLearning(3)
    with_third = np.concatenate([probabilities, np.zeros_like(probabilities[:1])])
    learning.update(label, with_third)
    np.testing.assert_allclose(learning.thresholds, [0.8, 0.35, np.inf], atol=1e-6)
    # Pixel 3 is labelled 1, and class 0 is above its threshold there (0.9 >= 0.8): error 0.9 - 0.1, of 4 labelled.
    assert learning.score(label, with_third) == pytest.approx(0.8 / 4)
    learning.update(label, np.flip(with_third, 0), in_sample=True)  # counts only where no other image has the class
    np.testing.assert_allclose(learning.thresholds, [0.8, 0.35, np.inf], atol=1e-6)
    assert learning.score(np.full((1, 5), 255, np.uint8), with_third) == 0


def test_ranking_finds_swapped_labels():
    """Ten of a hundred images with two classes exchanged, a model that is right on 7 pixels of 10: all ten first."""
    generator = np.random.default_rng(0)
    items, labels, probabilities = [], {}, {}
    wrong = set(generator.choice(100, 10, replace=False).tolist())
    for index in range(100):
        truth = generator.integers(0, 6, (8, 8)).repeat(4, 0).repeat(4, 1)
        seen = np.where(generator.random(truth.shape) < 0.7, truth, generator.integers(0, 6, truth.shape))
        logits = generator.normal(0, 1, (6, 32, 32))
        np.put_along_axis(logits, seen[None], np.take_along_axis(logits, seen[None], 0) + 2, 0)
        exp = np.exp(logits)
        name = f's{index:03d}'
        swapped = np.choose(truth, [0, 2, 1, 3, 4, 5]) if index in wrong else truth
        items.append({'id': name, 'split': 'val' if index % 3 == 0 else 'train'})
        labels[name], probabilities[name] = swapped.astype(np.uint8), (exp / exp.sum(0)).astype(np.float32)
    scores = rank(items, 6, lambda name: (labels[name], probabilities[name]))
    first = sorted(scores, key=lambda name: -scores[name])[:10]
    assert {int(name[1:]) for name in first} == wrong


def test_models_of_a_command_line():
    members = members_of('c.py', ['runs/x/1.pth', 'runs/x/2.pth', 'runs/y/1.pth'], ['c=other.py'])
    assert [(m.config, m.name) for m in members] == [('c.py', 'x-a'), ('c.py', 'x-b'), ('other.py', 'y')]
    with pytest.raises(UserError, match='--config-of'):
        members_of('c.py', ['1.pth', '2.pth'], ['c=other.py'])
    with pytest.raises(UserError, match='--names'):
        members_of('c.py', ['1.pth', '2.pth'], names=['one', 'one'])
