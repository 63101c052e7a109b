"""Lookahead: the paper's rule, and slow weights that survive a resume."""

import copy

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

from projects.engine.errors import UserError
from projects.engine.lookahead import Lookahead

SGD = dict(type='SGD')


def train(network, optimizer, steps, start=0):
    for step in range(start, start + steps):
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(8, 4, generator=generator)
        optimizer.zero_grad()
        (network(x) - x.sum(1, keepdim=True)).square().mean().backward()
        optimizer.step()


def test_the_rule_by_hand():
    weight = nn.Parameter(torch.tensor([1.0]))
    optimizer = Lookahead([weight], SGD, lr=1.0, k=2, alpha=0.25)
    seen = []
    for _ in range(4):
        weight.grad = torch.tensor([1.0])
        optimizer.step()
        seen.append(weight.item())
    # slow 1: 1 -> 0 -> -1, back to 1 + 0.25 (-1 - 1) = 0.5; then 0.5 -> -0.5 -> -1.5, back to 0.5 + 0.25 (-2) = 0
    assert seen == pytest.approx([0.0, 0.5, -0.5, 0.0])


@pytest.mark.parametrize('base', [dict(type='AdamW'), dict(type='SGD', momentum=0.9)])
@pytest.mark.parametrize('cut', [1, 5, 7])
def test_resume_is_exact_at_any_phase(base, cut):
    torch.manual_seed(0)
    whole = nn.Linear(4, 1)
    halves = copy.deepcopy(whole)
    plain = copy.deepcopy(whole)
    train(whole, Lookahead(whole.parameters(), base, lr=0.05, weight_decay=0.01), 13)
    optimizer = Lookahead(halves.parameters(), base, lr=0.05, weight_decay=0.01)
    train(halves, optimizer, cut)
    state = copy.deepcopy(optimizer.state_dict())
    again = Lookahead(halves.parameters(), base, lr=0.05, weight_decay=0.01)
    again.load_state_dict(state)
    train(halves, again, 13 - cut, start=cut)
    assert torch.equal(whole.weight, halves.weight) and torch.equal(whole.bias, halves.bias)
    fresh = Lookahead(plain.parameters(), base, lr=0.05, weight_decay=0.01)
    train(plain, fresh, cut)
    train(plain, Lookahead(plain.parameters(), base, lr=0.05, weight_decay=0.01), 13 - cut, start=cut)
    assert not torch.equal(whole.weight, plain.weight)  # the state matters: without it the result differs


def test_a_scheduler_moves_the_base_rate():
    weight = nn.Parameter(torch.tensor([1.0]))
    optimizer = Lookahead([dict(params=[weight], lr=0.5)], SGD, lr=1.0)
    optimizer.param_groups[0]['lr'] = 0.125
    weight.grad = torch.tensor([1.0])
    optimizer.step()
    assert weight.item() == 0.875


def test_it_builds_from_a_config():
    wrapper = build_optim_wrapper(nn.Linear(2, 1), dict(
        type='OptimWrapper', optimizer=dict(type='Lookahead', base=dict(type='AdamW'), lr=0.1, weight_decay=0.2)))
    group = wrapper.optimizer.param_groups[0]
    assert (group['lr'], group['weight_decay'], group['k'], group['alpha']) == (0.1, 0.2, 5, 0.5)


@pytest.mark.parametrize('bad', [dict(k=0), dict(alpha=0.0), dict(alpha=1.5)])
def test_settings_out_of_range(bad):
    with pytest.raises(UserError, match='Lookahead'):
        Lookahead([nn.Parameter(torch.ones(1))], SGD, lr=1.0, **bad)
