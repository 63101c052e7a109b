"""UncertaintyAwareLoss and StructureLoss: values by hand, ignored pixels, gradients, the schedule's handle."""

import math

import pytest
import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import nn

import projects.camouflage.register  # noqa: F401
from projects.camouflage.losses import StructureLoss, UncertaintyAwareLoss
from projects.engine import startup
from projects.engine.errors import UserError


@pytest.fixture(scope='module', autouse=True)
def started() -> None:
    startup.start()


def logit(*probabilities: float) -> torch.Tensor:
    """Logits (1, 1, 1, W) of these probabilities."""
    return torch.tensor(probabilities).logit().view(1, 1, 1, -1)


@pytest.mark.parametrize('probability, value', [(0.5, 1.0), (0.75, 0.75), (0.25, 0.75), (0.9, 0.36), (1.0, 0.0)])
def test_value_of_one_logit(probability, value):
    loss = UncertaintyAwareLoss()(logit(probability), torch.zeros(1, 1, 1, dtype=torch.long))
    assert loss.item() == pytest.approx(value, abs=1e-6)


def test_mean_over_labelled_pixels_and_weights():
    scores = logit(0.5, 0.75, 0.9)
    label = torch.tensor([[[0, 1, 255]]])
    loss = UncertaintyAwareLoss(loss_weight=2.0)
    assert loss(scores, label).item() == pytest.approx(2 * (1 + 0.75) / 2)
    assert loss(scores, label, ignore_index=None).item() == pytest.approx(2 * (1 + 0.75 + 0.36) / 3)
    weight = torch.tensor([[[1.0, 3.0, 5.0]]])
    assert loss(scores, label, weight=weight).item() == pytest.approx(2 * (1 + 3 * 0.75) / 4)


def test_the_label_counts_for_nothing_else():
    scores = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    loss = UncertaintyAwareLoss()
    assert loss(scores, torch.zeros(2, 4, 4)) == loss(scores, torch.ones(2, 4, 4))
    # 1 - sigmoid(x) is sigmoid(-x) up to rounding
    torch.testing.assert_close(loss(-scores, torch.ones(2, 4, 4)), loss(scores, torch.ones(2, 4, 4)))


def test_more_classes():
    loss = UncertaintyAwareLoss()
    label = torch.zeros(1, 1, 1, dtype=torch.long)
    probabilities = torch.tensor([0.6, 0.3, 0.1]).log().view(1, 3, 1, 1)
    assert loss(probabilities, label).item() == pytest.approx(1 - ((3 * 0.6 - 1) / 2) ** 2)
    assert loss(torch.zeros(1, 3, 1, 1), label).item() == pytest.approx(1.0)
    assert loss(torch.tensor([50.0, 0, 0, 0]).view(1, 4, 1, 1), label).item() == pytest.approx(0.0, abs=1e-6)
    one = torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    two = torch.cat((torch.zeros_like(one), one), dim=1)
    label = torch.zeros(2, 3, 3)
    assert loss(two, label).item() == pytest.approx(loss(one, label).item(), rel=1e-5)


@pytest.mark.parametrize('loss', [UncertaintyAwareLoss(), StructureLoss()])
def test_zero_with_zero_gradients_where_all_is_ignored(loss):
    scores = torch.randn(2, 1, 4, 4, requires_grad=True)
    value = loss(scores, torch.full((2, 4, 4), 255))
    value.backward()
    assert value.item() == 0 and scores.grad.abs().max() == 0


def test_gradient_leads_away_from_one_half():
    scores = logit(0.4, 0.6).requires_grad_()
    UncertaintyAwareLoss()(scores, torch.zeros(1, 1, 2)).backward()
    # d(4 p (1 - p))/dz = 4 p (1 - p) (1 - 2 p), and a mean over two
    assert scores.grad.flatten().tolist() == pytest.approx([0.5 * 4 * 0.24 * 0.2, -0.5 * 4 * 0.24 * 0.2], rel=1e-4)


@pytest.mark.parametrize('kind', ['UncertaintyAwareLoss', 'StructureLoss'])
def test_the_weight_is_a_number_that_a_schedule_sets(kind):
    loss = MODELS.build(dict(type=kind))
    scores, label = torch.randn(1, 1, 8, 8), torch.randint(0, 2, (1, 8, 8))
    full = loss(scores, label).item()
    for progress in (0.0, 0.5, 1.0):
        loss.loss_weight = (1 - math.cos(math.pi * progress)) / 2
        assert loss(scores, label).item() == pytest.approx(progress * full, abs=1e-6)
    assert isinstance(loss, nn.Module) and loss.loss_name.startswith('loss_')


@pytest.mark.parametrize('loss', [UncertaintyAwareLoss(), StructureLoss()])
def test_bf16_logits_are_computed_in_float32(loss):
    scores, label = torch.randn(1, 1, 8, 8).bfloat16(), torch.randint(0, 2, (1, 8, 8))
    value = loss(scores, label)
    assert value.dtype == torch.float32 and value == loss(scores.float(), label)


def structure(scores: torch.Tensor, label: torch.Tensor, window: int, counted: torch.Tensor) -> float:
    """The loss of one image, pixel by pixel."""
    height, width = label.shape
    half = window // 2
    entropy = overlap = union = total = 0.0
    for row in range(height):
        for column in range(width):
            if not counted[row, column]:
                continue
            window_of = (slice(max(row - half, 0), row + half + 1), slice(max(column - half, 0), column + half + 1))
            mean = label[window_of][counted[window_of]].double().mean()
            truth = label[row, column].double()
            weight = 1 + 5 * (mean - truth).abs()
            p = scores[row, column].double().sigmoid()
            entropy -= weight * (truth * p.log() + (1 - truth) * (1 - p).log())
            overlap += weight * p * truth
            union += weight * (p + truth - p * truth)
            total += weight
    return float(entropy / total + 1 - (overlap + 1) / (union + 1))


@pytest.mark.parametrize('window', [1, 3, 5])
def test_structure_loss_pixel_by_pixel(window):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 1, 6, 7, generator=generator)
    label = torch.randint(0, 2, (2, 6, 7), generator=generator)
    label[0, 2:4, 1:3] = 255
    expected = sum(structure(scores[i, 0], label[i], window, label[i] != 255) for i in range(2)) / 2
    assert StructureLoss(window=window)(scores, label).item() == pytest.approx(expected, rel=1e-5)


def test_structure_loss_without_edges_is_cross_entropy_and_iou():
    scores = torch.full((1, 1, 40, 40), 0.3)
    label = torch.ones(1, 40, 40, dtype=torch.long)
    p = torch.tensor(0.3).sigmoid().item()
    expected = F.softplus(torch.tensor(-0.3)).item() + 1 - (1600 * p + 1) / (1600 + 1)
    assert StructureLoss()(scores, label).item() == pytest.approx(expected, rel=1e-5)


def test_structure_loss_names_what_it_cannot_take():
    with pytest.raises(UserError, match='window: expected an odd positive number, found 4'):
        StructureLoss(window=4)
    with pytest.raises(UserError, match='expected one logit a pixel .*found 2'):
        StructureLoss()(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4))
