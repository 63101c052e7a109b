"""The seed's ``config.yaml`` as it stands: what becomes of every key, and the child config that says the same.

``tools/roofline/read_yaml.py config.yaml --out configs/roofline/NAME.py`` writes a config over :data:`BASE` that holds
only what differs from it. :data:`OUTCOMES` is the documentation and the list of known keys in one: those of the seed's
text, and those that the upstream file has besides. A key that is not there is refused by name.
"""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from projects.engine.config import nearest
from projects.engine.errors import UserError
from projects.engine.files import write_text

BASE = 'configs/roofline/roofmapnet_30e_seed-512.py'
LOSSES = ('gauss', 'qcc', 'lhr', 'off', 'lv', 'sf')
TEXT_WEIGHTS = dict(gauss=1.0, qcc=1.0, lhr=1.0, off=0.25, lv=2.0, sf=0.5)  # of the seed's text, which the base has
Check = Callable[[Any, str], Any]


@dataclass(frozen=True)
class Outcome:
    """What becomes of a key.

    Args:
        text: In words, for the help of the tool.
        check: Returns the value for the config, or raises UserError; gets the value and ``FILE: KEY``.
        target: Dotted path in the config; None: the value is checked, and changes nothing.
        base: What the base has there; equal values are not written.
        note: What to tell when the key is given with another value than ``base``.
    """

    text: str
    check: Check
    target: str | None = None
    base: Any = None
    note: str | None = None


@dataclass(frozen=True)
class SeedConfig:
    """A config read from YAML.

    Args:
        changes: Dotted path to value, of what differs from the base.
        notes: What has no place in a config, one line each.
    """

    changes: dict[str, Any]
    notes: tuple[str, ...]


def _number(low: float = 0.0, whole: bool = False, above: bool = False) -> Check:
    def check(value: Any, place: str) -> Any:
        value = _plain_float(value)
        fits = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool) and (
            math.isfinite(value) and (value > low if above else value >= low))
        if not fits:
            raise UserError(f'{place}: expected {"a whole number" if whole else "a number"} '
                            f'{"above" if above else "of at least"} {low:g}, found {value!r}')
        return value
    return check


def _plain_float(value: Any) -> Any:
    """YAML 1.1 takes ``1e-3`` for a text: it misses the point."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _score(value: Any, place: str) -> float:
    value = _plain_float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise UserError(f'{place}: expected a number from 0 to below 1, found {value!r}')
    return float(value)


def _choice(*allowed: Any) -> Check:
    def check(value: Any, place: str) -> Any:
        if not any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in allowed):
            told = ' or '.join(str(one).lower() if isinstance(one, bool) else str(one) for one in allowed)
            raise UserError(f'{place}: expected {told}, found {value!r}')
        return value
    return check


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str) or not value:
        raise UserError(f'{place}: expected a text, found {value!r}')
    return value


def _optional_text(value: Any, place: str) -> str | None:
    return None if value is None else _text(value, place)


def _colours(value: Any, place: str) -> list[float]:
    if not isinstance(value, list) or len(value) != 3:
        raise UserError(f'{place}: expected three numbers, red, green and blue, found {value!r}')
    return [float(_number()(one, place)) for one in value]


def _weights(value: Any, place: str) -> dict[str, float]:
    if not isinstance(value, dict):
        raise UserError(f'{place}: expected weights of {", ".join(LOSSES)}, found {value!r}')
    value = {'off' if name is False else name: one for name, one in value.items()}  # YAML 1.1 takes off for false
    for name in value:
        if name not in LOSSES:
            raise UserError(f'{place}.{name}: unknown loss{nearest(str(name), LOSSES)}; expected some of '
                            f'{", ".join(LOSSES)}')
    found = {name: float(_number()(one, f'{place}.{name}')) for name, one in value.items()}
    return {name: one for name, one in found.items() if one != TEXT_WEIGHTS[name]}


def _singular_weights(value: Any, place: str) -> dict[str, float]:
    """``loss_weight``: L-CNN's block of this name has five other losses, which the six are no sum of."""
    if isinstance(value, dict) and value and not {'off' if name is False else name for name in value} & set(LOSSES):
        raise UserError(f'{place}: expected weights of {", ".join(LOSSES)} (as loss_weights), found other losses '
                        f"(L-CNN's?): {', '.join(map(str, value))}")
    return _weights(value, place)


