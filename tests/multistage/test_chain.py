"""The chain: its file read strictly, fingerprints, plans, gates, set-asides, waiting, signals, tables, cluster jobs."""

import importlib.util
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.config import Config

from projects.engine import cli
from projects.engine.errors import UserError
from projects.engine.options import read_options
from projects.multistage.chain import process as stage_process
from projects.multistage.chain import run as chain_run
from projects.multistage.chain.code import code_hashes
from projects.multistage.chain.contents import content_hash, split_identity
from projects.multistage.chain.definition import needs_of, read_chain, results_of
from projects.multistage.chain.fingerprint import Fingerprint, differences, stage_config
from projects.multistage.chain.gates import judge
from projects.multistage.chain.progression import progression, progression_text, write_progression
from projects.multistage.chain.results import best_checkpoint, budget
from projects.multistage.chain.run import ChainRunner, Choice
from projects.multistage.chain.slurm import repeated_arguments, submit
from projects.multistage.chain.stages import Gate, TrainStage, options_as_arguments

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'configs/landcover/ftunetformer-tiny_s0-baseline_village-256.py'
# A stand-in for a tool: writes what it was told and what it read; fails, sleeps or leaves when told to.
TOOL = """
import pathlib, signal, sys, time
folder, text, *reads = sys.argv[1:]
folder = pathlib.Path(folder)
(folder / 'begun').write_text('x')
text += ''.join(pathlib.Path(path).read_text() for path in reads)
if 'fail' in text:
    sys.exit('error: it does not work')
if 'sleep' in text and not (folder.parent / 'awake').exists():
    time.sleep(60)
if 'nothing' not in text:
    (folder / 'out.txt').write_text(text)
"""
# A stand-in for a training: checkpoints by iteration, goes on from the newest, saves and leaves with 75 on SIGTERM.
TRAINING = """
import json, pathlib, signal, sys, time
folder, options = pathlib.Path(sys.argv[1]), sys.argv[2:]
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
done = max([int(path.stem[5:]) for path in folder.glob('iter_*.pth')], default=0)
for step in range(done + 1, 5):
    time.sleep(0.3 if (folder.parent / 'slowly').exists() else 0)
    (folder / f'iter_{step}.pth').write_text(f'{step} {sorted(options)}')
    print(f'iteration {step}', flush=True)
score = 0.5 + 0.1 * len(folder.name)
(folder / 'best_mIoU_iter_4.pth').write_text(f'best {sorted(options)}')
(folder / 'lineage.json').write_text(json.dumps({
    'version': 1, 'run_id': 'abcd', 'name': 'n', 'task': 't', 'chain': 'c', 'stage': 's', 'config': {}, 'code': {},
    'data': [], 'parents': [], 'starts': [], 'metrics': {}, 'checkpoints': {
        'best_mIoU_iter_4.pth': {'sha256': 'x', 'step': 4, 'aliases': ['best'],
                                 'metrics': {'mIoU': score, 'mF1': 0.75}}}}))
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a chain of stand-ins and return its path."""
    (tmp_path / 'tool.py').write_text(TOOL)
    (tmp_path / 'data.txt').write_text('data ')
    monkeypatch.chdir(tmp_path)

    def write_chain(stages, name='chain.py', **more):
        more = {'name': 'c', 'inputs': {'data': 'data.txt'}, **more}
        path = tmp_path / name
        path.write_text(''.join(f'{key} = {value!r}\n' for key, value in more.items()) + f'stages = {stages!r}\n')
        return path

    return write_chain


@pytest.fixture
def runner(tmp_path):
    """Make a runner of a chain; what it tells is in ``told``."""

    def make(path, choice=None, inputs=None):
        told = []
        made = ChainRunner(read_chain(path, inputs), tmp_path / 'work', choice, tell=told.append, poll=0.02)
        made.told = told
        return made

    return make


def tool(name, text='', *reads, **more):
    return dict(name=name, type='ToolStage', command=['tool.py', '{dir}', f'{name}{text} ', *reads],
                outputs=['out.txt'], **more)


def three(middle=''):
    return [tool('a', '', '{inputs.data}'), tool('b', middle, '{a.dir}/out.txt'), tool('c', '', '{b.dir}/out.txt'),
            tool('d')]


def state(tmp_path):
    return json.loads((tmp_path / 'work/chain.json').read_text())['stages']


def snapshot(folder):
    return {path.relative_to(folder): (path.stat().st_mtime_ns, path.is_dir() or path.read_bytes())
            for path in folder.rglob('*') if path.name != '.lock'}


def begun(told):
    return [line.partition(':')[0] for line in told if 'begins' in line or 'anew' in line or 'goes on' in line]


# ------------------------------------------------------------------------------------------------- definition


