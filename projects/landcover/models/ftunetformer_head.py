"""The decoder of FTUNetFormer (Swin-B + UNetFormer) as an mmseg decode head."""

from collections.abc import Sequence

import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from mmseg.utils import ConfigType, SampleList
from torch import Tensor, nn

from projects.engine.errors import UserError
from projects.landcover.models.fusion import FeatureRefinement, WeightedFusion
from projects.landcover.models.global_local import GlobalLocalBlock


@MODELS.register_module()
class FTUNetFormerHead(BaseDecodeHead):
    """Global-local decoder over four maps of a backbone at strides 4, 8, 16 and 32.

    Any backbone may feed it. Logits come at the resolution of the first map (1/4 of the image), as in every mmseg
    head; ``loss`` and ``predict`` resize them. Attribute names follow the published checkpoints, so that
    :func:`projects.landcover.checkpoints.convert_geoseg` stays a renaming.

    Args:
        in_channels: Widths of the four maps, finest first. Swin-B: (128, 256, 512, 1024).
        channels: Width of the decoder, divisible by ``num_heads``. Default 256.
        num_classes: Number of classes.
        num_heads: Attention heads of the global-local blocks. Default 16.
        window_size: Side of the attention windows in cells. Default 8.
        mlp_ratio: Hidden width of the MLPs as a multiple of ``channels``. Default 4.
        drop_rate: Dropout inside the MLPs, 0..1. Default 0.
        drop_path_rate: Stochastic depth of the global-local blocks, 0..1. Default 0.
        dropout_ratio: Dropout2d before the last convolution, 0..1. Default 0.2.
        aux: Also train UNetFormer's auxiliary head on ``up4(b4) + up2(b3) + b2``; it has no part in prediction.
        aux_weight: Factor of the auxiliary losses. Default 0.4.
        norm_cfg: Config of the norm layers. Default BN.
        kwargs: Further arguments of mmseg's ``BaseDecodeHead`` (``loss_decode``, ``ignore_index``, ...).

    Raises:
        UserError: ``in_channels`` has not four entries, or ``channels`` is not divisible by ``num_heads``.

    Source: Wang et al., UNetFormer, ISPRS J. 190 (2022).
    """

    def __init__(self, in_channels: Sequence[int] = (128, 256, 512, 1024), channels: int = 256, *, num_classes: int,
                 num_heads: int = 16, window_size: int = 8, mlp_ratio: float = 4.0, drop_rate: float = 0.0,
                 drop_path_rate: float = 0.0, dropout_ratio: float = 0.2, aux: bool = False, aux_weight: float = 0.4,
                 norm_cfg: dict | None = None, **kwargs) -> None:
        if len(in_channels) != 4:
            raise UserError(f'FTUNetFormerHead: in_channels must hold 4 widths, found {tuple(in_channels)}')
        if channels % num_heads:
            raise UserError(f'FTUNetFormerHead: channels={channels} must be divisible by num_heads={num_heads}')
        if window_size < 2:
            raise UserError(f'FTUNetFormerHead: window_size must be at least 2, found {window_size}')
        norm_cfg = norm_cfg or dict(type='BN', requires_grad=True)
        super().__init__(
            list(in_channels), channels, num_classes=num_classes, dropout_ratio=dropout_ratio, norm_cfg=norm_cfg,
            in_index=(0, 1, 2, 3), input_transform='multiple_select', **kwargs)

        def block() -> GlobalLocalBlock:
            return GlobalLocalBlock(channels, num_heads, window_size, norm_cfg, mlp_ratio, drop_rate, drop_path_rate)

        self.pre_conv = nn.Sequential(
            nn.Conv2d(in_channels[3], channels, 1, bias=False), build_norm_layer(norm_cfg, channels)[1])
        self.b4 = block()
        self.p3 = WeightedFusion(in_channels[2], channels, norm_cfg)
        self.b3 = block()
        self.p2 = WeightedFusion(in_channels[1], channels, norm_cfg)
        self.b2 = block()
        self.p1 = FeatureRefinement(in_channels[0], channels, norm_cfg)
        self.seg_conv = self._conv_norm_act()
        self.conv_seg = nn.Conv2d(channels, self.out_channels, 1, bias=False)

        self.aux_weight = aux_weight
        self.aux_conv = self._conv_norm_act() if aux else None
        self.aux_seg = nn.Conv2d(channels, self.out_channels, 1, bias=False) if aux else None

    def _conv_norm_act(self) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(self.channels, self.channels, 3, padding=1, bias=False),
            build_norm_layer(self.norm_cfg, self.channels)[1],
            nn.ReLU6())

    def init_weights(self) -> None:
        """Draw the convolutions as the publication does (He normal over the inputs, zero bias)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        super().init_weights()  # the last convolution: normal with std 0.01, as in every mmseg head

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Turn the four maps into logits (N, num_classes, H/4, W/4)."""
        return self._decode(inputs)[0]

    def loss(self, inputs: Sequence[Tensor], batch_data_samples: SampleList, train_cfg: ConfigType) -> dict:
        """Return mmseg's loss terms; the auxiliary head adds ``aux_loss_*`` terms, already weighted."""
        logits, stages = self._decode(inputs)
        losses = self.loss_by_feat(logits, batch_data_samples)
        if self.aux_seg is not None:
            aux_losses = self.loss_by_feat(self._aux_logits(stages), batch_data_samples)
            losses |= {
                f'aux_{name}': self.aux_weight * value for name, value in aux_losses.items() if 'loss' in name}
        return losses

    def _decode(self, inputs: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return the logits and the outputs of b4, b3, b2 at strides 32, 16, 8."""
        skip1, skip2, skip3, top = self._transform_inputs(inputs)
        stage4 = self.b4(self.pre_conv(top))
        stage3 = self.b3(self.p3(stage4, skip3))
        stage2 = self.b2(self.p2(stage3, skip2))
        return self.cls_seg(self.seg_conv(self.p1(stage2, skip1))), [stage4, stage3, stage2]

    def _aux_logits(self, stages: list[Tensor]) -> Tensor:
        stage4, stage3, stage2 = stages
        size = stage2.shape[-2:]
        joined = (F.interpolate(stage4, size=size, mode='bilinear', align_corners=False)
                  + F.interpolate(stage3, size=size, mode='bilinear', align_corners=False) + stage2)
        joined = self.aux_conv(joined)
        if self.dropout is not None:
            joined = self.dropout(joined)
        return self.aux_seg(joined)
