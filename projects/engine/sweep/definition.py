"""The YAML of a sweep, in W&B's format: read, and checked by name before anything starts."""

import itertools
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from projects.engine.config import nearest
from projects.engine.errors import UserError
from projects.engine.sweep.parameters import Parameter, draw_all, grid, grid_size, read_parameters

METHODS = ('grid', 'random', 'bayes')
# What only a W&B server or its agent reads; harmless here.
SERVER_KEYS = ('name', 'description', 'project', 'entity', 'controller', 'apiVersion', 'kind')
KNOWN_KEYS = ('program', 'method', 'metric', 'parameters', 'early_terminate', 'command', 'run_cap', *SERVER_KEYS)
MACROS = ('env', 'interpreter', 'program', 'args', 'args_no_hyphens')
DEFAULT_COMMAND = ['${env}', '${interpreter}', '${program}', '${args}']
ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Metric:
    """What trials are sorted and stopped by."""

    name: str
    maximize: bool
    target: float | None

    def better(self, one: float, other: float) -> bool:
        return one > other if self.maximize else one < other


@dataclass(frozen=True)
class Hyperband:
    """When trials are compared, in validations, and which share of them goes on."""

    brackets: tuple[int, ...]  # ascending
    eta: float
    strict: bool


@dataclass(frozen=True)
class Sweep:
    """A sweep's definition."""

    path: Path
    program: str
    method: str
    metric: Metric | None
    parameters: tuple[Parameter, ...]
    hyperband: Hyperband | None
    command: tuple[str, ...]
    run_cap: int | None
    source: Mapping[str, Any]  # the YAML as it was read

    def size(self) -> int | None:
        """Return the number of trials of a grid; None for a random sweep, which has no end."""
        return grid_size(list(self.parameters)) if self.method == 'grid' else None

    def trials(self, number: int, seed: int) -> list[dict[str, Any]]:
        """Return the parameters of the first trials."""
        parameters = list(self.parameters)
        if self.method == 'grid':
            return list(itertools.islice(grid(parameters), number))
        return [draw_all(parameters, seed, index) for index in range(1, number + 1)]

    def folder(self) -> Path:
        """Return where the trials run: the current directory where the program is there, else the checkout.

        Raises:
            UserError: the program is in neither.
        """
        for folder in (Path.cwd(), ROOT):
            if (folder / self.program).is_file():
                return folder
        raise UserError(f'sweep {self.path}: program: no such file {self.program}')

    def command_of(self, parameters: Mapping[str, Any], work_dir: Path, resume: bool) -> list[str]:
        """Return a trial's command: ``--work-dir``, and ``--resume auto`` where asked, before all other options."""
        options = [f'{name}={value}' for name, value in parameters.items()]
        values = {
            'env': ['/usr/bin/env'], 'interpreter': [sys.executable], 'args_no_hyphens': options,
            'args': [f'--{option}' for option in options], 'program': [self.program]}
        command: list[str] = []
        own = ['--work-dir', str(work_dir), *(['--resume', 'auto'] if resume else [])]
        program = self.command.index('${program}')
        for index, part in enumerate(self.command):
            if index > program and part.startswith(('--', '${args')):
                command, own = command + own, []
            command += values[part[2:-1]] if part.startswith('${') else [part]
        return command + own


