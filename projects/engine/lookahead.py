"""Lookahead: k fast steps forward, one slow step back (Zhang et al., 2019, arXiv:1907.08610, algorithm 1)."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from mmseg.registry import OPTIMIZERS
from torch.optim import Optimizer

from projects.engine.errors import UserError


@OPTIMIZERS.register_module()
class Lookahead(Optimizer):
    """Wrap any registered optimizer; every ``k`` steps pull the weights back towards slow ones.

    ``slow += alpha * (fast - slow); fast = slow``. The slow weights live in the base optimizer's state, beside its
    moments, and the count of steps in its parameter groups: both travel in ``state_dict`` and survive a resume.

    Args:
        params: Parameters or parameter groups.
        base: Config of the base optimizer, e.g. ``dict(type='AdamW', betas=(0.9, 0.999))``.
        lr: Learning rate of the base optimizer (here, so that MMEngine's constructors and schedulers find it).
        weight_decay: Weight decay of the base optimizer.
        k: Fast steps for each slow step, at least 1.
        alpha: Slow step size in (0, 1].
    """

    def __init__(self, params: Iterable, base: dict, lr: float, weight_decay: float = 0.0, k: int = 5,
                 alpha: float = 0.5) -> None:
        if k < 1:
            raise UserError(f'Lookahead k: expected at least 1, found {k}')
        if not 0.0 < alpha <= 1.0:
            raise UserError(f'Lookahead alpha: expected within (0, 1], found {alpha}')
        self.base = OPTIMIZERS.build(dict(base, params=params, lr=lr, weight_decay=weight_decay))
        super().__init__(self.base.param_groups, dict(self.base.defaults, k=k, alpha=alpha, lookahead_step=0))
        self._share()

    def _share(self) -> None:
        # One list of groups and one state for both: a scheduler that sets a rate here sets it there.
        self.base.param_groups = self.param_groups
        self.base.state = self.state

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Take one fast step, and a slow one when ``k`` fast steps are done."""
        first = [(p, p.clone()) for group in self.param_groups for p in group['params']
                 if p.grad is not None and 'slow' not in self.state.get(p, {})]
        loss = self.base.step(closure)
        for p, slow in first:  # after the base's step: it takes an empty state for "not initialised yet"
            self.state[p]['slow'] = slow
        for group in self.param_groups:
            group['lookahead_step'] = (group['lookahead_step'] + 1) % group['k']
            if group['lookahead_step'] == 0:
                pairs = [(p, self.state[p]['slow']) for p in group['params'] if 'slow' in self.state.get(p, {})]
                if pairs:
                    fast, slow = map(list, zip(*pairs))
                    torch._foreach_lerp_(slow, fast, group['alpha'])
                    torch._foreach_copy_(fast, slow)
        return loss

    def load_state_dict(self, state_dict: dict) -> None:
        """Load moments, slow weights and the count of steps."""
        super().load_state_dict(state_dict)
        self._share()

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        if 'base' in self.__dict__:
            self.base.__setstate__({'state': self.state, 'param_groups': self.param_groups})