@pytest.mark.parametrize(('stages', 'message'), [
    ([dict(name='a', type='ToolStag', command=['tool.py'], outputs=['x'])],
     r"stages.a.type: expected ToolStage, TrainStage, WaitStage, found 'ToolStag'; did you mean ToolStage\?"),
    ([dict(name='a', type='ToolStage', comand=['tool.py'], outputs=['x'])],
     r"stages.a: unknown key 'comand'; did you mean command\?"),
    ([dict(name='a', type='ToolStage', command=['tool.py'])], 'stages.a: key outputs is missing'),
    ([dict(name='a', type='ToolStage', command=['tol.py'], outputs=['x'])], 'stages.a.command: no such tool tol.py'),
    ([dict(name='a', type='ToolStage', command='tool.py', outputs=['x'])], 'command: expected a list of texts'),
    ([dict(name='a/b', type='ToolStage', command=['tool.py'], outputs=['x'])],
     "stages.a/b.name: expected letters, digits, - and _, found 'a/b'"),
    ([dict(name='dir', type='ToolStage', command=['tool.py'], outputs=['x'])], 'stages.dir.name: dir is reserved'),
    ([tool('a'), tool('a')], 'stages: a stands twice'),
    ([tool('a', '', '{inputs.dta}')], r"command: \{inputs.dta\}: no input 'dta'; did you mean data\?"),
    ([tool('first'), tool('b', '', '{frst.dir}')], r"\{frst.dir\}: no stage 'frst'; did you mean first\?"),
    ([tool('a'), tool('b', '', '{a.best}')], r'\{a.best\}: a ToolStage gives dir'),
    ([tool('a', '', '{folder}')], r'command: unknown template \{folder\}'),
    ([tool('a', '', '{b.dir}'), tool('b', '', '{a.dir}')], 'stages need each other in a circle: a -> b -> a'),
    ([tool('a', '', '{a.dir}')], 'stages need each other in a circle: a -> a'),
    ([tool('a', after=['b'])], "stages.a.after: no stage 'b'"),
    ([tool('a', gate=dict(parent='a1'))], r"stages.a.gate.parent: no stage 'a1'; did you mean a\?"),
    ([tool('a', gate=dict(parnt='a'))], r"stages.a.gate: unknown key 'parnt'; did you mean parent\?"),
    ([tool('a'), tool('b', gate=dict(parent='a', on_fail='wan'))],
     r"gate.on_fail: expected warn or stop, found 'wan'; did you mean warn\?"),
    ([dict(name='a', type='TrainStage', config='no.py')], 'stages.a.config: no such file no.py'),
    ([tool('a'), dict(name='b', type='TrainStage', config='tool.py', parents={'initialise.checkpoint': 'a'})],
     r"parents.initialise.checkpoint: expected a TrainStage, or .best or .last of one, found 'a'"),
    ([dict(name='a', type='TrainStage', config='tool.py', options={'x': {}})], 'options: x: {} cannot be written as'),
    ([dict(name='a', type='TrainStage', config='tool.py', options={'x y': 1})],
     "options: 'x y': expected a dotted key"),
    ([dict(name='w', type='WaitStage', file='{dir}/x', text='do it')], r'unknown template \{dir\}'),
    ([], 'stages: expected at least one'),
    ('a', "stages: expected a list or a dict of stages, found 'a'"),
    (['a'], "stages.0: expected a dict, found 'a'"),
])
def test_a_wrong_chain_is_one_line(write, stages, message):
    with pytest.raises(UserError, match=message) as error:
        read_chain(write(stages))
    assert '\n' not in str(error.value) and 'chain.py' in str(error.value)


def test_wrong_files_and_inputs_are_one_line(write, tmp_path):
    path = write(three())
    with pytest.raises(UserError, match=r"inputs: no input 'dat'; did you mean data\? \(it has data\)"):
        read_chain(path, {'dat': 'x'})
    with pytest.raises(UserError, match='no such file'):
        read_chain(tmp_path / 'no.py')
    path.write_text('stages = [')
    with pytest.raises(UserError, match='syntax error in line 1'):
        read_chain(path)
    path.write_text('stage = []')
    with pytest.raises(UserError, match="unknown key 'stage'; did you mean stages?"):
        read_chain(path)
    path.write_text('stages = [1 / 0]')
    with pytest.raises(UserError, match='ZeroDivisionError'):
        read_chain(path)


def test_order_follows_needs_and_a_gate_is_no_need(write):
    chain = read_chain(write([tool('c', '', '{b.dir}', gate=dict(parent='z')), tool('a'), tool('b', after=['a']),
                              tool('z')]))
    assert [stage.name for stage in chain.stages] == ['a', 'b', 'z', 'c']
    assert needs_of(chain.stage('c')) == ['b'] and chain.ancestors('c') == ['a', 'b']
    assert results_of(chain.stage('b')) == [('a', '')]


def test_a_child_changes_single_keys_of_stages(write, tmp_path):
    write({'a': dict(type='ToolStage', command=['tool.py', '{dir}', 'a'], outputs=['out.txt'], note='x'),
           'b': dict(type='ToolStage', command=['tool.py', '{dir}', 'b'], outputs=['out.txt'])}, name='base.py')
    child = tmp_path / 'child.py'
    child.write_text("_base_ = './base.py'\ninputs = dict(data='other')\nstages = dict(a=dict(note='y'), b=None)\n")
    chain = read_chain(child)
    assert chain.inputs == {'data': 'other'} and chain.name == 'c'
    assert [(stage.name, stage.note, stage.command[2]) for stage in chain.stages] == [('a', 'y', 'a')]


def test_options_are_arguments_that_read_the_same():
    options = {'a': 1, 'b': 1.5, 'c': True, 'd': None, 'e': 'x/y.pth', 'f': (1, 2), 'g': [0.5], 'h': {'i': {'j': 'k'}},
               'l': '${train_cfg.max_iters}', 'm': '{pretrain.best}', 'n': [(1, 2), (3, 4)]}
    arguments = options_as_arguments(options)
    assert 'h.i.j=k' in arguments and 'f=(1,2)' in arguments
    read = read_options(arguments)
    assert read['n'] == [(1, 2), (3, 4)] and read['d'] is None and read['c'] is True and read['h.i.j'] == 'k'
    assert options_as_arguments({'x': 'a b/c.pth', 'y': '1', 'z': ['a,b']}) == ['x=a b/c.pth', "y='1'", "z=['a,b']"]


# ------------------------------------------------------------------------------------------------- fingerprints


def test_code_is_what_is_imported_and_remarks_do_not_count(tmp_path):
    (tmp_path / 'projects/one').mkdir(parents=True)
    files = {'projects/__init__.py': '', 'projects/one/__init__.py': '', 'projects/one/b.py': 'x = 1\n',
             'projects/one/other.py': 'y = 1\n', 'projects/README.md': 'text', 'tool.py': (
                 '"""Doc."""\ndef main():\n    """Doc."""\n    from projects.one import b\n    return b\n')}
    for name, text in files.items():
        (tmp_path / name).write_text(text)

    def now():
        return code_hashes([tmp_path / 'tool.py'], tmp_path)

    before = now()
    assert list(before) == ['projects/__init__.py', 'projects/one/__init__.py', 'projects/one/b.py', 'tool.py']
    (tmp_path / 'tool.py').write_text('"""Another."""\n# a remark\n' + files['tool.py'].partition('\n')[2].replace(
        'Doc', 'More'))
    (tmp_path / 'projects/one/other.py').write_text('y = 2\n')
    assert now() == before
    (tmp_path / 'projects/one/b.py').write_text('x = 22\n')
    assert [name for name, value in now().items() if value != before[name]] == ['projects/one/b.py']


