"""Losses for labels of several candidates: by hand, against plain numpy, and at the edges."""

import numpy as np
import pytest
import torch
from mmseg.registry import MODELS

import projects.lidar.losses  # noqa: F401
from projects.engine.errors import UserError
from projects.lidar.classes import BUILDING, BUILDING_PARTS, IGNORE, LOD3
from projects.lidar.losses import HierarchicalCrossEntropy, PointLovasz

GROUND = LOD3.index('ground')


def logits(points: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(1, 30, points, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def test_values_by_hand():
    score = torch.zeros(1, 30, 3)
    score[0, GROUND, 2] = np.log(31.0)  # p(ground) = 31 / 60, each other leaf 1 / 60
    loss = HierarchicalCrossEntropy()
    for label, point, expected in ((GROUND, 0, 1 / 30), (BUILDING, 0, 23 / 30), (GROUND, 2, 31 / 60),
                                   (BUILDING, 2, 23 / 60), (4, 2, 1 / 60)):
        truth = torch.full((1, 3), IGNORE)
        truth[0, point] = label
        assert loss(score, truth).item() == pytest.approx(-np.log(expected), rel=1e-6)
    truth = torch.tensor([[GROUND, BUILDING, GROUND]])
    expected = -(np.log(1 / 30) + np.log(23 / 30) + np.log(31 / 60)) / 3
    assert loss(score, truth).item() == pytest.approx(expected, rel=1e-6)
    assert HierarchicalCrossEntropy(loss_weight=0.5)(score, truth).item() == pytest.approx(expected / 2, rel=1e-6)


def test_gradient_of_some_building_part():
    score = logits(1)
    HierarchicalCrossEntropy()(score, torch.tensor([[BUILDING]])).backward()
    probability = score.detach().softmax(1)[0, :, 0]
    parts = torch.zeros(30)
    parts[list(BUILDING_PARTS)] = 1
    share = probability * parts / (probability * parts).sum()  # it asks of a part what the part has already
    torch.testing.assert_close(score.grad[0, :, 0], probability - share)
    assert (score.grad[0, GROUND:, 0] > 0).all() and (score.grad[0, :GROUND, 0] < 0).all()


def test_gradient_of_leaves_is_that_of_cross_entropy():
    score, label = logits(50), torch.randint(0, 30, (1, 50), generator=torch.Generator().manual_seed(1))
    label[0, ::7] = IGNORE
    weight = torch.rand(30, generator=torch.Generator().manual_seed(2))
    expected = torch.nn.functional.cross_entropy(score, label, weight, ignore_index=IGNORE)
    found = HierarchicalCrossEntropy(weight.tolist())(score, label)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, score)[0], torch.autograd.grad(expected, score)[0])


def test_a_set_weighs_the_mean_of_its_candidates_or_what_is_said():
    weights = [2.0] * len(BUILDING_PARTS) + [1.0] * 7
    score, truth = torch.zeros(1, 30, 2), torch.tensor([[BUILDING, GROUND]])
    expected = (2 * np.log(30 / 23) + np.log(30)) / 3
    assert HierarchicalCrossEntropy(weights)(score, truth).item() == pytest.approx(expected, rel=1e-6)
    expected = (5 * np.log(30 / 23) + np.log(30)) / 6
    assert HierarchicalCrossEntropy([*weights, 5.0])(score, truth).item() == pytest.approx(expected, rel=1e-6)
    with pytest.raises(UserError, match='expected 30 or 31 numbers, found 3'):
        HierarchicalCrossEntropy([1.0, 1.0, 1.0])


def plain_lovasz(probability: np.ndarray, label: np.ndarray) -> float:
    """Go over classes and points one by one; probability (points, 30)."""
    members = {number: {number} for number in range(30)}
    members[BUILDING] = set(BUILDING_PARTS)
    losses = []
    for scored in sorted(set(label.tolist()) - {IGNORE}):
        judged = []
        for one, open_to in zip(probability, label):
            if open_to == IGNORE:
                continue
            value = sum(one[leaf] for leaf in members[scored])
            if members[open_to] <= members[scored]:
                judged.append((1 - value, 1))
            elif not members[open_to] & members[scored]:
                judged.append((value, 0))
        judged.sort(key=lambda pair: -pair[0])
        positives = sum(inside for _, inside in judged)
        before, hits, misses, total = 0.0, 0, 0, 0.0
        for error, inside in judged:
            hits, misses = hits + inside, misses + 1 - inside
            jaccard = 1 - (positives - hits) / (positives + misses)
            total += error * (jaccard - before)
            before = jaccard
        losses.append(total)
    return float(np.mean(losses))


