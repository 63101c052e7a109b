"""What happens to a run, one accident at a time, through the tools."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from projects.engine.checkpoints import read_checkpoint

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
ACCIDENTS = '''
"""Accidents that a config can order."""
import os, signal
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmseg.registry import MODELS, TRANSFORMS
from projects.landcover.losses.soft_cross_entropy import SoftCrossEntropyLoss

@MODELS.register_module()
class NanAt(SoftCrossEntropyLoss):
    """Not a number from a call on, for some calls; infinite in the gradient only with ``gradient``."""
    def __init__(self, calls, gradient=False, **kwargs):
        super().__init__(**kwargs)
        self.calls, self.gradient, self.count = calls, gradient, 0
    def forward(self, *args, **kwargs):
        loss = super().forward(*args, **kwargs)
        self.count += 1
        if self.count not in self.calls:
            return loss
        if self.gradient:
            loss.register_hook(lambda gradient: gradient * float('inf'))
            return loss
        return loss * float('nan')

@TRANSFORMS.register_module()
class Deadly(BaseTransform):
    """Kill the worker that reads this sample."""
    def __init__(self, sample):
        self.sample = sample
    def transform(self, results):
        if results['sample_id'] == self.sample:
            os.kill(os.getpid(), signal.SIGKILL)
        return results
'''


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A work directory with iter_2.pth and iter_4.pth; tests copy it."""
    return tmp_path_factory.mktemp('trained') / 'run'


@pytest.fixture
def run(tool, config, trained, tmp_path):
    """A copy of a finished run of four iterations."""
    if not trained.exists():
        tool('train.py', config, '--work-dir', trained, options=[])
    shutil.copytree(trained, tmp_path / 'run')
    return tmp_path / 'run'


@pytest.fixture
def accidents(config, tmp_path):
    """Make a config with accidents: accidents(text) -> its path."""
    (tmp_path / 'accidents.py').write_text(ACCIDENTS)

    def make(text):
        path = tmp_path / 'child.py'
        base = (ROOT / 'configs/_base_/runtime.py').read_text()
        imports = re.search(r'imports=\[(.*?)\]', base, re.DOTALL)[1]
        path.write_text(f"_base_ = {str(config)!r}\n"
                        f"custom_imports = dict(imports=[{imports}, 'accidents'])\n{text}\n")
        return path

    return make


def weights(path):
    return read_checkpoint(path)['state_dict']


def test_a_truncated_newest_checkpoint_is_skipped_and_said(tool, config, run):
    (run / 'iter_4.pth').write_bytes((run / 'iter_4.pth').read_bytes()[:-5000])
    printed = tool('train.py', config, '--work-dir', run, '--resume', options=[])
    assert 'skipped while resuming' in printed and 'iter_4.pth' in printed and 'resumed epoch: 0, iter: 2' in printed
    assert (run / 'iter_4.pth').exists() and (run / 'iter_4.pth.damaged').exists()


