"""Which scales get a gradient when: the owner of that, on the runner's own clock, alike in all processes."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import broadcast
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import EpochBasedTrainLoop
from mmseg.registry import HOOKS

from projects.engine.errors import UserError
from projects.engine.trained_network import trained_network
from projects.multiscale.backbone import MultiScaleBackbone

Policy = str | Sequence[str]


@HOOKS.register_module()
class ScalePolicyHook(Hook):
    """Set the policy of a :class:`~projects.multiscale.backbone.MultiScaleBackbone` and draw what is left to chance.

    Before each iteration the policy is that of the last point that has come. The runner's counters are asked and
    nothing is counted here, and chance is drawn from the first process's seed and the iteration: a resumed run
    continues as the first one would have, and all processes of a distributed run do the same. The hook owns gradients
    only; loss weights of scales are :class:`projects.multistage.warmup.StageWarmupHook`'s.

    Args:
        policy: Points (when, policy): ascending, the first at 0; a policy is one for all scales above the reference,
            or one for each scale. For example ``[(0, 'stochastic(0.25, checkpoint)'), (120, 'checkpoint')]``. One
            policy without points holds throughout; None keeps the backbone's own and draws only.
        by_epoch: Points count epochs, else iterations; an iteration-based run counts iterations only.
    """

    priority = 'ABOVE_NORMAL'

    def __init__(self, policy: str | Sequence[Sequence[Any]] | None = None, by_epoch: bool = True) -> None:
        self.by_epoch = bool(by_epoch)
        self.times, self.policies = _points(policy)
        self._backbones: list[MultiScaleBackbone] = []
        self._parsed: list[list[tuple]] = []
        self._set: int | None = None
        self._seed = 0

    def before_train(self, runner: Any) -> None:
        """Find the backbones and read the policies, before anything is trained."""
        if self.by_epoch and len(self.times) > 1 and not isinstance(runner.train_loop, EpochBasedTrainLoop):
            raise UserError('ScalePolicyHook.by_epoch: expected False, this run counts iterations '
                            '(train_cfg.by_epoch): its epoch never advances')
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self._backbones = [module for module in trained_network(model).modules()
                           if isinstance(module, MultiScaleBackbone)]
        if not self._backbones:
            raise UserError('ScalePolicyHook: expected a MultiScaleBackbone in the model, found none')
        self._parsed = [[backbone.parse_policy(policy, f'ScalePolicyHook.policy[{index}]')
                         for backbone in self._backbones] for index, policy in enumerate(self.policies)]
        self._set = None
        seed = torch.tensor(int(runner.seed or 0))
        broadcast(seed)  # with randomness.diff_rank_seed each process has one of its own
        self._seed = int(seed)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Set the policy where it has changed, and the modes of this iteration."""
        when = runner.epoch if self.by_epoch else runner.iter
        point = bisect_right(self.times, when) - 1
        if self._parsed and self._set != point:
            for backbone, policy in zip(self._backbones, self._parsed[point]):
                backbone.policy = policy
            self._set = point
            backbone = self._backbones[0]
            told = ', '.join(f'{scale:g}x {policy}' for scale, policy in zip(backbone.scales, backbone.policy))
            print_log(f'scale policy from {"epoch" if self.by_epoch else "iteration"} {when + 1} on: {told}', 'current')
        state = np.random.SeedSequence((self._seed, int(runner.iter))).generate_state(1)
        generator = torch.Generator().manual_seed(int(state[0]))
        for backbone in self._backbones:
            backbone.modes = backbone.draw(generator)

    def after_train(self, runner: Any) -> None:
        """Leave the backbones as they were found: drawing for themselves."""
        for backbone in self._backbones:
            backbone.modes = None


def _points(policy: str | Sequence[Sequence[Any]] | None) -> tuple[list[int], list[Policy]]:
    """Return the times and the policies of points; neither for None."""
    where = 'ScalePolicyHook.policy'
    if policy is None:
        return [], []
    if isinstance(policy, str):
        return [0], [policy]
    try:
        pairs = [(when, value) for when, value in policy]
        times = [int(when) for when, _ in pairs]
        whole = all(int(when) == when for when, _ in pairs)
    except (TypeError, ValueError) as error:
        raise UserError(f'{where}: expected pairs (when, policy), found {policy!r}') from error
    if not times or not whole or times[0] != 0 or any(a >= b for a, b in zip(times, times[1:])):
        raise UserError(f'{where}: expected whole, ascending times that begin at 0, found '
                        f'{[when for when, _ in pairs]}')
    return times, [value for _, value in pairs]
