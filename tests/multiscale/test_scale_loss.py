"""Each scale's loss at its own resolution, by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from mmseg.registry import MODELS

from projects.engine import startup
from projects.engine.errors import UserError
from projects.multiscale.scale_head import ScaleHead
from projects.multiscale.scale_loss import ScaleAwareLoss, resize_labels

startup.start()
LABEL = torch.tensor([[[0, 0, 1, 1],
                       [0, 1, 1, 1],
                       [255, 255, 0, 255],
                       [255, 255, 1, 1]]])  # (1, 4, 4); as 2x2 cells: 1/4, 1, none, 2/3 of class 1


def sigmoid_ce(logit, target):
    p = 1 / (1 + math.exp(-logit))
    return -target * math.log(p) - (1 - target) * math.log(1 - p)


def softmax_ce(logits, target):
    norm = math.log(sum(math.exp(value) for value in logits))
    return sum(share * (norm - value) for share, value in zip(target, logits))


LOGITS = [[0.3, -1.2], [2.0, 0.7]]  # of the four cells


def two_channels():
    one = torch.tensor([[LOGITS]])
    return torch.cat([-0.5 * one + 0.1, one], 1)  # (1, 2, 2, 2)


def test_area_targets_count_labelled_pixels_alone():
    loss = ScaleAwareLoss(weights=(1.0,), loss_weight=1.0, targets='area')
    cells = [(0.3, 0.25), (-1.2, 1.0), (0.7, 2 / 3)]
    expected = sum(sigmoid_ce(*cell) for cell in cells) / 3
    assert loss([torch.tensor([[LOGITS]])], LABEL)['loss_scale'].item() == pytest.approx(expected, rel=1e-6)
    expected = sum(softmax_ce((-0.5 * z + 0.1, z), (1 - share, share)) for z, share in cells) / 3
    assert loss([two_channels()], LABEL)['loss_scale'].item() == pytest.approx(expected, rel=1e-6)


def test_nearest_targets_take_the_label_under_the_centre():
    """The centre of a cell of 2x2 pixels is the corner of its lower right one."""
    assert resize_labels(LABEL, (2, 2)).tolist() == [[[1, 1], [255, 1]]]
    assert resize_labels(torch.arange(7)[None, None].expand(1, 1, 7), (1, 3)).tolist() == [[[1, 3, 5]]]
    assert resize_labels(torch.tensor([[[3, 9]]]), (2, 4)).tolist() == [[[3, 3, 9, 9], [3, 3, 9, 9]]]
    cells = [(0.3, 1), (-1.2, 1), (0.7, 1)]
    loss = ScaleAwareLoss(weights=(1.0,), loss_weight=1.0)
    assert loss([torch.tensor([[LOGITS]])], LABEL)['loss_scale'].item() == pytest.approx(
        sum(sigmoid_ce(*cell) for cell in cells) / 3, rel=1e-6)
    assert loss([two_channels()], LABEL)['loss_scale'].item() == pytest.approx(
        sum(softmax_ce((-0.5 * z + 0.1, z), (1 - y, y)) for z, y in cells) / 3, rel=1e-6)


@pytest.mark.parametrize('targets', ['nearest', 'area'])
@pytest.mark.parametrize('channels', [1, 3])
def test_the_sum_is_weighted_and_the_log_is_not(targets, channels):
    torch.manual_seed(0)
    label = torch.randint(0, max(channels, 2), (2, 24, 16))
    label[0, :9] = 255
    logits = [torch.randn(2, channels, *size, requires_grad=True) for size in ((5, 3), (12, 8), (24, 16))]
    loss = ScaleAwareLoss((0.5, 1.0, 0.25), loss_weight=0.3, targets=targets)
    found = loss(logits, label, names=('0.5', '1', '1.5'))
    assert set(found) == {'loss_scale', 'scale/0.5', 'scale/1', 'scale/1.5'}
    assert found['loss_scale'].item() == pytest.approx(
        0.3 * (0.5 * found['scale/0.5'] + found['scale/1'] + 0.25 * found['scale/1.5']).item(), rel=1e-6)
    assert not any(value.requires_grad for name, value in found.items() if name != 'loss_scale')
    # At the labels' own size both targets are the labels: torch's own mean over labelled pixels.
    if channels == 1:
        known = label != 255
        own = F.binary_cross_entropy_with_logits(logits[2][:, 0][known], label[known].float())
    else:
        own = F.cross_entropy(logits[2], label, ignore_index=255)
    assert found['scale/1.5'].item() == pytest.approx(own.item(), rel=1e-5)
    found['loss_scale'].backward()
    assert all(item.grad.abs().sum() > 0 for item in logits)
    assert logits[2].grad[0, :, :9].abs().max() == 0  # ignored pixels


@pytest.mark.parametrize('targets', ['nearest', 'area'])
@pytest.mark.parametrize('channels', [1, 2])
def test_without_a_label_the_loss_is_zero_and_finite(targets, channels):
    logits = torch.full((1, channels, 2, 2), 200.0, requires_grad=True)
    found = ScaleAwareLoss((1.0,), targets=targets)([logits], torch.full((1, 8, 8), 255))
    found['loss_scale'].backward()
    assert found['loss_scale'].item() == 0 and logits.grad.abs().max() == 0


def test_a_registered_loss_takes_the_place():
    torch.manual_seed(1)
    logits, label = torch.randn(1, 2, 2, 2), torch.randint(0, 2, (1, 2, 2))
    config = dict(type='DiceLoss', loss_weight=2.0)
    loss = ScaleAwareLoss((0.5,), loss_weight=1.0, loss=config)
    expected = 0.5 * MODELS.build(config)(logits, label)
    assert loss([logits], label)['loss_scale'].item() == pytest.approx(expected.item(), rel=1e-6)


def test_half_precision_is_summed_in_single():
    torch.manual_seed(2)
    label = torch.randint(0, 2, (2, 64, 64))
    logits = torch.randn(2, 1, 64, 64).bfloat16()
    for targets in ('nearest', 'area'):
        loss = ScaleAwareLoss((1.0,), targets=targets)
        with torch.autocast('cpu', torch.bfloat16):
            found = loss([logits], label)['loss_scale']
        assert found.dtype == torch.float32
        assert found.item() == pytest.approx(loss([logits.float()], label)['loss_scale'].item(), rel=1e-6)


@pytest.mark.parametrize('arguments, message', [
    (dict(weights=(0.5, -1.0)), 'scale_loss.weights: expected numbers of at least 0'),
    (dict(weights=(0.0, 0.0)), 'not all 0'),
    (dict(weights=()), 'not all 0'),
    (dict(loss_weight=-0.1), 'scale_loss.loss_weight: expected at least 0, found -0.1'),
    (dict(targets='aera'), "scale_loss.targets: expected 'nearest' or 'area', found 'aera'; did you mean area?"),
    (dict(targets='area', loss=dict(type='DiceLoss')), "scale_loss.loss: expected none with targets='area'")])
def test_bad_arguments(arguments, message):
    with pytest.raises(UserError) as error:
        ScaleAwareLoss(**arguments)
    assert message in str(error.value)


def test_as_many_weights_as_scales():
    with pytest.raises(UserError, match='scale_loss.weights: expected 2, one for each scale, found 3'):
        ScaleAwareLoss()([torch.zeros(1, 1, 2, 2)] * 2, torch.zeros(1, 2, 2, dtype=torch.long))


def test_the_head_sums_levels_at_the_finest():
    torch.manual_seed(3)
    head = ScaleHead((4, 6), channels=8, num_classes=2, out_channels=1, in_index=(3, 1))
    head.init_weights()
    assert 0 < head.conv_seg.weight.std() < 0.02 < head.lateral[0].weight.std()
    assert not any(isinstance(module, torch.nn.modules.batchnorm._NormBase) for module in head.modules())
    levels = [None, torch.randn(1, 6, 8, 6), None, torch.randn(1, 4, 2, 3)]
    up = F.interpolate(F.conv2d(levels[3], *head.lateral[0].parameters()), (8, 6), mode='bilinear')
    hidden = F.gelu(F.conv2d(levels[1], *head.lateral[1].parameters()) + up)
    torch.testing.assert_close(head(levels), F.conv2d(hidden, *head.conv_seg.parameters()))


@pytest.mark.parametrize('arguments, message', [
    (dict(in_channels=()), 'scale_head.in_channels: expected one number for each'),
    (dict(in_channels=(4, 4), in_index=(0,)), r'levels in_index=\(0,\), found \(4, 4\)'),
    (dict(in_channels=(4,), num_classes=3, out_channels=1), 'scale_head.out_channels: expected num_classes=3'),
    (dict(in_channels=(4,), num_classes=1), 'at least 2')])
def test_heads_that_contradict_themselves(arguments, message):
    with pytest.raises(UserError, match=message):
        ScaleHead(**arguments)


def test_a_head_that_does_not_fit_its_pyramid():
    pyramid = [torch.zeros(1, 4, 2, 2)]
    with pytest.raises(UserError, match=r'scale_head.in_channels: expected \(4,\), the channels of levels \(0,\)'):
        ScaleHead((8,))(pyramid)
    with pytest.raises(UserError, match='scale_head.in_index: expected levels below 1'):
        ScaleHead((4, 4))(pyramid)
