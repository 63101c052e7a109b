"""Registers the multi-scale types; configs name this module in ``custom_imports``."""

from projects.multiscale import agreement, ensemble  # noqa: F401
