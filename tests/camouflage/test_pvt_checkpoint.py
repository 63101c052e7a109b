"""Official PVTv2 files fit the backbone as they are, also inside a wrapper."""

import pytest
import torch
from mmengine.model import BaseModule
from mmseg.registry import MODELS

import projects.camouflage.register  # noqa: F401
from projects.engine import startup
from projects.engine.backbones import load_backbone
from projects.engine.errors import UserError

startup.start()


class AroundPVT(BaseModule):
    """A backbone around another, as a multi-scale one is."""

    pretrained_part = 'backbone'

    def __init__(self, backbone):
        super().__init__()
        self.backbone = MODELS.build(backbone)
        self.fusers = torch.nn.ModuleList([torch.nn.Linear(2, 2)])

    def forward(self, x):
        return self.backbone(x)


@pytest.fixture(scope='module')
def official(tmp_path_factory):
    """A file as the official release has it: the backbone's keys and a classifier."""
    torch.manual_seed(0)
    state_dict = {key: torch.randn_like(value) for key, value in MODELS.build(
        dict(type='PVTv2', arch='b0')).state_dict().items()}
    path = tmp_path_factory.mktemp('pvt') / 'pvt_v2_b0.pth'
    torch.save({**state_dict, 'head.weight': torch.zeros(1000, 256), 'head.bias': torch.zeros(1000)}, path)
    return path, state_dict


def segmentor(path, wrapped=False):
    backbone = dict(type='PVTv2', arch='b0')
    if wrapped:
        backbone = dict(type=AroundPVT, backbone=backbone)
    return MODELS.build(dict(
        type='EncoderDecoder', backbone=backbone, init_cfg=dict(
            type='PretrainedFile', checkpoint=str(path), layout='pvt_v2'),
        decode_head=dict(type='FCNHead', in_channels=256, in_index=3, channels=4, num_convs=1, num_classes=2,
                         norm_cfg=dict(type='BN'))))


@pytest.mark.parametrize('wrapped', [False, True])
def test_a_training_starts_from_the_official_file(official, wrapped):
    path, expected = official
    model = segmentor(path, wrapped)
    model.init_weights()
    backbone = model.backbone.backbone if wrapped else model.backbone
    own = backbone.state_dict()
    assert own.keys() == expected.keys() and all(torch.equal(own[key], expected[key]) for key in own)
    assert model.decode_head.conv_seg.weight.std() < 0.02  # the head was initialised


def test_files_that_do_not_fit(official, tmp_path):
    path, expected = official
    backbone = MODELS.build(dict(type='PVTv2', arch='b0'))
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    other = tmp_path / 'other.pth'
    for change, message in (
            (lambda state: state.pop('norm4.weight'), '1 missing keys: norm4.weight'),
            (lambda state: state.update({'block9.0.norm1.weight': torch.zeros(1)}), '1 unknown keys: block9.0'),
            (lambda state: state.pop('patch_embed1.proj.weight'), 'not an official PVTv2 checkpoint')):
        state = dict(expected)
        change(state)
        torch.save(state, other)
        with pytest.raises(UserError, match=f'other.pth: .*{message}'):
            load_backbone(backbone, other, 'pvt_v2')
    with pytest.raises(UserError, match='wrongly shaped'):
        load_backbone(MODELS.build(dict(type='PVTv2', arch='b1')), path, 'pvt_v2')
    with pytest.raises(UserError, match=r'pretrained PVTv2 not found at .*: get pvt_v2_b2.pth'):
        load_backbone(backbone, tmp_path / 'none.pth', 'pvt_v2')
    assert all(torch.equal(before[key], value) for key, value in backbone.state_dict().items())
