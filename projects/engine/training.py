"""Train one config: what ``tools/train.py`` does."""

from pathlib import Path
from typing import Any

from mmengine.runner import find_latest_checkpoint

from projects.engine.config import load_config
from projects.engine.errors import UserError
from projects.engine.runner import TerraceRunner, build_runner


def default_work_dir(config: str | Path) -> Path:
    """Return ``work_dirs/<config name>`` below the current directory."""
    return Path('work_dirs') / Path(config).stem


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
        if (work_dir / 'last_checkpoint').exists():
            raise UserError(f'{work_dir}: holds a run already; continue it with --resume, or choose another --work-dir')
    elif resume == 'auto':
        latest = find_latest_checkpoint(str(work_dir)) if work_dir.is_dir() else None
        cfg.resume = latest is not None
        if latest is not None:
            cfg.load_from = latest if Path(latest).is_file() else str(work_dir / Path(latest).name)
    else:
        cfg.resume, cfg.load_from = True, resume
    if cfg.get('load_from') and not Path(cfg.load_from).is_file():
        raise UserError(f'load_from {cfg.load_from}: no such file')
    runner = build_runner(cfg, work_dir, launcher, amp)
    runner.train()
    return runner
