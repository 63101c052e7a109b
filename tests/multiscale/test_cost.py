"""The cost report: counts worked out by hand, dead parameters found, wrong input refused in one line."""

import json
import subprocess
import sys

import pytest
import torch
from torch import nn

from projects.engine import startup
from projects.engine.errors import UserError
from projects.multiscale.cost_report.macs import MacCounter
from projects.multiscale.cost_report.measure import measure_cost
from projects.multiscale.cost_report.setting import make_setting
from projects.multiscale.cost_report.table import cost_table

NETWORK = """
default_scope = 'mmseg'
custom_imports = dict(imports=['projects.multiscale.register'], allow_failed_imports=False)
crop_size = (64, 96)
precision = dict(cpu=dict(amp={amp}, channels_last=True, compile=False))
inner = dict(type='ResNetV1c', depth=18, base_channels=4, stem_channels=4, strides=(1, 1, 1, 1),
             dilations=(1, 1, 1, 1), norm_cfg=dict(type='BN'))
model = dict(
    type='EncoderDecoder', data_preprocessor=dict(type='SegDataPreProcessor'),
    backbone={backbone},
    decode_head=dict(type='FCNHead', in_channels=32, channels=8, num_convs=1, num_classes=3,
                     norm_cfg=dict(type='BN')))
"""
SCALES = ("dict(type='MultiScaleBackbone', backbone=inner, scales=(0.5, 1.0, 1.5), policy='{}', "
          "fusion=[None, None, None, dict(type='GatedFusion', groups=1)])")


@pytest.fixture
def config(tmp_path):
    def write(backbone='inner', amp=False):
        path = tmp_path / 'network.py'
        path.write_text(NETWORK.format(backbone=backbone, amp=amp))
        return str(path)
    return write


