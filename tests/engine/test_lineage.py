"""What a run writes about itself: from the first start to the last test, and across kills."""

import hashlib
import json
import logging
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config

from projects.engine import lineage as module
from projects.engine.checkpoints import read_checkpoint
from projects.engine.energy import EnergyMeter
from projects.engine.errors import UserError
from projects.engine.files import write_json
from projects.engine.lineage import LineageHook
from projects.engine.lineage_record import (
    code_record,
    foreign_test,
    lineage_of_checkpoint,
    read_lineage,
    scrub,
    text_sha256,
)

CONTRACT = {'version', 'run_id', 'name', 'task', 'chain', 'stage', 'tags', 'config', 'code', 'data', 'files', 'parents',
            'seed', 'versions', 'hardware', 'starts', 'checkpoints', 'past_checkpoints', 'metrics'}
START = {'started', 'ended', 'from_iteration', 'to_iteration', 'status', 'reason', 'seconds', 'peak_memory_mib',
         'gpu_memory_mib', 'energy_wh', 'commit', 'config_sha256', 'data_sha256', 'changed'}


@pytest.fixture
def data(tmp_path):
    """A prepared data set, as far as its manifest goes."""
    root = tmp_path / 'data' / 'village'
    root.mkdir(parents=True)
    (root / 'manifest.json').write_text(json.dumps({
        'taxonomy': {'taxonomy_hash': 'ab' * 32},
        'items': [{'split': split} for split in ('train', 'train', 'val')]}))
    return root


@pytest.fixture
def make_runner(tmp_path, data, caplog):
    """Runners as the hook sees them."""
    caplog.set_level(logging.INFO)

    def make(name='run', iteration=0, resume=False, load_from=None, **keys):
        loader = dict(dataset=dict(type='Any', data_root=str(data), split='train'))
        config = Config(dict(
            work_dir=str(tmp_path / name), resume=resume, load_from=load_from, launcher='none',
            **{'model': dict(type='EncoderDecoder'), 'train_dataloader': loader, 'val_dataloader': loader, **keys}),
            cfg_text='text', filename=str(tmp_path / 'configs/landcover/tiny_s1-pretrain_village.py'))
        (tmp_path / name).mkdir(exist_ok=True)
        return SimpleNamespace(cfg=config, work_dir=str(tmp_path / name), seed=7, hooks=[], iter=iteration,
                               _resume=resume, _load_from=load_from, logger=logging.getLogger('lineage'))

    return make


