"""Parameter groups, group by group."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
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