class Attention(nn.Module):
    """A strided convolution and attention over its positions."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.qkv = nn.Linear(8, 24)

    def forward(self, x):
        tokens = self.conv(x).flatten(2).transpose(1, 2)  # (N, L, 8)
        q, k, v = self.qkv(tokens).unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        return nn.functional.scaled_dot_product_attention(q, k, v)


@pytest.mark.parametrize('gradient', [False, True])
def test_a_convolution_and_attention_count_what_the_hand_counts(gradient):
    positions = 8 * 6
    conv, linear = 2 * positions * 8 * 3 * 9, 2 * positions * 8 * 24
    attention = 2 * 2 * 2 * positions * positions * 4  # pictures, heads, two products of width 4
    network, x = Attention(), torch.randn(2, 3, 16, 12)
    with torch.set_grad_enabled(gradient), MacCounter() as counter:
        result = network(x)
    assert counter.macs == conv + linear + attention
    if gradient:
        with MacCounter() as counter:
            result.sum().backward()
        # a convolution whose input needs no gradient has one product, a linear two, attention five
        assert counter.macs == conv + 2 * linear + attention * 5 // 2


def test_a_depthwise_convolution_has_a_backward_of_twice_its_forward():
    conv, x = nn.Conv2d(6, 6, 3, padding=1, groups=6), torch.randn(2, 6, 5, 4, requires_grad=True)
    with MacCounter() as forward:
        result = conv(x)
    with MacCounter() as backward:
        result.sum().backward()
    assert forward.macs == 2 * 5 * 4 * 6 * 9
    assert backward.macs == 2 * forward.macs


def test_multihead_attention_is_counted_in_evaluation_too():
    attention, x = nn.MultiheadAttention(8, 2, batch_first=True).eval(), torch.randn(3, 5, 8)
    with torch.no_grad(), MacCounter() as counter:
        attention(x, x, x, need_weights=False)
    assert counter.macs == 3 * 5 * 8 * 24 + 2 * 3 * 5 * 5 * 8 + 3 * 5 * 8 * 8
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_single_scale_network(config):
    startup.start()
    setting = make_setting(config(), threads=1)
    assert (setting.height, setting.width, setting.amp, setting.channels_last) == (64, 96, False, True)
    cost = measure_cost(setting, rounds=1, warm_up=0, memory=False)
    parts = {part['name']: part for part in cost['parts']}
    model = setting.build()
    assert cost['total']['parameters'] == sum(p.numel() for p in model.parameters())
    assert parts['decode_head']['parameters'] == sum(p.numel() for p in model.decode_head.parameters())
    assert parts['decode_head']['macs'] == 16 * 24 * (32 * 8 * 9 + 8 * 3 + 0) + 16 * 24 * (40 * 8 * 9)
    assert sum(part['macs'] for part in parts.values()) == cost['total']['macs']
    assert cost['total']['training_macs'] > 2.5 * cost['total']['macs']
    assert cost['total']['dead'] == 0 and cost['dead_parameters'] == []
    assert cost['total']['kept'] > 0 and cost['total']['peak'] is None
    assert all(part['forward'] > 0 and part['backward'] > 0 for part in parts.values())
    json.dumps(cost)


def test_dead_and_frozen_parameters_are_told_apart(config, monkeypatch):
    startup.start()
    setting = make_setting(config(), threads=1)
    build = type(setting).build

    def with_dead(self):
        model = build(self)
        model.neck = nn.Identity()
        model.neck.unused = nn.Linear(7, 1)
        model.backbone.layer1.requires_grad_(False)
        return model

    monkeypatch.setattr(type(setting), 'build', with_dead)
    cost = measure_cost(setting, rounds=1, warm_up=0, memory=False)
    frozen = sum(p.numel() for p in build(setting).backbone.layer1.parameters())
    assert cost['dead_parameters'] == ['neck.unused.weight', 'neck.unused.bias']
    assert (cost['total']['dead'], cost['total']['frozen']) == (8, frozen)
    assert cost['total']['live'] == cost['total']['parameters'] - 8 - frozen


def test_a_cost_by_scale(config):
    startup.start()
    setting = make_setting(config(SCALES.format('stochastic(0.5, checkpoint)')), size=(64, 64), threads=1)
    cost = measure_cost(setting, rounds=1, warm_up=0, memory=False)
    scales = cost['scales']
    assert [(scale['height'], scale['width']) for scale in scales] == [(32, 32), (64, 64), (96, 96)]
    assert [scale['policy'] for scale in scales] == ['grad', 'grad', 'stochastic(0.5, checkpoint)']
    assert sum(scale['share'] for scale in scales) == pytest.approx(1)
    assert scales[2]['share'] == pytest.approx(9 / 14)
    assert scales[0]['macs'] * 4 == pytest.approx(scales[1]['macs'])
    backbone = next(part for part in cost['parts'] if part['name'] == 'backbone')
    rest = backbone['macs'] - sum(scale['macs'] for scale in scales) - cost['fusion']['macs']
    assert 0 <= rest < 0.05 * backbone['macs']  # features are resized by matrix products
    assert cost['total']['dead'] == 0  # zero-initialised fusion is not dead
    assert scales[2]['kept'] < scales[1]['kept']  # recomputed
    text = cost_table(cost)
    assert '  scale 1.5 ' in text and '  fusion ' in text and '64.3 % of the pixels' in text


def test_the_tool_prints_writes_json_and_leaves_nothing_else(config, tmp_path, repository):
    path = config(amp=True)
    before = sorted(tmp_path.iterdir())
    done = subprocess.run(
        [sys.executable, str(repository / 'tools' / 'cost.py'), path, '--input', '64', '64', '--rounds', '1',
         '--threads', '1', '--device', 'cpu', '--json', str(tmp_path / 'cost.json')],
        cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    cost = json.loads((tmp_path / 'cost.json').read_text())
    assert cost['setting']['amp'] and cost['total']['peak'] > cost['total']['kept'] / 4
    assert 'bfloat16 autocast, channels-last' in done.stdout and 'peak memory' in done.stdout
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / 'cost.json'])


@pytest.mark.parametrize(('arguments', 'told'), [
    (dict(size=(0, 64)), '--input: expected at least 1, found 0'),
    (dict(size=(64, -5)), '--input: expected at least 1, found -5'),
    (dict(batch=0), '--batch: expected at least 1'),
    (dict(threads=0), '--threads: expected at least 1'),
    (dict(device='nowhere'), '--device nowhere'),
    (dict(dtype='int8'), '--dtype: expected float32 or bfloat16'),
])
def test_bad_arguments_are_one_line(config, arguments, told):
    startup.start()
    with pytest.raises(UserError, match=told) as error:
        make_setting(config(), **arguments)
    assert '\n' not in str(error.value)


def test_a_size_that_the_network_refuses_is_one_line(config):
    startup.start()
    setting = make_setting(config(), size=(4, 4), threads=1)  # 1 x 1 at stride 4: no batch norm over one value
    with pytest.raises(UserError, match=r'--input 4 4 \(batch 1\): the network of .* refuses it'):
        measure_cost(setting, rounds=1, warm_up=0, memory=False)