def test_the_content_of_folders(tmp_path):
    assert content_hash(tmp_path / 'none') is None
    (tmp_path / 'a').mkdir()
    (tmp_path / 'a/x').write_text('1')
    first = content_hash(tmp_path / 'a')
    (tmp_path / 'a/x').write_text('2')
    assert content_hash(tmp_path / 'a') != first
    (tmp_path / 'a/manifest.json').write_text('{}')
    with_manifest = content_hash(tmp_path / 'a')
    (tmp_path / 'a/x').write_text('3')
    assert content_hash(tmp_path / 'a') == with_manifest == content_hash(tmp_path / 'a/manifest.json')


def test_a_split_is_its_images_and_labels_whatever_their_names(tmp_path):
    def data(name, train_mask, prefix=''):
        (tmp_path / name).mkdir()
        items = [{'id': f'{prefix}1', 'split': 'train', 'image_sha256': 'a', 'mask_sha256': train_mask},
                 {'id': f'{prefix}2', 'split': 'val', 'image_sha256': 'b', 'mask_sha256': 'm'}]
        (tmp_path / name / 'manifest.json').write_text(json.dumps({'items': items}))
        return tmp_path / name

    one, two = data('one', 'x'), data('two', 'y', 'target_')
    assert split_identity(one, 'val') == split_identity(two, 'val') and split_identity(one, 'val')[1] == 1
    assert split_identity(one, 'train') != split_identity(two, 'train')


def test_differences_are_named():
    one = Fingerprint('c', None, 'k', {'d': '1'}, {'p': '1'}, {'config': 'a = 1\nb = dict(c=2, d=3)\n', 'code': {
        'x.py': '1'}})
    two = Fingerprint('e', None, 'l', {'d': '2'}, {'p': '2'}, {'config': 'a = 1\nb = dict(c=5, d=3)\n', 'code': {
        'x.py': '2'}})
    assert differences(one.record(), one) == []
    assert differences(one.record(), two, one.details) == ['config (b.c)', 'code (x.py)', 'data d', 'parent p']
    assert differences(one.record(), two) == ['config', 'code', 'data d', 'parent p']


# ------------------------------------------------------------------------------------------------- running


def test_a_chain_runs_once(write, runner, tmp_path):
    path = write(three())
    first = runner(path)
    assert [(stage.name, decision.action) for stage, decision in first.plan()] == [
        ('a', 'run'), ('b', 'follow'), ('c', 'follow'), ('d', 'run')]
    assert not (tmp_path / 'work').exists()  # a plan writes nothing
    outcome = first.run()
    assert outcome.status == 0 and begun(first.told) == ['a', 'b', 'c', 'd']
    assert (tmp_path / 'work/c/out.txt').read_text() == 'c b a data '
    write_progression(first)
    before = snapshot(tmp_path / 'work')
    again = runner(path)
    assert again.run().status == 0 and begun(again.told) == []
    assert again.told == [f'{name}: complete and unchanged, skipped' for name in 'abcd']
    write_progression(again)
    assert snapshot(tmp_path / 'work') == before
    assert {entry['starts'] for entry in state(tmp_path).values()} == {1}


def test_a_change_redoes_the_stage_and_what_follows_from_it(write, runner, tmp_path):
    runner(write(three())).run()
    changed = runner(write(three(middle='!')))
    assert [(stage.name, decision.action, decision.why) for stage, decision in changed.plan()] == [
        ('a', 'skip', 'complete and unchanged'), ('b', 'redo', 'changed: command'),
        ('c', 'follow', 'after b; unless they give the same again'), ('d', 'skip', 'complete and unchanged')]
    assert changed.run().status == 0 and begun(changed.told) == ['b', 'c']
    assert 'c: changed: parent b: set aside as c.old-1, done anew' in changed.told
    assert (tmp_path / 'work/c/out.txt').read_text() == 'c b! a data '
    assert (tmp_path / 'work/c.old-1/out.txt').read_text() == 'c b a data '
    assert (tmp_path / 'work/b.old-1.log').is_file()
    (tmp_path / 'data.txt').write_text('more ')
    data = runner(write(three(middle='!')))
    assert data.run().status == 0 and begun(data.told) == ['a', 'b', 'c']
    assert data.told[0] == 'a: changed: data data.txt: set aside as a.old-1, done anew'
    assert (tmp_path / 'work/c.old-2/out.txt').read_text() == 'c b! a data '


def test_the_same_result_again_stops_the_redoing(write, runner, tmp_path):
    runner(write(three())).run()
    (tmp_path / 'work/a/out.txt').unlink()
    again = runner(write(three()))
    assert again.run().status == 0
    assert begun(again.told) == ['a'] and again.told[0] == 'a: out.txt is missing: set aside as a.old-1, done anew'


def test_code_changes_redo_unless_accepted(write, runner, tmp_path):
    path = write([tool('a'), tool('b')])
    runner(path).run()
    (tmp_path / 'tool.py').write_text(TOOL + 'x = 1\n')
    accepting = runner(path, Choice(accept_code=True))
    assert accepting.run().status == 0 and begun(accepting.told) == []
    assert 'a: accepted as unchanged: code (tool.py)' in accepting.told
    assert state(tmp_path)['a']['accepted'][0]['what'] == ['code (tool.py)']
    assert begun((later := runner(path)).told) == [] and later.run().status == 0 and begun(later.told) == []
    (tmp_path / 'tool.py').write_text('# a remark\n' + TOOL + 'x = 1\n')
    assert [decision.action for _, decision in runner(path).plan()] == ['skip', 'skip']
    (tmp_path / 'tool.py').write_text(TOOL)
    assert [decision.action for _, decision in runner(path).plan()] == ['redo', 'redo']