def test_a_flipped_bit_is_found(tool, config, run):
    data = bytearray((run / 'iter_4.pth').read_bytes())
    data[len(data) // 2] ^= 1
    (run / 'iter_4.pth').write_bytes(data)
    printed = tool('train.py', config, '--work-dir', run, '--resume', options=[])
    assert 'its checksum does not agree' in printed and 'iter: 2' in printed
    error = tool('test.py', config, run / 'iter_4.pth.damaged', '--work-dir', run, options=[], refused=True)
    assert 'its checksum does not agree' in error


def test_a_moved_directory_with_an_empty_pointer_resumes(tool, config, run, tmp_path):
    assert (run / 'last_checkpoint').read_text() == 'iter_4.pth'
    (run / 'last_checkpoint').write_text('')
    (run / 'iter_4.pth').unlink()
    moved = run.rename(tmp_path / 'elsewhere')
    assert 'iter: 2' in tool('train.py', config, '--work-dir', moved, '--resume', options=[])
    assert (moved / 'last_checkpoint').read_text() == 'iter_4.pth'


def test_a_finished_run_is_not_touched_by_a_resume(tool, config, run):
    before = {path.name: path.read_bytes() for path in run.glob('*.pth')}
    assert any(name.startswith('best_') for name in before)
    tool('train.py', config, '--work-dir', run, '--resume', options=[])
    assert {path.name: path.read_bytes() for path in run.glob('*.pth')} == before


def test_what_a_resume_cannot_mean_is_refused_or_said(tool, config, run, tmp_path):
    printed = tool('train.py', config, '--work-dir', run, '--resume', options=['train_cfg.max_iters=5'])
    assert 'keeps its schedule' in printed and 'T_max=3' in printed and 'T_max=4' in printed
    error = tool('train.py', config, '--work-dir', run, '--resume', refused=True, options=[
        'train_cfg.max_iters=6', 'optim_wrapper.optimizer.base.type=SGD'])
    assert 'its optimizer is Lookahead(AdamW), the config has Lookahead(SGD)' in error
    error = tool('train.py', config, '--work-dir', run, '--resume', tmp_path / 'no.pth', options=[], refused=True)
    assert f'--resume {tmp_path}/no.pth: no such file' in error


def test_a_signal_before_there_is_anything_to_save(config, tmp_path):
    process = subprocess.Popen([sys.executable, ROOT / 'tools/train.py', config, '--work-dir', tmp_path / 'run'],
                               stderr=subprocess.PIPE, text=True)
    time.sleep(1.5)  # torch is being imported
    process.send_signal(signal.SIGTERM)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 75 and 'SIGTERM before the training began' in told, told


def test_a_test_ends_when_it_is_told_to(config, prepared, run):
    process = subprocess.Popen(
        [sys.executable, ROOT / 'tools/test.py', config, run / 'iter_4.pth', '--work-dir', run, '--cfg-options',
         f'data_root={prepared}', 'num_workers=0'], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in process.stdout:
        if 'Load checkpoint from' in line:
            break
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM


def test_a_resume_does_not_make_a_second_history(tool, config, run):
    error = tool('train.py', config, '--work-dir', run, '--resume', run / 'iter_2.pth', options=[], refused=True)
    assert 'holds iter_4.pth, which is newer than iteration 2' in error


def test_two_in_one_directory(tool, config, prepared, tmp_path):
    work_dir = tmp_path / 'run'
    first = subprocess.Popen(
        [sys.executable, ROOT / 'tools/train.py', config, '--work-dir', work_dir, '--cfg-options',
         f'data_root={prepared}', 'crop_size=(64,64)', 'batch_size=2', 'num_workers=0', 'train_cfg.max_iters=100000',
         'train_cfg.val_interval=100000', 'default_hooks.logger.interval=1'],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=dict(os.environ, OMP_NUM_THREADS='1'))
    for line in first.stdout:
        if 'Iter(train)' in line:
            break
    try:
        error = tool('train.py', config, '--work-dir', work_dir, '--resume', options=[], refused=True)
        assert f'process {first.pid} on ' in error and 'is training in it' in error
    finally:
        first.send_signal(signal.SIGTERM)
        rest = first.communicate(timeout=60)[0]
    assert first.returncode == 75, rest[-2000:]
    assert 'stopped: SIGTERM at iteration' in rest and '--resume continues' in rest and 'Traceback' not in rest
    saved = list(work_dir.glob('iter_*.pth'))
    assert len(saved) == 1 and saved[0].stem.split('_')[1] in rest.split('stopped: ')[1]
    lineage = json.loads((work_dir / 'lineage.json').read_text())
    assert [start['status'] for start in lineage['starts']] == ['preempted']


def test_a_full_disk(tool, config, tmp_path):
    """The second checkpoint does not fit: the first one stays, the run says so, and goes on when there is room."""
    full = dict(TERRACE_FAIL_POINT='half_written:iter_4.pth:full')
    error = tool('train.py', config, '--work-dir', tmp_path / 'run', options=[], refused=True, **full)
    assert 'iter_4.pth: not written (No space left on device); make room and continue with --resume' in error
    assert [path.name for path in sorted((tmp_path / 'run').glob('.*.pth')) + sorted((tmp_path / 'run').glob('i*.pth'))
            ] == ['iter_2.pth']
    assert 'iter: 2' in tool('train.py', config, '--work-dir', tmp_path / 'run', '--resume', options=[])


def test_a_file_size_limit(config, prepared, tmp_path):
    """The kernel itself refuses to write on."""
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    done = subprocess.run(
        [sys.executable, ROOT / 'tools/train.py', config, '--work-dir', tmp_path / 'run', '--cfg-options',
         f'data_root={prepared}', 'crop_size=(64,64)', 'batch_size=2', 'num_workers=0', 'train_cfg.max_iters=2',
         'train_cfg.val_interval=2', 'warmup_iters=1'], preexec_fn=limit, capture_output=True, text=True)
    assert done.returncode == 2 and 'iter_2.pth: not written (File too large)' in done.stderr, done.stderr[-2000:]
    assert not list((tmp_path / 'run').glob('*.pth'))


@pytest.mark.parametrize('gradient', [False, True])
def test_not_a_number(tool, accidents, tmp_path, gradient):
    child = accidents(f"model = dict(decode_head=dict(loss_decode=[dict(type='NanAt', calls=[4], gradient={gradient}),"
                      " dict(type='PresentDiceLoss', smooth=0.05)]))")
    error = tool('train.py', child, '--work-dir', tmp_path / 'run', options=['train_cfg.max_iters=6'], refused=True,
                 PYTHONPATH=str(tmp_path))
    assert 'iteration 4: ' in error and 'site' in error
    assert ('gradient of ' if gradient else 'decode.loss_ce is nan') in error
    assert sorted(path.name for path in (tmp_path / 'run').glob('iter_*.pth')) == ['iter_2.pth']
    assert all(value.isfinite().all() for value in weights(tmp_path / 'run/iter_2.pth').values())
    told = json.loads((tmp_path / 'run/guard/iter_4_rank_0.json').read_text())
    assert told['iteration'] == 4 and len(told['samples']) == 2 and 'decode.loss_ce' in told['losses']
    lineage = json.loads((tmp_path / 'run/lineage.json').read_text())
    assert lineage['starts'][-1]['status'] == 'failed' and 'iteration 4' in lineage['starts'][-1]['reason']


def test_steps_left_out_are_counted_and_bounded(tool, accidents, tmp_path):
    child = accidents("model = dict(decode_head=dict(loss_decode=[dict(type='NanAt', calls=[2, 3]),"
                      " dict(type='PresentDiceLoss', smooth=0.05)]))")
    printed = tool('train.py', child, '--work-dir', tmp_path / 'run', PYTHONPATH=str(tmp_path),
                   options=['default_hooks.guard.max_skipped_steps=2'])
    assert 'iteration 3: step left out' in printed and '2 so far' in printed
    assert all(value.isfinite().all() for value in weights(tmp_path / 'run/iter_4.pth').values())
    assert read_checkpoint(tmp_path / 'run/iter_4.pth')['ranks'][0]['hooks']['GuardHook']['skipped'] == 2
    assert 'iteration 2: step left out' in tool(  # the bad loss is in the first half of an accumulation
        'train.py', child, '--work-dir', tmp_path / 'two', PYTHONPATH=str(tmp_path), options=[
            'default_hooks.guard.max_skipped_steps=2', 'optim_wrapper.accumulative_counts=2',
            'model.decode_head.loss_decode.0.calls=[1]'])
    error = tool('train.py', child, '--work-dir', tmp_path / 'one', PYTHONPATH=str(tmp_path), refused=True,
                 options=['default_hooks.guard.max_skipped_steps=1'])
    assert 'iteration 3: ' in error


def test_a_dead_worker_names_its_sample(tool, accidents, tmp_path):
    child = accidents("""
train_pipeline = [
    dict(type='LoadRasterImage', bands='${bands}', value_range='${value_range}'), dict(type='LoadIndexMask'),
    dict(type='Deadly', sample='site03_a'), dict(type='SmartCrop', size='${crop_size}'),
    dict(type='PackSegInputs', meta_keys=('sample_id', 'img_path'))]""")
    error = tool('train.py', child, '--work-dir', tmp_path / 'run', PYTHONPATH=str(tmp_path), refused=True,
                 options=['num_workers=2', 'train_cfg.max_iters=20'])
    assert 'data-loader worker' in error and 'while it read sample site03_a' in error


def test_an_unreadable_sample_is_named_or_replaced_and_counted(tool, config, prepared, tmp_path):
    data = tmp_path / 'data'
    shutil.copytree(prepared, data)
    broken = next((data / 'images').glob('site02*'))
    broken.write_bytes(broken.read_bytes()[:200])
    options = ['num_workers=2', 'train_cfg.max_iters=8', 'train_cfg.val_interval=8', 'mosaic_prob=0.0',
               f'data_root={data}']
    error = tool('train.py', config, '--work-dir', tmp_path / 'run', options=options, refused=True)
    assert 'sample site02_a: ' in error and broken.name in error
    printed = tool('train.py', config, '--work-dir', tmp_path / 'some',
                   options=[*options, 'default_hooks.guard.max_bad_samples=1'])
    assert 'replaced a sample that cannot be read (1 so far): site02_a' in printed
    assert read_checkpoint(tmp_path / 'some/iter_8.pth')['ranks'][0]['hooks']['GuardHook']['bad'] == ['site02_a']
    second = next((data / 'images').glob('site04*'))
    second.write_bytes(b'')
    error = tool('train.py', config, '--work-dir', tmp_path / 'many', refused=True,
                 options=[*options, 'default_hooks.guard.max_bad_samples=1'])
    assert '2 samples cannot be read, max_bad_samples is 1: site02_a, site04_a' in error


def test_an_early_stop_stays(tool, config, repository, tmp_path):
    child = tmp_path / 'early.py'
    child.write_text(f"_base_ = [{str(config)!r}, {str(repository / 'configs/_base_/early_stopping.py')!r}]\n"
                     'early_stopping = dict(min_delta=1.0, patience=1)\n')
    tool('train.py', child, '--work-dir', tmp_path / 'run', options=['train_cfg.max_iters=20'])
    stopped = sorted((tmp_path / 'run').glob('iter_*.pth'))[-1]
    assert read_checkpoint(stopped)['ranks'][0]['hooks']['ResumableEarlyStoppingHook']['stopped']
    printed = tool('train.py', child, '--work-dir', tmp_path / 'run', '--resume', options=['train_cfg.max_iters=20'])
    assert 'nothing is left to train' in printed and 'Iter(train)' not in printed


def test_two_processes_stop_together_and_go_on(config, prepared, tmp_path):
    """SIGTERM to the script: both ranks stop at one iteration, status 75, and the resumed run has the same bits."""
    child = tmp_path / 'two.py'
    child.write_text(f'_base_ = {str(config)!r}\ndata_root = {str(prepared)!r}\ncrop_size = (64, 64)\nbatch_size = 1\n'
                     'num_workers = 1\nwarmup_iters = 1\ntrain_cfg = dict(max_iters=30, val_interval=15)\n'
                     'val_dataloader = dict(sampler=dict(round_up=False))\n'  # 2 and 1 images
                     'model = dict(backbone=dict(stem_channels=8, base_channels=8), decode_head=dict('
                     'in_channels=(8, 16, 32, 64), channels=16, num_heads=2, dropout_ratio=0.3))\n'
                     'default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=30))\n')
    command = ['bash', ROOT / 'tools/dist_train.sh', child, '2', '--resume', '--work-dir']
    environment = dict(os.environ, PYTHON=sys.executable, OMP_NUM_THREADS='1')
    subprocess.run([*command, tmp_path / 'whole'], env=environment, check=True, capture_output=True, timeout=240)
    process = subprocess.Popen([*command, tmp_path / 'run'], env=environment, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
    for line in process.stdout:
        if '[ 5/30]' in line:
            break
    process.send_signal(signal.SIGTERM)
    rest = process.communicate(timeout=120)[0]
    assert process.returncode == 75, rest[-3000:]
    assert [path.name for path in (tmp_path / 'run').glob('*.pth')] != ['iter_30.pth']
    subprocess.run([*command, tmp_path / 'run'], env=environment, check=True, capture_output=True, timeout=240)
    one, two = (read_checkpoint(tmp_path / name / 'iter_30.pth') for name in ('whole', 'run'))
    for key, value in one['state_dict'].items():
        assert value.numpy().tobytes() == two['state_dict'][key].numpy().tobytes(), key
    assert len(one['ranks']) == 2 and one['ranks'][0]['random']['torch'].ne(one['ranks'][1]['random']['torch']).any()


def test_slurm_requeues_or_submits_again(config, prepared, tmp_path):
    """A stand-in for Slurm: srun starts two tasks, tells them to leave after some iterations, and kills the other one
    with the first status that is not 0."""
    (tmp_path / 'bin').mkdir()
    for name, text in {
        'srun': f"""#!/usr/bin/env bash
while [[ $1 == -* ]]; do [[ $1 == -p ]] && shift; shift; done
export SLURM_NTASKS=2 SLURM_JOB_ID=${{SLURM_JOB_ID:-7}}
echo "$@" >> {tmp_path}/calls
for task in 0 1; do SLURM_PROCID=$task SLURM_LOCALID=$task "$@" >> {tmp_path}/log 2>&1 & tasks+=($!); done
if [ "$(wc -l < {tmp_path}/calls)" = 1 ]; then
  while ! grep -q "3/" {tmp_path}/log; do sleep 0.1; done; kill -USR1 "${{tasks[@]}}"
fi
worst=0
for task in 0 1; do
  wait -n && status=0 || status=$?
  if [ $status -ne 0 ]; then kill "${{tasks[@]}}" 2>/dev/null; fi
  worst=$(( status > worst ? status : worst ))
done
exit $worst
""",
        'scontrol': f'#!/usr/bin/env bash\necho "$@" >> {tmp_path}/scontrol\n'}.items():
        (tmp_path / 'bin' / name).write_text(text)
        (tmp_path / 'bin' / name).chmod(0o755)
    command = ['bash', ROOT / 'tools/slurm_train.sh', 'part', 'job', config, '--work-dir', tmp_path / 'run',
               '--cfg-options', f'data_root={prepared}', 'crop_size=(64,64)', 'batch_size=2', 'num_workers=0',
               'train_cfg.max_iters=30', 'train_cfg.val_interval=30', 'warmup_iters=1',
               'default_hooks.logger.interval=1']
    environment = dict(os.environ, PATH=f'{tmp_path}/bin:{os.environ["PATH"]}', PYTHON=sys.executable, GPUS='2',
                       GPUS_PER_NODE='0', OMP_NUM_THREADS='1', MASTER_ADDR='127.0.0.1',
                       MASTER_PORT=str(20000 + os.getpid() % 20000))
    environment.pop('SLURM_JOB_ID', None)
    batch = subprocess.run(command, env=dict(environment, SLURM_JOB_ID='42'), capture_output=True, text=True,
                           timeout=120)
    assert batch.returncode == 0 and (tmp_path / 'scontrol').read_text() == 'requeue 42\n', batch.stderr[-2000:]
    saved = sorted((tmp_path / 'run').glob('iter_*.pth'))
    assert len(saved) == 1 and saved[0].name != 'iter_30.pth'
    (tmp_path / 'calls').unlink()
    (tmp_path / 'log').unlink()
    shutil.rmtree(tmp_path / 'run')
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert again.returncode == 0 and 'submitting it again' in again.stderr, again.stderr[-2000:]
    assert 'resumed epoch: 0, iter:' in (tmp_path / 'log').read_text()
    assert (tmp_path / 'run/iter_30.pth').exists()
    calls = (tmp_path / 'calls').read_text().splitlines()
    assert len(calls) == 2 and calls[1].endswith('--resume auto') and '--resume' not in calls[0]
