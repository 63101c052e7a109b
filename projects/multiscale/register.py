"""Registers the multi-scale types; configs name this module in ``custom_imports``."""

from projects.multiscale import (  # noqa: F401
    agreement,
    backbone,
    ensemble,
    scale_head,
    scale_loss,
    scale_map_hook,
    scale_policy_hook,
    segmentor,
)
from projects.multiscale.fusion import absi, gated, hierarchical  # noqa: F401