_COUNT, _POSITIVE = _number(whole=True), _number(low=1, whole=True)

# Section and key -> what its value does here. Values of the base are those of the seed's text.
OUTCOMES: dict[str, Outcome] = {
    'io.logdir': Outcome('where logs and checkpoints go, unless it is logs/: then work_dirs/NAME', _text, 'work_dir',
                         'logs/'),
    'io.datadir': Outcome('folder with train/ and valid/; always written', _text, 'data_root'),
    'io.resume_from': Outcome('a run is continued with --resume', _optional_text,
                              note='not in the config: tools/train.py CONFIG --resume'),
    'io.num_workers': Outcome('processes that load data', _COUNT, 'num_workers', 8),
    'io.tensorboard_port': Outcome('no server is started, whatever the port', _COUNT, base=0,
                                  note='not in the config: no server is started, tensorboard --logdir WORK_DIR is one'),
    'io.validation_interval': Outcome('training steps between validations', _POSITIVE, 'val_steps', 1000),
    'model.image.mean': Outcome('of the colours, red, green, blue', _colours, 'model.data_preprocessor.mean',
                                [109.73, 103.832, 98.681]),
    'model.image.stddev': Outcome('of the colours', _colours, 'model.data_preprocessor.std',
                                  [22.275, 22.124, 23.229]),
    'model.batch_size': Outcome('training images a step, in each process', _POSITIVE, 'batch_size', 8),
    'model.batch_size_eval': Outcome('validation images a step', _POSITIVE, 'batch_size_eval', 1),
    'model.backbone': Outcome('stacked_hourglass; others are chosen in a config', _choice('stacked_hourglass')),
    'model.head_size': Outcome('[[2], [1], [2]]; classes of junctions are set in a config',
                               _choice([[2], [1], [2]])),
    'model.depth': Outcome('of an hourglass', _POSITIVE, 'model.backbone.depth', 4),
    'model.num_stacks': Outcome('hourglasses one after the other', _POSITIVE, 'model.backbone.num_stacks', 2),
    'model.num_blocks': Outcome('residual blocks at each size', _POSITIVE, 'model.backbone.num_blocks', 1),
    'model.n_stc_posl': Outcome('true lines drawn, an image', _COUNT, 'model.samples.static_positives', 300),
    'model.n_stc_negl': Outcome('hard negatives drawn', _COUNT, 'model.samples.static_negatives', 40),
    'model.n_dyn_junc': Outcome('detected junctions that lines are drawn from', _COUNT,
                                'model.samples.dynamic_junctions', 300),
    'model.n_dyn_posl': Outcome('detected true lines', _COUNT, 'model.samples.dynamic_positives', 300),
    'model.n_dyn_negl': Outcome('detected hard negatives', _COUNT, 'model.samples.dynamic_negatives', 80),
    'model.n_dyn_othr': Outcome('other detected pairs', _COUNT, 'model.samples.dynamic_others', 600),
    'model.n_pts0': Outcome('points of a line, a multiple of n_pts1', _POSITIVE, 'model.line_head.points', 64),
    'model.n_pts1': Outcome('values that pooling leaves of them', _POSITIVE, 'model.line_head.pooled', 8),
    'model.dim_loi': Outcome('channels that a line is read from', _POSITIVE, 'model.line_head.channels', 128),
    'model.dim_fc': Outcome('width of the two hidden layers', _POSITIVE, 'model.line_head.hidden', 1024),
    'model.n_out_junc': Outcome('length of an output; scores cut it here', _POSITIVE, base=250,
                                note='not in the config: upstream pads and cuts its output with it, here '
                                     'model.detection.junctions says how many are looked at'),
    'model.n_out_line': Outcome('length of an output; scores cut it here', _POSITIVE, base=2500,
                                note='not in the config: upstream pads and cuts its output with it, here '
                                     'model.detection.line_limit says how many are verified'),
    'model.use_cood': Outcome('0: line coordinates are no feature', _choice(0, False)),
    'model.use_slop': Outcome('0: line slopes are no feature', _choice(0, False)),
    'model.use_conv': Outcome('0: no convolution in place of the pooling', _choice(0, False)),
    'model.eval_junc_thres': Outcome('the least score of a junction', _score, 'model.detection.junction_threshold',
                                     0.008),
    'optim.name': Outcome('Adam', _choice('Adam')),
    'optim.lr': Outcome('learning rate', _number(above=True), 'optim_wrapper.optimizer.lr', 0.001),
    'optim.weight_decay': Outcome('L2 penalty', _number(), 'optim_wrapper.optimizer.weight_decay', 0),
    'optim.amsgrad': Outcome('true or false', _choice(True, False), 'optim_wrapper.optimizer.amsgrad', True),
    'optim.max_epoch': Outcome('epochs', _POSITIVE, 'train_cfg.max_epochs', 30),
    'optim.lr_decay_epoch': Outcome('epochs between two decays to a tenth', _POSITIVE, 'decay_epoch', 10),
    'loss_weights': Outcome('weights of gauss, qcc, lhr, off, lv, sf', _weights, 'loss_weights', {}),
    'model.loss_weights': Outcome('the same', _weights, 'loss_weights', {}),
    'model.loss_weight': Outcome("the same; L-CNN's jmap, lmap, joff, lpos, lneg are refused", _singular_weights,
                                 'loss_weights', {}),
    'optim.loss_weights': Outcome('the same', _weights, 'loss_weights', {}),
}