def test_failures_end_the_call_and_the_next_one_tries_again(write, runner, tmp_path):
    failing = runner(write([tool('a'), tool('b', ' fail'), tool('c')]))
    outcome = failing.run()
    assert outcome.status == 1 and 'b failed: status 1: error: it does not work' in outcome.message
    assert state(tmp_path)['b']['status'] == 'failed' and 'c' not in state(tmp_path)
    again = runner(write([tool('a'), tool('b', ' fail'), tool('c')]))
    assert again.run().status == 1 and 'b: failed: set aside as b.old-1, done anew' in again.told
    empty = runner(write([tool('a', ' nothing')]))
    assert empty.run().message.startswith('a failed: ended well, but out.txt is missing')
    allowed = runner(write([dict(tool('a', ' fail'), outputs=['begun'], ok=[0, 1])]))
    assert allowed.run().status == 0


def test_from_until_and_only(write, runner, tmp_path):
    path = write(three())
    for choice, message in ((Choice(start='b'), 'b needs a, which is not complete'),
                            (Choice(only='c'), '--only c: c needs b, which is not complete'),
                            (Choice(start='c', until='b'), '--until b: comes before --from c'),
                            (Choice(only='b', until='b'), '--only: stands alone'),
                            (Choice(start='bb'), r"no stage 'bb'; did you mean b\?")):
        with pytest.raises(UserError, match=message):
            runner(path, choice).run()
    assert not (tmp_path / 'work/chain.json').exists()
    assert runner(path, Choice(until='b')).run().status == 0 and set(state(tmp_path)) == {'a', 'b'}
    (tmp_path / 'data.txt').write_text('other ')
    later = runner(path, Choice(start='c'))  # what comes earlier counts as it is
    assert later.run().status == 0 and begun(later.told) == ['c', 'd']
    (tmp_path / 'work/chain.json').unlink()
    assert runner(path, Choice(only='d')).run().status == 0
    assert (tmp_path / 'work/d.old-1').is_dir()  # a directory that no entry knows is not written into


def test_a_stage_waits_for_a_person(write, runner, tmp_path):
    path = write([tool('a'), dict(name='review', type='WaitStage', file='{a.dir}/decisions.csv',
                                  text='look at {a.dir}'), tool('b', '', '{review.file}')])
    waiting = runner(path)
    outcome = waiting.run()
    assert outcome.status == 3 and f'look at {tmp_path / "work/a"}' in outcome.message
    assert 'b' not in state(tmp_path)
    (tmp_path / 'work/a/decisions.csv').write_text('keep')
    assert runner(path).run().status == 0 and (tmp_path / 'work/b/out.txt').read_text() == 'b keep'
    (tmp_path / 'work/a/decisions.csv').write_text('take')
    again = runner(path)
    assert again.run().status == 0 and begun(again.told) == ['b']
    (tmp_path / 'tool.py').write_text(TOOL + 'x = 1\n')  # what was looked at is made anew: it is looked at again
    outcome = runner(path).run()
    assert outcome.status == 3 and outcome.message.startswith('review waits for ')
    old = tmp_path / 'work/a.old-1/decisions.csv'
    assert f'(an earlier one, of what has been done anew since: {old}): look at ' in outcome.message


def test_a_tool_that_changes_its_own_input_is_told(write, runner, tmp_path):
    (tmp_path / 'bad.py').write_text("import sys, pathlib\npathlib.Path(sys.argv[1], 'out.txt').write_text('x')\n"
                                     "pathlib.Path(sys.argv[2]).write_text('changed')\n")
    bad = runner(write([dict(name='a', type='ToolStage', command=['bad.py', '{dir}', '{inputs.data}'],
                             outputs=['out.txt'])]))
    assert bad.run().status == 0 and bad.told[-1].startswith('warning: a: data.txt has changed while it ran')


def call_from_outside(path, tmp_path, choice=None):
    """Run the chain in a process of its own, a fork of this one: importing torch takes seconds."""
    process = multiprocessing.get_context('fork').Process(target=lambda: os._exit(
        ChainRunner(read_chain(path), tmp_path / 'work', choice, poll=0.02).run().status))
    process.start()
    return process


def until(condition, seconds=60):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.02)


def test_a_signal_ends_the_stage_and_the_call(write, runner, tmp_path):
    path = write([tool('a', ' sleep'), tool('b')])
    for number, status in ((signal.SIGTERM, 75), (signal.SIGINT, 130)):
        def end(number=number):
            until((tmp_path / 'work/a/begun').exists)
            os.kill(os.getpid(), number)

        thread = threading.Thread(target=end)
        thread.start()
        outcome = runner(path).run()
        thread.join()
        assert outcome.status == status and state(tmp_path)['a']['status'] == 'interrupted'
        (tmp_path / 'work/a/begun').unlink()
    (tmp_path / 'work/awake').write_text('')
    again = runner(path)
    assert again.run().status == 0
    assert again.told[0] == 'a: interrupted: begins anew, what it left is deleted' and begun(again.told) == ['a', 'b']
    assert not list((tmp_path / 'work').glob('*.old-*'))


def test_what_an_interrupted_tool_left_is_kept_where_a_person_has_worked_in_it(write, runner, tmp_path):
    path = write([tool('a', ' sleep'), dict(name='w', type='WaitStage', file='{a.dir}/decisions', text='x')])
    (tmp_path / 'work/a').mkdir(parents=True)
    now = runner(path)
    now.state.put('a', {'status': 'interrupted', 'fingerprint': now.fingerprint(now.chain.stage('a')).record()})
    (tmp_path / 'work/a/decisions').write_text('mine')
    (tmp_path / 'work/awake').write_text('')
    assert now.run().status == 3 and now.told[0] == 'a: interrupted: set aside as a.old-1, done anew'
    assert (tmp_path / 'work/a.old-1/decisions').read_text() == 'mine'


