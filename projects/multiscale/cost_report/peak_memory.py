"""The peak memory of a training step, over the network itself."""

import json
import os
import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn

from projects.engine.errors import UserError
from projects.multiscale.cost_report.setting import CostSetting

STEPS = 2
ROOT = Path(__file__).resolve().parents[3]


def peak_memory(setting: CostSetting) -> int:
    """Return the bytes that two training steps need beyond the built network and its images: activations, gradients.

    On the CPU it is the growth of the resident memory of a process of its own; on CUDA what torch has allocated, in
    this process. Scales that get a gradient by chance get one: it is the worst case.
    """
    if torch.device(setting.device).type == 'cuda':
        return _grown(setting)
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')])))
    if setting.threads is not None:
        environment['OMP_NUM_THREADS'] = str(setting.threads)
    done = subprocess.run(
        [sys.executable, '-c', 'from projects.multiscale.cost_report.peak_memory import main; main()'], env=environment,
        input=json.dumps(setting.plain()), capture_output=True, text=True)
    if done.returncode:
        told = done.stderr.strip().splitlines()[-1:] or [f'status {done.returncode}']
        raise UserError(f'peak memory: the process that measures it failed: {told[0]}')
    return int(done.stdout.split()[-1])


def main() -> None:
    """Read a setting from standard input and write its peak memory in bytes to standard output."""
    setting = CostSetting(**json.load(sys.stdin))
    sys.stdout.write(f'\n{_grown(setting)}\n')


def worst_case(model: nn.Module) -> None:
    """Give every scale of a multi-scale backbone the gradient that its policy allows."""
    backbone = getattr(model, 'backbone', None)
    if hasattr(backbone, 'policy') and hasattr(backbone, 'modes'):
        backbone.modes = tuple(policy.mode for policy in backbone.policy)


def _grown(setting: CostSetting) -> int:
    with setting.in_threads():
        model = setting.build()
        worst_case(model)
        images, samples = setting.draw(model)
        before = _reset(setting)
        for _ in range(STEPS):
            model.zero_grad(set_to_none=True)
            setting.loss(model, images, samples).backward()
        return max(_peak(setting) - before, 0)


def _reset(setting: CostSetting) -> int:
    if torch.device(setting.device).type == 'cuda':
        torch.cuda.synchronize(setting.device)
        torch.cuda.reset_peak_memory_stats(setting.device)
        return torch.cuda.memory_allocated(setting.device)
    with suppress(OSError):  # elsewhere it starts at the peak of the imports
        Path('/proc/self/clear_refs').write_text('5')  # Linux: the peak starts anew
    return _peak(setting)


def _peak(setting: CostSetting) -> int:
    if torch.device(setting.device).type == 'cuda':
        torch.cuda.synchronize(setting.device)
        return torch.cuda.max_memory_allocated(setting.device)
    try:
        for line in Path('/proc/self/status').read_text().splitlines():
            if line.startswith('VmHWM:'):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)
