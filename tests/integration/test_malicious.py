"""A checkpoint that would execute code is refused wherever one is read, in one line, and nothing is executed."""

import json
import os
import pickle
import runpy
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmseg.registry import MODELS
from safetensors.torch import save_file

from projects.engine.checkpoints import read_checkpoint
from projects.engine.config import load_config
from projects.engine.errors import UserError
from projects.engine.saving import newest_that_opens
from projects.landcover.taxonomy import get_taxonomy
from projects.multistage.initialise import initialise

pytestmark = pytest.mark.slow


class Call:
    """Pickles to a call; a call as the function or an argument of another one pickles, too."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __call__(self):
        raise AssertionError('only what unpickles it calls it')

    def __reduce__(self):
        return self.function, self.arguments


def command(canary):
    return Call(os.system, f'touch {canary}')


def chain(canary):
    """From a class that MMEngine's own list allows to ``open``, by ``getattr`` alone, which it allows as well."""
    names = Call(getattr, HistoryBuffer.mean, '__globals__')
    builtins = Call(Call(getattr, names, 'get'), '__builtins__')
    return Call(Call(Call(getattr, builtins, 'get'), 'open'), str(canary), 'w')


def in_weights(checkpoint, payload):
    checkpoint['state_dict']['backbone.stem.0.weight'] = payload


def in_meta(checkpoint, payload):
    checkpoint['meta']['dataset_meta'] = dict(checkpoint['meta']['dataset_meta'], note=[{'deep': payload}])


def in_history(checkpoint, payload):
    checkpoint['message_hub'] = {'log_scalars': {'train/loss': payload}}


def as_zip(checkpoint, path):
    torch.save(checkpoint, path)


def as_legacy(checkpoint, path):
    torch.save(checkpoint, path, _use_new_zipfile_serialization=False)


def as_pickle(checkpoint, path):
    path.write_bytes(pickle.dumps(checkpoint['message_hub'] if 'message_hub' in checkpoint else checkpoint['meta']))


SMALL = ['crop_size=(64,64)', 'batch_size=2', 'num_workers=0']
ITERATIONS = ['train_cfg.max_iters=4', 'train_cfg.val_interval=2', 'warmup_iters=1']
CASES = {
    'command': (command, in_weights, as_zip), 'chain': (chain, in_meta, as_zip),
    'meta': (command, in_meta, as_zip), 'history': (command, in_history, as_zip),
    'history_chain': (chain, in_history, as_legacy), 'legacy': (command, in_meta, as_legacy),
    'plain': (command, in_history, as_pickle)}


@pytest.fixture(scope='module')
def honest(config):
    """What a training saves, of an untrained network."""
    cfg = load_config(config)
    torch.manual_seed(0)
    lineage = {'run_id': 'aaaabbbb', 'name': 'n', 'task': 't', 'chain': 'c', 'stage': 's', 'config_sha256': '0' * 64}
    return {'state_dict': MODELS.build(cfg.model).state_dict(), 'optimizer': {}, 'param_schedulers': [],
            'message_hub': {'log_scalars': {}, 'runtime_info': {}, 'resumed_keys': {}},
            'meta': {'iter': 4, 'epoch': 0, 'seed': 0, 'cfg': cfg.pretty_text, 'lineage': lineage,
                     'dataset_meta': get_taxonomy('landcover6').metainfo}}


@pytest.fixture
def canary(tmp_path):
    """What the code in a checkpoint would make; no test may end with it."""
    yield tmp_path / 'canary'
    assert not (tmp_path / 'canary').exists()


@pytest.fixture
def evil(honest, canary, tmp_path):
    """Make the checkpoint of a case."""

    def make(case, name='evil.pth', folder=tmp_path):
        payload, hide, write = CASES[case]
        checkpoint = {key: dict(value) if isinstance(value, dict) else value for key, value in honest.items()}
        hide(checkpoint, payload(canary))
        folder.mkdir(exist_ok=True)
        write(checkpoint, folder / name)
        return folder / name

    return make


@pytest.fixture
def here(repository, capsys, monkeypatch):
    """Run a tool that needs no Runner in this process; return its one line of error."""

    def call(name, *arguments):
        monkeypatch.setattr(sys, 'argv', [name, *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(repository / 'tools' / name), run_name='__main__')
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith('error: ')]
        assert stop.value.code == 2 and len(lines) == 1
        return lines[0]

    return call


@pytest.fixture
def image(tmp_path):
    cv2.imwrite(str(tmp_path / 'image.png'), np.zeros((32, 32, 3), np.uint8))
    return tmp_path / 'image.png'


