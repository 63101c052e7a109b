"""The types of stages: what each is told, what it gives to others, and the command that it runs."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from mmengine.registry import Registry

from projects.engine.config import nearest
from projects.engine.errors import UserError
from projects.engine.options import write_value

STAGES = Registry('stage of a chain', locations=['projects.multistage.chain.stages'])
ROOT = Path(__file__).resolve().parents[3]
SPLITS = ('val', 'test')
ON_FAIL = ('warn', 'stop')


@dataclass(frozen=True)
class Gate:
    """What a stage is compared with; see :mod:`projects.multistage.chain.gates`."""

    parent: str
    metric: str = 'mIoU'
    min_gain: float = 0.0  # in the metric's own unit, a fraction 0..1
    on_fail: str = 'warn'
    split: str = 'val'

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with a value."""
        yield from _no_text(self, 'parent', 'metric')
        if isinstance(self.min_gain, bool) or not isinstance(self.min_gain, (int, float)):
            yield f'min_gain: expected a number, found {self.min_gain!r}'
        for key, known in (('on_fail', ON_FAIL), ('split', SPLITS)):
            if getattr(self, key) not in known:
                yield (f'{key}: expected {" or ".join(known)}, found {getattr(self, key)!r}'
                       f'{nearest(str(getattr(self, key)), known)}')


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What all stages are told. The name is checked by the reader of the chain."""

    name: str
    after: tuple[str, ...] = ()
    note: str = ''
    gate: Gate | None = None

    gives: ClassVar[tuple[str, ...]] = ()  # keys of this stage's templates

    def problems(self, folder: Path) -> Iterator[str]:
        """Yield what is wrong with a value.

        Args:
            folder: The chain file's, which its paths are relative to.
        """
        yield from _no_texts(self, 'after')
        yield from _no_text(self, 'note', empty=True)
        if self.gate:
            yield from (f'gate.{problem}' for problem in self.gate.problems())

    def places(self) -> Iterator[tuple[str, Any]]:
        """Yield key and value of everything that may hold templates."""
        yield from ()

    def texts(self) -> Iterator[Any]:
        """Yield the values of :meth:`places`."""
        return (value for _, value in self.places())

    def named(self) -> Iterator[tuple[str, str]]:
        """Yield key and stage (or ``STAGE.what``) for everything that names another stage outright."""
        yield from (('after', name) for name in self.after)
        if self.gate:
            yield 'gate.parent', self.gate.parent


@STAGES.register_module()
@dataclass(frozen=True, kw_only=True)
class TrainStage(Stage):
    """A training of ``tools/train.py``, resumed exactly where it was interrupted."""

    config: str
    options: Mapping[str, Any] = field(default_factory=dict)
    parents: Mapping[str, str] = field(default_factory=dict)
    reads: tuple[str, ...] = ()

    gives: ClassVar[tuple[str, ...]] = ('best', 'last', 'config', 'options', 'dir')

    def problems(self, folder: Path) -> Iterator[str]:
        """Yield what is wrong with a value."""
        yield from super().problems(folder)
        yield from _no_text(self, 'config')
        yield from _no_texts(self, 'reads')
        if isinstance(self.config, str) and not (folder / self.config).is_file():
            yield f'config: no such file {self.config}'
        for key in ('options', 'parents'):
            if not isinstance(getattr(self, key), Mapping):
                yield f'{key}: expected a dict, found {getattr(self, key)!r}'
        for key, value in self.parents.items():
            if not isinstance(value, str):
                yield f'parents.{key}: expected a stage, found {value!r}'
        for key in self.parents:
            if key in self.options:
                yield f'parents.{key}: stands in options too'
        try:
            options_as_arguments(self.options)
        except UserError as error:
            yield f'options: {error}'

    def places(self) -> Iterator[tuple[str, Any]]:
        """Yield key and value of everything that may hold templates."""
        yield 'options', self.options
        yield 'reads', self.reads

    def named(self) -> Iterator[tuple[str, str]]:
        """Yield key and stage for everything that names another stage outright."""
        yield from super().named()
        yield from ((f'parents.{key}', value) for key, value in self.parents.items())

    def weights(self) -> dict[str, str]:
        """Return the config keys that get parents' checkpoints, with the template of each."""
        return {key: f'{{{value if "." in value else value + ".best"}}}' for key, value in self.parents.items()}


