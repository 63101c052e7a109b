"""Parameter groups, group by group."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmseg.registry import MODELS
from torch import nn

from projects.engine.errors import UserError
from projects.engine.parameter_groups import ParameterGroups
from projects.engine.startup import start


class Network(nn.Module):
    """A backbone of two stages with norms, a bias table, and a head."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.patch_embed = nn.Conv2d(3, 4, 4)
        self.backbone.stages = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4, bias=False)])
        self.backbone.stages[0].relative_position_bias_table = nn.Parameter(torch.zeros(9, 2))
        self.backbone.norm1 = nn.LayerNorm(4)
        self.decode_head = nn.Sequential(nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2))
        self.decode_head.weights = nn.Parameter(torch.ones(2))
        self.decode_head.backbone_like = nn.Linear(2, 2)  # a substring match would take this for the backbone


def names_of(model, groups):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {group['name']: (sorted(names[id(p)] for p in group['params']), group['lr'], group['weight_decay'])
            for group in groups}


def build(model, **paramwise):
    return ParameterGroups(dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.5)),
                           paramwise).groups(model)


def test_each_group():
    model = Network()
    assert names_of(model, build(model, backbone_lr_mult=0.1)) == {
        'backbone': (['backbone.patch_embed.weight', 'backbone.stages.0.weight', 'backbone.stages.1.weight'], 0.1, 0.5),
        'backbone without decay': (['backbone.norm1.bias', 'backbone.norm1.weight', 'backbone.patch_embed.bias',
                                    'backbone.stages.0.bias', 'backbone.stages.0.relative_position_bias_table'],
                                   0.1, 0.0),
        'rest': (['decode_head.0.weight', 'decode_head.backbone_like.weight', 'decode_head.weights'], 1.0, 0.5),
        'rest without decay': (['decode_head.0.bias', 'decode_head.1.bias', 'decode_head.1.weight',
                                'decode_head.backbone_like.bias'], 1.0, 0.0)}


def test_layer_wise_rates():
    model = Network()
    rates = {name: group[1] for name, group in names_of(model, build(model, backbone_lr_mult=0.1,
                                                                     layer_decay=0.5)).items()}
    assert rates == pytest.approx({
        'backbone.0': 0.025, 'backbone.0 without decay': 0.025, 'backbone.1': 0.05, 'backbone.1 without decay': 0.05,
        'backbone.2': 0.1, 'backbone.2 without decay': 0.1, 'rest': 1.0, 'rest without decay': 1.0})


def levels(model, **paramwise):
    """Return the level of each parameter of the backbone by name, without those that never decay."""
    found = names_of(model, build(model, layer_decay=0.5, **paramwise))
    return {name: int(group.split('.')[1].split()[0]) for group, (names, _, _) in found.items() for name in names
            if group.startswith('backbone.')}


@pytest.mark.parametrize('config, expected', [
    (dict(type='SwinTransformer', embed_dims=4, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1)), {
        'patch_embed.projection.weight': 0, 'patch_embed.norm.weight': 0, 'stages.0.blocks.0.norm1.weight': 1,
        'stages.2.downsample.reduction.weight': 3, 'stages.3.blocks.0.norm2.bias': 4, 'norm0.weight': 1,
        'norm3.weight': 4}),
    (dict(type='ResNet', depth=18, base_channels=4, stem_channels=4), {
        'conv1.weight': 0, 'bn1.weight': 0, 'layer1.0.conv1.weight': 1, 'layer4.1.conv2.weight': 4}),
    (dict(type='MixVisionTransformer', embed_dims=4, num_heads=(1, 1, 1, 1)), {
        'layers.0.0.projection.weight': 1, 'layers.3.1.0.norm1.weight': 4, 'layers.3.2.weight': 4})])
def test_levels_of_mmsegs_backbones(config, expected):
    model = nn.Module()
    model.backbone = MODELS.build(config)
    found = levels(model)
    assert {name: found[f'backbone.{name}'] for name in expected} == expected