@pytest.mark.parametrize('case', CASES)
def test_the_code_would_run_elsewhere_and_is_refused_here(case, evil, canary, monkeypatch):
    path = evil(case)
    with pytest.raises(UserError, match='evil.pth: (refused|not a PyTorch checkpoint)'):
        read_checkpoint(path)
    assert not canary.exists()
    monkeypatch.delenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', raising=False)
    try:
        torch.load(path, weights_only=False)
    except (RuntimeError, pickle.UnpicklingError):
        assert case == 'plain'
        pickle.loads(path.read_bytes())
    assert canary.exists()  # the case is a real one
    canary.unlink()


@pytest.mark.parametrize('case', CASES)
def test_predict_publish_lineage_and_initialise(case, evil, here, config, image, tmp_path):
    path = evil(case)
    before = set(tmp_path.iterdir())
    assert 'evil.pth' in here('predict.py', config, path, image, '--out', tmp_path / 'predicted', '--device', 'cpu')
    assert 'evil.pth' in here('publish.py', path, tmp_path / 'published')
    assert 'evil.pth' in here('lineage.py', path)
    with pytest.raises(UserError, match='evil.pth'):
        initialise(torch.nn.Conv2d(1, 1, 1), path, min_matched=0.01)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize('case', CASES)
def test_an_automatic_resume_takes_the_older_one_that_is_honest(case, evil, honest, here, config, tmp_path):
    evil(case, 'iter_8.pth', tmp_path / 'run')
    assert 'none of its 1 checkpoints can be read' in here(
        'train.py', config, '--work-dir', tmp_path / 'run', '--resume')
    torch.save(honest, tmp_path / 'run/iter_4.pth')
    assert newest_that_opens(tmp_path / 'run').name == 'iter_4.pth'


# Each command line has a process of its own, forked when the imports are done: they take longer than the rest.
FORK = """
import json, os, runpy, sys
import mmseg.models
from projects.engine import runner, startup
startup.start()
for number, command in enumerate(json.loads(sys.argv[1])):
    if os.fork() == 0:
        for stream in (1, 2):
            os.dup2(os.open(f'{number}.txt', os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        sys.argv = command
        runpy.run_path(command[0], run_name='__main__')
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


def test_every_tool_refuses_it_as_a_user_runs_it(evil, config, prepared, repository, image, tmp_path):
    path = evil('chain')
    stage = tmp_path / 'stage.py'
    stage.write_text(f'_base_ = {str(config)!r}\ninitialise = dict(checkpoint={str(path)!r})\n')
    small = ['--cfg-options', f'data_root={prepared}', *SMALL, *ITERATIONS]
    commands = [
        ('train.py', config, '--work-dir', 'loaded', *small, f'load_from={path}'),
        ('train.py', config, '--work-dir', 'resumed', '--resume', path, *small),
        ('train.py', stage, '--work-dir', 'initialised', *small),
        ('test.py', config, path, '--work-dir', 'tested', *small),
        ('predict.py', config, path, image, '--out', 'predicted'),
        ('publish.py', path, 'published')]
    commands = [[str(repository / 'tools' / name), *map(str, arguments)] for name, *arguments in commands]
    done = subprocess.run([sys.executable, '-c', FORK, json.dumps(commands)], cwd=tmp_path, text=True,
                          capture_output=True, timeout=240, env=dict(os.environ, OMP_NUM_THREADS='1'))
    for number, command in enumerate(commands):
        printed = (tmp_path / f'{number}.txt').read_text()
        lines = [line for line in printed.splitlines() if line.startswith('error: ')]
        assert len(lines) == 1 and 'evil.pth: refused, it holds' in lines[0], (command[0], printed[-2000:])
    assert done.stdout.split() == ['2'] * len(commands)
    assert not list(tmp_path.glob('*/*.pth')) and not {'predicted', 'published'} & set(os.listdir(tmp_path))


def test_a_pickle_named_safetensors_is_refused(evil, here, config, image, tmp_path):
    path = evil('command', 'evil.safetensors')
    assert 'not a readable safetensors file' in here(
        'predict.py', config, path, image, '--out', tmp_path / 'predicted', '--device', 'cpu')


@pytest.mark.parametrize('text', ['import os\nos.system("touch CANARY")', 'a = open("CANARY", "w")',
                                  'a = dict(b=[__import__("os").system("touch CANARY")])'])
def test_a_config_in_a_checkpoint_is_never_executed(text, honest, canary, here, tmp_path):
    text = text.replace('CANARY', str(canary))
    meta = dict(honest['meta'], cfg=text, config=text)
    torch.save(dict(honest, meta=meta), tmp_path / 'evil.pth')
    line = here('publish.py', tmp_path / 'evil.pth', tmp_path / 'published')
    assert 'refused, it is more than plain values (nothing in it was executed)' in line
    save_file(dict(honest['state_dict']), tmp_path / 'evil.safetensors', {
        'terrace_format': '1', **{key: json.dumps(value) for key, value in meta.items()}})
    line = here('publish.py', tmp_path / 'evil.safetensors', tmp_path / 'published')
    assert 'refused' in line and not (tmp_path / 'published').exists()
