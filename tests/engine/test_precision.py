"""Precision: one config, the right wrapper on each device."""

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from torch import nn

from projects.engine.errors import UserError
from projects.engine.precision import BFloat16OptimWrapper, apply_precision

CPU = torch.device('cpu')


def config(**cpu):
    return Config(dict(precision=dict(cpu=cpu), optim_wrapper=dict(type='OptimWrapper')))


def test_the_config_decides_and_amp_overrides():
    plain = config(amp=False)
    assert apply_precision(plain, CPU) == dict(amp=False, channels_last=False, compile=False)
    assert plain.optim_wrapper.type == 'OptimWrapper'
    fast = config(amp=True, channels_last=True, compile=True)
    assert apply_precision(fast, CPU) == dict(amp=True, channels_last=True, compile=True)
    assert (fast.optim_wrapper.type, fast.channels_last, fast.compile) == ('BFloat16OptimWrapper', True, True)
    forced = config(amp=False)
    apply_precision(forced, CPU, amp=True)
    assert forced.optim_wrapper.type == 'BFloat16OptimWrapper'


def test_what_belongs_to_another_wrapper_is_dropped():
    cfg = config(amp=False)
    cfg.optim_wrapper = dict(type='AmpOptimWrapper', loss_scale='dynamic', dtype='float16', clip_grad=dict(max_norm=1))
    apply_precision(cfg, CPU)
    assert cfg.optim_wrapper == dict(type='OptimWrapper', clip_grad=dict(max_norm=1))


def test_an_unknown_lever_is_refused():
    with pytest.raises(UserError, match='precision.cpu.chanels_last'):
        apply_precision(config(chanels_last=True), CPU)


def test_bfloat16_forward_float32_steps():
    torch.manual_seed(0)
    network = nn.Linear(64, 64)
    wrapper = BFloat16OptimWrapper(torch.optim.SGD(network.parameters(), lr=0.1))
    before = network.weight.detach().clone()
    with wrapper.optim_context(network):
        out = network(torch.randn(4, 64))
    assert out.dtype is torch.bfloat16
    wrapper.update_params(out.float().square().mean())
    assert network.weight.dtype is torch.float32 and not torch.equal(network.weight, before)
    assert isinstance(wrapper, OptimWrapper)