def test_a_killed_call_is_taken_up_and_its_process_ended(write, runner, tmp_path):
    path = write([tool('a', ' sleep'), tool('b')])
    process = call_from_outside(path, tmp_path)
    until((tmp_path / 'work/a/begun').exists)
    with pytest.raises(UserError, match='work: process .* is training in it'):
        runner(path).run()
    process.kill()
    process.join()
    left, = stage_process.left_behind(tmp_path / 'work/a')
    (tmp_path / 'work/awake').write_text('')
    again = runner(path)
    assert again.run().status == 0 and f'process {left} of a killed call still runs' in again.told[0]
    assert again.told[1] == 'a: killed: begins anew, what it left is deleted'
    assert stage_process.left_behind(tmp_path / 'work/a') == []


def test_a_stage_alone_runs_beside_another_one(write, runner, tmp_path):
    path = write([tool('a', ' sleep'), tool('b')])
    alone = call_from_outside(path, tmp_path, Choice(only='a'))
    until((tmp_path / 'work/a/begun').exists)
    try:
        assert runner(path, Choice(only='b')).run().status == 0
        with pytest.raises(UserError, match=r'stage a runs as a job of its own \(--only\)'):
            runner(path).run()
    finally:
        alone.terminate()
        alone.join(60)
    assert alone.exitcode == 75
    assert {name: entry['status'] for name, entry in state(tmp_path).items()} == {'a': 'interrupted', 'b': 'complete'}


@pytest.mark.parametrize(('text', 'message'), [
    ('{', r'not the state of a chain \(JSONDecodeError'),
    ('{"version": 2, "chain": "c", "stages": {}}', 'version: expected 1, found 2'),
    ('{"version": 1, "chain": "x", "stages": {}}', 'belongs to the chain x, not to c'),
    ('{"version": 1, "chain": "c", "stages": {"a": {"status": "x", "fingerprint": {}}}}', 'an entry has no status')])
def test_a_foreign_state_is_refused(write, runner, tmp_path, text, message):
    (tmp_path / 'work').mkdir()
    (tmp_path / 'work/chain.json').write_text(text)
    with pytest.raises(UserError, match=message):
        runner(write(three()))


# ------------------------------------------------------------------------------------------------- trainings


@pytest.fixture
def trainings(write, tmp_path, monkeypatch):
    """Write a chain of two trainings, of which a stand-in is run."""
    (tmp_path / 'training.py').write_text(TRAINING)
    real = chain_run.command_of

    def stand_in(stage, *args, **kwargs):
        command = real(stage, *args, **kwargs)
        if not isinstance(stage, TrainStage):
            return command
        assert command[1] == str(ROOT / 'tools/train.py') and command[2] == str(CONFIG)
        assert command[3:7] == ['--work-dir', str(tmp_path / 'work' / stage.name), '--resume', 'auto']
        return [sys.executable, str(tmp_path / 'training.py'), command[4], *command[8:]]

    monkeypatch.setattr(chain_run, 'command_of', stand_in)
    monkeypatch.setattr(Config, 'pretty_text', property(  # MMEngine's takes a tenth of a second
        lambda config: ''.join(f'{key} = {value!r}\n' for key, value in config.to_dict().items())))
    (tmp_path / 'village').mkdir()
    items = [{'split': split, 'image_sha256': f'{index}', 'mask_sha256': 'm'}
             for index, split in enumerate(['train'] * 5 + ['val'] * 2)]
    (tmp_path / 'village/manifest.json').write_text(json.dumps({'items': items}))

    def make(gate=None, **options):
        own = {'data_root': '{inputs.data}', 'batch_size': 2}
        return write([
            dict(name='one', type='TrainStage', config=str(CONFIG), options=own, note='original'),
            dict(name='three', type='TrainStage', config=str(CONFIG), options={**own, **options},
                 parents={'initialise.checkpoint': 'one'}, gate=gate)], inputs={'data': 'village'})

    return make


def test_trainings_get_their_parents_best_checkpoint(trainings, runner, tmp_path):
    first = runner(trainings())
    three_stage = first.chain.stage('three')
    assert stage_config(three_stage, first.chain, {}).initialise.checkpoint == '{one.best}'
    assert first.run().status == 0
    text = (tmp_path / 'work/three/best_mIoU_iter_4.pth').read_text()
    assert f'initialise.checkpoint={tmp_path}/work/one/best_mIoU_iter_4.pth' in text and 'batch_size=2' in text
    result = state(tmp_path)['one']['result']
    assert result['best'] == 'best_mIoU_iter_4.pth' and result['last'] == 'iter_4.pth' and result['images'] == 5
    assert result['budget'] == 400 * 2 and result['measures']['val']['samples'] == 2
    again = runner(trainings())
    assert again.run().status == 0 and begun(again.told) == []
    changed = runner(trainings(**{'optim_wrapper.optimizer.lr': 0.5}))
    assert changed.run().status == 0
    assert begun(changed.told) == ['three']
    assert 'three: changed: config (optim_wrapper.optimizer.lr): set aside as three.old-1, done anew' in changed.told
    everywhere = runner(trainings(), Choice(options={'num_workers': 0}))
    assert everywhere.run().status == 0 and begun(everywhere.told) == ['one', 'three']


def test_a_work_directory_may_move(trainings, runner, tmp_path):
    path = trainings()
    assert runner(path).run().status == 0
    (tmp_path / 'work').rename(tmp_path / 'moved')
    moved = ChainRunner(read_chain(path), tmp_path / 'moved')
    assert [decision.action for _, decision in moved.plan()] == ['skip', 'skip']


