"""GroupedGateHead: its unit by hand, sizes, gradients, cost, modes."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import projects.camouflage.register  # noqa: F401
from projects.camouflage.models.grouped_gate_head import GroupedGateHead, GroupedGateUnit, Pointwise, mean_of_map
from projects.engine import startup
from projects.engine.errors import UserError

NARROW = (4, 8, 12, 16)
B2 = (64, 128, 320, 512)


@pytest.fixture(scope='module', autouse=True)
def started() -> None:
    startup.start()


def head(in_channels=NARROW, **options) -> GroupedGateHead:
    torch.manual_seed(0)
    model = MODELS.build(dict(dict(type='GroupedGateHead', in_channels=in_channels, channels=8, groups=3, width=16),
                              **options))
    model.init_weights()
    return model


def maps(height: int, width: int, batch: int = 1, widths=NARROW) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, channels, -(-height // stride), -(-width // stride), generator=generator)
            for channels, stride in zip(widths, (4, 8, 16, 32))]


def samples(labels: torch.Tensor) -> list[SegDataSample]:
    return [SegDataSample(gt_sem_seg=PixelData(data=label[None])) for label in labels]


def test_unit_by_hand():
    """Two groups of one channel; convolutions that pass or add, no norm to speak of (a map of one channel a group)."""
    unit = GroupedGateUnit(2, 1, 2, dict(type='BN'), dict(type='ReLU')).eval()  # BN at rest: x / sqrt(1 + 1e-5)
    with torch.no_grad():
        for convolution in (unit.speak[0][0], unit.speak[1][0], unit.fuse[0]):
            convolution.weight.zero_()
            convolution.weight[:, :, 1, 1] = 1.0
        unit.expand[0].weight[:, :, 0, 0] = torch.eye(2)
        unit.fuse[0].weight[:, :, 1, 1] = torch.eye(2)
        unit.speak[0][1].weight[:, 0, 0, 0] = torch.tensor([1.0, 2.0, 3.0])  # out, gate, fork of x0
        unit.speak[1][1].weight[:, :, 0, 0] = torch.tensor([[1.0, 1.0], [0.0, 1.0]])  # out = x1 + fork; gate = fork
        unit.gate[0].weight.copy_(torch.tensor([[1.0, 1.0]]))  # hidden: the sum of both gates' means
        unit.gate[0].bias.zero_()
        unit.gate[2].weight.copy_(torch.tensor([[0.1], [0.3]]))
        unit.gate[2].bias.zero_()
        x = torch.tensor([[[[1.0, 3.0]], [[2.0, 0.0]]]])  # (1, 2, 1, 2)
        outs, weights = unit.outs_and_weights(x)
        found = unit(x)
    torch.testing.assert_close(outs, torch.tensor([[[[1.0, 3.0]], [[5.0, 9.0]]]]), rtol=1e-4, atol=0)
    gate = torch.tensor(4.0 + 6.0)  # means of 2 x0 = (2, 6) and of 3 x0 = (3, 9)
    share = torch.softmax(torch.tensor([0.1, 0.3]) * gate, 0)
    torch.testing.assert_close(weights.flatten(), share, rtol=1e-3, atol=0)
    torch.testing.assert_close(found, x + outs * share[None, :, None, None], rtol=1e-3, atol=0)


def test_weights_sum_to_one_over_the_groups():
    unit = head().units[0]
    with torch.no_grad():
        outs, weights = unit.outs_and_weights(torch.randn(2, 16, 5, 7))
    assert outs.shape == (2, 24, 5, 7) and weights.shape == (2, 3, 8)
    torch.testing.assert_close(weights.sum(1), torch.ones(2, 8))
    assert weights.std() > 0 and not torch.equal(weights[0], weights[1])


def test_a_group_hears_those_before_it_only():
    unit = head(norm_cfg=dict(type='BN')).units[0].eval()
    with torch.no_grad():
        unit.expand[0].weight.zero_()
        unit.expand[0].weight[8:16, :8, 0, 0] = torch.eye(8)  # group 1 sees the first eight channels of the input
        x = torch.rand(1, 16, 4, 4)
        changed = x.clone()
        changed[:, :8] += 1
        difference = (unit.outs_and_weights(changed)[0] - unit.outs_and_weights(x)[0]).abs().sum((0, 2, 3))
    assert difference[:8].sum() == 0 and difference[8:16].sum() > 0 and difference[16:].sum() > 0


def test_pointwise_and_mean_equal_convolution_and_mean():
    layer = Pointwise(5, 3)
    x = torch.randn(2, 5, 4, 6)
    torch.testing.assert_close(layer(x), F.conv2d(x, layer.weight))
    torch.testing.assert_close(mean_of_map(x), x.mean((2, 3)))


def test_decodes_from_coarse_to_fine():
    """A change of the coarsest map alone reaches the logits, and that of the finest stays near its place."""
    model = head(norm_cfg=dict(type='BN')).eval()
    inputs = maps(128, 128)
    with torch.no_grad():
        model.conv_seg.weight.normal_()
        before = model(inputs)
        coarse = model([*inputs[:3], inputs[3] + 1]) - before
        # the units' weights are of the whole map; with equal ones a change stays where it is
        for unit in model.units:
            unit.gate[2].weight.zero_()
        before = model(inputs)
        inputs[0][:, :, 16, 16] += 5
        fine = (model(inputs) - before)[0, 0].abs()
    assert coarse.abs().max() > 0
    touched = fine.nonzero()
    assert fine[16, 16] > 0 and (touched - 16).abs().max() <= 4  # three depthwise convolutions and the fuse, each by 1


@pytest.mark.parametrize('size', [(64, 64), (32, 32), (33, 70), (100, 36), (1, 1)])
def test_any_size_trains_at_batch_one(size):
    model = head().train()
    inputs = maps(*size)
    logits = model(inputs)
    assert logits.shape == (1, 1, -(-size[0] // 4), -(-size[1] // 4))
    logits.sum().backward()
    assert torch.isfinite(logits).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_every_parameter_gets_a_gradient():
    model = head()
    inputs = [x.requires_grad_() for x in maps(64, 96, batch=2)]
    logits = model(inputs)
    (logits * torch.randn(logits.shape)).sum().backward()
    assert [name for name, parameter in model.named_parameters() if not parameter.grad.abs().sum() > 0] == []
    assert all(x.grad.abs().sum() > 0 for x in inputs)


def test_costs_less_than_a_quarter_of_the_backbone():
    with torch.device('meta'):
        model = GroupedGateHead(B2)
        inputs = [torch.empty(1, channels, side, side) for channels, side in zip(B2, (96, 48, 24, 12))]
        with FlopCounterMode(display=False) as counter:
            model(inputs)
    assert sum(parameter.numel() for parameter in model.parameters()) == 753_729
    assert counter.get_total_flops() / 2e9 == pytest.approx(2.0, abs=0.05)  # GMAC; PVTv2-b2: 11.4


def test_defaults_are_those_of_one_logit_for_two_classes():
    model = GroupedGateHead()
    assert (model.num_classes, model.out_channels, model.threshold) == (2, 1, 0.5)
    assert model.loss_decode.use_sigmoid and model.dropout is None
    assert {type(module) for module in model.modules() if 'Norm' in type(module).__name__} == {nn.GroupNorm}


def test_loss_is_cross_entropy_of_the_enlarged_logits():
    model = head().eval()
    labels = torch.randint(0, 2, (2, 32, 48), generator=torch.Generator().manual_seed(0))
    inputs = maps(32, 48, batch=2)
    with torch.no_grad():
        losses = model.loss(inputs, samples(labels), None)
        logits = F.interpolate(model(inputs), size=(32, 48), mode='bilinear', align_corners=False)
        expected = F.binary_cross_entropy_with_logits(logits[:, 0], labels.float())
    assert losses['loss_ce'].item() == pytest.approx(expected.item(), rel=1e-5)


def test_predicts_objects_by_the_threshold_of_one_half():
    model = MODELS.build(ConfigDict(
        type='EncoderDecoder', backbone=dict(type='PVTv2', arch='b0'),
        decode_head=dict(type='GroupedGateHead', in_channels=(32, 64, 160, 256), channels=8, groups=2, width=16),
        train_cfg=dict(), test_cfg=dict(mode='whole')))
    model.init_weights()
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.decode_head.conv_seg.weight.normal_(generator=torch.Generator().manual_seed(0))
        result = model.eval().predict(image)[0]
        logits = F.interpolate(model(image), size=(64, 64), mode='bilinear', align_corners=False)
    torch.testing.assert_close(result.seg_logits.data, logits[0].sigmoid())
    found = result.pred_sem_seg.data
    assert torch.equal(found.bool(), logits[0].sigmoid() > 0.5) and 0 < found.float().mean() < 1
    losses = model.train().loss(image, samples((found > 0).long()))
    model.parse_losses(losses)[0].backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_more_classes_than_two():
    model = head(num_classes=5, out_channels=5, threshold=None)
    labels = torch.randint(0, 5, (1, 64, 64))
    assert model(maps(64, 64)).shape == (1, 5, 16, 16)
    assert not model.loss_decode.use_sigmoid
    assert torch.isfinite(model.loss(maps(64, 64), samples(labels), None)['loss_ce'])


def test_channels_last_and_autocast_agree_with_float32():
    model = head().eval()
    inputs = maps(96, 64, batch=2)
    with torch.no_grad():
        model.conv_seg.weight.normal_()
        expected = model(inputs)
        model = model.to(memory_format=torch.channels_last)
        inputs = [x.contiguous(memory_format=torch.channels_last) for x in inputs]
        torch.testing.assert_close(model(inputs), expected, rtol=1e-4, atol=1e-4)
        with torch.autocast('cpu', torch.bfloat16):
            half = model(inputs)
    assert half.dtype == torch.bfloat16
    assert (half.float() - expected).abs().max() < 0.06 * expected.abs().max()


@pytest.mark.parametrize('options, message', [
    (dict(in_channels=(8, 16)), 'in_channels: expected 4 widths'),
    (dict(groups=1), 'groups: expected at least 2, found 1'),
    (dict(channels=12), 'channels: expected a multiple of norm_cfg.num_groups=8, found 12'),
    (dict(width=20, norm_cfg=dict(type='GN', num_groups=3), channels=3), 'width: .* found 20'),
    (dict(width=0), 'width: .* found 0'),
])
def test_wrong_options_are_named(options, message):
    with pytest.raises(UserError, match=message):
        GroupedGateHead(**dict(in_channels=NARROW) | options)
