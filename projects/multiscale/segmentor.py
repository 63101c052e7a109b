"""A segmentor whose scales are also supervised one by one."""

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.logging import MessageHub
from mmseg.models import EncoderDecoder
from mmseg.registry import MODELS
from torch import Tensor, nn

from projects.engine.errors import UserError


@MODELS.register_module()
class MultiScaleSegmentor(EncoderDecoder):
    """mmseg's ``EncoderDecoder`` on the fused pyramid, plus a head and a loss for each scale's own pyramid.

    Neck, decode head and auxiliary heads work as in ``EncoderDecoder``. In training the term ``loss_scale`` is added:
    the ``scale_heads`` map what each scale has seen by itself to logits, and ``scale_loss`` compares these with the
    labels. A prediction does not run these heads.

    While ``scale_loss.loss_weight`` is 0 the heads are not run, and ``loss_scale`` is a zero that touches their
    parameters: whoever expects a gradient of every parameter (DDP without ``find_unused_parameters``) gets one, of
    zeros. ``loss_schedule = dict(type='StageWarmupHook', weights={'scale_loss.loss_weight': [(0, 0.3), (30, 0.0)]})``
    switches it off after 30 epochs.

    Args:
        backbone: Config of a multi-scale backbone where there is a ``scale_loss``, else of any. With
            ``single_scale=True`` in it, this model predicts, but has no scales to supervise.
        decode_head: Config of any decode head.
        scale_head: Config of one head; it is built once for each scale.
        scale_loss: Config of the loss over all scales (:class:`projects.multiscale.scale_loss.ScaleAwareLoss`).
        **kwargs: The other arguments of ``EncoderDecoder``.

    Raises:
        UserError: A head without a loss or a loss without a head, a backbone without scales, another number of weights
            than scales, or of classes than the decode head has.
    """

    def __init__(self, backbone: Mapping[str, Any], decode_head: Mapping[str, Any], *,
                 scale_head: Mapping[str, Any] | None = None, scale_loss: Mapping[str, Any] | None = None,
                 **kwargs: Any) -> None:
        super().__init__(backbone, decode_head, **kwargs)
        self._scales: list[tuple[Tensor, ...]] | None = None  # where a training step wants the pyramids of all scales
        self.scale_loss = None
        if (scale_head is None) != (scale_loss is None):
            has, lacks = ('scale_loss', 'scale_head') if scale_head is None else ('scale_head', 'scale_loss')
            raise UserError(f'model.{lacks}: expected one beside model.{has}, found none')
        if scale_loss is None:
            return
        if not hasattr(self.backbone, 'forward_scales'):
            raise UserError('model.scale_loss: expected a backbone of several scales (MultiScaleBackbone), found '
                            f'{type(self.backbone).__name__}')
        scales = tuple(self.backbone.scales)
        self.scale_heads = nn.ModuleList([MODELS.build(dict(scale_head)) for _ in scales])
        self.scale_loss = MODELS.build(dict(scale_loss))
        if len(self.scale_loss.weights) != len(scales):
            raise UserError(f'model.scale_loss.weights: expected {len(scales)}, one for each of the scales {scales}, '
                            f'found {len(self.scale_loss.weights)}')
        found = self.scale_heads[0].num_classes
        if found != self.num_classes:
            raise UserError(f'model.scale_head.num_classes: expected {self.num_classes} as model.decode_head has, '
                            f'found {found}')

    def extract_feat(self, inputs: Tensor) -> Any:
        """Return the fused pyramid, through the neck where there is one."""
        if self._scales is None:
            return super().extract_feat(inputs)
        features, self._scales = self.backbone.forward_scales(inputs)
        return self.neck(features) if self.with_neck else features

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Any]:
        """Return the terms of ``EncoderDecoder`` and ``loss_scale``; ``scale/<scale>`` is for the log alone."""
        if self.scale_loss is None:
            return super().loss(inputs, data_samples)
        if not self.scale_loss.loss_weight:
            _forget_statistics()
            losses = super().loss(inputs, data_samples)
            losses['loss_scale'] = sum(0.0 * parameter.float().sum() for parameter in self.scale_heads.parameters())
            return losses
        if getattr(self.backbone, 'single_scale', False):
            raise UserError('model.scale_loss: expected none (or scale_loss.loss_weight=0) where a training has '
                            'model.backbone.single_scale=True: one scale is run, and not supervised by itself')
        self._scales = []
        try:
            losses = super().loss(inputs, data_samples)
        finally:
            pyramids, self._scales = self._scales, None
        label = torch.stack([sample.gt_sem_seg.data for sample in data_samples]).squeeze(1)  # (N, H, W)
        logits = [head(pyramid) for head, pyramid in zip(self.scale_heads, pyramids, strict=True)]
        losses.update(self.scale_loss(logits, label, [f'{scale:g}' for scale in self.backbone.scales]))
        return losses


def _forget_statistics() -> None:
    """Take what the scales have told before they were switched off out of the log, which would repeat it."""
    scalars = MessageHub.get_current_instance().log_scalars
    for name in [name for name in scalars if name.startswith('train/scale/')]:
        del scalars[name]
