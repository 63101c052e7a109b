"""Train one config: what ``tools/train.py`` does."""

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import get_rank
from mmengine.logging import print_log

from projects.engine.config import load_config
from projects.engine.distributed import Agreement, leaving_together, start_processes
from projects.engine.errors import Preempted, UserError, told
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
    start_processes(cfg, launcher)
    with leaving_together(), ExitStack() as stack:
        _start_together(cfg, work_dir, resume, stack)
        runner = build_runner(cfg, work_dir, launcher, amp)
        with _telling_the_end(runner):
            runner.train()
    return runner


def _start_together(cfg: Config, work_dir: Path, resume: str | None, stack: ExitStack) -> None:
    """Lock the directory and choose what to start from: rank 0 does, the others follow."""
    chosen: tuple | None = None
    refusal: UserError | None = None
    if get_rank() == 0:
        try:
            stack.enter_context(locked(work_dir))
            remove_leftovers(work_dir)
            chosen = _choose_start(cfg, work_dir, resume)
        except UserError as error:
            refusal = error
    agreement = Agreement()
    chosen = agreement.broadcast(chosen)
    if refusal is not None:
        raise refusal
    if chosen is None:
        raise SystemExit(2)  # rank 0 tells why
    cfg.resume, cfg.load_from = chosen


def _choose_start(cfg: Config, work_dir: Path, resume: str | None) -> tuple[bool, str | None]:
    """Return whether to resume, and the file to load."""
    if resume is None:
        if checkpoints_of(work_dir):
            raise UserError(f'{work_dir}: holds a run already; continue it with --resume, or choose another --work-dir')
        _check_parents(cfg)
        (work_dir / 'run_id').unlink(missing_ok=True)  # what was here before is another run
        return False, cfg.get('load_from')
    if resume != 'auto' and not Path(resume).is_dir():
        if not Path(resume).is_file():
            raise UserError(f'--resume {resume}: no such file')
        return True, resume
    folder = work_dir if resume == 'auto' else Path(resume)
    latest = newest_that_opens(folder)
    if latest is None and resume != 'auto':
        raise UserError(f'--resume {resume}: no checkpoint in this directory')
    if latest is None:
        _check_parents(cfg)
    return latest is not None, cfg.get('load_from') if latest is None else str(latest)


def _check_parents(cfg: Config) -> None:
    """Refuse a stage without the weights that it begins with."""
    if cfg.get('load_from') and not Path(cfg.load_from).is_file():
        raise UserError(f'load_from {cfg.load_from}: no such file')
    for key, name in (('initialise', 'checkpoint'), ('distil', 'teacher_checkpoint')):
        if not cfg.get(key):
            continue
        path = cfg[key].get(name)
        if not path:
            raise UserError(f'{key}.{name}: expected the checkpoint of another stage, found none: give --cfg-options '
                            f'{key}.{name}=PATH, or run the chain (tools/run_stages.py)')
        if not Path(path).is_file():
            raise UserError(f'{key}.{name} {path}: no such file')


@contextmanager
def _telling_the_end(runner: TerraceRunner) -> Iterator[None]:
    """Call the hooks' ``on_exit`` exactly once, however the body ends; a failure in one of them is logged."""
    status, reason = 'finished', None
    try:
        yield
    except BaseException as error:
        status = 'preempted' if isinstance(error, Preempted) else 'failed'
        reason = f'{type(error).__name__}: {told(error)}'
        raise
    finally:
        for hook in runner.hooks:
            if hasattr(hook, 'on_exit'):
                try:
                    hook.on_exit(runner, status=status, reason=reason)
                except Exception as error:
                    print_log(f'{type(hook).__name__}.on_exit: {type(error).__name__}: {error}', 'current',
                              logging.ERROR)
