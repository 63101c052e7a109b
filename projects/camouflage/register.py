"""Registers the camouflage types; configs name this module in ``custom_imports``."""

from projects.camouflage import datasets, losses, map_writer, models  # noqa: F401
from projects.camouflage.metrics import metric  # noqa: F401