@pytest.mark.parametrize('labels', [range(30), [0, 4, GROUND, BUILDING, IGNORE], [BUILDING, GROUND], [4], [BUILDING]])
def test_lovasz_is_the_plain_one(labels):
    score = logits(200, seed=3)
    label = np.random.default_rng(0).choice(list(labels), (1, 200))
    found = PointLovasz()(score, torch.from_numpy(label)).item()
    assert found == pytest.approx(plain_lovasz(score.detach().softmax(1)[0].T.double().numpy(), label[0]), rel=1e-5)


def test_lovasz_is_jaccard_where_the_network_is_sure():
    answer, label = torch.tensor([0, 0, 0, GROUND]), torch.tensor([[0, 0, GROUND, GROUND]])
    score = 200 * torch.nn.functional.one_hot(answer, 30).float().T[None]
    assert PointLovasz()(score, label).item() == pytest.approx(1 - (2 / 3 + 1 / 2) / 2, abs=1e-6)


def test_a_point_of_some_part_moves_no_single_part():
    score = logits(6)
    label = torch.tensor([[BUILDING, BUILDING, 4, 4, GROUND, GROUND]])
    PointLovasz()(score, label).backward()
    gradient = score.grad[0, :, 0]
    probability = score.detach().softmax(1)[0, :, 0]
    parts = gradient[:GROUND] / probability[:GROUND]  # equal: only their sum and the non-buildings are asked for
    torch.testing.assert_close(parts, parts[:1].expand_as(parts), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize('loss', [HierarchicalCrossEntropy(), PointLovasz()], ids=lambda loss: type(loss).__name__)
class TestEveryLoss:
    def test_is_zero_with_zero_gradients_without_labels(self, loss):
        score = logits(5)
        value = loss(score, torch.full((1, 5), IGNORE))
        value.backward()
        assert value.item() == 0 and not score.grad.any()

    def test_ignored_points_count_nothing(self, loss):
        score, label = logits(20), torch.randint(0, 31, (1, 20), generator=torch.Generator().manual_seed(4))
        longer = torch.cat((score, torch.randn(1, 30, 7) * 50), dim=2)
        padded = torch.cat((label, torch.full((1, 7), IGNORE)), dim=1)
        torch.testing.assert_close(loss(longer, padded), loss(score, label))

    def test_is_float32_under_autocast_and_from_half_logits(self, loss):
        score, label = logits(20), torch.randint(0, 31, (1, 20), generator=torch.Generator().manual_seed(5))
        half = score.detach().bfloat16()
        with torch.autocast('cpu', torch.bfloat16):
            value = loss(half, label)
        assert value.dtype == torch.float32 and torch.equal(value, loss(half.float(), label))

    def test_large_logits_are_finite(self, loss):
        score = (logits(20).detach() * 1e4).requires_grad_()
        value = loss(score, torch.full((1, 20), BUILDING))
        value.backward()
        assert value.isfinite() and score.grad.isfinite().all()

    def test_other_classes_are_refused(self, loss):
        with pytest.raises(UserError, match='expected logits of 30 classes, found 6'):
            loss(torch.zeros(1, 6, 4), torch.zeros(1, 4, dtype=torch.long))

    def test_is_registered_under_its_name(self, loss):
        assert MODELS.build(dict(type=type(loss).__name__, loss_weight=2.0)).loss_weight == 2.0


def test_labels_and_nothing_else_decide_the_order_of_classes():
    score, label = logits(40), torch.randint(0, 31, (1, 40), generator=torch.Generator().manual_seed(6))
    order = torch.randperm(40, generator=torch.Generator().manual_seed(7))
    for loss in (HierarchicalCrossEntropy(), PointLovasz()):
        torch.testing.assert_close(loss(score[:, :, order], label[:, order]), loss(score, label))
