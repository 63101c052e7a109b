"""What a stage's result depends on: its config or command, the code, the data, and its parents' results.

A complete stage with the same fingerprint is not run again; one with another is, and the difference is told. The
texts keep their templates (``{pretrain.best}``): where a work directory lies is no part of an experiment.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from projects.engine.config import load_config
from projects.engine.config_text import changed_keys
from projects.engine.errors import UserError
from projects.engine.lineage_record import parent_files
from projects.engine.options import read_options
from projects.multistage.chain.code import code_hashes, digest
from projects.multistage.chain.contents import content_hash, data_sets
from projects.multistage.chain.definition import TEMPLATE, Chain, filled, templates_of
from projects.multistage.chain.stages import (
    ROOT,
    Stage,
    ToolStage,
    TrainStage,
    flat_options,
    options_as_arguments,
    tool_file,
)

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
SHOWN = 4  # changed keys on one line


@dataclass(frozen=True)
class Fingerprint:
    """What :mod:`projects.multistage.chain.state` keeps of a stage's circumstances."""

    config: str | None  # hash of the resolved config
    command: str | None  # hash of the command with its templates
    code: str
    data: Mapping[str, str | None]  # content by path as it was given
    parents: Mapping[str, str | None]  # content by STAGE.what
    details: Mapping[str, Any] = field(default_factory=dict, compare=False)  # texts behind the hashes, to tell what

    def record(self) -> dict[str, Any]:
        """Return the hashes for ``chain.json``."""
        return {'config': self.config, 'command': self.command, 'code': self.code, 'data': dict(self.data),
                'parents': dict(self.parents)}


def differences(record: Mapping[str, Any], now: Fingerprint, details: Mapping[str, Any] | None = None) -> list[str]:
    """Say what has changed since a stage was begun.

    Args:
        record: Of :meth:`Fingerprint.record`, then.
        now: The stage's fingerprint now.
        details: What :attr:`Fingerprint.details` was then, where it is known.
    """
    details = details or {}
    found = []
    if record.get('config') != now.config:
        old, new = str(details.get('config') or ''), str(now.details.get('config') or '')
        found.append('config' + _named(changed_keys(old, new) if old and new else []))
    if record.get('command') != now.command:
        found.append('command')
    if record.get('code') != now.code:
        old, new = details.get('code') or {}, now.details.get('code') or {}
        changed = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)] if old else []
        found.append('code' + _named(changed))
    for key, label in (('data', 'data'), ('parents', 'parent')):
        old, new = record.get(key) or {}, getattr(now, key)
        found += [f'{label} {name}' for name in dict.fromkeys((*old, *new)) if old.get(name) != new.get(name)]
    return found


def fingerprint_of(stage: Stage, chain: Chain, options: Mapping[str, Any],
                   parents: Mapping[str, str | None]) -> Fingerprint:
    """Return the fingerprint of a TrainStage or a ToolStage as things stand.

    Args:
        stage: The stage.
        chain: Its chain.
        options: Of all trainings (``--cfg-options`` of the tool).
        parents: Content of the results that the stage uses.

    Raises:
        UserError: Its config is wrong, or data that it names are not there.
    """
    folder, place = chain.path.parent, f'chain {chain.path}: stages.{stage.name}'
    if isinstance(stage, TrainStage):
        config = stage_config(stage, chain, options)
        roots = [root for key in LOADERS[:2] for root, _ in data_sets(config.get(key))]
        for root in roots:
            if not TEMPLATE.search(root) and not Path(root).expanduser().exists():
                raise UserError(f'{place}: data {root}: no such folder')
        files = [path for _, path in parent_files({**config, 'initialise': config.get('initialise')})]
        return _fingerprint(
            stage, chain, [*roots, *files], parents, config=config.pretty_text, command=None,
            starts=[ROOT / 'tools/train.py', *(config.get('custom_imports') or {}).get('imports', ())])
    assert isinstance(stage, ToolStage)
    command = symbolic_command(stage, chain, options)
    config = tool_config(stage, chain, options)
    starts: list[str | Path] = [tool_file(stage.command[0], folder)]
    roots: list[str] = []
    if config is not None:
        starts += (config.get('custom_imports') or {}).get('imports', ())
        roots = [root for key in LOADERS for root, _ in data_sets(config.get(key))]
    return _fingerprint(stage, chain, roots, parents, config=None if config is None else config.pretty_text,
                        command='\0'.join(command), starts=starts)


