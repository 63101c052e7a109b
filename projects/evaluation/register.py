"""Registers the metric and the hooks of this package; configs name this module in ``custom_imports``."""

from projects.evaluation import hooks, metric, tracking  # noqa: F401
