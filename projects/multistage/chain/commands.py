"""The command of a stage, with its templates filled in as far as their values are known."""

import sys
from collections.abc import Mapping
from typing import Any

from projects.multistage.chain.definition import Chain, templates_of
from projects.multistage.chain.fingerprint import config_beside, option_arguments, symbolic_command
from projects.multistage.chain.stages import ROOT, Stage, ToolStage, TrainStage, tool_file

INTERPRETERS = {'.py': [sys.executable], '.sh': ['bash']}


def command_of(stage: Stage, chain: Chain, options: Mapping[str, Any], values: Mapping[str, str], *,
               launcher: str = 'none', gpus: int | None = None) -> list[str]:
    """Return the command of a TrainStage or a ToolStage.

    Args:
        stage: The stage.
        chain: Its chain.
        options: Of all trainings.
        values: Of the templates; those without a value stay as they are.
        launcher: ``'pytorch'`` trains in several processes of this machine.
        gpus: How many.
    """
    if isinstance(stage, TrainStage):
        config = str((chain.path.parent / stage.config).resolve())
        start = [sys.executable, str(ROOT / 'tools/train.py'), config]
        if launcher == 'pytorch':
            start = ['bash', str(ROOT / 'tools/dist_train.sh'), config, str(gpus or 1)]
        given = option_arguments(stage, chain, options, values)
        return [*start, '--work-dir', values['dir'], '--resume', 'auto', *(['--cfg-options', *given] if given else [])]
    assert isinstance(stage, ToolStage)
    tool = tool_file(stage.command[0], chain.path.parent)
    arguments = []
    within = False
    for part in symbolic_command(stage, chain, options, values)[1:]:
        within = part == '--cfg-options' or (within and not part.startswith('--'))
        beside = config_beside(part, chain) if part.endswith('.py') and not within else None
        arguments.append(str(beside.resolve()) if beside else part)
    return [*INTERPRETERS.get(tool.suffix, []), str(tool.resolve()), *arguments]


def unfilled(command: list[str]) -> list[str]:
    """Return the templates that are left in a command."""
    return [f'{{{name}.{what}}}' for name, what in templates_of(command) if what]
