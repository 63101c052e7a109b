"""Strict configs: a name that nobody knows is an error with the nearest known one, not a new key.

MMEngine builds what it is told: ``--cfg-options optim_wraper.lr=1`` makes a new key and trains on. Here every dotted
path must exist, every ``type`` must be registered and every argument must be one that the type takes.

A value that several places share is written once, at the top, and referred to as ``'${name}'``. References are
resolved after all inheritance and options, so that a child that changes the one place changes all of them (a plain
``_base_`` variable is computed before the child is read, and does not follow).
"""

import copy
import difflib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry, root

from projects.engine.errors import UserError
from projects.engine.startup import start

# Keys that Runner.from_cfg or Terrace reads, so that a near miss of one of them can be told from a helper variable.
KNOWN_KEYS = (
    'model', 'work_dir', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'train_cfg', 'val_cfg', 'test_cfg',
    'auto_scale_lr', 'optim_wrapper', 'param_scheduler', 'val_evaluator', 'test_evaluator', 'default_hooks',
    'custom_hooks', 'data_preprocessor', 'load_from', 'resume', 'launcher', 'env_cfg', 'log_processor', 'log_level',
    'visualizer', 'vis_backends', 'default_scope', 'randomness', 'experiment_name', 'custom_imports', 'runner_type',
    'model_wrapper_cfg', 'precision', 'ema', 'early_stopping', 'tta_model', 'tta_pipeline', 'test_pipeline',
    'train_pipeline', 'find_unused_parameters', 'sync_bn', 'cfg')
# Here `type` is not a registered name: torch's gradient clipping ('norm' or 'value').
FOREIGN_TYPES = ('clip_grad',)
REFERENCE = re.compile(r'\$\{([\w.]+)\}')
# What MMEngine takes out of a dict, or puts into it, before the type sees it.
BUILD_KEYS = {'type', '_scope_', '_delete_', 'init_cfg'}
EXTRA_KEYS = {
    'AmpOptimWrapper': {'optimizer', 'constructor', 'paramwise_cfg'},
    'OptimWrapper': {'optimizer', 'constructor', 'paramwise_cfg'},
    'BFloat16OptimWrapper': {'optimizer', 'constructor', 'paramwise_cfg'},
}
PLACE_KEYS = {'norm_cfg': {'requires_grad'}}
SCHEDULER_KEYS = {'convert_to_iter_based'}


def load_config(path: str | Path, options: dict[str, Any] | None = None) -> Config:
    """Read a config, apply the options, and check every name in it.

    Args:
        path: A Python config file.
        options: Dotted paths and values, as ``--cfg-options`` gives them.

    Returns:
        The merged config.

    Raises:
        UserError: The file is missing or does not parse; an option names a path that is not there; a ``type`` is not
            registered; a type does not take an argument.
    """
    start()
    path = Path(path)
    if not path.is_file():
        raise UserError(f'config {path}: no such file')
    if path.suffix != '.py':
        raise UserError(f'config {path}: expected a Python config (.py), found {path.suffix or "no suffix"}')
    try:
        config = Config.fromfile(path)
    except SyntaxError as error:
        raise UserError(f'config {path}: syntax error in line {error.lineno}: {error.msg}') from error
    except FileNotFoundError as error:
        raise UserError(f'config {path}: a base is missing: {error}') from error
    except (KeyError, NameError, ImportError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f'config {path}: {type(error).__name__}: {error}') from error
    for option, value in (options or {}).items():
        _check_option(config, option, path)
        config.merge_from_dict({option: value})
    for key in list(config):
        config[key] = _resolve(config[key], config, key, ())
    problems = list(_unknown_names(config))
    if problems:
        raise UserError(f'config {path}: ' + '; '.join(problems[:3]) + ('; …' if len(problems) > 3 else ''))
    return config


def nearest(name: str, known: Any) -> str:
    """Return ``; did you mean X?`` for the nearest known name, or nothing when none is near."""
    found = difflib.get_close_matches(name, [str(item) for item in known], n=1, cutoff=0.6)
    return f'; did you mean {found[0]}?' if found else ''


def registries() -> Iterator[Registry]:
    """Yield every MMEngine root registry; each knows the mmseg child below it."""
    import mmengine.registry
    for value in vars(mmengine.registry.root).values():
        if isinstance(value, Registry):
            yield value
    assert root is mmengine.registry.root


def registered(name: str) -> list[Callable]:
    """Return all that is registered under a name, in any registry of MMEngine or mmseg."""
    found = []
    for registry in registries():
        for holder in (registry, *registry.children.values()):
            value = holder.module_dict.get(name.split('.')[-1])
            if value is not None:
                found.append(value)
    return found