def test_a_killed_training_goes_on_from_what_it_saved(trainings, runner, tmp_path):
    (tmp_path / 'work').mkdir()
    (tmp_path / 'work/slowly').write_text('')
    process = call_from_outside(trainings(), tmp_path)
    until((tmp_path / 'work/one/iter_2.pth').exists)
    os.kill(state(tmp_path)['one']['process'], signal.SIGSTOP)  # it shall not come to its end meanwhile
    process.kill()
    process.join()
    os.killpg(state(tmp_path)['one']['process'], signal.SIGKILL)
    until(lambda: not stage_process.left_behind(tmp_path / 'work/one'))
    inode = (tmp_path / 'work/one/iter_1.pth').stat().st_ino
    (tmp_path / 'work/slowly').unlink()
    again = runner(trainings())
    assert again.run().status == 0 and again.told[0] == 'one: killed: goes on'
    assert (tmp_path / 'work/one/iter_1.pth').stat().st_ino == inode and state(tmp_path)['one']['starts'] == 2


@pytest.mark.parametrize('workers', [1, 0])
def test_an_interrupted_training_goes_on_and_a_changed_one_does_not(trainings, runner, tmp_path, workers):
    (tmp_path / 'work').mkdir()
    (tmp_path / 'work/slowly').write_text('')

    def end():
        until((tmp_path / 'work/one/iter_2.pth').exists)
        os.kill(os.getpid(), signal.SIGUSR1)

    thread = threading.Thread(target=end)
    thread.start()
    assert runner(trainings(), Choice(options={'num_workers': 1})).run().status == 75
    thread.join()
    assert not (tmp_path / 'work/one/iter_4.pth').exists()
    inode = (tmp_path / 'work/one/iter_1.pth').stat().st_ino
    (tmp_path / 'work/slowly').unlink()
    again = runner(trainings(), Choice(options={'num_workers': workers}))
    assert again.run().status == 0 and begun(again.told) == ['one', 'three']
    same = workers == 1
    assert ((tmp_path / 'work/one/iter_1.pth').stat().st_ino == inode) == same
    assert state(tmp_path)['one']['starts'] == (2 if same else 1)
    if same:
        assert again.told[0] == 'one: interrupted: goes on'
    else:
        assert again.told[0].startswith('one: changed: config (num_workers, ')
        assert (tmp_path / 'work/one.old-1/iter_1.pth').stat().st_ino == inode


def test_a_config_option_and_missing_data_are_told_before_anything_runs(trainings, runner, tmp_path):
    with pytest.raises(UserError, match=r"stages.three: --cfg-options .*has no key 'lrr'; did you mean lr\?"):
        runner(trainings(**{'optim_wrapper.optimizer.lrr': 0.5})).run()
    with pytest.raises(UserError, match='stages.one: data nowhere: no such folder'):
        runner(trainings(), inputs={'data': 'nowhere'}).run()
    assert not (tmp_path / 'work').exists()


# ------------------------------------------------------------------------------------------------- gates


def result(value, data='d', split='val', budget=10, **metrics):
    return {'measures': {split: {'metrics': {'mIoU': value, **metrics}, 'data': data, 'samples': 3}}, 'budget': budget}


@pytest.mark.parametrize(('own', 'other', 'options', 'verdict', 'text'), [
    (result(0.6), result(0.5), {}, 'passed', '0.6000 against 0.5000, gain +0.1000 (at least +0), the same budget'),
    (result(0.5), result(0.5), {}, 'passed', 'gain +0.0000'),
    (result(0.4), result(0.5), {}, 'failed', 'FAILED: 0.4000 against 0.5000, gain -0.1000'),
    (result(0.51), result(0.5), {'min_gain': 0.02}, 'failed', '(at least +0.02)'),
    (result(0.6, budget=20), result(0.5), {}, 'passed', 'budgets differ: 20 and 10 samples'),
    (result(0.6, data='e'), result(0.5), {}, 'incomparable', 'no comparison is possible: they were scored on'),
    (result(0.6, data=None), result(0.5, data=None), {}, 'incomparable', 'scored on different data'),
    (result(0.6), result(0.5, split='test'), {}, 'incomparable', 'p has no scores of the split val'),
    (result(0.6), None, {}, 'incomparable', 'p is not complete'),
    (result(0.6), result(0.5), {'metric': 'mIou'}, 'incomparable', 's has no mIou; did you mean mIoU?')])
def test_gates(own, other, options, verdict, text):
    found = judge('s', Gate('p', **options), own, other)
    assert found['verdict'] == verdict and text in found['text'] and '\n' not in found['text']
    assert found['same_budget'] is (None if verdict == 'incomparable' else own['budget'] == other['budget'])


def test_a_lost_gate_warns_or_stops_each_time(trainings, runner, tmp_path):
    gate = dict(parent='one', min_gain=0.9)
    warned = runner(trainings(gate))
    assert warned.run().status == 0
    assert warned.told[-1] == ('warning: gate three against one (mIoU, val): FAILED: 1.0000 against 0.8000, gain '
                               '+0.2000 (at least +0.9), the same budget')
    stopped = runner(trainings(gate), Choice(stop_at_gates=True))
    outcome = stopped.run()
    assert outcome.status == 1 and outcome.message == 'stopped at the gate of three' and begun(stopped.told) == []
    assert runner(trainings({**gate, 'on_fail': 'stop'})).run().status == 1
    assert runner(trainings({**gate, 'min_gain': 0.2})).run().status == 0
    assert state(tmp_path)['three']['gate']['verdict'] == 'passed'


def test_budgets():
    loader = {'batch_size': 4}
    assert budget({'train_cfg': {'max_iters': 10}, 'train_dataloader': loader}, 7, processes=2) == 80
    assert budget({'train_cfg': {'max_epochs': 10}, 'train_dataloader': loader}, 7) == 70
    assert budget({}, 7) is None


