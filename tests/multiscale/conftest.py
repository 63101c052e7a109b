"""Tiny segmentors whose classes differ from place to place."""

import pytest
import torch
from mmengine.config import ConfigDict

from projects.engine import startup

CLASSES, MEAN, STD = 4, [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def network_config(classes=CLASSES, divisor=4, test_cfg=None, align_corners=False):
    """Return the config of a convolutional segmentor that answers at a quarter of the size."""
    return ConfigDict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', mean=MEAN, std=STD, pad_val=0, seg_pad_val=255,
                               test_cfg=dict(size_divisor=divisor) if divisor else None),
        backbone=dict(type='ResNetV1c', depth=18, base_channels=4, stem_channels=4, strides=(1, 1, 1, 1),
                      dilations=(1, 1, 1, 1)),
        decode_head=dict(type='FCNHead', in_channels=32, channels=8, num_convs=1, num_classes=max(classes, 2),
                         out_channels=classes, threshold=0.5 if classes == 1 else None, align_corners=align_corners,
                         norm_cfg=dict(type='BN')),
        test_cfg=test_cfg or dict(mode='whole'))


@pytest.fixture(scope='session')
def make_network():
    """Return a function that builds a segmentor from a seed."""
    startup.start()
    from mmseg.registry import MODELS

    def make(seed, **options):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = MODELS.build(network_config(**options)).eval()
            for module in model.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.running_mean.normal_(0, 0.1)
                    module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.normal_(model.decode_head.conv_seg.weight, std=2)
            with torch.no_grad():  # no class is ahead everywhere
                mean = model(torch.randn(1, 3, 64, 64), mode='tensor').mean((0, 2, 3))
                model.decode_head.conv_seg.bias -= mean
                model.decode_head.conv_seg.weight *= 4
                model.decode_head.conv_seg.bias *= 4
        return model

    return make
