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
from typing import Any, get_args

from mmengine.config import Config
from mmengine.registry import Registry, root
from mmengine.runner import LogProcessor, loops, set_random_seed
from torch.utils.data import DataLoader

from projects.engine.errors import UserError
from projects.engine.precision import LEVERS
from projects.engine.startup import start

# Keys that Runner.from_cfg or Terrace reads.
KNOWN_KEYS = frozenset((
    'model', 'work_dir', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'train_cfg', 'val_cfg', 'test_cfg',
    'auto_scale_lr', 'optim_wrapper', 'param_scheduler', 'val_evaluator', 'test_evaluator', 'default_hooks',
    'custom_hooks', 'data_preprocessor', 'load_from', 'resume', 'launcher', 'env_cfg', 'log_processor', 'log_level',
    'visualizer', 'vis_backends', 'default_scope', 'randomness', 'experiment_name', 'custom_imports',
    'model_wrapper_cfg', 'precision', 'ema', 'early_stopping', 'tta_model', 'test_pipeline',
    'train_pipeline', 'find_unused_parameters', 'sync_bn', 'cfg', 'experiment', 'tracking', 'initialise',
    'distil', 'loss_schedule', 'difficulty', 'scale_policy', 'scale_maps', 'augmentation_views',
    'mask_writer', 'gallery', 'resolution'))
HOOK_NAMES = ('timer', 'logger', 'param_scheduler', 'checkpoint', 'sampler_seed', 'runtime_info', 'visualization',
              'report', 'lineage', 'guard', 'preemption')
REFERENCE = re.compile(r'\$\{([\w.]+)\}')
# What MMEngine takes out of a dict, or puts into it, before the type sees it.
BUILD_KEYS = {'type', '_scope_', '_delete_', 'init_cfg'}
WRAPPER_KEYS = {'optimizer', 'constructor', 'paramwise_cfg'}
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
        _check_option(config, option, value)
        config.merge_from_dict({option: value})
    referred: set[str] = set()
    for key in list(config):
        config[key] = _resolve(config[key], config, key, (), referred)
    problems = list(dict.fromkeys(_unknown_names(config, referred)))
    if problems:
        raise UserError(f'config {path}: ' + '; '.join(problems[:3]) + ('; …' if len(problems) > 3 else ''))
    return config


def nearest(name: str, known: Any) -> str:
    """Return ``; did you mean X?`` for the nearest known name, or nothing when none is near."""
    found = difflib.get_close_matches(name, sorted({str(item) for item in known} - {name}), n=1, cutoff=0.6)
    return f'; did you mean {found[0]}?' if found else ''


def registries() -> Iterator[Registry]:
    """Yield every MMEngine root registry; each knows the mmseg child below it."""
    for value in vars(root).values():
        if isinstance(value, Registry):
            yield value


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


def _check_option(config: Config, option: str, value: Any) -> None:
    here: Any = config
    owner: Any = None
    keys = option.split('.')
    for depth, key in enumerate(keys):
        place = '.'.join(keys[:depth])
        name = place or 'the config'
        last = depth == len(keys) - 1
        if isinstance(here, str) and (reference := REFERENCE.fullmatch(here)):
            raise UserError(f'--cfg-options {option}: {name} refers to {reference.group(1)}; set '
                            f'{".".join((reference.group(1), *keys[depth:]))} instead')
        if isinstance(here, (list, tuple)):
            if not key.isdigit() or int(key) >= len(here):
                raise UserError(f'--cfg-options {option}: {name} is a list of {len(here)}, found index {key!r}')
            here = here[int(key)]
        elif hasattr(here, 'keys'):
            if key not in here:
                accepted = _accepted(here, place)
                if accepted is None or key in accepted:
                    below = _accepted({}, f'{place}.{key}' if place else key)
                    if last or (depth == len(keys) - 2 and below and keys[-1] in below):
                        return  # a new argument that is taken there
                raise UserError(f'--cfg-options {option}: {name} has no key {key!r}'
                                f'{nearest(key, {*here, *(accepted or ())})}')
            owner, here = here, here[key]
        elif here is None and depth:
            return  # a dict may replace None
        else:
            raise UserError(f'--cfg-options {option}: {name} is {here!r}, it has no key {key!r}')
    if isinstance(value, str) and not REFERENCE.fullmatch(value):
        if hasattr(here, 'keys'):
            raise UserError(f'--cfg-options {option}: it is a dict, found {value!r}; set its keys one by one: '
                            f'{option}.KEY=VALUE')
        if isinstance(here, (int, float)) and not isinstance(here, bool) and not _takes_text(owner, keys[-1]):
            raise UserError(f'--cfg-options {option}: expected a number like {here}, found {value!r}')


def _takes_text(owner: Any, key: str) -> bool:
    """Say whether an argument may be a text as well as a number: what its type declares (``str | int``)."""
    name = owner.get('type') if hasattr(owner, 'get') else None
    return isinstance(name, str) and any(
        str in get_args(parameter.annotation) for target in registered(name)
        for parameter in inspect.signature(target).parameters.values() if parameter.name == key)


