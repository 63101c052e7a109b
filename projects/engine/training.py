"""Train one config: what ``tools/train.py`` does."""

import logging
import re
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from projects.engine.checkpoints import read_checkpoint
from projects.engine.config import load_config
from projects.engine.distributed import leaving_together
from projects.engine.errors import UserError
from projects.engine.runner import TerraceRunner, build_runner


def default_work_dir(config: str | Path) -> Path:
    """Return ``work_dirs/<config name>`` below the current directory."""
    return Path('work_dirs') / Path(config).stem


def checkpoints_of(work_dir: Path) -> list[Path]:
    """Return the run's periodic checkpoints, newest (by iteration or epoch) first."""
    found = {path: re.fullmatch(r'(?:iter|epoch)_(\d+)\.pth', path.name) for path in work_dir.glob('*.pth')}
    return sorted((path for path, match in found.items() if match), key=lambda path: -int(found[path].group(1)))


def newest_that_opens(work_dir: Path) -> Path | None:
    """Return the newest checkpoint of a run that can be read; say which ones were skipped and why.

    Raises:
        UserError: There are checkpoints and none can be read: starting anew would overwrite the run.
    """
    found = checkpoints_of(work_dir)
    for path in found:
        try:
            read_checkpoint(path)
            return path
        except UserError as error:
            print_log(f'skipped while resuming: {error}', logger='current', level=logging.WARNING)
    if found:
        raise UserError(f'{work_dir}: none of its {len(found)} checkpoints can be read; choose another --work-dir')
    return None


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
    with leaving_together():
        runner = build_runner(cfg, work_dir, launcher, amp)
        runner.train()
    return runner