def _fingerprint(stage: Stage, chain: Chain, paths: Sequence[str], parents: Mapping[str, str | None], *,
                 config: str | None, command: str | None, starts: Sequence[str | Path]) -> Fingerprint:
    reads = filled(list(stage.reads), input_values(chain))
    named = [chain.inputs[key] for name, key in templates_of([*stage.texts()]) if name == 'inputs' and key]
    data: dict[str, str | None] = {}
    for path in (*paths, *reads, *named):
        if TEMPLATE.search(path):
            continue  # a parent's: its hash counts
        content = data[path] if path in data else content_hash(path)
        if content is None and path in reads:
            raise UserError(f'chain {chain.path}: stages.{stage.name}.reads: no such file or folder {path}')
        if content is not None:  # else a value that is no path
            data[path] = content
    code = code_hashes(starts)
    return Fingerprint(
        config=None if config is None else _sha256(config), command=None if command is None else _sha256(command),
        code=digest(code), data=data, parents=dict(parents), details={'config': config, 'code': code})


def input_values(chain: Chain) -> dict[str, str]:
    """Return the chain's inputs as values of templates."""
    return {f'inputs.{key}': value for key, value in chain.inputs.items()}


def stage_config(stage: TrainStage, chain: Chain, options: Mapping[str, Any],
                 values: Mapping[str, str] | None = None) -> Any:
    """Return a training's config, resolved; parents' results as the templates that they are.

    Args:
        stage: The stage.
        chain: Its chain.
        options: Of all trainings.
        values: Of further templates than the inputs.

    Raises:
        UserError: Unknown names in it, or an option that it does not take.
    """
    given = read_options(option_arguments(stage, chain, options, values))
    try:
        return load_config(chain.path.parent / stage.config, given)
    except UserError as error:
        raise UserError(f'chain {chain.path}: stages.{stage.name}: {error}') from error


def option_arguments(stage: TrainStage, chain: Chain, options: Mapping[str, Any],
                     values: Mapping[str, str] | None = None, weights: bool = True) -> list[str]:
    """Return a training's options as arguments of ``--cfg-options``.

    Args:
        stage: The stage.
        chain: Its chain.
        options: Of all trainings; they come last.
        values: Of further templates than the inputs.
        weights: With the parents' checkpoints.
    """
    own = {**flat_options(stage.options), **(stage.weights() if weights else {}), **flat_options(options)}
    try:
        return options_as_arguments(filled(own, {**input_values(chain), **(values or {})}))
    except UserError as error:
        raise UserError(f'chain {chain.path}: stages.{stage.name}.options: {error}') from error


def symbolic_command(stage: ToolStage, chain: Chain, options: Mapping[str, Any],
                     values: Mapping[str, str] | None = None) -> list[str]:
    """Return a tool's command with inputs, and other stages' options, filled in; other templates stay.

    Args:
        stage: The stage.
        chain: Its chain.
        options: Of all trainings.
        values: Of further templates than the inputs.
    """
    command: list[str] = []
    for part in stage.command:
        pair = next(templates_of(part), None)
        if pair and pair[1] == 'options' and pair[0] != 'inputs':
            other = chain.stage(pair[0])
            assert isinstance(other, TrainStage)
            own = option_arguments(other, chain, options, values, weights=False)
            if not own and command and command[-1] == '--cfg-options':
                command.pop()
            command += own
        else:
            command.append(filled(part, {**input_values(chain), **(values or {})}))
    return command


def tool_config(stage: ToolStage, chain: Chain, options: Mapping[str, Any],
                values: Mapping[str, str] | None = None) -> Any | None:
    """Return the first config in a tool's command, resolved with its ``--cfg-options``; None where there is none.

    Raises:
        UserError: Unknown names in it.
    """
    config: Path | None = None
    given: list[str] = []
    within = False
    for part in symbolic_command(stage, chain, options, values)[1:]:
        within = part == '--cfg-options' or (within and not part.startswith('--'))
        if within and '=' in part:
            given.append(part)
        name, what = next(templates_of(part), ('', None))
        if config is None and what == 'config' and name != 'inputs':
            config = chain.path.parent / chain.stage(name).config
        elif config is None and part.endswith('.py'):
            config = config_beside(part, chain)
    if config is None:
        return None
    try:
        return load_config(config, read_options(given))
    except UserError as error:
        raise UserError(f'chain {chain.path}: stages.{stage.name}: {error}') from error


def config_beside(part: str, chain: Chain) -> Path | None:
    """Return the Python file that a command's argument names, relative to the chain file or as it stands."""
    return next((path for path in (chain.path.parent / part, Path(part)) if path.is_file()), None)


def _named(keys: Sequence[str]) -> str:
    if not keys:
        return ''
    return f' ({", ".join(keys[:SHOWN])}{", …" if len(keys) > SHOWN else ""})'


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode('utf-8')).hexdigest()