def test_the_best_checkpoint_is_the_lineages_then_the_latest_then_the_last(tmp_path):
    assert best_checkpoint(tmp_path) is None
    for name in ('iter_5.pth', 'iter_10.pth'):
        (tmp_path / name).write_text('x')
    assert best_checkpoint(tmp_path, 'mIoU').name == 'iter_10.pth'
    for name in ('best_mIoU_iter_8.pth', 'best_mIoU_iter_10.pth', 'best_val_OA_iter_9.pth'):
        (tmp_path / name).write_text('x')
    assert best_checkpoint(tmp_path, ['mIoU', 'val/OA']).name == 'best_mIoU_iter_10.pth'
    assert best_checkpoint(tmp_path, 'val/OA').name == 'best_val_OA_iter_9.pth'
    record = {'version': 1, 'run_id': 'abcd', 'name': 'n', 'task': 't', 'chain': 'c', 'stage': 's', 'config': {},
              'code': {}, 'data': [], 'parents': [], 'starts': [], 'metrics': {},
              'checkpoints': {'best_mIoU_iter_8.pth': {'sha256': 'x', 'aliases': ['best']}}}
    (tmp_path / 'lineage.json').write_text(json.dumps(record))
    assert best_checkpoint(tmp_path, 'mIoU').name == 'best_mIoU_iter_8.pth'


# ------------------------------------------------------------------------------------------------- tables


DATA = """
import json, pathlib, sys
folder, more = pathlib.Path(sys.argv[1]) / 'data', json.loads(sys.argv[2])
folder.mkdir()
rows = more.pop('rows', None)
number = more.pop('number', 3)
items = [{'split': 'train' if index else 'val'} for index in range(number)]
(folder / 'manifest.json').write_text(json.dumps({'items': items, **more}))
if rows:
    (folder / 'data_statistics.json').write_text(json.dumps({'rows': rows}))
"""


def test_the_tables_are_those_of_the_seed(trainings, write, runner, tmp_path):
    def data(name, after, **more):
        return dict(name=name, type='ToolStage', command=['data.py', '{dir}', json.dumps(more)], outputs=['data'],
                    after=after)

    (tmp_path / 'data.py').write_text(DATA)
    path = write([
        data('correct', [], number=7, corrections={'replaced': 4}),
        data('combine', ['correct'], number=12, combined={'sources': {'target': 7, 'source': 5}}),
        data('filter', ['combine'], number=10, combined={'sources': {'target': 7, 'source': 3}},
             filtered={'removed': 2}),
        data('score', ['filter'], rows={'Effective samples per epoch': 23.5, 'Hard sample weights': 2})],
        inputs={'original': 'village'})
    run = runner(path)
    assert run.run().status == 0
    values = write_progression(run)
    assert values['data']['columns'] == ['original', 'correct', 'combine', 'filter', 'score']
    assert values['data']['rows'] == {
        'Images of target': [None, None, 7, 7, None], 'Images of source': [None, None, 5, 3, None],
        'Hard sample weights': [None, None, None, None, 2], 'Training images': [5, 6, 11, 9, 2],
        'Total images': [7, 7, 12, 10, 3], 'Removed images': [0, 0, 0, 2, 2], 'Corrected masks': [0, 4, 4, 4, 4],
        'Effective samples per epoch': [5, 6, 11, 9, 23.5]}
    text = (tmp_path / 'work/chain.md').read_text()
    assert '| Corrected masks' in text and json.loads((tmp_path / 'work/progression.json').read_text()) == values


def test_the_stage_progression(trainings, runner, tmp_path):
    run = runner(trainings(dict(parent='one', min_gain=0.3)))
    assert {stage['status'] for stage in progression(run)['stages']} == {'not begun'}
    assert run.run().status == 0
    one, three_stage = write_progression(run)['stages']
    assert (one['images'], one['split'], one['metrics'], one['note']) == (
        5, 'val', {'mIoU': 0.8, 'mF1': 0.75}, 'original')
    assert three_stage['gain'] == pytest.approx(0.2) and three_stage['note'] == 'loses against one'
    line = progression_text(progression(run)).splitlines()[4]
    assert line.split()[:6] == ['three', '5', 'val', '100.00', '75.00', '+20.00'] and 'complete' in line
    assert 'gate three against one' in (tmp_path / 'work/chain.md').read_text()
    table = progression_text({**progression(run), 'scores': ['mF1', 'sAP10']}).splitlines()  # of another task
    assert table[1].split()[3:6] == ['mF1', 'sAP10', 'Gain'] and table[4].split()[3:6] == ['0.75', '–', '+0.20']


