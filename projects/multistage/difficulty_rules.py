"""Rules that turn the difficulty of images into sampling weights; each is a registered type (``TASK_UTILS``).

A rule is called with a :class:`~projects.multistage.difficulty.Difficulty` and returns a weight for each sample id. An
image without a labelled pixel has no mIoU; it gets the weight of an easy one.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from mmseg.registry import TASK_UTILS

from projects.engine.config import nearest
from projects.engine.errors import UserError
from projects.multistage.difficulty import Difficulty, SampleDifficulty

Rule = Callable[[Difficulty], dict[str, float]]


def build_rule(rule: Mapping[str, Any] | Rule | None) -> Rule:
    """Build a rule from its config; None is the seed's without a focus.

    Raises:
        UserError: No such rule, or it does not take these arguments.
    """
    if callable(rule):
        return rule
    rule = dict(rule or {'type': 'SeedRule'})
    target = TASK_UTILS.get(rule['type']) if isinstance(rule.get('type'), str) else None
    if target is None:
        raise UserError(f'rule: {rule.get("type")!r} is not registered'
                        + nearest(str(rule.get('type')), ('SeedRule', 'QuantileRule', 'FocalRule')))
    try:
        return target(**{key: value for key, value in rule.items() if key != 'type'})
    except (TypeError, ValueError) as error:
        raise UserError(f'rule {rule["type"]}: {error}') from error


@TASK_UTILS.register_module()
class SeedRule:
    """The rule of seed 001: 1.0; 2.0 below an mIoU of 0.7; 3.0 below 0.6; more where a class in focus does badly.

    Each class of the focus list with an IoU below ``focus_iou`` on more than ``focus_pixels`` pixels multiplies the
    weight by ``focus_factor``. (The seed does not say whether several count once or each; its table has weights of
    6.0, which 3.0 x 1.5 does not reach and 3.0 x 1.5 x 1.5, cut off at 6.0, does.)

    Args:
        focus: Names of classes.
        steps: (mIoU, weight of images below it), any order; the lowest mIoU that an image is below counts.
        focus_iou: See above.
        focus_pixels: See above; pixels of the truth.
        focus_factor: See above.
        top: Largest weight.
    """

    def __init__(self, focus: str | Sequence[str] = (), steps: Sequence[Sequence[float]] = ((0.7, 2.0), (0.6, 3.0)),
                 focus_iou: float = 0.6, focus_pixels: int = 100, focus_factor: float = 1.5, top: float = 6.0) -> None:
        self.focus = (focus,) if isinstance(focus, str) else tuple(focus)
        self.steps = _steps('SeedRule', steps)
        self.focus_iou, self.focus_pixels = float(focus_iou), int(focus_pixels)
        self.focus_factor, self.top = _positive('SeedRule.focus_factor', focus_factor), _positive('SeedRule.top', top)

    def __call__(self, difficulty: Difficulty) -> dict[str, float]:
        """Return the weight of every sample.

        Raises:
            UserError: A class in focus is none of the file's, or the file does not tell its pixels.
        """
        for name in self.focus:
            if name not in difficulty.classes:
                raise UserError(f'SeedRule.focus: {name!r} is none of the classes ({", ".join(difficulty.classes)})'
                                + nearest(name, difficulty.classes))
        return {name: self._weight(name, sample) for name, sample in difficulty.samples.items()}

    def _weight(self, name: str, sample: SampleDifficulty) -> float:
        weight = 1.0
        if sample.mean_iou is not None:
            weight = next((value for bound, value in self.steps if sample.mean_iou < bound), 1.0)
        for label in self.focus:
            iou = sample.iou.get(label)
            if iou is None or iou >= self.focus_iou:
                continue
            if label not in sample.pixels:
                raise UserError(f'SeedRule.focus: sample {name} has an IoU of {label} and not its number of pixels')
            if sample.pixels[label] > self.focus_pixels:
                weight *= self.focus_factor
        return min(weight, self.top)


@TASK_UTILS.register_module()
class QuantileRule:
    """Weights by rank: an image that is harder than a share of all images gets the weight of that share.

    Unlike fixed bounds it keeps telling images apart when a network does well, or badly, on all of them.

    Args:
        steps: (share in 0..1, weight): images whose mIoU lies below the quantile 1 - share. The largest share that
            an image passes counts; all others have weight 1.
    """

    def __init__(self, steps: Sequence[Sequence[float]] = ((0.5, 2.0), (0.8, 4.0))) -> None:
        self.steps = _steps('QuantileRule', steps)[::-1]  # the largest share first

    def __call__(self, difficulty: Difficulty) -> dict[str, float]:
        """Return the weight of every sample."""
        known = [sample.mean_iou for sample in difficulty.samples.values() if sample.mean_iou is not None]
        bounds = [(float(np.quantile(known, 1 - share)), weight) for share, weight in self.steps] if known else []
        return {name: next((weight for bound, weight in bounds
                            if sample.mean_iou is not None and sample.mean_iou < bound), 1.0)
                for name, sample in difficulty.samples.items()}


@TASK_UTILS.register_module()
class FocalRule:
    """A weight without steps: ``scale * (1 - mIoU) ** gamma``, at least ``floor``.

    Args:
        gamma: Above 0; larger ones leave the weight to the hardest images.
        scale: The weight at an mIoU of 0.
        floor: Smallest weight, above 0: also an easy image has to be seen now and then.
    """

    def __init__(self, gamma: float = 2.0, scale: float = 6.0, floor: float = 1.0) -> None:
        self.gamma, self.scale = _positive('FocalRule.gamma', gamma), _positive('FocalRule.scale', scale)
        self.floor = _positive('FocalRule.floor', floor)

    def __call__(self, difficulty: Difficulty) -> dict[str, float]:
        """Return the weight of every sample."""
        return {name: max(self.floor, self.scale * (1 - sample.mean_iou) ** self.gamma)
                if sample.mean_iou is not None else self.floor for name, sample in difficulty.samples.items()}


def _positive(where: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
        raise UserError(f'{where}: expected a number above 0, found {value!r}')
    return float(value)


def _steps(where: str, steps: Any) -> list[tuple[float, float]]:
    """Return (bound in 0..1, weight) by ascending bound."""
    try:
        found = sorted((float(bound), _positive(f'{where}.steps', weight)) for bound, weight in steps)
    except (TypeError, ValueError) as error:
        raise UserError(f'{where}.steps: expected pairs (share, weight), found {steps!r}') from error
    if any(not 0 <= bound <= 1 for bound, _ in found):
        raise UserError(f'{where}.steps: expected bounds in 0..1, found {steps!r}')
    return found
