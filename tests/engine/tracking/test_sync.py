"""Offline runs are repaired from scalars.json, uploaded once, and left alone when they are whole."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import projects.engine.tracking.sync as sync
from projects.engine.errors import UserError
from projects.engine.lock import locked
from projects.engine.tracking.offline import read_transcript, records, transcripts

ROOT = Path(__file__).resolve().parents[3]
LINES = [{'loss': 1 / index, 'iter': index, 'step': index} for index in range(1, 401)] + [{'mIoU': 0.5, 'step': 400}]
# Logs most of the lines, and is killed together with W&B's own process: the power went out.
KILLED = """
import json, os, signal, sys, time
from pathlib import Path
from projects.engine.tracking.history import training_row
from projects.engine.tracking.session import Names, Session
session = Session(sys.argv[1], Names('abcd1234', 'landcover', 'chain', 'baseline', 'name'))
session.start(mode='offline')
for line in json.loads(sys.argv[2])[:350]:
    session.log(training_row(line))
for tasks in Path('/proc/self/task').glob('*/children'):
    for pid in tasks.read_text().split():
        os.kill(int(pid), signal.SIGKILL)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope='module')
def torn_run(tmp_path_factory) -> Path:
    """The folder wandb/ of an offline run that was killed."""
    work_dir = tmp_path_factory.mktemp('killed') / 'run'
    done = subprocess.run([sys.executable, '-c', KILLED, str(work_dir), json.dumps(LINES)], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    return work_dir / 'wandb'


@pytest.fixture
def killed(alone, torn_run, scalars, tmp_path) -> Path:
    """The work directory of an offline run whose tail was lost."""
    work_dir = tmp_path / 'run'
    shutil.copytree(torn_run, work_dir / 'wandb', symlinks=True)
    scalars('20260101_000000', LINES)
    (work_dir / 'run_id').write_text('abcd1234\n')
    return work_dir


def iterations(work_dir: Path) -> list[int]:
    return [row['iter'] for file in transcripts(work_dir, 'abcd1234') for row in file.history]


def content(work_dir: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in work_dir.rglob('*') if path.is_file() and path.name != '.lock'}


def test_a_killed_run_is_made_whole_and_then_left_alone(killed):
    kept = len(iterations(killed))
    assert kept <= 350  # how many, depends on the moment
    before = content(killed)
    found = sync.repair(killed, dry_run=True)
    assert (found.rows, found.missing) == (401, 401 - kept) and content(killed) == before
    done = sync.repair(killed)
    assert (done.missing, done.torn) == (found.missing, found.torn) and len(done.waiting) == 2
    assert iterations(killed) == [*range(1, 401), 400]
    for file in transcripts(killed, 'abcd1234'):
        assert not file.torn and (file.run.project, file.run.run_group, file.run.job_type) == (
            'landcover', 'chain', 'baseline')
    after = content(killed)
    again = sync.repair(killed)
    assert (again.missing, again.torn, again.moved) == (0, 0, 0) and content(killed) == after
    assert 'all of them tracked' in again.text(True)


def test_the_original_of_a_torn_file_is_kept(killed):
    path = next((killed / 'wandb').glob('offline-run-*/run-abcd1234.wandb'))
    torn = path.read_bytes()[:2000]
    path.write_bytes(torn)
    if not read_transcript(path).torn:  # a record ends just there: that hangs on the length of the folder's name
        torn = torn[:-1]
        path.write_bytes(torn)
    assert sync.repair(killed).torn == 1
    assert path.with_name('run-abcd1234.wandb.original').read_bytes() == torn
    assert path.read_bytes() == torn[:len(path.read_bytes())] and iterations(killed) == [*range(1, 401), 400]


def test_uploaded_runs_hold_the_same_history_and_are_not_uploaded_again(killed, stand_in, monkeypatch):
    for name, value in stand_in.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv('HUB_TOKEN', 'planted-secret-token')
    for _ in range(2):
        subprocess.run([sys.executable, str(ROOT / 'tools/sync_runs.py'), str(killed), '--upload'], check=True, cwd='/')
        history = stand_in.history('abcd1234')
        assert [row['iter'] for row in history] == [*range(1, 401), 400]
        assert [row['_step'] for row in history] == list(range(401))
        assert [row.get('train/loss') for row in history[:400]] == [line['loss'] for line in LINES[:400]]
        assert history[-1]['val/mIoU'] == 0.5
    assert {'RunResumeStatus', 'UpsertBucket', 'CreateRunFiles'} <= set(stand_in.operations)
    sent = ''.join(stand_in.received)
    assert 'planted-secret-token' not in sent and str(ROOT) not in sent and os.uname().nodename not in sent.split()
    assert not Path('/wandb').exists()


def test_tables_of_a_moved_work_directory_are_found(session, stand_in, scalars, monkeypatch, tmp_path):
    import numpy as np
    import wandb

    one = session()
    one.start(mode='offline')
    one.log({'val/mIoU': 0.5, 'iter': 4, 'val/predictions': wandb.Table(columns=['image'], data=[
        [wandb.Image(np.full((4, 4, 3), 7, np.uint8))]])})
    one.finish()
    scalars('20260101_000000', [{'mIoU': 0.5, 'step': 4}])
    moved = (tmp_path / 'run').rename(tmp_path / 'elsewhere')
    (moved / 'run_id').write_text('abcd1234\n')
    for name, value in stand_in.environment().items():
        monkeypatch.setenv(name, value)
    repaired = sync.repair(moved)
    assert (repaired.missing, repaired.torn, repaired.moved) == (0, 0, 1)
    sync.upload([repaired])
    table, = stand_in.artifacts.values()
    assert table['committed'] and table['artifactTypeName'] == 'run_table'
    assert sorted(Path(name).suffix for name in table['files']) == ['', '.json', '.png']


@pytest.fixture
def online_then_offline(session, stand_in, scalars, monkeypatch, tmp_path):
    """The server has two of four iterations of a start that was killed; the next start, offline, went on behind 2."""
    for name, value in stand_in.environment().items():
        monkeypatch.setenv(name, value)
    work_dir = tmp_path / 'run'
    one = session()
    one.start()
    for iteration in range(1, 5):
        one.log({'train/loss': float(iteration), 'iter': iteration})
    one.finish()
    files = stand_in.runs['abcd1234']['files']
    del files['wandb-history.jsonl'][2:]
    files['wandb-summary.json'] = [json.dumps({'iter': 2, 'train/loss': 2.0, '_step': 1})]
    (work_dir / 'run_id').write_text('abcd1234\n')
    scalars('20260101_000000', [{'loss': float(index), 'iter': index, 'step': index} for index in range(1, 5)])
    monkeypatch.setenv('WANDB_MODE', 'offline')
    return work_dir


def go_on_offline(session, scalars) -> None:
    time.sleep(1.1)  # folders are named by the second
    scalars('20260101_000001', [{'loss': float(index), 'iter': index, 'step': index} for index in range(3, 7)])
    two = session()
    two.start(mode='offline')
    two.finish()


@pytest.mark.parametrize('mode', ['offline', None])
def test_what_a_server_missed_is_sent_before_later_offline_starts(online_then_offline, session, stand_in, scalars,
                                                                   monkeypatch, mode):
    go_on_offline(session, scalars)
    monkeypatch.delenv('WANDB_MODE') if mode is None else monkeypatch.setenv('WANDB_MODE', mode)
    for _ in range(2):
        sync.upload([sync.repair(online_then_offline)])
        history = stand_in.history('abcd1234')
        assert [(row['iter'], row['train/loss'], row['_step']) for row in history] == [
            (index, float(index), index - 1) for index in range(1, 7)]
        assert stand_in.summary('abcd1234')['iter'] == 6
        assert os.environ.get('WANDB_MODE') == mode
        time.sleep(1.1)


def test_rows_that_only_a_server_may_have_are_not_written_offline(online_then_offline, stand_in, monkeypatch):
    """The file on the disk lost its tail; the server has more than it."""
    path = next((online_then_offline / 'wandb').glob('run-*/run-abcd1234.wandb'))
    ends = [end for body, end in records(path.read_bytes()) if b'train/loss' in body]
    path.write_bytes(path.read_bytes()[:ends[0]])
    repaired = sync.repair(online_then_offline)
    assert repaired.missing > 0 and not repaired.added and repaired.waiting == ()
    assert '--upload compares' in repaired.text(True) and iterations(online_then_offline) != [1, 2, 3, 4]
    sync.upload([repaired])
    assert [row['iter'] for row in stand_in.history('abcd1234')] == [1, 2, 3, 4]


def test_an_upload_without_its_server_writes_nothing(online_then_offline, stand_in, session, scalars, monkeypatch):
    go_on_offline(session, scalars)
    stand_in.broken = True
    before = sorted((online_then_offline / 'wandb').glob('offline-run-*'))
    with pytest.raises(UserError, match='run abcd1234 was not uploaded'):
        sync.upload([sync.repair(online_then_offline)])
    assert sorted((online_then_offline / 'wandb').glob('offline-run-*')) == before
    assert len(stand_in.runs['abcd1234']['files']['wandb-history.jsonl']) == 2


def test_looking_needs_no_lock_file(killed):
    assert sync.repair(killed, dry_run=True).rows == 401 and not (killed / '.lock').exists()
    (killed / 'run_id').write_text('../../x\n')
    with pytest.raises(UserError, match='expected a run id'):
        sync.repair(killed, dry_run=True)


def test_an_untracked_run_is_written_from_its_lineage(alone, scalars, tmp_path):
    work_dir = tmp_path / 'run'
    scalars('20260101_000000', LINES[:3])
    with pytest.raises(UserError, match='no run was trained here'):
        sync.repair(work_dir)
    (work_dir / 'run_id').write_text('abcd1234\n')
    with pytest.raises(UserError, match='expected a tracked run or lineage.json'):
        sync.repair(work_dir)
    (work_dir / 'lineage.json').write_text(json.dumps({
        'version': 1, 'run_id': 'abcd1234', 'name': 'n', 'task': 'roofline', 'chain': 'c', 'stage': 's', 'tags': ['t'],
        'config': {'text': 'lr = 1'}, 'code': {}, 'data': [], 'parents': [], 'starts': [], 'checkpoints': {},
        'metrics': {}}))
    assert sync.repair(work_dir).missing == 3
    file, = transcripts(work_dir, 'abcd1234')
    assert (file.run.project, file.run.run_group, list(file.run.tags)) == ('roofline', 'c', ['t'])
    assert iterations(work_dir) == [1, 2, 3]


def test_a_running_training_is_not_repaired(killed):
    # The lock is between processes.
    code = 'import sys; from projects.engine.tracking.sync import repair; repair(sys.argv[1], sys.argv[2:] == ["dry"])'
    with locked(killed):
        for arguments in ([], ['dry']):
            done = subprocess.run([sys.executable, '-c', code, str(killed), *arguments], cwd=ROOT, capture_output=True,
                                  text=True)
            assert 'is training in it' in done.stderr


def test_an_unreachable_server_is_an_error_of_the_upload(killed, monkeypatch):
    monkeypatch.setenv('WANDB_BASE_URL', 'http://127.0.0.1:9')
    monkeypatch.setattr(sync.subprocess, 'run', lambda *_, **__: subprocess.CompletedProcess((), 1))
    with pytest.raises(UserError, match=r'status 1, 2 of 2 runs are not uploaded'):
        sync.upload([sync.repair(killed)])
