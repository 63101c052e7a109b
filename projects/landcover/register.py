"""Registers the land-cover types; configs name this module in ``custom_imports``."""

from projects.landcover import datasets, losses, models  # noqa: F401
