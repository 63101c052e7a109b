"""Real runs of wandb: what they hold, how they go on, and what their failures cost."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from projects.engine.tracking.offline import read_transcript, transcripts
from projects.engine.tracking.session import Session
from projects.engine.tracking.source import Source

ROOT = Path(__file__).resolve().parents[3]


def children() -> list[int]:
    """Processes of W&B that this one has started and that live."""
    found = []
    for path in Path('/proc/self/task').glob('*/children'):
        for pid in path.read_text().split():
            command = Path('/proc', pid, 'cmdline').read_bytes()
            if b'wandb-core' in command:
                found.append(int(pid))
    return found


def rows(work_dir: Path) -> list[tuple]:
    return [(row['iter'], row.get('train/loss'), row.get('val/mIoU'))
            for file in transcripts(work_dir, 'abcd1234') for row in file.history]


def of_kind(work_dir: Path, kind: str) -> list:
    return [getattr(record, kind) for file in transcripts(work_dir, 'abcd1234') for record in file.records
            if record.WhichOneof('record_type') == kind]


def test_a_run_is_named_and_its_process_ends_with_it(session, tmp_path):
    one = session()
    one.start({'optimizer': {'lr': 0.1}}, mode='offline')
    assert len(children()) == 1
    one.log({'train/loss': 2.0, 'iter': 1})
    one.log({'val/mIoU': 0.5, 'iter': 1})
    one.alert('not finite', 'iteration 1')
    one.summarise({'test/mIoU': 0.25})
    one.preempted()
    one.finish(1)
    assert children() == [] and one.run is None
    run, = of_kind(tmp_path / 'run', 'run')
    assert (run.run_id, run.project, run.run_group, run.job_type, run.display_name, list(run.tags), run.resume) == (
        'abcd1234', 'landcover', 'chain', 'baseline', 'name', ['fast'], True)
    assert {item.key: item.value_json for item in run.config.update}['optimizer'] == '{"lr":0.1}'
    assert rows(tmp_path / 'run') == [(1, 2.0, None), (1, None, 0.5)]
    metrics = {metric.name or metric.glob_name: metric for metric in of_kind(tmp_path / 'run', 'metric')}
    assert {name: metric.step_metric for name, metric in metrics.items()} == {
        'iter': '', 'epoch': 'iter', 'train/*': 'iter', 'val/*': 'iter', 'test/*': 'iter'}
    alert, = of_kind(tmp_path / 'run', 'alert')
    assert (alert.title, alert.text, alert.level) == ('not finite', 'iteration 1', 'WARN')
    summary = {item.key: item.value_json for part in of_kind(tmp_path / 'run', 'summary') for item in part.update}
    assert summary['test/mIoU'] == '0.25'
    assert len(of_kind(tmp_path / 'run', 'preempting')) == 1
    assert of_kind(tmp_path / 'run', 'exit')[0].exit_code == 1


def test_a_resume_sends_what_is_new_and_what_was_lost(session, scalars, tmp_path):
    one = session()
    one.start(mode='offline')
    one.log({'train/loss': 1.0, 'iter': 1})
    one.log({'train/loss': 2.0, 'iter': 2})
    one.log({'val/mIoU': 0.1, 'iter': 2})
    one.log({'train/loss': 9.0, 'iter': 2})  # once more in the same process
    one.finish()
    scalars('20260101_000000', [{'loss': 1.0, 'iter': 1, 'step': 1}, {'loss': 2.0, 'iter': 2, 'step': 2},
                                {'mIoU': 0.1, 'step': 2}, {'loss': 3.0, 'iter': 3, 'step': 3}])  # 3 reached this alone
    time.sleep(1.1)  # folders are named by the second
    two = session()
    two.start(mode='offline')
    assert not two.is_new({'val/mIoU': 0.1, 'iter': 2}) and two.is_new({'val/mIoU': 0.1, 'iter': 4})
    for iteration in (2, 3, 4):
        two.log({'train/loss': float(iteration), 'iter': iteration})
    two.finish()
    assert rows(tmp_path / 'run') == [(1, 1.0, None), (2, 2.0, None), (2, None, 0.1), (3, 3.0, None), (4, 4.0, None)]
    files = transcripts(tmp_path / 'run', 'abcd1234')
    assert len(files) == 2
    summary = files[1].summary()  # which replaces the first one's
    assert (summary['iter'], summary['train/loss'], summary['val/mIoU']) == (4, 4.0, 0.1)
    assert [row['_step'] for file in files for row in file.history] == [0, 1, 2, 3, 4]


def test_nothing_that_is_written_tells_of_keys_homes_or_this_machine(session, alone, monkeypatch, tmp_path):
    monkeypatch.setenv('HUB_TOKEN', 'planted-secret-token')
    monkeypatch.setattr(sys, 'argv', ['train.py', '--key', 'planted-secret-token', str(alone / 'config.py')])
    one = session()
    one.start({'data_root': str(alone / 'data'), 'hub_token': 'other-secret', 'note': 'x planted-secret-token y'},
              mode='offline')
    one.log({'train/loss': 1.0, 'iter': 1, 'note': f'at {alone}/x'})
    one.alert('planted-secret-token', str(alone))
    one.reference('dataset', 'data-x', 'manifest.json', 'ab12', {'root': str(alone / 'data')}, used=True)
    one.summarise({'exit_reason': f'{alone}/x: planted-secret-token'})
    one.finish()
    written = [path for path in (tmp_path / 'run').rglob('*') if path.is_file()]
    assert len(written) > 3
    for path in written:
        content = path.read_bytes()
        for secret in (b'planted-secret-token', b'other-secret', str(alone).encode(), os.uname().nodename.encode() * (
                len(os.uname().nodename) > 4)):
            assert not secret or secret not in content, f'{path}: {secret!r}'
    assert json.loads({item.key: item.value_json for item in of_kind(tmp_path / 'run', 'run')[0].config.update}[
        'data_root']) == '~/data'


def test_two_runs_that_name_one_file_name_one_artifact(session, tmp_path):
    """So what one run made and another one used are connected."""
    sha256 = 'ab' * 32
    made = session(tmp_path / 'made')
    made.start(mode='offline')
    made.reference('model', 'checkpoint-abcd1234', 'best_mIoU_iter_4.pth', sha256, {'step': 4}, ('best', 'baseline'))
    made.finish()
    used = session(tmp_path / 'used')
    used.start(mode='offline')
    used.reference('model', 'checkpoint-abcd1234', 'best_mIoU_iter_4.pth', sha256, {'role': 'load_from'}, used=True)
    used.reference('model', 'checkpoint-abcd1234', 'best_mIoU_iter_8.pth', sha256[::-1], {}, used=True)
    used.finish()
    (first,), (second, third) = of_kind(tmp_path / 'made', 'artifact'), of_kind(tmp_path / 'used', 'artifact')
    assert first.digest == second.digest != third.digest
    assert list(first.aliases) == ['baseline', 'best'] and not first.use_after_commit and second.use_after_commit
    entry, = first.manifest.contents
    assert (entry.path, entry.ref, entry.local_path) == ('best_mIoU_iter_4.pth', f'sha256:{sha256}', '')


def test_code_is_saved_once_and_an_uploaded_file_outlives_its_deletion(session, tmp_path):
    (tmp_path / 'code').mkdir()
    (tmp_path / 'code' / 'a.py').write_text('print(1)')
    (tmp_path / 'best.pth').write_bytes(b'weights')
    source = Source(tmp_path / 'code', 'c' * 40, True, ('a.py',))
    for _ in range(2):
        one = session()
        one.start(mode='offline')
        one.save_source(source)
        one.finish()
        time.sleep(1.1)
    one = session()
    one.start(mode='offline')
    one.upload('weights-abcd1234', tmp_path / 'best.pth', {'step': 4}, ('best',))
    (tmp_path / 'best.pth').unlink()
    one.finish()
    code, weights = of_kind(tmp_path / 'run', 'artifact')
    assert code.type == 'code' and json.loads(code.metadata) == {
        'commit': 'c' * 40, 'dirty': True, 'sha256': source.sha256()}
    assert Path(code.manifest.contents[0].local_path).read_text() == 'print(1)'
    assert Path(weights.manifest.contents[0].local_path).read_bytes() == b'weights'
    assert (tmp_path / 'run') in Path(weights.manifest.contents[0].local_path).parents


def test_a_killed_process_of_wandb_costs_one_warning(session, tmp_path, caplog):
    one = session()
    one.start(mode='offline')
    one.log({'train/loss': 1.0, 'iter': 1})
    os.kill(children()[0], signal.SIGKILL)
    start = time.monotonic()
    for iteration in range(2, 1000):
        one.log({'train/loss': 1.0, 'iter': iteration})
    one.alert('a', 'b')
    one.finish()
    assert time.monotonic() - start < 5
    assert one.run is None and children() == []


def test_a_server_that_is_gone_is_no_wait(session, stand_in, monkeypatch, tmp_path):
    """It leaves in the middle: neither rows nor tables wait for it, and the end waits as long as was said."""
    import wandb

    for name, value in stand_in.environment().items():
        monkeypatch.setenv(name, value)
    one = session(finish_timeout=1.0)
    one.start()
    assert one.mode == 'online'
    one.log({'train/loss': 1.0, 'iter': 1})
    stand_in.broken = True
    start = time.monotonic()
    one.log({'train/loss': 2.0, 'iter': 2, 'table': wandb.Table(columns=['a'], data=[[1]])})
    one.reference('model', 'checkpoint', 'a.pth', 'ab', {})
    assert time.monotonic() - start < 1
    one.finish()
    assert time.monotonic() - start < 8 and children() == []
    assert rows(tmp_path / 'run') == [(1, 1.0, None), (2, 2.0, None)]


@pytest.mark.parametrize('how', ['silent', 'broken'])
def test_a_server_that_cannot_be_used_costs_seconds_and_the_run_is_offline(session, stand_in, black_hole, monkeypatch,
                                                                           tmp_path, how):
    for name, value in stand_in.environment().items():
        monkeypatch.setenv(name, value)
    if how == 'silent':
        monkeypatch.setenv('WANDB_BASE_URL', black_hole)
    stand_in.broken = True
    one = session()
    start = time.monotonic()
    one.start()
    assert time.monotonic() - start < 10
    assert one.mode == 'offline'
    one.log({'train/loss': 1.0, 'iter': 1})
    one.finish()
    assert rows(tmp_path / 'run') == [(1, 1.0, None)]


def test_an_online_run_that_goes_on_is_the_same_run_and_repeats_nothing(session, stand_in, scalars, monkeypatch,
                                                                        tmp_path):
    for name, value in stand_in.environment().items():
        monkeypatch.setenv(name, value)
    one = session()
    one.start({'lr': 0.1})
    for iteration in (1, 2):
        one.log({'train/loss': float(iteration), 'iter': iteration})
    one.finish()
    scalars('20260101_000000', [*({'loss': float(index), 'iter': index, 'step': index} for index in (1, 2)),
                                {'mIoU': 0.5, 'step': 2}, {'loss': 3.0, 'iter': 3, 'step': 3}])
    for start in range(2):  # the second one finds nothing to do
        time.sleep(1.1)
        two = session()
        two.start({'lr': 0.1})
        for iteration in (2, 3, 4)[:3 - start]:
            two.log({'train/loss': float(iteration), 'iter': iteration})
        two.finish()
    history = stand_in.history('abcd1234')
    assert [(row['iter'], row.get('train/loss'), row.get('val/mIoU'), row['_step']) for row in history] == [
        (1, 1.0, None, 0), (2, 2.0, None, 1), (2, None, 0.5, 2), (3, 3.0, None, 3), (4, 4.0, None, 4)]
    assert stand_in.config('abcd1234')['lr'] == 0.1
    assert (stand_in.runs['abcd1234']['groupName'], stand_in.runs['abcd1234']['jobType']) == ('chain', 'baseline')


def test_what_is_no_training_leaves_the_clock_of_the_run(session, stand_in, scalars, monkeypatch, tmp_path):
    """A test of an earlier checkpoint; then wandb/ is tidied up, and only the server knows how far it has come."""
    for name, value in stand_in.environment().items():
        monkeypatch.setenv(name, value)
    lines = [{'loss': float(index), 'iter': index, 'step': index} for index in range(1, 7)]
    scalars('20260101_000000', [*lines, {'mIoU': 0.1 + 0.2, 'IoU/Forest Land': float('nan'), 'step': 6}])
    one = session()
    one.start()
    one.finish()
    time.sleep(1.1)
    scalars('20260101_000001', [{'loss': 7.0, 'iter': 7, 'step': 7}])  # a test does not send it
    two = session()
    two.start(send_missing=False)
    two.log({'iter': 3, 'test/table': 1.0})
    two.log({'test/other': 1.0})
    two.finish()
    assert stand_in.summary('abcd1234')['iter'] == 6
    shutil.rmtree(tmp_path / 'run' / 'wandb')
    three = session()
    three.start()
    three.finish()
    history = stand_in.history('abcd1234')
    assert [row['iter'] for row in history if 'train/loss' in row] == [1, 2, 3, 4, 5, 6, 7]
    assert [row['iter'] for row in history if 'val/mIoU' in row] == [6]


def test_an_artifact_that_fails_costs_itself_and_one_line(session, monkeypatch, tmp_path):
    import wandb

    said = []
    monkeypatch.setattr('projects.engine.tracking.session.say', lambda text, *_: said.append(text))
    one = session()
    one.start(mode='offline')
    holder = next(kind for kind in type(one.run._interface).__mro__ if 'publish_artifact' in vars(kind))
    monkeypatch.delattr(holder, 'publish_artifact')
    for iteration in (1, 2):
        one.reference('model', 'checkpoint', 'a.pth', 'ab', {})
        one.log({'train/loss': 1.0, 'iter': iteration, 'table': wandb.Table(columns=['a'], data=[[1]])})
    one.finish()
    assert rows(tmp_path / 'run') == [(1, 1.0, None), (2, 1.0, None)]
    lines = [text for text in said if 'artifact' in text]
    assert len(lines) == 1 and 'wandb 0.31 is supported' in lines[0] and wandb.__version__ in lines[0]
    assert not [text for text in said if text.startswith('off:')]


def test_the_random_numbers_of_a_training_are_its_own(session):
    import wandb

    def state() -> tuple:
        return random.getstate(), np.random.get_state()[1].tolist(), np.random.get_state()[2]

    before = state()
    one = session()
    one.start(mode='offline')
    one.log({'train/loss': 1.0, 'iter': 1, 'table': wandb.Table(columns=['a'], data=[
        [wandb.Image(np.zeros((4, 4, 3), np.uint8))]])})
    one.reference('model', 'checkpoint', 'a.pth', 'ab', {})
    one.finish()
    assert state() == before


def test_disabled_imports_nothing():
    code = ('import sys; from projects.engine.tracking.session import Session, Names; '
            'import projects.evaluation.tracking; s = Session("/nowhere", Names("a1b2", "p")); s.start(); '
            's.log({"iter": 1}); s.finish(); assert "wandb" not in sys.modules')
    subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=True, env=dict(os.environ, WANDB_MODE='disabled'))


def test_without_wandb_a_run_is_untracked_in_one_line(tmp_path):
    code = ('import sys; sys.modules["wandb"] = None; from projects.engine.tracking.session import Session, Names; '
            's = Session(sys.argv[1], Names("a1b2", "p")); s.start(); s.log({"iter": 1}); s.finish()')
    done = subprocess.run([sys.executable, '-c', code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True,
                          env=dict(os.environ, WANDB_MODE='offline'), check=True)
    printed = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    assert len(printed) == 1 and 'tracking: off: no run (ModuleNotFoundError' in printed[0], printed


def test_a_home_that_cannot_be_written_is_no_hindrance(session, alone, monkeypatch, tmp_path):
    monkeypatch.setenv('HOME', '/proc/nowhere')
    monkeypatch.delenv('WANDB_CACHE_DIR')
    one = session()
    one.start(mode='offline')
    one.log({'iter': 1, 'train/loss': 1.0})
    one.finish()
    assert rows(tmp_path / 'run') == [(1, 1.0, None)]


def test_a_folder_that_cannot_be_written_is_a_warning(session, tmp_path):
    (tmp_path / 'file').write_text('')
    one = Session(tmp_path / 'file' / 'run', session().names)
    one.start(mode='offline')
    one.log({'iter': 1, 'train/loss': 1.0})
    assert one.run is None and children() == []


def test_the_process_of_a_killed_training_ends_by_itself(alone, tmp_path):
    code = ('import os, sys; from projects.engine.tracking.session import Session, Names\n'
            's = Session(sys.argv[1], Names("abcd1234", "p")); s.start(mode="offline")\n'
            'for i in range(1, 50): s.log({"train/loss": 1.0, "iter": i})\n'
            'from pathlib import Path\n'
            'print(*[pid for p in Path("/proc/self/task").glob("*/children") for pid in p.read_text().split()])\n'
            'sys.stdout.flush(); os.kill(os.getpid(), 9)')
    done = subprocess.run([sys.executable, '-c', code, str(tmp_path / 'run')], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL
    pids = [int(pid) for pid in done.stdout.splitlines()[-1].split()]
    assert pids
    for _ in range(100):
        left = [pid for pid in pids if Path('/proc', str(pid), 'cmdline').exists()
                and b'wandb' in Path('/proc', str(pid), 'cmdline').read_bytes()]
        if not left:
            break
        time.sleep(0.1)
    assert left == []
    path = next((tmp_path / 'run' / 'wandb').glob('offline-run-*/run-abcd1234.wandb'))
    assert read_transcript(path).run.project == 'p'