def read_sweep(path: str | Path) -> Sweep:
    """Read a sweep.

    Raises:
        UserError: the file is missing, is no YAML, has an unknown key, or a value that W&B would refuse or only its
            server can follow.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f'sweep {path}: no such file')
    try:
        source = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f'sweep {path}: not readable as YAML ({" ".join(str(error).split())})') from error
    try:
        return _read(path, source)
    except UserError as error:
        raise UserError(f'sweep {path}: {error}') from error


def _read(path: Path, source: Any) -> Sweep:
    _check_keys(source, KNOWN_KEYS, '')
    for key in ('program', 'method', 'parameters'):
        if key not in source:
            raise UserError(f'key {key} is missing')
    if source['method'] not in METHODS:
        raise UserError(f'method: expected {", ".join(METHODS)}, found {source["method"]!r}'
                        f'{nearest(str(source["method"]), METHODS)}')
    if source['method'] == 'bayes':
        raise UserError("method: bayes needs W&B's server (wandb sweep, wandb agent); offline: grid or random")
    metric = _metric(source.get('metric'))
    hyperband = _hyperband(source.get('early_terminate'))
    if hyperband and metric is None:
        raise UserError('early_terminate: needs metric.name, which trials are compared by')
    run_cap = source.get('run_cap')
    if run_cap is not None and (type(run_cap) is not int or run_cap < 1):
        raise UserError(f'run_cap: expected a whole number from 1, found {run_cap!r}')
    if not isinstance(source['program'], str):
        raise UserError(f'program: expected a file name, found {source["program"]!r}')
    sweep = Sweep(path, source['program'], source['method'], metric, tuple(read_parameters(source['parameters'])),
                  hyperband, _command(source.get('command', DEFAULT_COMMAND)), run_cap, source)
    sweep.size()  # a grid over a continuous parameter is an error now, not later
    return sweep


def _check_keys(value: Any, known: tuple[str, ...], place: str) -> None:
    if not isinstance(value, Mapping):
        raise UserError(f'{place or "the file"}: expected a mapping of keys, found {value!r}'[:200])
    for key in value:
        if key not in known:
            raise UserError(f'{place}{": " if place else ""}unknown key {key!r}{nearest(str(key), known)}')


def _metric(value: Any) -> Metric | None:
    if value is None:
        return None
    _check_keys(value, ('name', 'goal', 'target'), 'metric')
    name, goal, target = value.get('name'), value.get('goal', 'minimize'), value.get('target')
    if not isinstance(name, str) or not name:
        raise UserError(f'metric.name: expected a name like val/mIoU, found {name!r}')
    if goal not in ('minimize', 'maximize'):
        raise UserError(f'metric.goal: expected minimize or maximize, found {goal!r}')
    if target is not None and (isinstance(target, bool) or not isinstance(target, int | float)):
        raise UserError(f'metric.target: expected a number, found {target!r}')
    return Metric(name, goal == 'maximize', target)


def _hyperband(value: Any) -> Hyperband | None:
    if value is None:
        return None
    _check_keys(value, ('type', 'min_iter', 'max_iter', 's', 'eta', 'strict'), 'early_terminate')
    if value.get('type') != 'hyperband':
        raise UserError(f'early_terminate.type: expected hyperband, found {value.get("type")!r}')
    eta, strict = value.get('eta', 3), value.get('strict', False)
    if isinstance(eta, bool) or not isinstance(eta, int | float) or eta <= 1:
        raise UserError(f'early_terminate.eta: expected a number above 1, found {eta!r}')
    if not isinstance(strict, bool):
        raise UserError(f'early_terminate.strict: expected true or false, found {strict!r}')
    for key in ('min_iter', 'max_iter', 's'):
        if key in value and (type(value[key]) is not int or value[key] < 1):
            raise UserError(f'early_terminate.{key}: expected a whole number from 1, found {value[key]!r}')
    if 'max_iter' in value and 's' in value:
        found = [int(value['max_iter'] / eta ** power) for power in range(1, value['s'] + 1)]
        brackets = sorted({bracket for bracket in found if bracket >= 1})
    elif 'min_iter' in value:
        brackets = [int(value['min_iter'] * eta ** power) for power in range(20)]
    else:
        raise UserError('early_terminate: expected min_iter, or max_iter and s')
    if not brackets:
        raise UserError(f'early_terminate: max_iter {value["max_iter"]} is too small for eta {eta}: no bracket is left')
    return Hyperband(tuple(dict.fromkeys(brackets)), float(eta), strict)


def _command(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise UserError(f'command: expected a list, found {value!r}')
    parts = [str(part) for part in value]
    for part in parts:
        if part.startswith('${') and part[2:].rstrip('}') not in MACROS:
            raise UserError(f'command: unknown macro {part}{nearest(part[2:-1], MACROS)}; expected one of '
                            + ', '.join('${' + name + '}' for name in MACROS))
    if parts.count('${program}') != 1:
        raise UserError('command: expected ${program} once')
    if not {'${args}', '${args_no_hyphens}'} & set(parts):
        raise UserError('command: expected ${args} or ${args_no_hyphens}: without one no trial gets its parameters')
    if '--work-dir' in parts or '--resume' in parts:
        raise UserError('command: --work-dir and --resume are set for each trial; leave them out')
    return tuple(parts)
