"""The network of the tiny config at several scales: where it begins, and that all of it learns."""

from pathlib import Path

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from projects.engine import startup
from projects.engine.config import load_config

CONFIG = Path(__file__).resolve().parents[2] / 'configs/camouflage/pvtv2-tiny_ms-absi_scenes-128.py'
startup.start()

every_fuser = pytest.mark.parametrize('fuser', ['ABSIFusion', 'HierarchicalFusion', 'GatedFusion'])
every_number = pytest.mark.parametrize(
    'scales', [(1.0, 1.5), (0.5, 1.0, 1.5), (0.25, 0.5, 1.0, 1.5, 2.0)], ids=lambda scales: f'{len(scales)} scales')


def build(fuser, scales):
    config = load_config(CONFIG, {'image_size': (64, 64), 'scales': scales, 'scale_weights': (1.0,) * len(scales),
                                  'fusion.type': fuser})
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    model.init_weights()
    return model, config


def batch(seed, side=64):
    generator = torch.Generator().manual_seed(seed)
    masks = torch.randint(0, 2, (2, 1, side, side), generator=generator)
    samples = [SegDataSample(gt_sem_seg=PixelData(data=mask), metainfo=dict(img_shape=(side, side))) for mask in masks]
    return dict(inputs=list(torch.randint(0, 256, (2, 3, side, side), generator=generator)), data_samples=samples)


@every_fuser
@every_number
def test_at_step_0_the_features_are_those_of_one_scale(fuser, scales):
    model, _ = build(fuser, scales)
    model.eval()
    inputs = model.data_preprocessor(batch(0, side=128))['inputs']  # every scale of it is a multiple of 32
    assert model.backbone.real_scales(128, 128) == [(scale, scale) for scale in scales]
    with torch.no_grad():
        fused, plain = model.extract_feat(inputs), model.backbone.backbone(inputs)
    assert len(fused) == 4 and all(torch.equal(one, other) for one, other in zip(fused, plain))


@every_fuser
@every_number
def test_within_two_steps_every_parameter_has_a_gradient(fuser, scales):
    model, config = build(fuser, scales)
    wrapper = build_optim_wrapper(model, config.optim_wrapper)
    waiting = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert len(waiting) == len(list(model.parameters()))
    for step in range(2):
        loss, _ = model.parse_losses(model(**model.data_preprocessor(batch(step), True), mode='loss'))
        loss.backward()
        waiting -= {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
        wrapper.optimizer.step()
        wrapper.optimizer.zero_grad()
    assert waiting == set()
