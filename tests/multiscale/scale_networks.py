"""Small multi-scale segmentors and batches for the tests of this folder."""

import torch
from mmengine.config import ConfigDict
from mmengine.model import BaseModule
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import nn

import projects.multiscale.backbone
import projects.multiscale.fusion.gated
import projects.multiscale.scale_head
import projects.multiscale.scale_loss
import projects.multiscale.segmentor  # noqa: F401
from projects.engine import startup

startup.start()


class TwoLevels(BaseModule):
    """Maps of 6 channels at 1/4 and 10 at 1/8."""

    def __init__(self, in_channels=3, init_cfg=None):
        super().__init__(init_cfg)
        self.block1, self.block2 = nn.Conv2d(in_channels, 6, 4, 4), nn.Conv2d(6, 10, 2, 2)

    def forward(self, x):
        first = torch.tanh(self.block1(x))
        return first, torch.tanh(self.block2(first))


def backbone(scales=(0.5, 1.0, 1.5), **options):
    return dict(type='MultiScaleBackbone', backbone=dict(type=TwoLevels), scales=scales, divisor=8,
                fusion=dict(type='GatedFusion', groups=2)) | options


def config(out_channels=1, scale_head=True, scale_loss=True, auxiliary=False, neck=False, **options):
    """Return the config of a model for two classes; ``options`` are the backbone's."""
    head = dict(type='FCNHead', in_channels=(7, 7) if neck else (6, 10), in_index=(0, 1), channels=4, num_convs=1,
                input_transform='resize_concat', num_classes=2, out_channels=out_channels, concat_input=False,
                threshold=0.5 if out_channels == 1 else None, dropout_ratio=0.0, norm_cfg=None,
                loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=out_channels == 1, avg_non_ignore=True))
    return ConfigDict(
        type='MultiScaleSegmentor', backbone=backbone(**options), decode_head=head,
        neck=dict(type='FPN', in_channels=[6, 10], out_channels=7, num_outs=2) if neck else None,
        auxiliary_head=dict(head, in_channels=6, in_index=0, input_transform=None) if auxiliary else None,
        scale_head=dict(type='ScaleHead', in_channels=(6, 10), channels=8, out_channels=out_channels)
        if scale_head else None,
        scale_loss=dict(type='ScaleAwareLoss') if scale_loss else None,
        train_cfg=dict(), test_cfg=dict(mode='whole'))


def build(seed=0, **options):
    torch.manual_seed(seed)
    model = MODELS.build(config(**options))
    model.init_weights()
    return model


def batch(number=2, side=32, seed=0):
    """Return normalised images and their samples; the first rows have no label."""
    generator = torch.Generator().manual_seed(seed)
    samples = []
    for _ in range(number):
        label = torch.randint(0, 2, (1, side, side), generator=generator)
        label[:, :4] = 255
        samples.append(SegDataSample(gt_sem_seg=PixelData(data=label), metainfo=dict(
            img_shape=(side, side), ori_shape=(side, side), pad_shape=(side, side), padding_size=[0] * 4)))
    return torch.randn(number, 3, side, side, generator=generator), samples