# ------------------------------------------------------------------------------------------------- the tool, clusters


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A stand-in for Slurm on the path: jobs get numbers from 41 on, those in ``queued`` wait, nothing is run."""
    (tmp_path / 'bin').mkdir()
    for name, text in {
        'sbatch': f'number=$(( $(cat {tmp_path}/count 2>/dev/null || echo 40) + 1 )); echo $number > {tmp_path}/count\n'
                  f'echo "$@" >> {tmp_path}/calls; echo "$number;cluster"\n',
        'scontrol': f'echo "$@" >> {tmp_path}/scontrol\n',
        'squeue': f'grep -x "${{@: -1}}" {tmp_path}/queued || true\n'}.items():
        (tmp_path / 'bin' / name).write_text('#!/usr/bin/env bash\n' + text)
        (tmp_path / 'bin' / name).chmod(0o755)
    (tmp_path / 'queued').write_text('')
    monkeypatch.setenv('PATH', f'{tmp_path}/bin:{os.environ["PATH"]}')


def test_slurm_gets_one_job_a_stage_with_dependencies(write, runner, tmp_path, slurm, monkeypatch):
    monkeypatch.setenv('SBATCH_ARGS', '-p part')
    wait = dict(name='w', type='WaitStage', file='{c.dir}/decisions', text='decide')
    path = write([*three(), wait, tool('e', '', '{w.file}'), tool('f', gate=dict(parent='d'))])
    choice = Choice(launcher='slurm', gpus=2)
    outcome = submit(runner(path, choice), [str(path), '--set', 'data=data.txt'])
    assert outcome.status == 3 and outcome.message.startswith('w waits for a person: decide')
    calls = [line.split() for line in (tmp_path / 'calls').read_text().splitlines()]
    assert [[part for part in one if part.startswith('--dependency')] for one in calls] == [
        [], ['--dependency=afterok:41'], ['--dependency=afterok:42'], [], ['--dependency=afterok:44']]
    assert all(one[0] == '--parsable' and '-p' in one and f'--job-name=c-{name}' in one
               for one, name in zip(calls, 'abcdf'))
    assert not any('--gres' in part for one in calls for part in one)  # tools need no GPU
    assert '--set data=data.txt --work-dir' in (tmp_path / 'work/slurm/a.sh').read_text()
    assert runner(path, Choice(only='a')).run().status == 0
    (tmp_path / 'queued').write_text('42\n')
    again = runner(path, choice)
    assert submit(again, [str(path)]).status == 3
    assert again.told[:3] == ['a: complete and unchanged, skipped', 'b: job 42 is there already', 'c: job 46 after 42']


def test_a_training_of_a_cluster_asks_for_its_gpus(trainings, runner, tmp_path, slurm):
    path = trainings()
    assert submit(runner(path, Choice(launcher='slurm', gpus=2)), [str(path)]).status == 0
    assert '--gres=gpu:2' in (tmp_path / 'calls').read_text().splitlines()[1].split()
    assert '--only three --launcher pytorch --gpus 2' in (tmp_path / 'work/slurm/three.sh').read_text()


def test_a_cluster_job_that_is_told_to_leave_is_requeued(write, runner, tmp_path, slurm, monkeypatch):
    """The tool is a stand-in for its imports' sake; that a signal gives it status 75 is tested above."""
    (tmp_path / 'python').write_text('#!/usr/bin/env bash\ntrap "echo asked; exit 75" USR1\nmkdir -p work/a\n'
                                     'echo "$@" > work/a/begun\nsleep 60 & wait\n')
    (tmp_path / 'python').chmod(0o755)
    monkeypatch.setenv('PYTHON', str(tmp_path / 'python'))
    path = write([tool('a', ' sleep')])
    assert submit(runner(path, Choice(launcher='slurm')), [str(path)]).status == 0
    job = subprocess.Popen(['bash', str(tmp_path / 'work/slurm/a.sh')], env={**os.environ, 'SLURM_JOB_ID': '41'},
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until((tmp_path / 'work/a/begun').exists)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(timeout=60) == 0 and (tmp_path / 'scontrol').read_text() == 'requeue 41\n'
    assert f'{ROOT}/tools/run_stages.py {path} --work-dir {tmp_path}/work --only a' in (
        tmp_path / 'work/a/begun').read_text()


def test_without_slurm_it_is_one_line(write, runner, tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', '/nonexistent')
    with pytest.raises(UserError, match='--launcher slurm: sbatch: No such file or directory'):
        submit(runner(write(three()), Choice(launcher='slurm')), [])


def test_what_a_job_repeats(tmp_path):
    args = SimpleNamespace(chain='c.py', stop_at_gates=True, accept_code=False, set=['a=b'], cfg_options={'x': (1, 2)})
    assert repeated_arguments(args)[1:] == ['--stop-at-gates', '--set', 'a=b', '--cfg-options', 'x=(1,2)']


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Call the tool within this process; return its status, output and errors."""
    specification = importlib.util.spec_from_file_location('run_stages', ROOT / 'tools/run_stages.py')
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)

    def call(path, *arguments):
        monkeypatch.setattr(sys, 'argv', ['run_stages.py', str(path), '--work-dir', str(tmp_path / 'work'), *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.run(module.main)
        return ended.value.code, *capsys.readouterr()

    return call


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--gpus', '2'], '--gpus: needs --launcher'), (['--set', 'data'], "--set: expected KEY=VALUE, found 'data'"),
    (['--gpus', '0', '--launcher', 'pytorch'], '--gpus: expected a whole number from 1'),
    (['--until', 'x'], "no stage 'x' (it has a, b, c, d)")])
def test_wrong_arguments_are_one_line(write, call, tmp_path, arguments, message):
    status, _, told = call(write(three()), *arguments)
    assert status == 2 and told.startswith('error: ') and message in told and told.count('\n') == 1
    assert not (tmp_path / 'work').exists()


def test_a_misspelt_option_of_a_stage_is_one_line(trainings, call, tmp_path):
    status, _, told = call(trainings(**{'optim_wrapper.optimizr.lr': 0.001}), '--dry-run')
    assert status == 2 and 'stages.three: --cfg-options' in told and 'did you mean optimizer?' in told
    assert told.count('\n') == 1 and not (tmp_path / 'work').exists()


def test_the_tool_plans_runs_and_tells(write, call, tmp_path):
    path = write([tool('a'), tool('b', ' fail', '{a.dir}/out.txt')])
    assert call(path, '--status')[1].count('not begun') == 2
    status, printed, _ = call(path, '--dry-run')
    assert status == 0 and printed.splitlines()[0] == 'a: run' and printed.splitlines()[2] == 'b: follow (after a)'
    assert f"'b fail ' {tmp_path}/work/a/out.txt" in printed and not (tmp_path / 'work').exists()
    status, printed, _ = call(path)
    assert status == 1 and 'Stage progression' in printed and printed.splitlines()[-1].startswith('b failed: status 1')
    assert (tmp_path / 'work/chain.md').is_file()
    entry = state(tmp_path)['a']
    (tmp_path / 'work/chain.json').write_text(json.dumps({'version': 1, 'chain': 'c', 'stages': {
        'a': {**entry, 'status': 'running'}}}))
    assert call(path, '--status')[1].splitlines()[3].split()[-1] == 'killed'


def test_data_with_spaces_and_commas_in_its_path(trainings, runner, tmp_path):
    (tmp_path / 'village').rename(tmp_path / 'my, village')
    first = runner(trainings(), inputs={'data': 'my, village'})
    assert first.run().status == 0 and state(tmp_path)['one']['result']['images'] == 5
    assert "data_root='my, village'" in (tmp_path / 'work/one/best_mIoU_iter_4.pth').read_text()
    again = runner(trainings(), inputs={'data': 'my, village'})
    assert again.run().status == 0 and begun(again.told) == []
