"""What gradient a scale of the input gets in training: all of it, through a recomputation, none, or by chance."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from projects.engine.config import nearest
from projects.engine.errors import UserError

MODES = ('grad', 'checkpoint', 'no_grad')
FORMS = "'grad', 'checkpoint', 'no_grad', 'stochastic(p)' or 'stochastic(p, checkpoint)'"
STOCHASTIC = re.compile(r'stochastic\(\s*([^,()]+?)\s*(?:,\s*([^,()]+?)\s*)?\)')


@dataclass(frozen=True)
class ScalePolicy:
    """The policy of one scale.

    Args:
        mode: What happens with the probability: ``'grad'``, ``'checkpoint'`` (activations are computed again in
            backward instead of being kept) or ``'no_grad'`` (features without a gradient).
        probability: Chance of ``mode``, in [0, 1]; else ``'no_grad'``.
    """

    mode: str
    probability: float = 1.0

    def draw(self, generator: torch.Generator | None = None) -> str:
        """Return a mode; a policy without chance draws no number.

        Args:
            generator: A CPU generator; default torch's global one.
        """
        if self.probability == 1 or self.mode == 'no_grad':
            return self.mode
        return self.mode if float(torch.rand((), generator=generator)) < self.probability else 'no_grad'

    def __str__(self) -> str:
        if self.probability == 1:
            return self.mode
        return f'stochastic({self.probability:g}{", checkpoint" if self.mode == "checkpoint" else ""})'


def parse_policy(text: str, where: str = 'policy') -> ScalePolicy:
    """Read ``grad``, ``checkpoint``, ``no_grad``, ``stochastic(p)`` or ``stochastic(p, checkpoint)``.

    Args:
        text: The policy; with probability ``p`` in [0, 1] a stochastic one gives a gradient (through a
            recomputation), else none.
        where: The key, for messages.

    Raises:
        UserError: No such policy, or a probability outside [0, 1].
    """
    if isinstance(text, ScalePolicy):
        return text
    if not isinstance(text, str):
        raise UserError(f'{where}: expected {FORMS}, found {text!r}')
    name = text.strip()
    if name in MODES:
        return ScalePolicy(name)
    match = STOCHASTIC.fullmatch(name)
    if match is None:
        raise UserError(f'{where}: expected {FORMS}, found {text!r}'
                        f'{nearest(name.partition("(")[0], (*MODES, "stochastic"))}')
    chance, mode = match.group(1), match.group(2) or 'grad'
    if mode not in ('grad', 'checkpoint'):
        raise UserError(f"{where}: expected 'grad' or 'checkpoint' inside {text!r}, found {mode!r}"
                        f'{nearest(mode, ("grad", "checkpoint"))}')
    try:
        probability = float(chance)
    except ValueError as error:
        raise UserError(f'{where}: expected a probability inside {text!r}, found {chance!r}') from error
    if not 0 <= probability <= 1:  # nan too
        raise UserError(f'{where}: expected a probability in [0, 1] inside {text!r}, found {chance}')
    return ScalePolicy(mode, probability)


def parse_policies(policy: str | Sequence[str], scales: Sequence[float], reference: int,
                   where: str = 'policy') -> tuple[ScalePolicy, ...]:
    """Return the policy of each scale.

    Args:
        policy: One for each scale; or a single one, for every scale above the reference (most of the cost is there),
            the others having ``grad``.
        scales: The scales.
        reference: Index of the reference, whose policy must be ``grad`` or ``checkpoint``: without its gradient no
            step would be left.
        where: The key, for messages.

    Raises:
        UserError: Another number of policies than scales, an unknown one, or a reference without a certain gradient.
    """
    if isinstance(policy, (str, ScalePolicy)):
        above = parse_policy(policy, where)
        return tuple(above if scale > scales[reference] else ScalePolicy('grad') for scale in scales)
    if not isinstance(policy, Sequence) or len(policy) != len(scales):
        found = f'{len(policy)}' if isinstance(policy, Sequence) else repr(policy)
        raise UserError(f'{where}: expected one policy, or one for each of {len(scales)} scales, found {found}')
    policies = tuple(parse_policy(text, f'{where}[{index}]') for index, text in enumerate(policy))
    if policies[reference] not in (ScalePolicy('grad'), ScalePolicy('checkpoint')):
        raise UserError(f"{where}[{reference}]: expected 'grad' or 'checkpoint' for the reference scale "
                        f'{scales[reference]:g}, found {str(policy[reference])!r}')
    return policies
