"""Registers the hooks of this package; configs name this module in ``custom_imports``."""

from projects.multistage import initialise  # noqa: F401
