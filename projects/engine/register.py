"""Registers the engine's types; configs name this module in ``custom_imports``."""

from projects.engine import (  # noqa: F401
    backbones,
    early_stopping,
    guards,
    lineage,
    lookahead,
    parameter_groups,
    precision,
    preemption,
    runner,
    saving,
)
from projects.engine.tracking import backend, hook  # noqa: F401
