"""Parameters of a sweep: every distribution of W&B's format, checked when read and drawn from a passed generator."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from projects.engine.config import nearest
from projects.engine.errors import UserError

NORMAL = {'mu': 0.0, 'sigma': 1.0}
RANGE = {'min': None, 'max': None}
BETA = {'a': 1.0, 'b': 1.0}
STEP = {'q': 1.0}
# The keys of each distribution and their defaults; None: required.
DISTRIBUTIONS: dict[str, dict[str, Any]] = {
    'constant': {'value': None},
    'categorical': {'values': None},
    'categorical_w_probabilities': {'values': None, 'probabilities': None},
    'int_uniform': RANGE, 'uniform': RANGE, 'q_uniform': RANGE | STEP,
    'log_uniform': RANGE, 'q_log_uniform': RANGE | STEP, 'inv_log_uniform': RANGE,
    'log_uniform_values': RANGE, 'q_log_uniform_values': RANGE | STEP, 'inv_log_uniform_values': RANGE,
    'normal': NORMAL, 'q_normal': NORMAL | STEP, 'log_normal': NORMAL, 'q_log_normal': NORMAL | STEP,
    'beta': BETA, 'q_beta': BETA | STEP,
}
KEYS = {'distribution', 'parameters', *(key for keys in DISTRIBUTIONS.values() for key in keys)}
LONGEST = 1_000_000  # values of one parameter
COUNTABLE = ('constant', 'categorical', 'categorical_w_probabilities', 'int_uniform', 'q_uniform')


@dataclass(frozen=True)
class Parameter:
    """One parameter: a dotted path of the config and where its values come from."""

    name: str
    distribution: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def draw(self, generator: Random) -> Any:
        """Draw one value."""
        value = DRAW[self.distribution.removeprefix('q_')](generator, self.options)
        return _rounded(value, self.options['q']) if 'q' in self.options else value

    def all_values(self) -> Sequence[Any]:
        """Return every value, for a grid.

        Raises:
            UserError: the parameter is continuous.
        """
        options = self.options
        if self.distribution == 'constant':
            return [options['value']]
        if 'values' in options:
            return list(options['values'])
        if self.distribution == 'int_uniform':
            return range(options['min'], options['max'] + 1)
        if self.distribution == 'q_uniform':
            step = options['q']
            first, last = math.ceil(options['min'] / step - 1e-9), math.floor(options['max'] / step + 1e-9)
            if last - first >= LONGEST:
                raise UserError(f'parameters.{self.name}: {last - first + 1:,} values, expected at most {LONGEST:,}: '
                                'give it a larger q')
            return [_rounded(number * step, step) for number in range(first, last + 1)]
        raise UserError(f'parameters.{self.name}: a grid needs values, found the distribution {self.distribution}; '
                        f'expected one of {", ".join(COUNTABLE)}')


def read_parameters(value: Any, place: str = 'parameters', prefix: str = '') -> list[Parameter]:
    """Read the ``parameters`` of a sweep; nested ones get dotted names.

    Raises:
        UserError: what is wrong, by the key's place.
    """
    if not isinstance(value, Mapping) or not value:
        raise UserError(f'{place}: expected parameters, found {_shown(value)}')
    found = []
    for name, about in value.items():
        here = f'{place}.{name}'
        if not isinstance(about, Mapping):
            raise UserError(f'{here}: expected a mapping with value, values, or min and max, found {_shown(about)}')
        for key in about:
            if key not in KEYS:
                raise UserError(f'{here}: unknown key {key!r}{nearest(str(key), KEYS)}')
        if 'parameters' in about:
            if len(about) > 1:
                raise UserError(f'{here}: nested parameters stand alone, found {", ".join(sorted(about))}')
            found += read_parameters(about['parameters'], f'{here}.parameters', f'{prefix}{name}.')
        else:
            found.append(_read_one(f'{prefix}{name}', about, here))
    return found


def grid(parameters: list[Parameter]) -> Iterator[dict[str, Any]]:
    """Yield every combination, the last parameter fastest."""
    axes = [parameter.all_values() for parameter in parameters]
    for number in range(grid_size(parameters)):  # itertools.product would hold every axis in memory
        values = []
        for axis in reversed(axes):
            number, index = divmod(number, len(axis))
            values.append(axis[index])
        yield dict(zip((parameter.name for parameter in parameters), reversed(values)))


def grid_size(parameters: list[Parameter]) -> int:
    """Return how many combinations there are.

    Raises:
        UserError: A parameter is continuous.
    """
    return math.prod(len(parameter.all_values()) for parameter in parameters)


def draw_all(parameters: list[Parameter], seed: int, number: int) -> dict[str, Any]:
    """Draw the parameters of trial ``number``: the same for the same seed, whatever was drawn before."""
    generator = Random(f'{seed}/{number}')
    return {parameter.name: parameter.draw(generator) for parameter in parameters}


def _read_one(name: str, about: Mapping[str, Any], place: str) -> Parameter:
    distribution = about.get('distribution') or _implied(about, place)
    if distribution not in DISTRIBUTIONS:
        raise UserError(f'{place}.distribution: unknown {distribution!r}{nearest(str(distribution), DISTRIBUTIONS)}')
    expected = DISTRIBUTIONS[distribution]
    for key in about:
        if key != 'distribution' and key not in expected:
            raise UserError(f'{place}: {distribution} takes {", ".join(expected)}, found {key!r}')
    for key, default in expected.items():
        if default is None and key not in about:
            raise UserError(f'{place}: {distribution} needs {key!r}')
    options = {**{key: default for key, default in expected.items() if default is not None},
               **{key: item for key, item in about.items() if key != 'distribution'}}
    for key in set(options) - {'value', 'values', 'probabilities'}:
        _check_number(options[key], f'{place}.{key}', whole=distribution == 'int_uniform')
    _check_values(options, distribution, place)
    return Parameter(name, distribution, options)


def _implied(about: Mapping[str, Any], place: str) -> str:
    """Return the distribution that W&B takes where none is named."""
    if 'value' in about:
        return 'constant'
    if 'values' in about:
        return 'categorical_w_probabilities' if 'probabilities' in about else 'categorical'
    if 'min' in about and 'max' in about:
        return 'int_uniform' if type(about['min']) is int and type(about['max']) is int else 'uniform'
    raise UserError(f'{place}: expected value, values, or min and max, found {", ".join(map(str, about)) or "nothing"}')


def _check_number(value: Any, place: str, whole: bool) -> None:
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        kind = 'a whole number' if whole else 'a number'
        if isinstance(value, str):
            _refuse_text(value, place)
        raise UserError(f'{place}: expected {kind}, found {_shown(value)}')


def _check_values(options: Mapping[str, Any], distribution: str, place: str) -> None:
    if 'values' in options:
        values = options['values']
        if not isinstance(values, list) or not values:
            raise UserError(f'{place}.values: expected a list, found {_shown(values)}')
        for value in values:
            if isinstance(value, str):
                _refuse_text(value, f'{place}.values')
        weights = options.get('probabilities')
        if weights is not None and (
                not isinstance(weights, list) or len(weights) != len(values) or not all(
                    isinstance(weight, int | float) and weight >= 0 for weight in weights) or sum(weights) <= 0):
            raise UserError(f'{place}.probabilities: expected {len(values)} numbers from 0, found {_shown(weights)}')
    if isinstance(options.get('value'), str):
        _refuse_text(options['value'], f'{place}.value')
    if 'min' in options and options['min'] > options['max']:
        raise UserError(f'{place}: min {options["min"]} is above max {options["max"]}')
    if distribution.endswith('log_uniform_values') and options['min'] <= 0:
        raise UserError(f'{place}.min: expected more than 0, found {options["min"]}')
    if options.get('q', 1) <= 0:
        raise UserError(f'{place}.q: expected more than 0, found {options["q"]}')


def _refuse_text(value: str, place: str) -> None:
    """Refuse 1e-4, which YAML reads as text while everybody means a number."""
    try:
        number = float(value)
    except ValueError:
        return
    if math.isfinite(number):
        raise UserError(f'{place}: expected a number, found the text {value!r} (in YAML write {number:.1e})')


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:59] + '…'


def _rounded(value: float, step: float) -> float | int:
    """Round to the next multiple of ``step``; whole steps give whole numbers."""
    found = round(value / step) * step
    return int(found) if float(step).is_integer() else float(f'{found:.12g}')


def _log_uniform(generator: Random, options: Mapping[str, Any]) -> float:
    return math.exp(generator.uniform(options['min'], options['max']))


def _log_uniform_values(generator: Random, options: Mapping[str, Any]) -> float:
    return math.exp(generator.uniform(math.log(options['min']), math.log(options['max'])))


DRAW: dict[str, Callable[[Random, Mapping[str, Any]], Any]] = {
    'constant': lambda generator, options: options['value'],
    'categorical': lambda generator, options: generator.choice(options['values']),
    'categorical_w_probabilities': lambda generator, options: generator.choices(
        options['values'], options['probabilities'])[0],
    'int_uniform': lambda generator, options: generator.randint(options['min'], options['max']),
    'uniform': lambda generator, options: generator.uniform(options['min'], options['max']),
    'log_uniform': _log_uniform,
    'inv_log_uniform': lambda generator, options: 1 / _log_uniform(generator, options),
    'log_uniform_values': _log_uniform_values,
    'inv_log_uniform_values': _log_uniform_values,  # log(1/x) is uniform, and so is log(x)
    'normal': lambda generator, options: generator.gauss(options['mu'], options['sigma']),
    'log_normal': lambda generator, options: generator.lognormvariate(options['mu'], options['sigma']),
    'beta': lambda generator, options: generator.betavariate(options['a'], options['b']),
}