def read_seed_config(path: str | Path) -> SeedConfig:
    """Read the seed's YAML.

    Args:
        path: The file.

    Raises:
        UserError: The file is missing or no YAML; a key is unknown (the nearest known one is named), or is given
            twice; a value is wrong, or one that this network does not have.
    """
    path = Path(path)
    changes: dict[str, Any] = {}
    givers: dict[str, str] = {}
    notes = []
    for key, value in _flat(_load(path), path).items():
        outcome = OUTCOMES[key]
        value = outcome.check(value, f'{path}: {key}')
        if outcome.target is None:
            if outcome.note is not None and value != outcome.base:
                notes.append(f'{path}: {key}: {outcome.note}')
            continue
        if outcome.target in givers:
            raise UserError(f'{path}: {key}: expected {outcome.target} once, found {givers[outcome.target]} too')
        givers[outcome.target] = key
        if value != outcome.base:
            changes[outcome.target] = value
    points, pooled = (changes.get(OUTCOMES[key].target, OUTCOMES[key].base) for key in ('model.n_pts0', 'model.n_pts1'))
    if points % pooled:
        raise UserError(f'{path}: model.n_pts0: expected a multiple of model.n_pts1, found {points} and {pooled}')
    decay = changes.get('decay_epoch', OUTCOMES['optim.lr_decay_epoch'].base)
    epochs = changes.get('train_cfg.max_epochs', OUTCOMES['optim.max_epoch'].base)
    if decay >= epochs:
        notes.append(f'{path}: optim.lr_decay_epoch: {decay} of {epochs} epochs: the learning rate never decays')
    return SeedConfig(changes, tuple(notes))


def child_config(changes: dict[str, Any], source: str, base: str) -> str:
    """Return the text of a config that changes a base.

    Args:
        changes: Dotted path to value.
        source: What it was read from, for the comment above.
        base: Path of the base, as ``_base_`` has it.

    Returns:
        Python text: a comment, ``_base_``, and one assignment for each top-level key.
    """
    tree: dict[str, Any] = {}
    for path, value in changes.items():
        *parents, last = path.split('.')
        here = tree
        for name in parents:
            here = here.setdefault(name, {})
        here[last] = dict(value) if isinstance(value, dict) else value
    lines = [f"# {source}: what differs from the seed's text.", f'_base_ = {base!r}']
    return '\n'.join(lines + [f'{key} = {_written(value)}' for key, value in tree.items()]) + '\n'


