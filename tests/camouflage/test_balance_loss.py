"""The balance loss has the spec's value and a gradient; information is 0 undecided and idle, log E at best."""

import math

import pytest
import torch
from torch import nn

from projects.camouflage.models.balance_loss import LoadBalanceLoss, imbalance, routed_information
from projects.engine.errors import UserError


def spec_value(load):
    """0.01 * (sum (p - 1/E)^2 + std / mean), written out."""
    experts, mean = len(load), sum(load) / len(load)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in load) / experts)
    return 0.01 * (sum((value - 1 / experts) ** 2 for value in load) + deviation / mean)


@pytest.mark.parametrize('rows', [[[0.7, 0.2, 0.1]], [[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], [[1.0, 0.0, 0.0]]])
def test_it_has_the_value_of_the_formula(rows):
    load = [sum(column) / len(rows) for column in zip(*rows)]
    found = LoadBalanceLoss(3)(torch.tensor(rows))
    assert found.item() == pytest.approx(spec_value(load), abs=1e-6)


def test_one_expert_that_takes_all_costs_most_and_balance_nothing():
    assert imbalance(torch.tensor([1.0, 0, 0, 0])).item() == pytest.approx(0.75 + math.sqrt(3), abs=1e-4)
    assert imbalance(torch.full((4,), 0.25)).item() == pytest.approx(0, abs=1e-7)
    assert imbalance(torch.ones(1)).item() == 0


def test_the_gradient_is_that_of_the_formula_and_finite_at_balance():
    logits = torch.tensor([[0.3, -0.2, 0.1], [0.5, 0.0, -0.4]], dtype=torch.float64)

    def plain(x):
        load = x.softmax(1).mean(0)
        return 0.01 * ((load - 1 / 3).square().sum() + 3 * load.var(correction=0).sqrt())

    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    LoadBalanceLoss(3)(ours.softmax(1)).backward()
    plain(theirs).backward()
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-6)
    assert ours.grad.abs().max() > 1e-4
    even = torch.zeros(4, 3, requires_grad=True)
    LoadBalanceLoss(3)(even.softmax(1)).backward()
    assert torch.isfinite(even.grad).all()


@pytest.mark.parametrize(('rows', 'expected'), [
    ([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]], math.log(3)),  # sure and balanced
    ([[1 / 3, 1 / 3, 1 / 3]] * 3, 0.0),  # balanced, undecided
    ([[1.0, 0, 0]] * 3, 0.0),  # sure, two are idle
    ([[0.5, 0.5, 0], [0.0, 0.5, 0.5]], 0.5 * math.log(2)),
])
def test_information_wants_sure_choices_and_all_experts(rows, expected):
    assert routed_information(torch.tensor(rows)).item() == pytest.approx(expected, abs=1e-6)


def test_descent_balances_a_router_that_prefers_one_expert():
    router = nn.Linear(3, 4)
    nn.init.zeros_(router.weight)
    router.bias.data = torch.tensor([2.0, 0.0, 0.0, 0.0])
    loss, optimizer = LoadBalanceLoss(4), torch.optim.Adam(router.parameters(), 0.05)
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    for _ in range(150):
        optimizer.zero_grad()
        loss(router(x).softmax(1)).backward()
        optimizer.step()
    load = router(x).softmax(1).mean(0)
    assert load.min() > 0.2 and load.max() < 0.3


def test_no_expert_is_one_line():
    with pytest.raises(UserError, match='expected at least 1, found 0'):
        LoadBalanceLoss(0)