class Pyramid(nn.Module):
    """The layout of PVTv2: patch_embed1, block1, norm1, patch_embed2, …"""

    def __init__(self):
        super().__init__()
        for level in range(1, 4):
            self.add_module(f'patch_embed{level}', nn.ModuleDict(dict(proj=nn.Conv2d(3, 4, 3), norm=nn.LayerNorm(4))))
            self.add_module(f'block{level}', nn.ModuleList(nn.ModuleDict(dict(norm1=nn.LayerNorm(4), q=nn.Linear(4, 4)))
                                                           for _ in range(3)))
            self.add_module(f'norm{level}', nn.LayerNorm(4))


PYRAMID = {'patch_embed1.proj.weight': 0, 'patch_embed1.norm.bias': 0, 'block1.0.q.weight': 1, 'block1.2.q.weight': 1,
           'block1.2.norm1.weight': 1, 'norm1.weight': 1, 'patch_embed3.proj.weight': 3, 'patch_embed3.norm.weight': 3,
           'block3.0.q.weight': 3, 'norm3.bias': 3}


def test_levels_of_a_pyramid_whose_lists_count_from_one():
    model = nn.Module()
    model.backbone = Pyramid()
    found = levels(model)
    assert {name: found[f'backbone.{name}'] for name in PYRAMID} == PYRAMID and max(found.values()) == 3


class Wrapper(nn.Module):
    """A backbone around another, with something of its own; nothing but the attribute tells."""

    pretrained_part = 'inner'

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.fusers = nn.ModuleList([nn.Conv2d(4, 4, 1, bias=False)])


def test_what_a_wrapper_adds_belongs_to_the_rest():
    """Its levels are those of the backbone inside, and its groups have the same parameters as without it."""
    plain, wrapped = Network(), Network()
    wrapped.backbone = Wrapper(wrapped.backbone)
    for paramwise in (dict(backbone_lr_mult=0.1), dict(backbone_lr_mult=0.1, layer_decay=0.5)):
        expected = {group: ([name.replace('backbone.', 'backbone.inner.') if name.startswith('backbone.') else name
                             for name in names], *rest)
                    for group, (names, *rest) in names_of(plain, build(plain, **paramwise)).items()}
        expected['rest'][0].insert(0, 'backbone.fusers.0.weight')
        assert names_of(wrapped, build(wrapped, **paramwise)) == expected

    twice = nn.Module()
    twice.backbone = Wrapper(Wrapper(Pyramid()))
    found = levels(twice)
    assert {name: found[f'backbone.inner.inner.{name}'] for name in PYRAMID} == PYRAMID
    assert not any('fusers' in name for name in found)


def test_biases_of_other_names_have_no_decay():
    model = nn.Module()
    model.attention = nn.MultiheadAttention(4, 2)
    found = {group: names for group, (names, *_) in names_of(model, build(model)).items()}
    assert found == {'rest': ['attention.in_proj_weight', 'attention.out_proj.weight'],
                     'rest without decay': ['attention.in_proj_bias', 'attention.out_proj.bias']}


def test_frozen_parameters_belong_to_no_group():
    model = Network()
    model.backbone.patch_embed.requires_grad_(False)
    listed = [name for names, _, _ in names_of(model, build(model)).values() for name in names]
    assert not any('patch_embed' in name for name in listed) and len(listed) == len(set(listed)) == 13


def test_it_builds_under_lookahead_from_a_config():
    start()
    wrapper = build_optim_wrapper(Network(), dict(
        type='OptimWrapper', constructor='ParameterGroups', paramwise_cfg=dict(backbone_lr_mult=0.1),
        optimizer=dict(type='Lookahead', base=dict(type='AdamW'), lr=6e-4, weight_decay=2.5e-4)))
    found = {g['name']: (g['lr'], g['weight_decay']) for g in wrapper.optimizer.param_groups}
    assert found['rest'] == (6e-4, 2.5e-4) and found['backbone'] == pytest.approx((6e-5, 2.5e-4))
    assert found['backbone without decay'] == pytest.approx((6e-5, 0.0))


def test_an_unknown_key_is_refused():
    with pytest.raises(UserError, match='custom_keys'):
        build(Network(), custom_keys={})
