"""Registers the roof-line types; configs name this module in ``custom_imports``."""

from projects.roofline import datasets, hooks, losses, models  # noqa: F401
from projects.roofline.metrics import metric  # noqa: F401
