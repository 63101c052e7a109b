"""Registers the engine's types; configs name this module in ``custom_imports``."""

from projects.engine import backbones, lookahead, parameter_groups, precision, runner  # noqa: F401
