"""Train one config: what ``tools/train.py`` does."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from projects.engine.config import load_config
from projects.engine.distributed import leaving_together
from projects.engine.errors import Preempted, UserError
from projects.engine.files import remove_leftovers
from projects.engine.lock import locked
from projects.engine.runner import TerraceRunner, build_runner
from projects.engine.saving import checkpoints_of, newest_that_opens


def default_work_dir(config: str | Path) -> Path:
    """Return ``work_dirs/<config name>`` below the current directory; a trial of ``wandb agent`` has its own below."""
    folder = Path('work_dirs') / Path(config).stem
    if os.environ.get('WANDB_SWEEP_ID') and os.environ.get('WANDB_RUN_ID'):
        folder = folder / os.environ['WANDB_SWEEP_ID'] / os.environ['WANDB_RUN_ID']
    return folder


def train(config: str | Path, *, work_dir: str | Path | None = None, resume: str | None = None, amp: bool = False,
          cfg_options: dict[str, Any] | None = None, launcher: str = 'none') -> TerraceRunner:
    """Train a config to its end.

    Args:
        config: Path of a Python config.
        work_dir: Where logs and checkpoints go; default :func:`default_work_dir`.
        resume: ``'auto'`` continues from the newest checkpoint of the work directory (or starts when there is none);
            a path continues from that file; None starts anew.
        amp: Autocast whatever the config says: bfloat16 on CPU and on CUDA where it has it.
        cfg_options: Dotted paths and their values.
        launcher: ``none``, ``pytorch`` or ``slurm``.

    Returns:
        The runner, after training.
    """
    cfg = load_config(config, cfg_options)
    work_dir = Path(work_dir or cfg.get('work_dir') or default_work_dir(config))
    first = os.environ.get('SLURM_PROCID' if launcher == 'slurm' else 'RANK', '0') == '0'
    with locked(work_dir) if first else nullcontext():
        if first:
            remove_leftovers(work_dir, '.pth')
        _choose_start(cfg, work_dir, resume)
        with leaving_together():
            runner = build_runner(cfg, work_dir, launcher, amp)
            with _telling_the_end(runner):
                runner.train()
    return runner


def _choose_start(cfg: Config, work_dir: Path, resume: str | None) -> None:
    if resume is None:
        cfg.resume = False
        if checkpoints_of(work_dir):
            raise UserError(f'{work_dir}: holds a run already; continue it with --resume, or choose another --work-dir')
    elif resume == 'auto':
        latest = newest_that_opens(work_dir)
        cfg.resume = latest is not None
        if latest is not None:
            cfg.load_from = str(latest)
    else:
        cfg.resume, cfg.load_from = True, resume
    if cfg.get('load_from') and not Path(cfg.load_from).is_file():
        raise UserError(f'load_from {cfg.load_from}: no such file')


@contextmanager
def _telling_the_end(runner: TerraceRunner) -> Iterator[None]:
    """Call the hooks' ``on_exit`` exactly once, however the body ends; a failure in one of them is logged."""
    status, reason = 'finished', None
    try:
        yield
    except BaseException as error:
        status = 'preempted' if isinstance(error, Preempted) else 'failed'
        reason = ' '.join(f'{type(error).__name__}: {error}'.split())
        raise
    finally:
        for hook in runner.hooks:
            if hasattr(hook, 'on_exit'):
                try:
                    hook.on_exit(runner, status=status, reason=reason)
                except Exception as error:
                    print_log(f'{type(hook).__name__}.on_exit: {type(error).__name__}: {error}', 'current',
                              logging.ERROR)
