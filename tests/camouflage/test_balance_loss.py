"""The balance loss has the spec's value, a gradient, and a meaning at batch 1."""

import math

import pytest
import torch
from torch import nn

from projects.camouflage.models.balance_loss import LoadBalanceLoss, imbalance
from projects.engine.errors import UserError


def spec_value(load):
    """0.01 * (sum (p - 1/E)^2 + std / mean), written out."""
    experts, mean = len(load), sum(load) / len(load)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in load) / experts)
    return 0.01 * (sum((value - 1 / experts) ** 2 for value in load) + deviation / mean)


@pytest.mark.parametrize('rows', [[[0.7, 0.2, 0.1]], [[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], [[1.0, 0.0, 0.0]]])
@pytest.mark.parametrize('history', [0, 256])
def test_the_first_batch_has_the_value_of_the_formula(rows, history):
    load = [sum(column) / len(rows) for column in zip(*rows)]
    found = LoadBalanceLoss(3, history)(torch.tensor(rows))
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
    LoadBalanceLoss(3, history=0)(ours.softmax(1)).backward()
    plain(theirs).backward()
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-6)
    assert ours.grad.abs().max() > 1e-4
    even = torch.zeros(4, 3, requires_grad=True)
    LoadBalanceLoss(3)(even.softmax(1)).backward()
    assert torch.isfinite(even.grad).all()


def test_at_batch_1_balance_is_balance_over_time():
    """One picture for each expert in turn is balanced; the gradient is not scaled down by the history."""
    loss = LoadBalanceLoss(2, history=100)
    for _ in range(50):
        for row in ([[1.0, 0.0]], [[0.0, 1.0]]):
            last = loss(torch.tensor(row))
    assert last.item() < 2e-4 < LoadBalanceLoss(2, history=0)(torch.tensor([[0.0, 1.0]])).item()
    for _ in range(20):  # then always the first
        last = loss(torch.tensor([[1.0, 0.0]]))
    assert loss.load[0] > 0.55
    logits = torch.tensor([[0.0, 0.0]], requires_grad=True)
    loss(logits.softmax(1)).backward()
    plain = torch.tensor([[0.0, 0.0]], requires_grad=True)
    load = plain.softmax(1)[0] + (loss.load - torch.tensor([0.5, 0.5]))
    (0.01 * imbalance(load)).backward()
    assert logits.grad[0, 0] > 0  # descent lowers the expert that was wanted too often
    assert torch.allclose(logits.grad, plain.grad, rtol=0.05)


def test_evaluation_leaves_the_memory_alone():
    loss = LoadBalanceLoss(2).eval()
    loss(torch.tensor([[1.0, 0.0]]))
    assert loss.load.tolist() == [0.5, 0.5] and loss.seen == 0


def test_descent_balances_a_router_that_prefers_one_expert():
    router = nn.Linear(3, 4)
    nn.init.zeros_(router.weight)
    router.bias.data = torch.tensor([2.0, 0.0, 0.0, 0.0])
    loss, optimizer = LoadBalanceLoss(4, history=8), torch.optim.Adam(router.parameters(), 0.05)
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    for _ in range(150):
        optimizer.zero_grad()
        loss(router(x).softmax(1)).backward()
        optimizer.step()
    load = router(x).softmax(1).mean(0)
    assert load.min() > 0.2 and load.max() < 0.3


@pytest.mark.parametrize('arguments', [dict(num_experts=0), dict(num_experts=2, history=-1)])
def test_bad_arguments_are_one_line(arguments):
    with pytest.raises(UserError, match='expected at least'):
        LoadBalanceLoss(**arguments)
