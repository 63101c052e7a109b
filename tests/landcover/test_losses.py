"""The joint loss and its two terms, by hand."""

import math

import pytest
import torch
from mmseg.registry import MODELS

from projects.landcover.losses import JointLoss, PresentDiceLoss, SoftCrossEntropyLoss

# Two pixels, two classes: p = (0.8, 0.2) for the first, (0.25, 0.75) for the second.
PROBABILITIES = torch.tensor([[[[0.8, 0.25]], [[0.2, 0.75]]]])
PRED = PROBABILITIES.log()
LABEL = torch.tensor([[[0, 1]]])


def test_soft_cross_entropy_by_hand():
    # smoothing 0.05 over two classes: targets 0.975 and 0.025
    first = -(0.975 * math.log(0.8) + 0.025 * math.log(0.2))
    second = -(0.025 * math.log(0.25) + 0.975 * math.log(0.75))
    assert SoftCrossEntropyLoss()(PRED, LABEL).item() == pytest.approx((first + second) / 2, rel=1e-6)
    assert SoftCrossEntropyLoss(smoothing=0.0)(PRED, LABEL).item() == pytest.approx(
        -(math.log(0.8) + math.log(0.75)) / 2, rel=1e-6)


def test_soft_cross_entropy_leaves_ignored_pixels_out_of_the_mean():
    first = -(0.975 * math.log(0.8) + 0.025 * math.log(0.2))
    label = torch.tensor([[[0, 255]]])
    assert SoftCrossEntropyLoss()(PRED, label, ignore_index=255).item() == pytest.approx(first, rel=1e-6)


def test_soft_cross_entropy_class_weights_by_hand():
    # every -log p_c counts w_c times; the mean is over the weights of the pixels' own classes
    first = -(1 * 0.975 * math.log(0.8) + 3 * 0.025 * math.log(0.2))
    second = -(1 * 0.025 * math.log(0.25) + 3 * 0.975 * math.log(0.75))
    loss = SoftCrossEntropyLoss(class_weight=[1.0, 3.0])
    assert loss(PRED, LABEL).item() == pytest.approx((first + second) / 4, rel=1e-6)
    assert not loss.state_dict()  # weights belong to the config, not to a checkpoint


def test_dice_by_hand():
    # class 0: overlap 0.8, sizes 1.05 + 1; class 1: overlap 0.75, sizes 0.95 + 1
    zero = 1 - (2 * 0.8 + 0.05) / (1.05 + 1 + 0.05)
    one = 1 - (2 * 0.75 + 0.05) / (0.95 + 1 + 0.05)
    assert PresentDiceLoss()(PRED, LABEL).item() == pytest.approx((zero + one) / 2, rel=1e-6)
    weighted = PresentDiceLoss(class_weight=[1.0, 3.0])(PRED, LABEL).item()
    assert weighted == pytest.approx((zero + 3 * one) / 4, rel=1e-6)


def test_dice_absent_class_counts_in_the_divisor_only():
    # the second pixel is ignored: class 1 is absent, C stays 2
    zero = 1 - (2 * 0.8 + 0.05) / (0.8 + 1 + 0.05)
    label = torch.tensor([[[0, 255]]])
    assert PresentDiceLoss()(PRED, label, ignore_index=255).item() == pytest.approx(zero / 2, rel=1e-6)


def test_dice_sums_over_the_batch():
    pred, label = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    together = torch.cat([pred[0], pred[1]], dim=2)[None], torch.cat([label[0], label[1]], dim=1)[None]
    assert PresentDiceLoss()(pred, label).item() == pytest.approx(PresentDiceLoss()(*together).item(), rel=1e-6)


def test_joint_is_the_weighted_sum():
    ce, dice = SoftCrossEntropyLoss()(PRED, LABEL), PresentDiceLoss()(PRED, LABEL)
    assert JointLoss()(PRED, LABEL).item() == pytest.approx((ce + dice).item())
    loss = MODELS.build(dict(type='JointLoss', ce_weight=0.5, dice_weight=2.0, loss_weight=3.0))
    assert loss(PRED, LABEL).item() == pytest.approx(3 * (0.5 * ce + 2 * dice).item())
    assert loss.loss_name == 'loss_joint'


@pytest.mark.parametrize('loss', [SoftCrossEntropyLoss(), SoftCrossEntropyLoss(class_weight=[1, 2, 3]),
                                  PresentDiceLoss(), JointLoss(class_weight=[1, 2, 3])])
def test_all_ignored_is_zero_with_zero_gradients(loss):
    pred = torch.randn(1, 3, 4, 4, requires_grad=True)
    value = loss(pred, torch.full((1, 4, 4), 255))
    value.backward()
    assert value.item() == 0
    assert torch.equal(pred.grad, torch.zeros_like(pred))


@pytest.mark.parametrize('loss', [SoftCrossEntropyLoss(), PresentDiceLoss(), JointLoss()])
def test_pixel_weight_of_zero_is_like_ignoring_in_the_sums(loss):
    pred, label = torch.randn(1, 3, 2, 2), torch.tensor([[[0, 1], [2, 1]]])
    weight = torch.tensor([[[1.0, 1.0], [1.0, 0.0]]])
    ignored = torch.tensor([[[0, 1], [2, 255]]])
    if isinstance(loss, PresentDiceLoss):
        assert loss(pred, label, weight).item() == pytest.approx(loss(pred, ignored).item(), rel=1e-6)
    assert loss(pred, label, weight).item() < loss(pred, label).item() + loss(pred, ignored).item()


@pytest.mark.parametrize('loss', [SoftCrossEntropyLoss(), PresentDiceLoss(), JointLoss()])
def test_sums_stay_float32_under_autocast(loss):
    torch.manual_seed(0)
    pred, label = torch.randn(2, 6, 64, 64).bfloat16(), torch.randint(0, 6, (2, 64, 64))
    with torch.autocast('cpu', torch.bfloat16):
        value = loss(pred, label)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(loss(pred.float(), label).item(), rel=1e-6)


def test_gradients_are_right():
    torch.manual_seed(0)
    pred = torch.randn(1, 3, 2, 2, requires_grad=True)
    label = torch.tensor([[[0, 1], [255, 1]]])
    loss = JointLoss(class_weight=[1.0, 2.0, 0.5])
    loss(pred, label).backward()
    step = 1e-2
    for index in ((0, 0, 0, 0), (0, 2, 0, 1), (0, 1, 1, 0)):
        shift = torch.zeros_like(pred)
        shift[index] = step
        with torch.no_grad():
            slope = (loss(pred + shift, label) - loss(pred - shift, label)).item() / (2 * step)
        assert pred.grad[index].item() == pytest.approx(slope, abs=1e-4)
