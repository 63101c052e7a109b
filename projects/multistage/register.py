"""Registers the types of this package; configs name this module in ``custom_imports``."""

from projects.multistage import (  # noqa: F401
    difficulty_hook,
    difficulty_rules,
    distillation,
    feature_loss,
    hard_sampler,
    initialise,
    kd_loss,
    warmup,
)
