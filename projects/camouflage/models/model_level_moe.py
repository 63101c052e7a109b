"""A mixture of experts on the level of models: several whole decoders on one backbone, and a router between them."""

import copy
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from mmseg.utils import ConfigType, SampleList
from torch import Tensor, nn

from projects.camouflage.models.balance_loss import routed_information
from projects.camouflage.models.router import ExpertRouter
from projects.engine.errors import UserError

FROM_THE_MIXTURE = ('num_classes', 'out_channels', 'threshold', 'align_corners', 'ignore_index')


@MODELS.register_module()
class ModelLevelMoE(BaseDecodeHead):
    """Decode head whose experts are decode heads. Logits = sum_e p_e * logits_e, p from :class:`ExpertRouter`.

    Logits are mixed, not probabilities: mmseg's heads give logits and its losses take them, and a mean of
    probabilities would have to be turned back by a logarithm that loses the tails in bfloat16. In training the mixture
    is dense: every expert sees every picture, weighted by the router, so that all of them and the router always have
    gradients (nothing is unused under DDP). In prediction each picture goes to its ``top_k`` most probable experts,
    their probabilities renormalised; each expert runs once, on the pictures that chose it. With ``top_k`` equal to the
    number of experts that is the dense mixture.

    The experts answer at any size; their logits are brought to the size of the finest level times ``upscale``, whoever
    answers, so that a picture's prediction does not depend on the others in its batch.

    Only the experts' ``forward`` is used: losses are this head's, and a ``loss_decode`` of theirs counts for nothing.
    An expert whose own ``loss`` trains layers beside its ``forward`` (``aux=True`` of ``FTUNetFormerHead``) would leave
    these untrained.

    Balance and information are asked of the last pictures that the router has seen, not of the batch. Logged beside the
    losses, over the same pictures: ``load_E``, the mean probability of each expert, ``sent_E``, its share of the
    pictures that ``top_k`` sends out, and ``router_entropy``, the mean entropy of a picture's distribution divided by
    log E: 1 undecided, 0 sure.

    Args:
        in_channels: Width of every level that the router sees, finest first.
        num_classes: Number of classes.
        loss_decode: mmseg losses on the mixed logits.
        experts: Configs of decode heads, each with its own ``in_channels``, ``in_index`` and layers. What is absent of
            ``num_classes``, ``out_channels``, ``threshold``, ``align_corners`` and ``ignore_index`` is this head's.
        expert: One such config instead, ``num_experts`` times (each is initialised anew).
        num_experts: How many copies of ``expert``.
        in_index: Levels that the router sees. Default: all, in order.
        top_k: Experts a picture in prediction, 1..E. Default 2, or 1 where there is one expert.
        router: Arguments of :class:`ExpertRouter` beside widths and number of experts.
        balance: Config of the balance loss. Default :class:`LoadBalanceLoss`; its ``loss_weight=0`` switches it off.
        information_weight: Factor of ``loss_information``: log E minus the mutual information of picture and expert
            over the recent pictures, at least 0. Without it routers stay undecided, and a balanced mean of their
            probabilities hides that one expert is nearly always the first choice. Default 1; 0 switches it off.
        upscale: Size of the logits as a multiple of the finest level's, at least 1. Default 1.
        out_channels: 1 with two classes: logits of the second one. Default ``num_classes``.
        threshold: Of the probability, where ``out_channels`` is 1. Default 0.5 (mmseg's own is 0.3).
        ignore_index: Label without loss. Default 255.
        sampler: mmseg's pixel sampler, or None.
        align_corners: Of the resizing. Default False.
        init_cfg: As for every mmengine module.

    Raises:
        UserError: No expert, ``top_k`` out of range, an expert that is no decode head, has other classes or channels
            than the mixture.

    Sources: Jacobs et al., Adaptive mixtures of local experts, Neural Computation 3 (1991); Shazeer et al., ICLR 2017
    (top-k and the coefficient of variation of the load); Chen et al., Mod-Squad, CVPR 2023 (mutual information).
    """

    def __init__(self, in_channels: Sequence[int], *, num_classes: int, loss_decode: dict | Sequence[dict],
                 experts: Sequence[dict] | None = None, expert: dict | None = None, num_experts: int | None = None,
                 in_index: Sequence[int] | None = None, top_k: int | None = None, router: dict | None = None,
                 balance: dict | None = None, information_weight: float = 1.0, upscale: int = 1,
                 out_channels: int | None = None, threshold: float | None = None, ignore_index: int | None = 255,
                 sampler: dict | None = None, align_corners: bool = False, init_cfg: dict | None = None) -> None:
        in_channels = [in_channels] if isinstance(in_channels, int) else list(in_channels)
        if out_channels is None:
            out_channels = num_classes
        if out_channels == 1 and threshold is None:
            threshold = 0.5
        super().__init__(
            in_channels, 1, num_classes=num_classes, out_channels=out_channels, threshold=threshold, dropout_ratio=0,
            in_index=list(in_index) if in_index is not None else list(range(len(in_channels))),
            input_transform='multiple_select', loss_decode=loss_decode, ignore_index=ignore_index, sampler=sampler,
            align_corners=align_corners, init_cfg=init_cfg)
        self.conv_seg = None  # the experts have theirs
        if upscale < 1:
            raise UserError(f'ModelLevelMoE: upscale: expected at least 1, found {upscale}')
        if information_weight < 0:
            raise UserError(f'ModelLevelMoE: information_weight: expected at least 0, found {information_weight}')
        self.upscale = int(upscale)
        self.information_weight = information_weight
        self.experts = nn.ModuleList(
            self._build(config, place) for place, config in _listed(experts, expert, num_experts))
        count = len(self.experts)
        self.top_k = min(2, count) if top_k is None else top_k
        if not 1 <= self.top_k <= count:
            raise UserError(f'ModelLevelMoE: top_k: expected 1..{count}, the number of experts, found {self.top_k}')
        self.router = ExpertRouter(in_channels, count, **(router or {}))
        self.balance = MODELS.build(dict(balance or dict(type='LoadBalanceLoss'), num_experts=count))

    def _build(self, config: dict, place: str) -> BaseDecodeHead:
        config = copy.deepcopy(dict(config))
        for key in FROM_THE_MIXTURE:
            config.setdefault(key, getattr(self, key))
        head = MODELS.build(config)
        for key in ('num_classes', 'out_channels'):
            found = getattr(head, key, None)
            if found != getattr(self, key):
                raise UserError(f'ModelLevelMoE: {place}.{key}: expected {getattr(self, key)} as in the mixture, '
                                f'found {found}')
        return head

    def router_probabilities(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return the router's distribution for each picture, (N, E) float32, from the backbone's feature maps."""
        return self.router(self._transform_inputs(inputs))

    def choice(self, probabilities: Tensor) -> Tensor:
        """Return the weights (N, E) of prediction: the ``top_k`` largest of each row renormalised, the others 0."""
        if self.top_k == len(self.experts):
            return probabilities
        values, chosen = probabilities.topk(self.top_k, dim=1)
        return torch.zeros_like(probabilities).scatter(1, chosen, values / values.sum(1, keepdim=True))

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Turn feature maps (N, C_i, h_i, w_i) into mixed logits (N, out_channels, h, w).

        ``h, w`` are those of the finest level times ``upscale``. Dense in training, top-k in evaluation.
        """
        probabilities = self.router_probabilities(inputs)
        if self.training:
            return _mix(self._all_logits(inputs), probabilities)
        weights = self.choice(probabilities)
        if self.top_k == len(self.experts) or torch.jit.is_tracing():  # a traced graph cannot pick pictures
            return _mix(self._all_logits(inputs), weights)
        return self._dispatched(inputs, weights)

    def loss(self, inputs: Sequence[Tensor], batch_data_samples: SampleList, train_cfg: ConfigType) -> dict:
        """Return the losses of the mixed logits, the balance and information losses, and what is logged of the load."""
        probabilities = self.router_probabilities(inputs)
        logits = self._all_logits(inputs)
        losses = self.loss_by_feat(_mix(logits, probabilities), batch_data_samples)
        recent = self.router.recent_probabilities() if self.training else probabilities
        losses[self.balance.loss_name] = self.balance(recent)
        if self.information_weight:
            losses['loss_information'] = self.information_weight * (
                math.log(len(self.experts)) - routed_information(recent))
        losses.update(self._load(recent.detach()))
        return losses

    def _load(self, probabilities: Tensor) -> dict[str, Tensor]:
        """Return what the log shows of the routing of pictures (N, E)."""
        sent = (self.choice(probabilities) > 0).float().mean(0) / self.top_k
        shown = {f'load_{number}': value for number, value in enumerate(probabilities.mean(0))}
        shown |= {f'sent_{number}': value for number, value in enumerate(sent)}
        entropy = torch.special.entr(probabilities).sum(1).mean()
        return dict(shown, router_entropy=entropy / max(math.log(len(self.experts)), 1e-9))

    def _all_logits(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return the logits of every expert for every picture, (N, E, out_channels, h, w)."""
        size = self._size(inputs)
        return torch.stack([self._sized(expert(inputs), size) for expert in self.experts], dim=1)

    def _dispatched(self, inputs: Sequence[Tensor], weights: Tensor) -> Tensor:
        """Run each expert once, on the pictures in which it has a weight, and sum up."""
        size = self._size(inputs)
        mixed = None
        for number, expert in enumerate(self.experts):
            rows = weights[:, number].nonzero().squeeze(1)
            if not len(rows):
                continue
            everyone = len(rows) == len(weights)
            chosen = inputs if everyone else [level.index_select(0, rows) for level in inputs]
            logits = self._sized(expert(chosen), size)
            logits = logits * weights[rows, number].view(-1, 1, 1, 1)  # float32, as in the dense mixture
            if mixed is None:
                mixed = logits.new_zeros((len(weights), *logits.shape[1:]))
            mixed = mixed + logits if everyone else mixed.index_add(0, rows, logits)
        return mixed

    def _size(self, inputs: Sequence[Tensor]) -> tuple[int, int]:
        levels = self._transform_inputs(inputs)
        height, width = max((tuple(level.shape[-2:]) for level in levels), key=lambda size: size[0] * size[1])
        return height * self.upscale, width * self.upscale

    def _sized(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        if tuple(logits.shape[-2:]) == size:
            return logits
        return F.interpolate(logits, size=size, mode='bilinear', align_corners=self.align_corners)


def _mix(logits: Tensor, weights: Tensor) -> Tensor:
    """Return sum_e weights_e * logits_e, (N, out_channels, h, w) float32, of logits (N, E, out_channels, h, w)."""
    return (logits * weights[:, :, None, None, None]).sum(1)


def _listed(experts: Sequence[dict] | None, expert: dict | None, num_experts: int | None) -> list[tuple[str, dict]]:
    """Return the experts' configs, each with its place in the config."""
    if (experts is None) == (expert is None):
        raise UserError('ModelLevelMoE: expected either experts=[dict(…), …] or expert=dict(…) with num_experts, found '
                        f'{"none" if experts is None else "both"}')
    if expert is not None:
        if num_experts is None or num_experts < 1:
            raise UserError(f'ModelLevelMoE: num_experts: expected at least 1, found {num_experts}')
        return [('expert', expert)] * num_experts
    if not len(experts):
        raise UserError('ModelLevelMoE: experts: expected at least one, found none')
    if num_experts not in (None, len(experts)):
        raise UserError(f'ModelLevelMoE: num_experts: expected {len(experts)}, the length of experts, or none, found '
                        f'{num_experts}')
    return [(f'experts.{place}', config) for place, config in enumerate(experts)]