def write_child_config(config: SeedConfig, source: str | Path, destination: str | Path, base: str | Path,
                       overwrite: bool = False) -> str:
    """Write a child config, atomically.

    Args:
        config: As :func:`read_seed_config` returns it.
        source: The YAML file, named in the comment.
        destination: A ``.py`` file; ``_base_`` is written relative to its folder.
        base: The base config.
        overwrite: Replace a file that is there.

    Returns:
        The text.

    Raises:
        UserError: The destination is no ``.py`` file, or is there already.
    """
    destination = Path(destination)
    if destination.suffix != '.py':
        raise UserError(f'--out {destination}: expected a config (.py), found {destination.suffix or "no suffix"}')
    if destination.exists() and not overwrite:
        raise UserError(f'--out {destination}: expected a new file, found one (--overwrite replaces it)')
    relative = Path(os.path.relpath(Path(base).resolve(), destination.resolve().parent)).as_posix()
    text = child_config(config.changes, Path(source).name, relative if relative.startswith('.') else f'./{relative}')
    write_text(destination, text)
    return text


def outcomes_text() -> str:
    """Return what becomes of every key, one line each."""
    return '\n'.join(f'  {key:26}{outcome.text}' + (f' ({outcome.target})' if outcome.target else '')
                     for key, outcome in OUTCOMES.items())


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return f'dict({", ".join(f"{key}={_written(one)}" for key, one in value.items())})'
    return repr(value)


def _load(path: Path) -> dict[str, Any]:
    import yaml  # here: a run without a YAML does not pay for it

    try:
        values = yaml.load(path.read_text(encoding='utf-8'), _unique_keys(yaml, path))
    except OSError as error:
        raise UserError(f'{path}: expected a YAML file, found {error.strerror}') from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no UTF-8, or a date that is none
        raise UserError(f'{path}: expected YAML, found {" ".join(str(error).split())}') from error
    if not isinstance(values, dict):
        raise UserError(f'{path}: expected keys and values, found {type(values).__name__}')
    return values


def _unique_keys(yaml: Any, path: Path) -> type:
    """Return a SafeLoader that refuses a key given twice in one section; YAML's own takes the last without a word."""
    class UniqueKeys(yaml.SafeLoader):
        def compose_mapping_node(self, anchor: Any) -> Any:
            node = super().compose_mapping_node(anchor)
            seen: dict[tuple[str, str], int] = {}
            for key, _ in node.value:
                if isinstance(key.value, str):
                    name, line = (key.tag, key.value), key.start_mark.line + 1
                    if name in seen:
                        raise UserError(f'{path}: {key.value}: expected once, found on line {seen[name]} and on line '
                                        f'{line}')
                    seen[name] = line
            return node
    return UniqueKeys


def _flat(values: dict[str, Any], path: Path, above: str = '') -> dict[str, Any]:
    """Name values ``section.key`` and refuse what :data:`OUTCOMES` does not know."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        key = f'{above}{name}'
        if key in OUTCOMES:
            flat[key] = value
        elif any(known.startswith(f'{key}.') for known in OUTCOMES):
            if value is not None and not isinstance(value, dict):
                raise UserError(f'{path}: {key}: expected a section of keys, found {value!r}')
            flat |= _flat(value or {}, path, f'{key}.')
        else:
            raise UserError(f'{path}: {key}: unknown key{_nearest_key(key)}; known are the keys of io, model and optim '
                            'that tools/roofline/read_yaml.py --help lists')
    return flat


def _nearest_key(key: str) -> str:
    """Return the nearest known key: of the same section, else one of the same name in another section."""
    section, _, name = key.rpartition('.')
    inside = {known.rpartition('.')[2]: known for known in OUTCOMES if known.rpartition('.')[0] == section}
    found = nearest(name, inside)
    if found:
        return f'; did you mean {inside[found.removeprefix("; did you mean ").removesuffix("?")]}?'
    for known in OUTCOMES:
        if known.rpartition('.')[2] == name:
            return f'; did you mean {known}?'
    return nearest(key, OUTCOMES)
