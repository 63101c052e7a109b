"""Temperature scaling: one number that makes a network's probabilities honest without changing its classes.

Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2: logits are divided by the
temperature T that minimises the negative log-likelihood of held-out labels. With several networks, the weights of
their mean are fitted in the same way.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from projects.engine.errors import UserError
from projects.evaluation.calibration import Calibration

LOWEST, HIGHEST = 0.05, 20.0
GOLDEN = (math.sqrt(5) - 1) / 2


def negative_log_likelihood(log_probabilities: Tensor, labels: Tensor) -> float:
    """Return the mean over pixels of -log p(label), from (P, C) log probabilities and (P,) int64 labels."""
    return float(-log_probabilities.gather(1, labels[:, None]).double().mean())


def expected_calibration_error(log_probabilities: Tensor, labels: Tensor) -> float:
    """Return the expected calibration error of (P, C) log probabilities, see :class:`Calibration`."""
    confidence, predicted = log_probabilities.max(dim=1)
    calibration = Calibration()
    calibration.add(confidence.exp().clamp(max=1).numpy(), (predicted == labels).numpy())
    return calibration.error


def fit_temperature(score: Callable[[float], float], low: float = LOWEST, high: float = HIGHEST) -> float:
    """Return the temperature with the lowest score, by golden-section search over its logarithm.

    Args:
        score: From a temperature to the negative log-likelihood; for plain logits it has one minimum.
        low, high: Ends of the search.

    Returns:
        The temperature, to a thousandth of itself.
    """
    left, right = math.log(low), math.log(high)
    inner, outer = right - GOLDEN * (right - left), left + GOLDEN * (right - left)
    below, above = score(math.exp(inner)), score(math.exp(outer))
    while right - left > 1e-3:
        if below <= above:
            right, outer, above = outer, inner, below
            inner = right - GOLDEN * (right - left)
            below = score(math.exp(inner))
        else:
            left, inner, below = inner, outer, above
            outer = left + GOLDEN * (right - left)
            above = score(math.exp(outer))
    return math.exp((left + right) / 2)


def temperature_of(logits: Tensor, labels: Tensor) -> float:
    """Return the temperature of one network from (P, C) logits and (P,) labels."""
    return fit_temperature(lambda t: negative_log_likelihood((logits / t).log_softmax(dim=1), labels))


def fit_weights(mixed: Callable[[Tensor], Tensor], labels: Tensor, count: int) -> list[float]:
    """Return the weights (not negative, sum 1) of several networks that give the lowest negative log-likelihood.

    Args:
        mixed: From weights (count,) to log probabilities (P, C), differentiable.
        labels: (P,) int64.
        count: Number of networks.
    """
    if count == 1:
        return [1.0]
    free = torch.zeros(count, dtype=torch.float64, requires_grad=True)  # weights = softmax(free): equal at first
    optimizer = torch.optim.LBFGS([free], max_iter=100, line_search_fn='strong_wolfe')

    def closure() -> Tensor:
        optimizer.zero_grad()
        weights = free.softmax(dim=0)
        nll = -mixed(weights).gather(1, labels[:, None]).mean()
        loss = nll + 1e-6 * free.square().sum()  # a weight of 0 lies at minus infinity
        loss.backward()
        return loss

    optimizer.step(closure)
    weights = free.detach().softmax(dim=0)
    weights[weights < 1e-4] = 0
    return (weights / weights.sum()).tolist()


class PixelSample:
    """A random sample of bounded size from pixels that come image by image; every pixel is equally likely.

    Args:
        size: Most pixels kept.
        seed: Of the choice.
    """

    def __init__(self, size: int, seed: int = 0) -> None:
        if size < 1:
            raise UserError(f'pixels: expected at least 1, found {size}')
        self.size = size
        self._generator = np.random.default_rng(seed)
        self._keys = np.empty(0)  # each pixel draws a number, the lowest numbers stay
        self._values = self._labels = None

    def choose(self, pixels: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the indices (K,) of the pixels of one image that may stay, and their keys: read only these."""
        keys = self._generator.random(pixels)
        if len(keys) > self.size:
            chosen = np.argpartition(keys, self.size - 1)[:self.size]
        else:
            chosen = np.arange(len(keys))
        if len(self._keys) == self.size:
            chosen = chosen[keys[chosen] < self._keys.max()]
        return np.sort(chosen), keys[np.sort(chosen)]

    def add(self, keys: np.ndarray, values: Tensor, labels: Tensor) -> None:
        """Add chosen pixels: keys (K,), values (K, ...), labels (K,)."""
        if self._values is not None:
            keys = np.concatenate([self._keys, keys])
            values, labels = torch.cat([self._values, values]), torch.cat([self._labels, labels])
        if len(keys) > self.size:
            kept = np.sort(np.argpartition(keys, self.size - 1)[:self.size])
            keys, values, labels = keys[kept], values[torch.from_numpy(kept)], labels[torch.from_numpy(kept)]
        self._keys, self._values, self._labels = keys, values, labels

    def result(self) -> tuple[Tensor, Tensor]:
        """Return values (P, ...) and labels (P,).

        Raises:
            UserError: No pixel was added.
        """
        if self._values is None or not len(self._values):
            raise UserError('no labelled pixel to fit on')
        return self._values, self._labels


def held_out_groups(groups: Sequence[str]) -> set[str]:
    """Return every second one of the different groups, in order of a hash of their names: the half that is held out.

    Raises:
        UserError: There is only one group.
    """
    import hashlib

    names = sorted(set(groups), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    if len(names) < 2:
        raise UserError(f'groups: expected at least 2, one to fit and one to check, found {names}')
    return set(names[1::2])
