"""The file of a chain, read and checked by name before anything starts.

A chain file is a Python config of assignments, as MMEngine reads it (``_base_`` inherits)::

    name = 'ftunetformer-tiny_village'
    inputs = dict(data='data/village')          # what comes from outside; --set data=DIR
    stages = [
        dict(name='baseline', type='TrainStage', config='ftunetformer-tiny_s0-baseline_village-256.py',
             options={'data_root': '{inputs.data}'}, note='original labels'),
        dict(name='candidates', type='ToolStage', outputs=['candidates.json'],
             command=['tools/landcover/correct.py', 'candidates', '{inputs.data}', '--out', '{dir}', '--model',
                      '{baseline.config}', '{baseline.best}']),
        dict(name='review', type='WaitStage', file='{candidates.dir}/decisions.csv',
             text='Review the labels: tools/landcover/review.py {candidates.dir}'),
        dict(name='finetune', type='TrainStage', config='…_s2-finetune_….py', options={'data_root': '{inputs.data}'},
             parents={'initialise.checkpoint': 'baseline'}, after=['review'],
             gate=dict(parent='baseline', metric='mIoU', min_gain=0.0, on_fail='warn', split='val')),
    ]

``stages`` is a list, or a dict from name to stage, of which a child config can change single stages and single keys
(``stages = dict(baseline=dict(options={'train_cfg.max_iters': 20}), review=None)``; None takes a stage out; MMEngine
merges dicts). The order of the file holds, except that a stage never comes before what it needs. A stage needs those
whose results its ``parents``, its templates or ``after`` name; nothing else is said about dependencies.

``scores`` names metrics for the progression's columns, printed as they are; without it mIoU and F1 stand there in
percent.

Keys of every stage: ``name`` (letters, digits, ``-``, ``_``), ``type``, ``after`` (stages that must be complete),
``note`` (a remark for the table), ``gate`` (not of a WaitStage). The types and their own keys are in
:mod:`projects.multistage.chain.stages`:

- ``TrainStage``: ``config`` (a path relative to the chain file), ``options`` (as ``--cfg-options``: dotted key and
  value; nested dicts are set key by key), ``parents`` (dotted key and stage whose best checkpoint it gets:
  ``'pretrain'``; ``'pretrain.last'`` gets the last one), ``reads`` (as below).
- ``ToolStage``: ``command`` (a tool, relative to the checkout or to the chain file, and its arguments; an argument
  that is a Python config beside the chain file may be named relative to it), ``outputs`` (at least one file or folder
  that must exist afterwards, relative to the stage's directory), ``reads`` (further files and folders whose content
  counts), ``resumable`` (True: called again in the same directory after an interruption; else in a fresh one),
  ``ok`` (statuses that count as done, default ``[0]``).
- ``WaitStage``: ``file`` (waited for until it exists and is not empty), ``text`` (what a person must do).

Templates, in every string of ``options``, ``command``, ``reads``, ``outputs``, ``file`` and ``text``:

===================  ==================================================================================
``{inputs.KEY}``     the chain's input; a file or folder of that name counts as data of the stage
``{STAGE.best}``     best checkpoint of a TrainStage (the last one where the config keeps no best)
``{STAGE.last}``     last checkpoint of a TrainStage
``{STAGE.config}``   the config of a TrainStage
``{STAGE.options}``  the options of a TrainStage, as so many arguments: alone after ``--cfg-options`` in a command
``{STAGE.dir}``      directory of a stage (not of a WaitStage)
``{STAGE.file}``     the file of a WaitStage
``{dir}``            the stage's own directory
``{root}``           the checkout
===================  ==================================================================================

A stage must leave its inputs as they are and write into its own directory: what reads the changed data would be done
anew. Relative paths of inputs and data are relative to the current directory, as everywhere.

A gate compares a metric with the gate parent's, of the best checkpoint on the same ``split`` of the same data: a
``TrainStage`` is measured by its own validation; a ``ToolStage`` by the ``evaluation/*/scores.json`` that it writes
below its directory for the ``test_dataloader`` of its config (``--cfg-options test_dataloader.dataset.split=val`` makes
that ``val``). Where data or split differ there is no comparison, and that is said. ``on_fail`` is ``'warn'`` or
``'stop'``.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from mmengine.config import Config

from projects.engine.config import nearest
from projects.engine.errors import UserError
from projects.multistage.chain.stages import STAGES, Gate, Stage, TrainStage, WaitStage

KEYS = ('name', 'inputs', 'stages', 'scores')
NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9_-]*')
# '${…}' is a reference of a training config and stays.
TEMPLATE = re.compile(r'(?<!\$)\{([A-Za-z0-9][\w-]*)(?:\.([\w-]+))?\}')
RESERVED = ('dir', 'root', 'inputs', 'chain', 'progression', 'slurm')  # of templates and of files in the work directory


@dataclass(frozen=True)
class Chain:
    """A chain as it was read; its stages stand in the order in which they run."""

    path: Path
    name: str
    inputs: Mapping[str, str]
    stages: tuple[Stage, ...]
    scores: tuple[str, ...] = ()  # columns of the progression; none: mIoU and F1

    def stage(self, name: str) -> Stage:
        """Return a stage by name.

        Raises:
            UserError: There is none of that name.
        """
        for stage in self.stages:
            if stage.name == name:
                return stage
        names = [stage.name for stage in self.stages]
        raise UserError(f'chain {self.path}: no stage {name!r}{nearest(name, names)} (it has {", ".join(names)})')

    def ancestors(self, name: str) -> list[str]:
        """Return all that a stage needs, directly or not, in the order in which they run."""
        needed: set[str] = set()
        for stage in reversed(self.stages):
            if stage.name == name or stage.name in needed:
                needed |= set(needs_of(stage))
        return [stage.name for stage in self.stages if stage.name in needed]


def read_chain(path: str | Path, inputs: Mapping[str, str] | None = None) -> Chain:
    """Read a chain.

    Args:
        path: The Python config.
        inputs: Values that replace those of the file's ``inputs``.

    Raises:
        UserError: The file is missing or does not parse; a key, a type, an input or a stage is unknown; a template
            asks for what its stage does not have; a stage is named twice or needs itself.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f'chain {path}: no such file')
    if path.suffix != '.py':
        raise UserError(f'chain {path}: expected a Python config (.py), found {path.suffix or "no suffix"}')
    try:
        ast.parse(path.read_bytes())  # MMEngine would name a temporary file
        source = Config.fromfile(path, import_custom_modules=False, lazy_import=False).to_dict()
    except SyntaxError as error:
        raise UserError(f'chain {path}: syntax error in line {error.lineno or "?"}: {error.msg}') from error
    except Exception as error:  # the file is executed: anything may happen in it
        raise UserError(f'chain {path}: {type(error).__name__}: {" ".join(str(error).split())}') from error
    try:
        return _read(path, source, inputs or {})
    except UserError as error:
        raise UserError(f'chain {path}: {error}') from error