def registered_names() -> set[str]:
    """Return every registered name."""
    return {name for registry in registries() for holder in (registry, *registry.children.values())
            for name in holder.module_dict}


def _check_option(config: Config, option: str, path: Path) -> None:
    here: Any = config
    keys = option.split('.')
    for depth, key in enumerate(keys):
        place = '.'.join(keys[:depth]) or 'the config'
        if isinstance(here, (list, tuple)):
            if not key.lstrip('-').isdigit() or not -len(here) <= int(key) < len(here):
                raise UserError(f'--cfg-options {option}: {place} is a list of {len(here)}, found index {key!r} '
                                f'in {path}')
            here = here[int(key)]
        elif isinstance(here, dict) or hasattr(here, 'keys'):
            if key not in here:
                accepted = _accepted(here.get('type')) if depth else set(KNOWN_KEYS)
                if depth == len(keys) - 1 and accepted is not None and key in accepted:
                    return  # a new argument that the type takes
                raise UserError(f'--cfg-options {option}: {place} has no key {key!r}'
                                f'{nearest(key, {*here, *(accepted or ())})}')
            here = here[key]
        elif here is None and depth:
            return  # a dict may replace None
        else:
            raise UserError(f'--cfg-options {option}: {place} is {here!r}, it has no key {key!r}')


def _accepted(type_name: Any) -> set[str] | None:
    """Return the arguments that any registered class of this name takes; None when it takes anything."""
    if not isinstance(type_name, str):
        return set()
    accepted = {'type'} | EXTRA_KEYS.get(type_name, set())
    for target in registered(type_name):
        names = _arguments(target)
        if names is None:
            return None
        accepted |= names
        if inspect.isclass(target) and any(base.__name__ == '_ParamScheduler' for base in target.__mro__):
            accepted |= SCHEDULER_KEYS
    return accepted


def _arguments(target: Callable) -> set[str] | None:
    """Return the keyword arguments of a class or function, following ``**kwargs`` up the base classes."""
    if not inspect.isclass(target):
        parameters = inspect.signature(target).parameters.values()
        return None if any(p.kind is p.VAR_KEYWORD for p in parameters) else {p.name for p in parameters}
    names: set[str] = set()
    for base in target.__mro__:
        if '__init__' not in vars(base) or base is object:
            continue
        try:
            parameters = inspect.signature(base.__init__).parameters.values()
        except (TypeError, ValueError):
            return None
        names |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return names - {'self'}
    return None  # the last base still passes its keywords on: anything goes


def _resolve(value: Any, config: Config, place: str, chain: tuple[str, ...]) -> Any:
    """Replace every string ``'${dotted.path}'`` by the value at that path of the merged config."""
    if isinstance(value, dict):
        for key in list(value):
            value[key] = _resolve(value[key], config, f'{place}.{key}', chain)
        return value
    if isinstance(value, (list, tuple)):
        return type(value)(_resolve(item, config, f'{place}.{index}', chain) for index, item in enumerate(value))
    if not isinstance(value, str) or not (match := REFERENCE.fullmatch(value)):
        return value
    target = match.group(1)
    if target in chain:
        raise UserError(f'config {config.filename}: {place}: references go in a circle: {" -> ".join(chain)}')
    here: Any = config
    for key in target.split('.'):
        try:
            here = here[int(key)] if isinstance(here, (list, tuple)) else here[key]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise UserError(f'config {config.filename}: {place} refers to {target}, which is not there'
                            + nearest(key, here if hasattr(here, 'keys') else ())) from error
    return copy.deepcopy(_resolve(here, config, target, (*chain, target)))


def _unknown_names(config: Config) -> Iterator[str]:
    for key in config:
        if key not in KNOWN_KEYS and isinstance(config[key], (dict, list)):
            close = difflib.get_close_matches(key, KNOWN_KEYS, n=1, cutoff=0.85)
            if close:
                yield f'unknown key {key}; did you mean {close[0]}?'
    for key in config:
        yield from _unknown_below(config[key], key)


def _unknown_below(value: Any, place: str) -> Iterator[str]:
    if isinstance(value, dict):
        name = value.get('type')
        if isinstance(name, str) and place.split('.')[-1] not in FOREIGN_TYPES:
            targets = registered(name)
            if not targets:
                yield f'{place}.type: {name!r} is not registered{nearest(name, registered_names())}'
            else:
                accepted = _accepted(name)
                if accepted is not None:
                    accepted |= PLACE_KEYS.get(place.split('.')[-1], set())
                    for key in value:
                        if key not in accepted and key not in BUILD_KEYS:
                            yield f'{place}.{key}: {name} takes no {key!r}{nearest(key, accepted)}'
        for key, item in value.items():
            yield from _unknown_below(item, f'{place}.{key}')
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _unknown_below(item, f'{place}.{index}')
