"""The hook's own part, at a real run of wandb and without a training."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.config import Config

from projects.engine.tracking.backend import TerraceWandbBackend
from projects.engine.tracking.hook import TrackingHook, backend_of
from projects.engine.tracking.offline import transcripts

OTHER = 'cd' * 32
LINEAGE = {
    'data': [{'name': 'village', 'root': '/data/village', 'manifest': 'manifest.json', 'sha256': 'ab' * 32,
              'splits': {'train': 6}, 'taxonomy_hash': 'x'}, {'name': 'unhashed', 'sha256': None}],
    'parents': [{'role': 'load_from', 'file': 'best_mIoU_iter_8.pth', 'sha256': OTHER,
                 'lineage': {'run_id': 'parent01', 'stage': 'pretrain'}}],
    'checkpoints': {'best_mIoU_iter_4.pth': {'sha256': 'ef' * 32}}}


@pytest.fixture
def runner(alone, monkeypatch, tmp_path):
    monkeypatch.setenv('WANDB_MODE', 'offline')
    work_dir = tmp_path / 'run'
    work_dir.mkdir()
    (work_dir / 'run_id').write_text('abcd1234\n')
    (work_dir / 'lineage.json').write_text(json.dumps(LINEAGE))
    backend = TerraceWandbBackend(str(work_dir / '20260101_000000' / 'vis_data'))
    backend.add_config(Config(dict(lr=0.1, experiment=dict(task='landcover', chain='c', stage='finetune', tags=[]))))
    yield SimpleNamespace(
        work_dir=str(work_dir), hooks=[], visualizer=SimpleNamespace(_vis_backends={'TerraceWandbBackend': backend}))
    backend.kept_open = False
    backend.close()


def of_kind(runner, kind: str) -> list:
    return [getattr(record, kind) for file in transcripts(runner.work_dir, 'abcd1234') for record in file.records
            if record.WhichOneof('record_type') == kind]


def test_parents_data_and_checkpoints_are_artifacts(runner, tmp_path):
    hook = TrackingHook(upload=True, code=False)
    hook.before_train(runner)
    for name, aliases, metrics in (('iter_4.pth', ('last',), None), ('best_mIoU_iter_4.pth', ('best',), {'mIoU': 0.5})):
        (Path(runner.work_dir) / name).write_bytes(b'weights')
        hook.after_checkpoint(runner, path=Path(runner.work_dir) / name, aliases=aliases, step=4, metrics=metrics)
    hook.after_checkpoint(runner, path=Path(runner.work_dir) / 'gone.pth', aliases=('last',), step=5, metrics=None)
    hook.on_exit(runner, 'finished', None)
    found = [(item.type, item.name, sorted(item.aliases), item.use_after_commit,
              [(entry.path, entry.ref[:12]) for entry in item.manifest.contents])
             for item in of_kind(runner, 'artifact')]
    assert found[:2] == [
        ('dataset', 'data-village', [], True, [('manifest.json', 'sha256:ababa')]),
        ('model', 'checkpoint-parent01', [], True, [('best_mIoU_iter_8.pth', 'sha256:cdcdc')])]
    last, best, uploaded = found[2:]
    assert last[:4] == ('model', 'checkpoint-abcd1234', ['finetune', 'last'], False)
    name = 'best_mIoU_iter_4.pth'
    assert best == ('model', 'checkpoint-abcd1234', ['best', 'finetune'], False, [(name, 'sha256:efefe')])
    assert uploaded == ('model', 'weights-abcd1234', ['best', 'finetune'], False, [(name, '')])
    summary = transcripts(runner.work_dir, 'abcd1234')[0].summary()
    assert (summary['best/iter'], summary['best/mIoU']) == (4, 0.5)


@pytest.mark.parametrize('status, code, preempting', [('finished', 0, 0), ('preempted', 1, 1), ('failed', 1, 0)])
def test_the_run_ends_with_its_status(runner, status, code, preempting):
    hook = TrackingHook(code=False)
    hook.before_train(runner)
    hook.on_alert(runner, title='not finite', text='iteration 3')
    backend_of(runner).close()  # the visualizer's; it is not the end
    hook.on_exit(runner, status, 'why')
    assert [item.exit_code for item in of_kind(runner, 'exit')] == [code]
    assert len(of_kind(runner, 'preempting')) == preempting
    assert [item.title for item in of_kind(runner, 'alert')] == ['not finite']
    assert transcripts(runner.work_dir, 'abcd1234')[0].summary()['exit_reason'] == 'why'
    hook.on_exit(runner, status, 'why')  # nothing is open any more
    hook.on_alert(runner, 'late', '')


def test_pictures_eat_no_iteration(runner):
    import numpy as np

    backend = backend_of(runner)
    backend.add_scalars({'loss': 1.0, 'iter': 1}, step=1)
    backend.add_image('views', np.zeros((4, 4, 3), np.uint8), step=1)
    backend.add_scalar('depth', 2.0, step=1)
    backend.iteration, backend.epoch = 2, 1
    backend.attach({'val/extra': 3.0})
    backend.add_scalars({'mIoU': 0.5}, step=1)
    backend.add_scalars({'loss': 2.0, 'iter': 3}, step=3)
    backend.close()
    history = transcripts(runner.work_dir, 'abcd1234')[0].history
    assert [row['iter'] for row in history] == [1, 1, 1, 2, 3]
    assert (history[3]['val/mIoU'], history[3]['val/extra'], history[3]['epoch']) == (0.5, 3.0, 1)
    assert 'val/extra' not in history[4]


def test_a_test_says_which_checkpoint_it_was_of(runner):
    hook = TrackingHook(code=False)
    runner._load_from = '/somewhere/best_mIoU_iter_4.pth'
    hook.after_load_checkpoint(runner, checkpoint={'meta': {'iter': 4}})
    hook.after_test_epoch(runner, {'mIoU': 0.5})
    backend_of(runner).close()
    summary = transcripts(runner.work_dir, 'abcd1234')[0].summary()
    assert (summary['test/mIoU'], summary['test/checkpoint'], hook.tested) == (0.5, 'best_mIoU_iter_4.pth', 4)


def test_a_test_beside_a_training_sends_nothing(runner, monkeypatch):
    said = []
    monkeypatch.setattr('projects.engine.tracking.hook.say', lambda text, *_: said.append(text))
    code = ('import sys, time; from projects.engine.lock import locked\n'
            'with locked(sys.argv[1]): print("held", flush=True); sys.stdin.read()')
    with subprocess.Popen([sys.executable, '-c', code, runner.work_dir], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          cwd=Path(__file__).resolve().parents[3]) as training:
        training.stdout.readline()
        TrackingHook(code=False).after_test_epoch(runner, {'mIoU': 0.5})
        training.stdin.close()
    assert backend_of(runner).session is None and not (Path(runner.work_dir) / 'wandb').exists()
    assert len(said) == 1 and 'a training runs here' in said[0]


def test_rates_are_sent_once_they_differ_and_memory_is_this_process_own(runner, monkeypatch):
    monkeypatch.setattr('projects.engine.tracking.hook.peak_memory_mib', lambda: 7.5)
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    groups = [{'name': name, 'lr': 0.1} for name in ('backbone', 'backbone without decay', 'rest')]
    runner.optim_wrapper = SimpleNamespace(param_groups=groups)
    found = {}
    runner.message_hub = SimpleNamespace(log_scalars={}, update_scalar=found.__setitem__)
    hook = TrackingHook()
    hook.interval = 1
    hook.after_train_iter(runner, 0)
    assert found == {'train/memory_resident': 7.5}
    groups[2]['lr'] = 0.2
    hook.after_train_iter(runner, 1)
    assert (found['train/lr/backbone'], found['train/lr/rest']) == (0.1, 0.2)
    for group in groups:  # at the end of a schedule: the hub goes on showing what it was given last
        group['lr'] = 0.0
    hook.after_train_iter(runner, 2)
    assert (found['train/lr/backbone'], found['train/lr/rest']) == (0.0, 0.0)


def test_an_agent_of_a_sweep_gives_the_id(runner, monkeypatch):
    monkeypatch.setenv('WANDB_RUN_ID', 'sweep123')
    assert backend_of(runner).start().names.id == 'abcd1234'
    backend_of(runner).close()
    backend_of(runner).session = None
    monkeypatch.setenv('WANDB_SWEEP_ID', 'xyz')
    monkeypatch.setenv('WANDB_MODE', 'disabled')
    assert backend_of(runner).start().names.id == 'sweep123'
