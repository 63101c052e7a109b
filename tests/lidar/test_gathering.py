"""Gathers by flat index: the values and gradients of the plain formulas."""

import pytest
import torch

from projects.lidar.models.gathering import flat_index, gather_max, interpolate, inverse_distance
from projects.lidar.models.local_aggregation import LocalAggregation


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_the_largest_neighbour_and_its_gradient(generator):
    x = torch.randn(40, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    index = torch.randint(0, 40, (30, 9), generator=generator)
    grad = torch.randn(30, 7, generator=generator, dtype=torch.float64)
    expected = x[index].max(1).values
    wanted, = torch.autograd.grad(expected, x, grad)
    found = gather_max(x, index)
    assert torch.equal(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, x, grad)[0], wanted)


@pytest.mark.parametrize('device', ['cpu', pytest.param('cuda', marks=pytest.mark.skipif(
    not torch.cuda.is_available(), reason='needs a GPU'))])
def test_of_equal_neighbours_the_first_gets_the_gradient(device):
    x = torch.tensor([[1.0], [2.0], [2.0]], device=device, requires_grad=True)
    gather_max(x, torch.tensor([[0, 2, 1], [1, 2, 2]], device=device)).sum().backward()
    assert x.grad.tolist() == [[0.0], [1.0], [1.0]]
    x = torch.ones(64, 33, device=device, requires_grad=True)  # rows that a GPU reduces by many threads
    index = torch.stack([torch.arange(64).roll(number) for number in range(64)]).to(device)
    gather_max(x, index).sum().backward()
    assert (x.grad == 1).all()  # row by row another neighbour comes first


def test_bfloat16_keeps_the_winner_of_many(generator):
    x = torch.randn(300, 4, generator=generator).bfloat16().requires_grad_()
    index = torch.stack([torch.randperm(300, generator=generator)[:200] for _ in range(5)])
    found = gather_max(x, index)
    assert found.dtype == torch.bfloat16 and torch.equal(found, x[index].amax(1))
    found.float().sum().backward()
    assert x.grad.sum() == 20


def test_interpolation_and_its_gradient(generator):
    x = torch.randn(12, 5, generator=generator, requires_grad=True)
    index = torch.randint(0, 12, (20, 3), generator=generator)
    weight = torch.rand(20, 3, generator=generator)
    grad = torch.randn(20, 5, generator=generator)
    expected = (x[index] * weight[..., None]).sum(1)
    found = interpolate(x, index, weight)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, x, grad)[0], torch.autograd.grad(expected, x, grad)[0])


def test_weights_fall_with_the_squared_distance():
    points = torch.tensor([[0.0, 0, 0], [3, 0, 0], [0, 5, 0]])
    weight = inverse_distance(points, torch.tensor([[1.0, 0, 0], [3, 0, 0]]), torch.tensor([[0, 1, 2], [1, 0, 2]]))
    shares = torch.tensor([1.0, 1 / 4, 1 / 26])
    torch.testing.assert_close(weight[0], shares / shares.sum(), atol=1e-5, rtol=0)
    assert weight[1, 0] > 0.9999  # a point on both levels


def test_flat_rows_of_a_batch():
    index = torch.tensor([[[0, 1]], [[2, 0]]], dtype=torch.int32)
    assert flat_index(index, 3).tolist() == [[0, 1], [5, 3]] and flat_index(index, 3).dtype == torch.int64


def test_aggregation_is_the_formula_and_knows_offsets_only(generator):
    torch.manual_seed(0)
    layer = LocalAggregation(6, 8, radius=2.0)
    x = torch.randn(2, 10, 6, generator=generator)
    points = torch.randn(2, 10, 3, generator=generator) * 5
    index = torch.randint(0, 10, (2, 4, 5), generator=generator)
    features = layer.features(x)
    expected = torch.stack([
        (features[b][index[b]] + layer.offsets((points[b][index[b]] - points[b, :4, None]) / 2.0)).amax(1)
        for b in range(2)])
    torch.testing.assert_close(layer(x, points, flat_index(index, 10), 4), expected)
    shifted = points + torch.tensor([70.0, -40.0, 10.0])
    torch.testing.assert_close(layer(x, shifted, flat_index(index, 10), 4), expected, atol=1e-4, rtol=0)
    turned = index[..., torch.randperm(5, generator=generator)]
    assert torch.equal(layer(x, points, flat_index(turned, 10), 4), layer(x, points, flat_index(index, 10), 4))