def _accepted(value: Any, place: str) -> set[str] | None:
    """Return the keys that are taken at a place of a config; None when anything goes."""
    name = value.get('type') if hasattr(value, 'get') else None
    if place.split('.')[-1] == 'clip_grad':  # its type is no registered name but torch's 'norm' or 'value'
        return {'type', 'max_norm', 'norm_type', 'error_if_nonfinite', 'foreach', 'clip_value'}
    if isinstance(name, str):
        accepted = {'type'}
        for target in registered(name):
            names = _arguments(target)
            if names is None:
                return None
            accepted |= names
            bases = [base.__name__ for base in getattr(target, '__mro__', ())]
            accepted |= SCHEDULER_KEYS if '_ParamScheduler' in bases else set()
            accepted |= WRAPPER_KEYS if 'OptimWrapper' in bases else set()
        if place.endswith('norm_cfg'):
            accepted.add('requires_grad')
        if 'init_cfg' in place.split('.'):
            accepted |= {'override', 'name'}
        return accepted
    untyped: dict[str, Callable[[], set[str] | None]] = {
        '': lambda: set(KNOWN_KEYS),
        'train_cfg': lambda: {'by_epoch', 'val_steps', *_arguments(loops.IterBasedTrainLoop),
                              *_arguments(loops.EpochBasedTrainLoop)} - {'runner', 'dataloader'},
        'val_cfg': lambda: _arguments(loops.ValLoop) - {'runner', 'dataloader', 'evaluator'},
        'test_cfg': lambda: _arguments(loops.TestLoop) - {'runner', 'dataloader', 'evaluator'},
        'log_processor': lambda: _arguments(LogProcessor),
        'randomness': lambda: _arguments(set_random_seed),
        'env_cfg': lambda: {'cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'},
        'auto_scale_lr': lambda: {'enable', 'base_batch_size'},
        'experiment': lambda: {'task', 'chain', 'stage', 'tags'},
        'initialise': lambda: _arguments(registered('InitialiseHook')[0]),
        'custom_imports': lambda: {'imports', 'allow_failed_imports'},
        'model.test_cfg': lambda: {'mode', 'crop_size', 'stride'},
        'precision': lambda: {'cpu', 'cuda'},
        'precision.cpu': lambda: set(LEVERS),
        'precision.cuda': lambda: set(LEVERS),
    }
    for split in ('train', 'val', 'test'):
        untyped[f'{split}_dataloader'] = lambda: {
            'dataset', 'num_batch_per_epoch', *_arguments(DataLoader)}
    if place == 'optim_wrapper.paramwise_cfg':
        from projects.engine.parameter_groups import KEYS
        return set(KEYS)
    return untyped[place]() if place in untyped else None


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


def _resolve(value: Any, config: Config, place: str, chain: tuple[str, ...], referred: set[str]) -> Any:
    """Replace every string ``'${dotted.path}'`` by the value at that path of the merged config."""
    if isinstance(value, dict):
        for key in list(value):
            value[key] = _resolve(value[key], config, f'{place}.{key}', chain, referred)
        return value
    if isinstance(value, (list, tuple)):
        return type(value)(_resolve(item, config, f'{place}.{index}', chain, referred)
                           for index, item in enumerate(value))
    if not isinstance(value, str) or '${' not in value:
        return value
    match = REFERENCE.fullmatch(value)
    if not match:
        raise UserError(f"config {config.filename}: {place}: expected a reference '${{path}}' alone, found {value!r}")
    target = match.group(1)
    if target in chain:
        raise UserError(f'config {config.filename}: {place}: references go in a circle: {" -> ".join(chain)}')
    referred.add(target.split('.')[0])
    here: Any = config
    for key in target.split('.'):
        try:
            here = here[int(key)] if isinstance(here, (list, tuple)) else here[key]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise UserError(f'config {config.filename}: {place} refers to {target}, which is not there'
                            + nearest(key, here if hasattr(here, 'keys') else ())) from error
    return copy.deepcopy(_resolve(here, config, target, (*chain, target), referred))


def _unknown_names(config: Config, referred: set[str]) -> Iterator[str]:
    """Yield what nobody reads. A helper variable is in order unless it looks like a misspelled key."""
    for key in config:
        if key in KNOWN_KEYS or key in referred:
            continue
        close = difflib.get_close_matches(key, sorted(KNOWN_KEYS | referred), n=1, cutoff=0.8)
        if close:
            yield f'unknown key {key}; did you mean {close[0]}?'
    for name in config.get('default_hooks') or ():
        close = difflib.get_close_matches(name, HOOK_NAMES, n=1, cutoff=0.8)
        if name not in HOOK_NAMES and close:
            yield f'default_hooks.{name}: unknown; did you mean {close[0]}?'
    for key in config:
        yield from _unknown_below(config[key], key)


def _unknown_below(value: Any, place: str) -> Iterator[str]:
    if isinstance(value, dict):
        name = value.get('type')
        if isinstance(name, str) and not place.endswith('clip_grad') and not registered(name):
            yield f'{place}.type: {name!r} is not registered{nearest(name, registered_names())}'
        elif name == 'Pretrained' and place.startswith('model.'):
            yield (f'{place}: mmseg loads this file as far as its keys happen to match; use model.init_cfg='
                   "dict(type='PretrainedFile', …)")
        else:
            custom = place == 'optim_wrapper.paramwise_cfg'  # other constructors take other keys
            accepted = None if custom else _accepted(value, place)
            for key in value:
                if accepted is not None and key not in accepted and key not in BUILD_KEYS:
                    subject = name if isinstance(name, str) else 'it'
                    yield f'{place}.{key}: {subject} takes no {key!r}{nearest(key, accepted)}'
        for key, item in value.items():
            yield from _unknown_below(item, f'{place}.{key}')
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _unknown_below(item, f'{place}.{index}')
