"""When a loss is switched on, off, or weighed differently: the one owner of that, on the runner's own clock."""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import EpochBasedTrainLoop
from mmseg.registry import HOOKS
from torch import nn

from projects.engine.config import nearest
from projects.engine.errors import UserError

# How far a ramp has come at a share x in [0, 1] of its steps.
SHAPES: dict[str, Callable[[float], float]] = {
    'linear': lambda x: x,
    'cosine': lambda x: (1 - math.cos(math.pi * x)) / 2,
}


@HOOKS.register_module()
class StageWarmupHook(Hook):
    """Set loss weights by the runner's epoch or iteration; the top-level key ``loss_schedule`` of a config makes it.

    Before each iteration a weight has the value of the last point that has come. The runner's counters are asked and
    nothing is counted here, so that a resumed run has the right values at its first iteration.

    Args:
        weights: Attribute paths from the model, and points (when, value): ascending, the first at 0; of several at 0
            (a warm-up of no length) the last one counts. For example ``kd_weight=[(0, 0.0), (5, 0.7)]``: off in epochs
            0..4, on from epoch 5 (the sixth);
            ``{'decode_head.loss_decode.1.loss_weight': …}`` for a loss of an ordinary segmentor. A path with None
            is left out: how a child config takes back what its base schedules.
        by_epoch: Points count epochs, else iterations; an iteration-based run counts iterations only.
        ramp: So many epochs (iterations) lie between the value before a point and its own: the first step is taken at
            the point. Default 0, at once. A mapping gives each path its own, 0 to those that it does not name.
        shape: How a ramp goes, with x in (0, 1) the share of its steps: ``'linear'`` (default), or ``'cosine'``,
            (1 - cos(pi x)) / 2 of the way. A mapping gives each path its own, ``'linear'`` to the others.

    A factor that grows over a whole training of T epochs as (1 - cos(pi t / T)) / 2, beside a loss that ends after 30::

        loss_schedule = dict(
            type='StageWarmupHook',
            weights={'decode_head.loss_decode.1.loss_weight': [(0, 0.0), (1, 1.0)],
                     'scale_loss.loss_weight': [(0, 0.3), (30, 0.0)]},
            ramp={'decode_head.loss_decode.1.loss_weight': T - 1},
            shape={'decode_head.loss_decode.1.loss_weight': 'cosine'})

    Raises:
        UserError: Points, ramps or shapes are none, or a path is unknown.
    """

    priority = 'ABOVE_NORMAL'

    def __init__(self, weights: Mapping[str, Sequence[Sequence[float]]], by_epoch: bool = True,
                 ramp: int | Mapping[str, int] = 0, shape: str | Mapping[str, str] = 'linear') -> None:
        weights = {path: points for path, points in weights.items() if points is not None}
        if not weights:
            raise UserError('loss_schedule.weights: expected at least one path, found none')
        self.by_epoch = bool(by_epoch)
        self.ramps = {path: _ramp(value, place) for path, value, place in _each('ramp', ramp, weights, 0)}
        self.shapes = {path: _shape(value, place) for path, value, place in _each('shape', shape, weights, 'linear')}
        self.points = {path: _points(path, points, self.ramps[path]) for path, points in weights.items()}
        self._places: dict[str, tuple[Any, str]] = {}
        self._set: dict[str, float] = {}
        self._told: dict[str, float] = {}

    def value(self, path: str, when: int) -> float:
        """Return a weight in epoch (iteration) ``when``, counted from 0."""
        times, values = self.points[path]
        index = bisect_right(times, when) - 1
        ramp = self.ramps[path]
        if not index or when >= times[index] + ramp:
            return values[index]
        share = SHAPES[self.shapes[path]]((when - times[index] + 1) / (ramp + 1))
        return values[index - 1] + share * (values[index] - values[index - 1])

    def before_train(self, runner: Any) -> None:
        """Find the weights, before anything is trained."""
        counts_epochs = isinstance(runner.train_loop, EpochBasedTrainLoop)
        if self.by_epoch and not counts_epochs:
            raise UserError('loss_schedule.by_epoch: expected False, this run counts iterations (train_cfg.by_epoch): '
                            'its epoch never advances')
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self._places = {path: _find(model, path) for path in self.points}
        self._set, self._told = {}, {}

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Set what has changed."""
        when = runner.epoch if self.by_epoch else runner.iter
        changed = []
        for path, (owner, name) in self._places.items():
            value = self.value(path, when)
            if self._set.get(path) != value:
                setattr(owner, name, value)
                self._set[path] = value
            times, values = self.points[path]
            target = values[bisect_right(times, when) - 1]
            if self._told.get(path) != target:
                self._told[path] = target
                over = f' (over {self.ramps[path]} more)' if self.ramps[path] and when else ''
                changed.append((f'{path} {target:g}', over))
        if changed:
            unit = 'epoch' if self.by_epoch else 'iteration'
            shared = changed[0][1] if len({over for _, over in changed}) == 1 else ''
            texts = [text if over == shared else f'{text}{over}' for text, over in changed]
            print_log(f'loss weights from {unit} {when + 1} on{shared}: {", ".join(texts)}', 'current')


def _each(key: str, given: Any, paths: Mapping[str, Any], default: Any) -> Iterator[tuple[str, Any, str]]:
    """Yield each path with what it is given, by one value for all or by name, and where that stands in the config."""
    named = isinstance(given, Mapping)
    for path in given if named else ():
        if path not in paths:
            raise UserError(f'loss_schedule.{key}: {path!r} is no path of loss_schedule.weights{nearest(path, paths)}')
    for path in paths:
        yield path, given.get(path, default) if named else given, f'loss_schedule.{key}{f".{path}" if named else ""}'


def _ramp(value: Any, place: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0 or not float(value).is_integer():
        raise UserError(f'{place}: expected a whole number of at least 0, found {value!r}')
    return int(value)


def _shape(value: Any, place: str) -> str:
    if value not in tuple(SHAPES):
        raise UserError(f'{place}: expected one of {", ".join(SHAPES)}, found {value!r}{nearest(str(value), SHAPES)}')
    return value


def _points(path: str, points: Sequence[Sequence[float]], ramp: int) -> tuple[list[int], list[float]]:
    where = f'loss_schedule.weights.{path}'
    try:
        pairs = [(int(when), float(value)) for when, value in points]
        whole = all(int(when) == when for when, _ in points)
    except (TypeError, ValueError) as error:
        raise UserError(f'{where}: expected pairs (when, value), found {points!r}') from error
    while len(pairs) > 1 and pairs[0][0] == pairs[1][0] == 0:  # a warm-up of no length
        del pairs[0]
    times = [when for when, _ in pairs]
    if not pairs or not whole or times[0] != 0 or any(a >= b for a, b in zip(times, times[1:])):
        raise UserError(f'{where}: expected whole, ascending times that begin at 0, found '
                        f'{[when for when, _ in points]}')
    if any(b - a <= ramp for a, b in zip(times[1:], times[2:])):
        raise UserError(f'{where}: expected points more than ramp={ramp} apart, found {times}')
    return times, [value for _, value in pairs]


def _find(model: nn.Module, path: str) -> tuple[Any, str]:
    """Return the object that holds the weight of a path, and the attribute's name."""
    *way, last = path.split('.')
    here, done = model, 'the model'
    for name in way:
        if isinstance(here, (list, tuple)) and name.isdigit() and int(name) < len(here):
            here = here[int(name)]
        elif not isinstance(here, (list, tuple)) and hasattr(here, name):
            here = getattr(here, name)
        else:
            raise UserError(_unknown(path, done, name, here))
        done = name if done == 'the model' else f'{done}.{name}'
    value = getattr(here, last, None)
    if value is None:
        raise UserError(_unknown(path, done, last, here))
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UserError(f'loss_schedule.weights.{path}: expected a number, found {type(value).__name__}')
    return here, last


def _unknown(path: str, owner: str, name: str, here: Any) -> str:
    if isinstance(here, (list, tuple)):
        return f'loss_schedule.weights.{path}: {owner} is a list of {len(here)}, found index {name!r}'
    known = [key for key in (*getattr(here, '__dict__', ()), *getattr(here, '_modules', ())) if not key.startswith('_')]
    return f'loss_schedule.weights.{path}: {owner} has no {name!r}{nearest(name, known)}'