@STAGES.register_module()
@dataclass(frozen=True, kw_only=True)
class ToolStage(Stage):
    """Any tool; it is done when it ends well and its outputs are there."""

    command: tuple[str, ...]
    outputs: tuple[str, ...]
    reads: tuple[str, ...] = ()
    resumable: bool = False
    ok: tuple[int, ...] = (0,)

    gives: ClassVar[tuple[str, ...]] = ('dir',)

    def problems(self, folder: Path) -> Iterator[str]:
        """Yield what is wrong with a value."""
        yield from super().problems(folder)
        for key in ('command', 'outputs', 'reads'):
            yield from _no_texts(self, key)
        for key in ('command', 'outputs'):
            if not getattr(self, key):
                yield f'{key}: expected at least one'
        if self.command and isinstance(self.command[0], str) and tool_file(self.command[0], folder) is None:
            yield f'command: no such tool {self.command[0]}, neither in the checkout nor beside the chain file'
        if not isinstance(self.resumable, bool):
            yield f'resumable: expected True or False, found {self.resumable!r}'
        if not isinstance(self.ok, (list, tuple)) or not all(type(status) is int for status in self.ok):
            yield f'ok: expected a list of exit statuses, found {self.ok!r}'

    def places(self) -> Iterator[tuple[str, Any]]:
        """Yield key and value of everything that may hold templates."""
        for key in ('command', 'outputs', 'reads'):
            yield key, getattr(self, key)


@STAGES.register_module()
@dataclass(frozen=True, kw_only=True)
class WaitStage(Stage):
    """A file that a person makes; the chain goes on when it is there and not empty."""

    file: str
    text: str

    gives: ClassVar[tuple[str, ...]] = ('file',)

    def problems(self, folder: Path) -> Iterator[str]:
        """Yield what is wrong with a value."""
        yield from super().problems(folder)
        yield from _no_text(self, 'file', 'text')
        if self.gate:
            yield 'gate: a WaitStage has no metrics'

    def places(self) -> Iterator[tuple[str, Any]]:
        """Yield key and value of everything that may hold templates."""
        yield 'file', self.file
        yield 'text', self.text


def tool_file(name: str, folder: Path) -> Path | None:
    """Return the file of a tool: of the checkout, else beside the chain file; None where there is none."""
    return next((path for path in (ROOT / name, folder / name) if path.is_file()), None)


def options_as_arguments(options: Mapping[str, Any]) -> list[str]:
    """Return options as ``KEY=VALUE`` arguments that ``--cfg-options`` reads as the same values.

    Nested dicts become dotted keys.

    Raises:
        UserError: A value cannot be written that way (an empty dict, say).
    """
    arguments = []
    for key, value in flat_options(options).items():
        if not re.fullmatch(r'[^\s=]+', key):
            raise UserError(f'{key!r}: expected a dotted key')
        try:
            arguments.append(f'{key}={write_value(value)}')
        except ValueError as error:
            raise UserError(f'{key}: {error}; write it into a config') from error
    return arguments


def flat_options(options: Mapping[str, Any], place: str = '') -> dict[str, Any]:
    """Return nested dicts as dotted keys and values."""
    flat: dict[str, Any] = {}
    for key, value in options.items():
        name = f'{place}.{key}' if place else str(key)
        flat.update(flat_options(value, name) if isinstance(value, Mapping) and value else {name: value})
    return flat


def _no_text(value: Any, *keys: str, empty: bool = False) -> Iterator[str]:
    for key in keys:
        found = getattr(value, key)
        if not isinstance(found, str) or not (found or empty):
            yield f'{key}: expected a text, found {found!r}'


def _no_texts(value: Any, *keys: str) -> Iterator[str]:
    for key in keys:
        found = getattr(value, key)
        if not isinstance(found, (list, tuple)) or not all(isinstance(item, str) for item in found):
            yield f'{key}: expected a list of texts, found {found!r}'
