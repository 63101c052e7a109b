"""Test one checkpoint: what ``tools/test.py`` does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.config import Config

from projects.engine.config import load_config
from projects.engine.distributed import leaving_together
from projects.engine.errors import UserError
from projects.engine.files import check_output_folder
from projects.engine.runner import build_runner
from projects.engine.training import default_work_dir


def test(config: str | Path, checkpoint: str | Path, *, work_dir: str | Path | None = None,
         wrap: Callable[[Config], None] | None = None, out: str | Path | None = None,
         show_dir: str | Path | None = None, amp: bool = False, cfg_options: dict[str, Any] | None = None,
         launcher: str = 'none') -> dict[str, float]:
    """Score a checkpoint on the config's test split.

    Args:
        config: Path of a Python config.
        checkpoint: Weights; loaded strictly, class order compared.
        work_dir: Where logs and tables go; default ``work_dirs/<config name>``.
        wrap: Called with the config of the test; may put ``config.model`` into another model, as an ensemble does.
        out: Write the predictions into this folder with the hook that the config's ``mask_writer`` names; default
            ``MaskWriterHook``: palette PNGs named by sample.
        show_dir: Write pictures (image, truth, prediction, error) into this folder with the hook that the config's
            ``gallery`` names; default ``PredictionGalleryHook``.
        amp: Autocast for the forward passes.
        cfg_options: Dotted paths and their values.
        launcher: ``none``, ``pytorch`` or ``slurm``.

    Returns:
        The metrics.

    Raises:
        UserError: a wrong config or checkpoint, or a folder that cannot be written to.
    """
    cfg = load_config(config, cfg_options)
    if not Path(checkpoint).is_file():
        raise UserError(f'checkpoint {checkpoint}: no such file')
    if cfg.get('test_dataloader') is None:
        raise UserError(f'config {config}: it has no test_dataloader')
    for folder in filter(None, (out, show_dir)):
        check_output_folder(folder)
    cfg.load_from, cfg.resume = str(checkpoint), False
    reader = cfg.test_pipeline[0] if cfg.get('test_pipeline') else {}
    bands = {key: reader[key] for key in ('bands', 'value_range') if key in reader}
    hooks = list(cfg.get('custom_hooks') or [])
    if out is not None:
        hooks.append(dict(cfg.get('mask_writer') or dict(type='MaskWriterHook'), out_dir=str(out)))
    if show_dir is not None:
        hooks.append(dict(cfg.get('gallery') or dict(type='PredictionGalleryHook'), show_dir=str(show_dir), **bands))
    cfg.custom_hooks = hooks
    for key in ('ema', 'early_stopping', 'distil', 'loss_schedule', 'difficulty', 'scale_policy', 'train_dataloader',
                'train_cfg', 'optim_wrapper', 'param_scheduler', 'val_dataloader', 'val_cfg', 'val_evaluator'):
        cfg[key] = None
    if wrap is not None:
        wrap(cfg)
    if amp:
        cfg.test_cfg = dict(cfg.test_cfg or {}, fp16=True)
    with leaving_together():
        return build_runner(cfg, work_dir or cfg.get('work_dir') or default_work_dir(config), launcher).test()