def save(path: Path, meta=None, value: float = 1.0) -> str:
    torch.save({'state_dict': {'w': torch.tensor([value])}, 'meta': meta or {}}, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_start_says_what_it_was_made_from(make_runner, data, monkeypatch, tmp_path):
    monkeypatch.setenv('HOME', str(tmp_path))
    runner = make_runner(experiment=dict(tags=['first']))
    LineageHook().before_train(runner)
    record = read_lineage(runner.work_dir)
    assert set(record) == CONTRACT
    assert (record['task'], record['chain'], record['stage'], record['seed']) == (
        'landcover', 'tiny_village', 'pretrain', 7)
    assert record['name'] == 'tiny_s1-pretrain_village' and record['tags'] == ['first']
    assert record['run_id'] == (Path(runner.work_dir) / 'run_id').read_text().strip()
    assert record['config']['file'] == 'tiny_s1-pretrain_village.py'
    assert record['config']['sha256'] == text_sha256(record['config']['text'])
    assert "'~/data/village'" in record['config']['text'] and str(tmp_path) not in json.dumps(record)
    assert all(f'{key} =' not in record['config']['text'] for key in ('work_dir', 'resume', 'load_from', 'launcher'))
    assert record['data'] == [{
        'name': 'village', 'root': '~/data/village', 'source': None, 'manifest': 'manifest.json',
        'sha256': hashlib.sha256((data / 'manifest.json').read_bytes()).hexdigest(),
        'splits': {'train': 2, 'val': 1}, 'taxonomy_hash': 'ab' * 32}]
    assert record['versions']['torch'] == torch.__version__ and record['hardware']['processes'] == 1
    (start,) = record['starts']
    assert set(start) == START
    assert (start['from_iteration'], start['status'], start['ended'], start['reason']) == (0, 'running', None, None)


def test_a_data_set_without_a_manifest_is_named_without_a_hash(make_runner, data):
    (data / 'manifest.json').unlink()
    runner = make_runner()
    LineageHook().before_train(runner)
    assert read_lineage(runner.work_dir)['data'] == [{
        'name': 'village', 'root': str(data), 'source': None, 'manifest': None, 'sha256': None,
        'splits': {}, 'taxonomy_hash': None}]


def test_the_hooks_that_the_runner_appends_do_not_change_the_config(make_runner):
    ema, other = dict(type='EMAHook', momentum=0.1), dict(type='Other')
    before = make_runner(ema=ema, custom_hooks=[other])
    after = make_runner(ema=ema, custom_hooks=[other, ema], compile=False, channels_last=True)
    after.cfg.work_dir = '/elsewhere'
    assert module.config_record(before.cfg) == module.config_record(after.cfg)
    assert module.config_record(before.cfg)['sha256'] != module.config_record(make_runner(ema=ema).cfg)['sha256']


def test_a_killed_start_is_closed_by_the_next_one(make_runner, tmp_path):
    parent = tmp_path / 'parent.pth'
    save(parent)
    first = LineageHook()
    runner = make_runner(load_from=str(parent))
    first.before_train(runner)
    runner.iter = 20
    checkpoint = tmp_path / 'run/iter_20.pth'
    save(checkpoint)
    first.after_checkpoint(runner, path=checkpoint, aliases=('last',), step=20, metrics=None)
    before = read_lineage(runner.work_dir)
    assert before['starts'][0]['to_iteration'] == 20 and before['starts'][0]['status'] == 'running'

    runner = make_runner(iteration=20, resume=True, load_from=str(checkpoint))  # killed: no on_exit
    second = LineageHook()
    second.before_train(runner)
    runner.iter = 35
    second.on_exit(runner, status='preempted', reason='Preempted: SIGTERM\nat once')
    after = read_lineage(runner.work_dir)
    assert [(start['status'], start['reason']) for start in after['starts']] == [
        ('failed', 'killed'), ('preempted', 'Preempted: SIGTERM at once')]
    assert [(start['from_iteration'], start['to_iteration']) for start in after['starts']] == [(0, 20), (20, 35)]
    assert after['starts'][0]['ended'] is None and after['starts'][1]['ended'].endswith('+00:00')
    assert after['starts'][1]['peak_memory_mib'] > 1
    assert after['parents'] == before['parents'] and after['parents'][0]['file'] == 'parent.pth'
    assert after['run_id'] == before['run_id'] and after['config'] == before['config']
    assert set(after['checkpoints']) == {'iter_20.pth'}


def test_checkpoints_have_hashes_and_the_newest_bears_the_alias(make_runner, tmp_path):
    hook, runner = LineageHook(), make_runner()
    hook.before_train(runner)
    hashes = {}
    for step, name, alias, metrics in (
            (10, 'iter_10.pth', 'last', None), (10, 'best_val_mIoU_iter_10.pth', 'best', {'val/mIoU': 0.4, 'x': 'a'}),
            (20, 'iter_20.pth', 'last', None),
            (20, 'best_val_mIoU_iter_20.pth', 'best', {'val/mIoU': torch.tensor(0.5)}),
            (20, 'best_OA_iter_20.pth', 'best', {'OA': 0.9})):
        path = tmp_path / 'run' / name
        hashes[name] = save(path, value=step)
        hook.after_checkpoint(runner, path=path, aliases=(alias,), step=step, metrics=metrics)
    found = read_lineage(runner.work_dir)['checkpoints']
    assert {name: entry['sha256'] for name, entry in found.items()} == hashes
    assert {name: entry['aliases'] for name, entry in found.items()} == {
        'iter_10.pth': [], 'best_val_mIoU_iter_10.pth': [], 'iter_20.pth': ['last'],
        'best_val_mIoU_iter_20.pth': ['best'], 'best_OA_iter_20.pth': ['best']}
    assert found['best_val_mIoU_iter_10.pth']['metrics'] == {'val/mIoU': 0.4} and found['iter_20.pth']['step'] == 20
    assert read_lineage(runner.work_dir)['metrics']['best'] == {'val/mIoU': 0.5, 'step': 20}
    (tmp_path / 'run/iter_10.pth').unlink()
    runner.iter = 30
    hook.after_val_epoch(runner, metrics={'mIoU': 0.25, 'IoU/none': float('nan')})
    record = read_lineage(runner.work_dir)
    assert 'iter_10.pth' not in record['checkpoints'] and len(record['checkpoints']) == 4
    assert record['metrics']['val'] == {'mIoU': 0.25, 'IoU/none': None, 'step': 30}


def test_a_checkpoint_carries_the_short_form(make_runner, tmp_path):
    hook, runner = LineageHook(), make_runner()
    hook.before_train(runner)
    checkpoint = {'state_dict': {'w': torch.ones(1)}, 'meta': {}}
    hook.before_save_checkpoint(runner, checkpoint)
    torch.save(checkpoint, tmp_path / 'a.pth')
    record = read_lineage(runner.work_dir)
    assert read_checkpoint(tmp_path / 'a.pth')['meta']['lineage'] == {
        **{key: record[key] for key in ('run_id', 'name', 'task', 'chain', 'stage')},
        'config_sha256': record['config']['sha256']}


def test_a_test_in_its_own_directory_is_a_record_without_a_start(make_runner, tmp_path):
    hook, runner = LineageHook(), make_runner()
    hook.before_train(runner)
    path = tmp_path / 'run/iter_10.pth'
    sha256 = save(path)
    hook.after_checkpoint(runner, path=path, aliases=('last',), step=10, metrics=None)
    for _ in range(2):  # the second one does not nest the first
        tester = make_runner('scores', load_from=str(path))
        LineageHook().after_test_epoch(tester, metrics={'mIoU': 0.5})
        record = read_lineage(tester.work_dir)
        assert record['starts'] == [] and record['metrics']['test'] == {'mIoU': 0.5}
        assert record['metrics']['tested'] == {'file': 'iter_10.pth', 'sha256': sha256}
        (parent,) = record['parents']
        assert (parent['role'], parent['path'], parent['sha256']) == ('load_from', '../run/iter_10.pth', sha256)
        assert parent['lineage'] == read_lineage(runner.work_dir)


def test_a_test_in_the_runs_directory_extends_its_record_while_it_trains(make_runner, tmp_path):
    hook, runner = LineageHook(), make_runner()
    hook.before_train(runner)
    path = tmp_path / 'run/iter_10.pth'
    save(path)
    LineageHook().after_test_epoch(make_runner(load_from=str(path)), metrics={'mIoU': 0.5})
    hook.on_exit(runner, status='finished')
    record = read_lineage(runner.work_dir)
    assert record['metrics']['test'] == {'mIoU': 0.5} and record['parents'] == []
    assert [start['status'] for start in record['starts']] == ['finished']


def test_parents_are_found_in_the_config_and_know_their_own(make_runner, tmp_path):
    hook, teacher = LineageHook(), make_runner('teacher')
    hook.before_train(teacher)
    taught = tmp_path / 'teacher/best_mIoU_iter_5.pth'
    save(taught)
    hook.after_checkpoint(teacher, path=taught, aliases=('best',), step=5, metrics={'mIoU': 0.1})
    bare, told = tmp_path / 'bare.pth', tmp_path / 'told.pth'
    save(bare)
    save(told, {'seed': 3, 'cfg': 'a = 1', 'lineage': {'run_id': 'abcdefgh', 'stage': 'x', 'config_sha256': '12'}})
    runner = make_runner('child', load_from=str(told), teacher=dict(config='t.py', checkpoint=str(taught)), model=dict(
        type='EncoderDecoder', init_cfg=dict(type='PretrainedFile', checkpoint=str(bare)),
        auxiliary=[dict(checkpoint=None), dict(checkpoint='/nothing.pth')]))
    LineageHook().before_train(runner)
    found = {parent['role']: parent for parent in read_lineage(runner.work_dir)['parents']}
    assert {role: parent['path'] for role, parent in found.items()} == {
        'load_from': '../told.pth', 'teacher': '../teacher/best_mIoU_iter_5.pth', 'initialise': '../bare.pth'}
    assert found['teacher']['lineage']['metrics']['best'] == {'mIoU': 0.1, 'step': 5}
    assert found['initialise']['lineage'] is None
    minimal = found['load_from']['lineage']
    assert minimal['minimal'] and minimal['run_id'] == 'abcdefgh' and minimal['config'] == {
        'file': None, 'text': 'a = 1', 'sha256': '12'}


def test_the_lineage_beside_another_file_is_not_taken(make_runner, tmp_path):
    hook, runner = LineageHook(), make_runner()
    hook.before_train(runner)
    foreign = tmp_path / 'run/foreign.pth'
    save(foreign)
    assert lineage_of_checkpoint(foreign) is None
    own = tmp_path / 'run/iter_3.pth'  # killed before its hash was recorded
    save(own, {'lineage': module.lineage_meta(runner)})
    assert lineage_of_checkpoint(own) == read_lineage(runner.work_dir)


def test_a_run_that_goes_on_elsewhere_has_a_parent(make_runner, tmp_path):
    path = tmp_path / 'iter_5.pth'
    save(path)
    runner = make_runner(resume=True, load_from=str(path), iteration=5)
    LineageHook().before_train(runner)
    assert [parent['role'] for parent in read_lineage(runner.work_dir)['parents']] == ['resume']


def test_the_report_of_an_initialisation_stands_beside_the_parent(make_runner, tmp_path):
    path = tmp_path / 'a.pth'
    save(path)
    runner = make_runner(initialise=dict(checkpoint=str(path)))
    runner.hooks = [SimpleNamespace(initialisation={'checkpoint': str(path), 'matched': 3})]
    LineageHook().before_train(runner)
    assert read_lineage(runner.work_dir)['parents'][0]['report'] == {'matched': 3}


def test_a_failure_is_logged_and_ends_nothing(make_runner, tmp_path, caplog):
    hook, runner = LineageHook(), make_runner()
    hook.before_train(runner)
    (tmp_path / 'run/lineage.json').unlink()
    (tmp_path / 'run/lineage.json').mkdir()
    hook.after_val_epoch(runner, metrics={'mIoU': 0.1})
    hook.on_exit(runner, status='finished')
    assert [record.getMessage() for record in caplog.records if 'lineage.json: not written' in record.getMessage()]


def test_a_damaged_record_is_kept_aside(make_runner, tmp_path, caplog):
    runner = make_runner()
    (tmp_path / 'run/lineage.json').write_text('{"version": 1, "starts"')
    LineageHook().before_train(runner)
    assert len(read_lineage(runner.work_dir)['starts']) == 1
    assert (tmp_path / 'run/lineage.damaged.json').read_text() == '{"version": 1, "starts"'
    assert 'not readable as JSON' in caplog.text


def test_other_ranks_write_nothing(make_runner, tmp_path, monkeypatch):
    monkeypatch.setattr(module, 'is_main_process', lambda: False)
    hook, runner = LineageHook(), make_runner()
    hook.before_train(runner)
    hook.after_val_epoch(runner, metrics={})
    hook.on_exit(runner, status='finished')
    assert list((tmp_path / 'run').iterdir()) == []


@pytest.mark.parametrize('text, problem', [
    ('[]', 'expected 1, found .list'), ('{"version": 2}', 'expected 1, found 2'),
    ('{"version": 1, "run_id": 3}', 'key run_id: expected str, found int')])
def test_a_file_that_is_no_lineage_is_named(tmp_path, text, problem):
    (tmp_path / 'lineage.json').write_text(text)
    with pytest.raises(UserError, match=f'lineage.json: .*{problem}'):
        read_lineage(tmp_path)


def test_code_is_a_commit_and_what_was_changed_since(tmp_path):
    root = tmp_path / 'checkout'
    (root / 'projects').mkdir(parents=True)
    nothing = {'commit': None, 'dirty': None, 'diff_sha256': None}

    def git(*arguments):
        return subprocess.run(['git', '-C', str(root), '-c', 'user.name=n', '-c', 'user.email=e', *arguments],
                              check=True, capture_output=True).stdout

    assert code_record(root) == nothing
    git('init', '-q')
    (root / 'projects/a.py').write_text('a = 1\n')
    git('add', '.')
    git('commit', '-q', '-m', 'first')
    commit = git('rev-parse', 'HEAD').decode().strip()
    assert code_record(root) == {'commit': commit, 'dirty': False, 'diff_sha256': None}
    (root / 'notes.txt').write_text('no code')
    assert code_record(root)['dirty'] is False
    (root / 'projects/b.py').write_text('b = 1\n')
    assert code_record(root) == {'commit': commit, 'dirty': True, 'diff_sha256': None}
    (root / 'projects/a.py').write_text('a = 2\n')
    changed = code_record(root)
    assert changed['diff_sha256'] == hashlib.sha256(git('diff', 'HEAD', '--binary')).hexdigest()
    assert code_record(root / 'projects') == nothing  # installed below another repository


def test_energy_counts_over_a_wrap_and_is_unknown_without_a_counter(tmp_path):
    assert EnergyMeter(powercap=tmp_path).watt_hours() is None
    zone = tmp_path / 'intel-rapl:0'
    zone.mkdir()
    (zone / 'max_energy_range_uj').write_text('10000000000\n')
    (zone / 'energy_uj').write_text('9000000000\n')
    (tmp_path / 'intel-rapl:0:0').mkdir()  # the cores alone: part of the package
    meter = EnergyMeter(powercap=tmp_path)
    (zone / 'energy_uj').write_text('2600000000\n')  # 1000 J to the end and 2600 J after it
    assert meter.watt_hours() == 1.0
    (zone / 'energy_uj').write_text('6200000000\n')
    assert meter.watt_hours() == 2.0
    meter.close()


def test_a_test_before_the_training_is_not_the_runs_own(make_runner, tmp_path):
    foreign = tmp_path / 'foreign.pth'
    save(foreign, value=9.0)
    LineageHook().after_test_epoch(make_runner(load_from=str(foreign)), metrics={'mIoU': 0.9})
    (tmp_path / 'run/evaluation/test').mkdir(parents=True)
    old = (tmp_path / 'run/run_id').read_text().strip()
    (tmp_path / 'run/run_id').unlink()  # as a training does that begins anew
    LineageHook().before_train(make_runner())
    record = read_lineage(tmp_path / 'run')
    assert record['run_id'] != old and record['metrics'] == {} and len(record['starts']) == 1
    assert json.loads((tmp_path / f'run/lineage.{old}.json').read_text())['metrics']['test'] == {'mIoU': 0.9}
    assert (tmp_path / f'run/evaluation.{old}/test').is_dir() and not (tmp_path / 'run/evaluation').exists()


@pytest.mark.parametrize('same_id', [False, True])
def test_a_run_trained_anew_drops_the_score_of_the_one_before(make_runner, tmp_path, same_id):
    for number in range(2):
        hook, runner = LineageHook(), make_runner()
        hook.before_train(runner)
        path = tmp_path / 'run/iter_10.pth'
        save(path, value=number)
        hook.after_checkpoint(runner, path=path, aliases=('last',), step=10, metrics=None)
        hook.on_exit(runner, status='finished')
        record = read_lineage(tmp_path / 'run')
        assert record['metrics'] == {} and len(record['starts']) == (number + 1 if same_id else 1)
        LineageHook().after_test_epoch(make_runner(load_from=str(path)), metrics={'mIoU': 0.25})
        assert foreign_test(read_lineage(tmp_path / 'run')) is None
        path.unlink()
        if not same_id:
            (tmp_path / 'run/run_id').unlink()
    assert len(list((tmp_path / 'run').glob('lineage.*.json'))) == 1


def test_weights_of_another_run_are_named_and_deleted_own_ones_are_known(make_runner, tmp_path):
    hook, runner = LineageHook(), make_runner()
    hook.before_train(runner)
    own, late, foreign = (tmp_path / f'run/{name}.pth' for name in ('iter_10', 'iter_20', 'foreign'))
    sha256 = save(own)
    hook.after_checkpoint(runner, path=own, aliases=('last',), step=10, metrics=None)
    LineageHook().after_test_epoch(make_runner(load_from=str(own)), metrics={'mIoU': 0.5})
    own.unlink()
    hook.on_exit(runner, status='finished')
    record = read_lineage(tmp_path / 'run')
    assert record['checkpoints'] == {} and record['past_checkpoints'] == [sha256]
    assert record['metrics']['test'] == {'mIoU': 0.5} and foreign_test(record) is None
    save(late, {'lineage': module.lineage_meta(runner)}, value=2.0)  # killed before its hash was recorded
    LineageHook().after_test_epoch(make_runner(load_from=str(late)), metrics={'mIoU': 0.6})
    assert foreign_test(read_lineage(tmp_path / 'run')) is None
    save(foreign, value=3.0)
    LineageHook().after_test_epoch(make_runner(load_from=str(foreign)), metrics={'mIoU': 0.9})
    assert foreign_test(read_lineage(tmp_path / 'run')) == 'foreign.pth'


def test_a_resume_tells_what_was_changed_meanwhile(make_runner, data, caplog):
    LineageHook().before_train(make_runner(model=dict(type='EncoderDecoder', depth=3)))
    same = make_runner(resume=True, iteration=5, model=dict(type='EncoderDecoder', depth=3))
    LineageHook().before_train(same)
    assert 'changed' not in caplog.text
    manifest = data / 'manifest.json'
    before = hashlib.sha256(manifest.read_bytes()).hexdigest()
    manifest.write_text('{}')
    LineageHook().before_train(make_runner(resume=True, iteration=9, model=dict(type='EncoderDecoder', depth=4)))
    warning, = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.endswith('what has changed since its last start: config model.depth, data village')
    starts = read_lineage(same.work_dir)['starts']
    assert [start['changed'] for start in starts] == [[], [], ['config model.depth', 'data village']]
    assert [start['data_sha256'] for start in starts] == [
        [before], [before], [hashlib.sha256(manifest.read_bytes()).hexdigest()]]
    assert starts[0]['config_sha256'] == starts[1]['config_sha256'] != starts[2]['config_sha256']


def test_a_difficulty_file_belongs_to_what_was_trained_on(make_runner, tmp_path, caplog):
    difficulty = tmp_path / 'difficulty.json'
    difficulty.write_text('{}')
    digests = [hashlib.sha256(difficulty.read_bytes()).hexdigest()]
    loader = dict(sampler=dict(type='HardSampleSampler', difficulty=str(difficulty)))
    runner = make_runner(train_dataloader=loader)
    LineageHook().before_train(runner)
    LineageHook().before_train(make_runner(resume=True, iteration=2, train_dataloader=loader))
    difficulty.write_text('{"version": 1}')
    digests.append(hashlib.sha256(difficulty.read_bytes()).hexdigest())
    LineageHook().before_train(make_runner(resume=True, iteration=5, train_dataloader=loader))
    assert caplog.messages[-1].endswith('has changed since its last start: file difficulty.json')
    record = read_lineage(runner.work_dir)
    assert record['files'] == [{'role': 'difficulty', 'file': 'difficulty.json', 'path': str(difficulty),
                                'sha256': digests[1]}]
    assert [start['changed'] for start in record['starts']] == [[], [], ['file difficulty.json']]
    del record['files']  # of a version before
    write_json(Path(runner.work_dir) / 'lineage.json', record)
    LineageHook().before_train(make_runner(resume=True, iteration=7, train_dataloader=loader))
    record = read_lineage(runner.work_dir)
    assert record['starts'][-1]['changed'] == [] and len(record['files']) == 1
    difficulty.unlink()
    LineageHook().before_train(make_runner(resume=True, iteration=9, train_dataloader=loader))
    assert read_lineage(runner.work_dir)['starts'][-1]['changed'] == ['file difficulty.json']


def test_relative_paths_are_told_from_the_work_directory(make_runner, tmp_path, monkeypatch):
    folder = tmp_path / 'checkout'
    (folder / 'data/village').mkdir(parents=True)
    monkeypatch.chdir(folder)
    save(folder / 'weights.pth')
    runner = make_runner(load_from='weights.pth', train_dataloader=dict(dataset=dict(data_root='data/village')),
                         val_dataloader=None)
    LineageHook().before_train(runner)
    record = read_lineage(runner.work_dir)
    assert [data['root'] for data in record['data']] == ['../checkout/data/village']
    assert [parent['path'] for parent in record['parents']] == ['../checkout/weights.pth']


def test_a_folder_that_begins_like_the_home_is_not_the_home(monkeypatch):
    monkeypatch.setenv('HOME', '/root')
    assert scrub(['/tmp/rootfs/prepared', '/root/x', "root='/root/data'", '/rooted', '/x/root/y']) == [
        '/tmp/rootfs/prepared', '~/x', "root='~/data'", '/rooted', '/x/root/y']


@pytest.mark.parametrize('changes, problem', [
    ({'starts': [1]}, 'starts.0: expected dict, found 1'),
    ({'starts': [{'seconds': 'x'}]}, "starts.0.seconds: expected seconds, found 'x'"),
    ({'starts': [{'seconds': 1e300}]}, 'starts.0.seconds: expected seconds'),
    ({'starts': [{'energy_wh': float('nan')}]}, 'starts.0.energy_wh: expected a number, found nan'),
    ({'starts': [None]}, 'starts.0: expected a value, found null'),
    ({'checkpoints': {'a': 3}}, 'checkpoints.a: expected dict, found 3'),
    ({'checkpoints': {'a': {'aliases': [1]}}}, 'checkpoints.a.aliases.0: expected str, found 1'),
    ({'parents': [3]}, 'parents.0: expected dict, found 3'),
    ({'parents': [{'lineage': {'run_id': 4}}]}, 'parents.0.lineage.version: expected int'),
    ({'data': [{'splits': [1]}]}, r'data.0.splits: expected dict, found \[1\]'),
    ({'data': [{'splits': {'train': None}}]}, 'data.0.splits.train: expected a value'),
    ({'metrics': {'best': 3}}, 'metrics.best: expected dict, found 3'),
    ({'metrics': {'tested': {'sha256': []}}}, r'metrics.tested.sha256: expected str, found \[\]'),
    ({'hardware': 3}, 'hardware: expected dict, found 3'),
    ({'hardware': {'gpus': [None]}}, 'hardware.gpus.0: expected a value'),
    ({'config': {'text': 3}}, 'config.text: expected str, found 3')])
def test_an_edited_record_is_refused_by_the_key(make_runner, tmp_path, changes, problem):
    runner = make_runner()
    LineageHook().before_train(runner)
    path = tmp_path / 'run/lineage.json'
    record = json.loads(path.read_text())
    for nested in (False, True):
        edited = {**record, **changes}
        if nested:
            edited = {**record, 'parents': [{'role': 'teacher', 'lineage': edited}]}
        path.write_text(json.dumps(edited))
        with pytest.raises(UserError, match='parents.0.lineage.' + problem if nested else f'key {problem}') as error:
            read_lineage(tmp_path / 'run')
        assert '\n' not in str(error.value)


def test_a_resume_whose_record_was_lost_keeps_its_evaluations(make_runner, tmp_path):
    (tmp_path / 'run/evaluation/val').mkdir(parents=True)
    path = tmp_path / 'run/iter_5.pth'
    save(path)
    LineageHook().before_train(make_runner(resume=True, load_from=str(path), iteration=5))
    assert (tmp_path / 'run/evaluation/val').is_dir() and len(read_lineage(tmp_path / 'run')['starts']) == 1