def results_of(stage: Stage) -> list[tuple[str, str]]:
    """Return (stage, what) of every result that a stage uses; what it merely follows has an empty ``what``."""
    used = [(name, '') for name in stage.after]
    if isinstance(stage, TrainStage):
        used += [pair for text in stage.weights().values() for pair in templates_of(text)]
    used += [(name, what) for text in stage.texts() for name, what in templates_of(text) if what and name != 'inputs']
    return list(dict.fromkeys(used))


def needs_of(stage: Stage) -> list[str]:
    """Return the stages whose results a stage uses, each once."""
    return list(dict.fromkeys(name for name, _ in results_of(stage)))


def _earlier(stage: Stage) -> set[str]:
    return {*needs_of(stage), *([stage.gate.parent] if stage.gate else [])}


def templates_of(value: Any) -> Iterator[tuple[str, str | None]]:
    """Yield name and key (None where there is none) of every template in a text or in nested dicts and lists."""
    if isinstance(value, str):
        for match in TEMPLATE.finditer(value):
            yield match.group(1), match.group(2)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from templates_of(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from templates_of(item)


def filled(value: Any, values: Mapping[str, str]) -> Any:
    """Return a text, or nested dicts and lists, with the templates replaced for which there is a value.

    Args:
        value: What holds templates.
        values: By the template's text: ``{'dir': …, 'inputs.data': …, 'baseline.best': …}``.
    """
    if isinstance(value, str):
        return TEMPLATE.sub(lambda match: values.get(match.group(0)[1:-1], match.group(0)), value)
    if isinstance(value, Mapping):
        return {key: filled(item, values) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(filled(item, values) for item in value)
    return value


def _read(path: Path, source: Mapping[str, Any], inputs: Mapping[str, str]) -> Chain:
    for key in source:
        if key not in KEYS and (close := nearest(key, KEYS)):
            raise UserError(f'unknown key {key!r}{close}')  # others are the file's own variables
    name = source.get('name', path.stem)
    if not isinstance(name, str) or not re.fullmatch(r'[\w.-]+', name):
        raise UserError(f'name: expected letters, digits, ., - and _, found {name!r}')
    known = source.get('inputs') or {}
    if not isinstance(known, dict):
        raise UserError(f'inputs: expected a dict of names and values, found {known!r}')
    for key in inputs:
        if key not in known:
            raise UserError(f'inputs: no input {key!r}{nearest(key, known)} (it has {", ".join(known) or "none"})')
    values = {key: str(value) for key, value in {**known, **inputs}.items()}
    scores = source.get('scores') or ()
    if not isinstance(scores, (list, tuple)) or not all(isinstance(score, str) for score in scores):
        raise UserError(f'scores: expected a list of names of metrics, found {scores!r}')
    stages = [_stage(value, place, path) for place, value in _listed(source.get('stages'))]
    if not stages:
        raise UserError('stages: expected at least one')
    by_name: dict[str, Stage] = {}
    for stage in stages:
        if stage.name in by_name:
            raise UserError(f'stages: {stage.name} stands twice')
        by_name[stage.name] = stage
    for stage in stages:
        _check_names(stage, by_name, values)
    return Chain(path, name, values, tuple(_ordered(by_name)), tuple(scores))


def _listed(value: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(value, dict):
        for name, stage in value.items():
            if stage is None:
                continue  # a child has taken it out
            if not isinstance(stage, dict):
                raise UserError(f'stages.{name}: expected a dict, found {stage!r}')
            if stage.get('name', name) != name:
                raise UserError(f'stages.{name}.name: expected {name!r} or nothing, found {stage["name"]!r}')
            yield f'stages.{name}', {'name': name, **stage}
    elif isinstance(value, (list, tuple)):
        for index, stage in enumerate(value):
            if not isinstance(stage, dict):
                raise UserError(f'stages.{index}: expected a dict, found {stage!r}')
            yield f'stages.{stage.get("name", index)}', stage
    else:
        raise UserError(f'stages: expected a list or a dict of stages, found {value!r}')


def _stage(value: Mapping[str, Any], place: str, path: Path) -> Stage:
    name = value.get('name')
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise UserError(f'{place}.name: expected letters, digits, - and _, found {name!r}')
    if name in RESERVED:
        raise UserError(f'{place}.name: {name} is reserved')
    types = sorted(STAGES.module_dict)
    kind = STAGES.module_dict.get(value.get('type'))
    if kind is None:
        raise UserError(f'{place}.type: expected {", ".join(types)}, found {value.get("type")!r}'
                        f'{nearest(str(value.get("type")), types)}')
    given = {key: item for key, item in value.items() if key != 'type'}
    _check_keys(given, kind, place)
    if given.get('gate') is not None:
        if not isinstance(given['gate'], dict):
            raise UserError(f'{place}.gate: expected a dict, found {given["gate"]!r}')
        _check_keys(given['gate'], Gate, f'{place}.gate')
        given['gate'] = Gate(**given['gate'])
    stage = kind(**given)
    for problem in stage.problems(path.parent):
        raise UserError(f'{place}.{problem}')
    return stage


def _check_keys(given: Mapping[str, Any], kind: type, place: str) -> None:
    known = {field.name: field for field in fields(kind)}
    for key in given:
        if key not in known:
            raise UserError(f'{place}: unknown key {key!r}{nearest(key, known)}')
    for key, field in known.items():
        if field.default is MISSING and field.default_factory is MISSING and key not in given:
            raise UserError(f'{place}: key {key} is missing')


def _check_names(stage: Stage, stages: Mapping[str, Stage], inputs: Mapping[str, str]) -> None:
    """Every stage, input and result that a stage names must be there."""
    place = f'stages.{stage.name}'
    for key, text in stage.places():
        for name, what in templates_of(text):
            shown = f'{{{name}{"." + what if what else ""}}}'
            if what is None:
                if name not in ('dir', 'root') or (name == 'dir' and isinstance(stage, WaitStage)):
                    raise UserError(f'{place}.{key}: unknown template {shown}{nearest(name, ("dir", "root"))}')
            elif name == 'inputs':
                if what not in inputs:
                    raise UserError(f'{place}.{key}: {shown}: no input {what!r}{nearest(what, inputs)}')
            elif name not in stages:
                raise UserError(f'{place}.{key}: {shown}: no stage {name!r}{nearest(name, stages)}')
            elif what not in stages[name].gives:
                raise UserError(f'{place}.{key}: {shown}: a {type(stages[name]).__name__} gives '
                                f'{", ".join(stages[name].gives)}{nearest(what, stages[name].gives)}')
    for key, other in stage.named():
        name, _, what = other.partition('.')
        if name not in stages:
            raise UserError(f'{place}.{key}: no stage {name!r}{nearest(name, stages)}')
        if key.startswith('parents') and (
                not isinstance(stages[name], TrainStage) or (what or 'best') not in ('best', 'last')):
            raise UserError(f'{place}.{key}: expected a TrainStage, or .best or .last of one, found {other!r}')
        if key == 'gate.parent' and isinstance(stages[name], WaitStage):
            raise UserError(f'{place}.{key}: {name} has no metrics: it is a WaitStage')


def _ordered(stages: Mapping[str, Stage]) -> list[Stage]:
    """Return the stages in the order of the file, each after what it needs."""
    ordered: list[Stage] = []
    done: set[str] = set()
    while len(ordered) < len(stages):
        ready = next((stage for stage in stages.values()
                      if stage.name not in done and _earlier(stage) <= done), None)
        if ready is None:
            raise UserError(f'stages need each other in a circle: {" -> ".join(_circle(stages, done))}')
        ordered.append(ready)
        done.add(ready.name)
    return ordered


def _circle(stages: Mapping[str, Stage], done: set[str]) -> list[str]:
    seen = [next(name for name in stages if name not in done)]
    while True:
        following = next(name for name in sorted(_earlier(stages[seen[-1]])) if name not in done)
        if following in seen:
            return [*seen[seen.index(following):], following]
        seen.append(following)
