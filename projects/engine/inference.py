"""A trained model, ready to predict."""

from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmseg.registry import MODELS
from torch import nn

from projects.engine import startup
from projects.engine.checkpoints import load_weights
from projects.engine.config import load_config
from projects.engine.consistency import check_consistency, config_metainfo
from projects.engine.errors import UserError


def load_model(config: str | Path, checkpoint: str | Path, device: str | torch.device | None = None,
               cfg_options: dict[str, Any] | None = None) -> tuple[nn.Module, Config]:
    """Build a config's model and load a checkpoint into it, strictly.

    Args:
        config: Path of a Python config (the text that a checkpoint carries is never executed).
        checkpoint: Weights; every key must match.
        device: Default: CUDA where it works, else the CPU.
        cfg_options: Dotted paths and their values.

    Returns:
        The model in eval mode, its ``dataset_meta`` set (classes, palette, … of the config's data set; of the
        checkpoint when the config has no data), and the config.

    Raises:
        UserError: See :func:`load_config` and :func:`projects.engine.checkpoints.load_weights`.
    """
    cfg = load_config(config, cfg_options)
    if not Path(checkpoint).is_file():
        raise UserError(f'checkpoint {checkpoint}: no such file')
    check_consistency(cfg)
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    expected = config_metainfo(cfg)
    found = load_weights(model, checkpoint, expected)['meta'].get('dataset_meta')
    meta = expected or found
    if not meta or not meta.get('classes'):
        raise UserError(f'checkpoint {checkpoint}: neither it nor config {config} names the classes')
    model.dataset_meta = dict(meta)
    try:
        model = model.to(device or startup.device())
    except (RuntimeError, AssertionError) as error:
        raise UserError(f'--device {device}: {str(error).splitlines()[0]}') from error
    return model.eval(), cfg
