"""A chain of two real trainings: killed again and again, run to its end, run again, changed."""

import json
import multiprocessing
import os
import runpy
import signal
import sys
import time
from contextlib import redirect_stderr, redirect_stdout

import pytest

from projects.engine.checkpoints import read_checkpoint
from projects.engine.lineage_record import read_lineage
from projects.multistage.chain.definition import read_chain
from projects.multistage.chain.progression import write_progression
from projects.multistage.chain.run import ChainRunner

pytestmark = pytest.mark.slow
TINY = {'crop_size': (64, 64), 'batch_size': 2, 'num_workers': 0, 'warmup_iters': 1, 'train_cfg.max_iters': 4,
        'train_cfg.val_interval': 2, 'default_hooks.logger.interval': 1, 'model.backbone.stem_channels': 8,
        'model.backbone.base_channels': 8, 'model.decode_head.in_channels': (8, 16, 32, 64),
        'model.decode_head.channels': 16, 'model.decode_head.num_heads': 2, 'data_root': '{inputs.data}'}


@pytest.fixture
def chain(tmp_path, prepared, config):
    """Write a chain: a training, and one that begins with its weights and has a gate."""

    def write(**options):
        path = tmp_path / 'chain.py'
        path.write_text(f"""
name = 'tiny'
inputs = dict(data={str(prepared)!r})
options = {TINY!r}
stages = dict(
    first=dict(type='TrainStage', config={str(config)!r}, options=options, note='from nothing'),
    second=dict(type='TrainStage', config={str(config)!r}, options={{**options, **{options!r}}},
                parents={{'initialise.checkpoint': 'first'}}, gate=dict(parent='first', min_gain=-1.0)))
""")
        return path

    return write


def begin(path, work, output):
    """Run the tool in a fork of this process, for importing torch takes seconds; what it prints goes into a file."""
    def call():
        sys.argv = ['run_stages.py', str(path), '--work-dir', str(work)]
        with open(output, 'w', buffering=1) as file, redirect_stdout(file), redirect_stderr(file):
            runpy.run_path('tools/run_stages.py', run_name='__main__')

    process = multiprocessing.get_context('fork').Process(target=call)
    process.start()
    return process


def until(condition, log):
    limit = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < limit, log.read_text() if log.is_file() else 'no log'
        time.sleep(0.02)


def snapshot(folder):
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob('*')
            if path.name != '.lock'}


def runner(path, work, inputs=None):
    """Make what the tool makes, without a process of its own."""
    told = []
    return ChainRunner(read_chain(path, inputs), work, tell=told.append, poll=0.05), told


def test_killed_in_the_middle_it_comes_to_its_end_and_then_does_nothing(chain, prepared, tmp_path, monkeypatch):
    """The work directory has a space in its name, for good measure."""
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    longer = {'train_cfg.max_iters': 40, 'train_cfg.val_interval': 10}
    path, work = chain(**longer), tmp_path / 'work of mine'
    planned, _ = runner(path, work)
    assert [(stage.name, decision.action) for stage, decision in planned.plan()] == [
        ('first', 'run'), ('second', 'follow')]
    assert 'initialise.checkpoint={first.best}' in planned.command(planned.chain.stage('second'))

    def training():
        return json.loads((work / 'chain.json').read_text())['stages']['second']['process']

    process = begin(path, work, tmp_path / 'once')  # killed in the second stage, whose training is left behind
    until((work / 'second/iter_10.pth').is_file, work / 'second.log')
    os.kill(training(), signal.SIGSTOP)  # it must not come to its end before the next call finds it
    process.kill()
    process.join()

    again = tmp_path / 'again'
    process = begin(path, work, again)
    until(lambda: again.is_file() and 'of a killed call still runs' in again.read_text(), again)
    os.kill(training(), signal.SIGCONT)
    process.join(240)
    printed = again.read_text()
    assert process.exitcode == 0, printed
    assert 'first: complete and unchanged, skipped' in printed and 'second: killed: goes on' in printed
    assert 'gate second against first (mIoU, val): passed' in printed and 'budgets differ: 80 and 8 ' in printed
    assert 'Stage progression' in printed and 'from nothing' in printed
    state = json.loads((work / 'chain.json').read_text())['stages']
    assert {name: (one['status'], one['starts']) for name, one in state.items()} == {
        'first': ('complete', 1), 'second': ('complete', 2)}
    assert [state['first']['result'][key] for key in ('images', 'budget')] == [6, 8]
    parent, = read_lineage(work / 'second')['parents']
    assert parent['sha256'] == state['first']['result']['files'][state['first']['result']['best']]['sha256']
    assert parent['role'] == 'initialise' and parent['report']['share_of_keys'] == 1.0
    assert read_checkpoint(work / 'second/iter_40.pth')['meta']['iter'] == 40
    values = json.loads((work / 'progression.json').read_text())
    assert values['data'] == {'columns': ['data'], 'rows': {
        'Training images': [6], 'Total images': [12], 'Effective samples per epoch': [6]}}

    before = snapshot(work)
    again, told = runner(path, work)
    assert again.run().status == 0 and write_progression(again) == values and snapshot(work) == before
    assert told[:2] == ['first: complete and unchanged, skipped', 'second: complete and unchanged, skipped']

    changed, _ = runner(chain(**longer, **{'optim_wrapper.optimizer.lr': 0.001}), work)
    assert [(decision.action, decision.why) for _, decision in changed.plan()] == [
        ('skip', 'complete and unchanged'), ('redo', 'changed: config (optim_wrapper.optimizer.lr)')]
    (tmp_path / 'data').symlink_to(prepared)
    path = chain(**longer)
    other, _ = runner(path, work, {'data': str(tmp_path / 'data')})
    assert [decision.action for _, decision in other.plan()] == ['redo', 'follow'] and snapshot(work) == before
