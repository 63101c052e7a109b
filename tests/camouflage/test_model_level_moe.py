"""A mixture of decoders: dense in training, dispatched in batches in prediction."""

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from projects.engine import startup
from projects.engine.errors import UserError

startup.start()

from mmseg.registry import MODELS  # noqa: E402

import projects.camouflage.models  # noqa: E402
import projects.multiscale.register  # noqa: E402, F401

FCN = dict(type='FCNHead', in_channels=6, in_index=1, channels=4, num_convs=1, concat_input=False, dropout_ratio=0,
           norm_cfg=dict(type='BN'))
BCE = dict(type='CrossEntropyLoss', use_sigmoid=True)


def head(seed=0, **options):
    torch.manual_seed(seed)
    arguments = dict(type='ModelLevelMoE', in_channels=(4, 6), num_classes=2, out_channels=1, loss_decode=BCE)
    if 'experts' not in options:
        arguments |= dict(expert=FCN, num_experts=3)
    built = MODELS.build({**arguments, **options})
    for expert in built.experts:
        torch.nn.init.normal_(expert.conv_seg.weight)
    torch.nn.init.normal_(built.router.mlp[-1].weight)
    return built


def pyramid(number=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(number, 4, 16, 16, generator=generator), torch.randn(number, 6, 8, 8, generator=generator)


def samples(number, side=32):
    generator = torch.Generator().manual_seed(1)
    return [SegDataSample(gt_sem_seg=PixelData(data=torch.randint(0, 2, (1, side, side), generator=generator)))
            for _ in range(number)]


def dense(model, inputs, weights):
    logits = torch.stack([model._sized(expert(inputs), (16, 16)) for expert in model.experts], 1)
    return torch.einsum('nechw,ne->nchw', logits, weights)


def test_all_experts_are_the_dense_mixture():
    model, inputs = head(top_k=3).eval(), pyramid()
    with torch.no_grad():
        weights = model.router_probabilities(inputs)
        assert torch.allclose(model._dispatched(inputs, weights), dense(model, inputs, weights), atol=1e-6)
        assert torch.allclose(model(inputs), dense(model, inputs, weights), atol=1e-6)
    assert torch.allclose(weights.sum(1), torch.ones(5)) and weights.std(0).min() > 0


@pytest.mark.parametrize('top_k', [1, 2])
def test_each_picture_goes_to_its_best_experts_and_each_expert_runs_once(top_k):
    model, inputs = head(top_k=top_k).eval(), pyramid()
    seen = []
    for expert in model.experts:
        expert.register_forward_hook(lambda module, args, result: seen.append(len(result)))
    with torch.no_grad():
        probabilities = model.router_probabilities(inputs)
        found = model(inputs)
        assert len(seen) <= 3 and sum(seen) == top_k * 5
        kept = torch.stack([row * (row >= row.sort(descending=True)[0][top_k - 1]) for row in probabilities])
        expected = dense(model, inputs, kept / kept.sum(1, keepdim=True))
    assert torch.allclose(found, expected, atol=1e-6)
    assert not torch.allclose(found, dense(model, inputs, probabilities), atol=1e-3)


def test_a_picture_is_predicted_the_same_alone_and_in_a_batch():
    model, inputs = head(top_k=2).eval(), pyramid()
    with torch.no_grad():
        together = model(inputs)
        alone = torch.cat([model([level[index:index + 1] for level in inputs]) for index in range(5)])
    assert torch.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize('number', [1, 3])
def test_training_gives_every_parameter_a_gradient(number):
    model = head()
    losses = model.loss(pyramid(number), samples(number), None)
    assert {'loss_ce', 'loss_balance', 'loss_information'} == {name for name in losses if 'loss' in name}
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not without
    # at the first picture alone the standardised features are 0: the router then learns nothing yet
    still = [name for name, p in model.named_parameters() if not p.grad.any() and name != 'router.mlp.0.weight']
    assert not still
    assert model.router.mlp[-1].weight.grad.any() == (number > 1)


def test_the_log_tells_the_load():
    model, inputs = head(), pyramid()
    losses = model.loss(inputs, samples(5), None)
    load = torch.stack([losses[f'load_{number}'] for number in range(3)])
    assert load.sum().item() == pytest.approx(1, abs=1e-5)
    assert torch.allclose(load, model.router.recent_probabilities().mean(0), atol=1e-6)
    sent = torch.stack([losses[f'sent_{number}'] for number in range(3)])
    assert sent.sum().item() == pytest.approx(1) and (sent * 10 % 1 < 1e-5).all()  # two of five pictures each
    assert 0 < losses['router_entropy'] < 1
    assert not any(losses[name].requires_grad for name in ('load_0', 'router_entropy'))


def test_balance_and_information_are_asked_of_all_recent_pictures():
    """At batch 1 as at any other: the five pictures one by one end in what the five at once give."""
    together, one_by_one, inputs = head(), head(), pyramid()
    expected = together.loss(inputs, samples(5), None)
    for index in reversed(range(5)):
        found = one_by_one.loss([level[index:index + 1] for level in inputs], samples(1), None)
    assert torch.allclose(one_by_one.router.recent[:5], together.router.recent[:5], atol=1e-5)
    for name in ('loss_balance', 'loss_information', 'load_0', 'sent_2', 'router_entropy'):
        assert found[name].item() == pytest.approx(expected[name].item(), abs=1e-4), name
    assert expected['loss_information'] > 0.01
    found['loss_information'].backward()
    assert one_by_one.router.mlp[-1].weight.grad.abs().max() > 1e-4


def test_information_can_be_switched_off_and_the_backbone_hears_nothing_of_the_router():
    assert 'loss_information' not in head(information_weight=0).loss(pyramid(), samples(5), None)
    model, inputs = head(), [level.requires_grad_() for level in pyramid()]
    losses = model.loss(inputs, samples(5), None)
    assert not torch.autograd.grad(losses['loss_information'], inputs, allow_unused=True, retain_graph=True)[1]
    assert torch.autograd.grad(losses['loss_ce'], inputs[1])[0].any()


def test_the_memory_keeps_the_newest_and_evaluation_leaves_it_alone():
    router = head().router
    for value in range(70):  # 4 pictures each
        router([torch.full((4, 4, 1, 1), float(value)), torch.zeros(4, 6, 1, 1)])
    assert router.seen == 256 and router.recent[0, 0] == 69 and router.recent[-1, 0] == 6
    assert router.mean[0].item() == pytest.approx(37.5)
    router.eval()(pyramid())
    assert router.recent[0, 0] == 69 and router.mean[0].item() == pytest.approx(37.5)


def test_different_decoders_mix_and_the_size_is_the_finest_levels():
    gated = dict(FCN, in_channels=4, in_index=0, channels=8)
    model = head(experts=[FCN, gated]).eval()
    with torch.no_grad():
        assert model(pyramid()).shape == (5, 1, 16, 16)
        assert head(experts=[FCN, gated], upscale=2).eval()(pyramid()).shape == (5, 1, 32, 32)
    assert model.top_k == 2


def test_it_is_a_decode_head_of_a_multi_scale_segmentor_under_autocast():
    model = MODELS.build(dict(
        type='EncoderDecoder', data_preprocessor=dict(type='SegDataPreProcessor'),
        backbone=dict(type='MultiScaleBackbone', scales=(0.5, 1.0), fusion=dict(type='GatedFusion', groups=1),
                      backbone=dict(type='ResNetV1c', depth=18, base_channels=4, stem_channels=4)),
        decode_head=dict(type='ModelLevelMoE', in_channels=(4, 8, 16, 32), num_classes=2, out_channels=1, num_experts=2,
                         expert=dict(FCN, in_channels=32, in_index=3), top_k=1, loss_decode=BCE),
        test_cfg=ConfigDict(mode='whole')))
    images = torch.randn(1, 3, 128, 128)
    labels = samples(1, 128)
    with torch.autocast('cpu', torch.bfloat16):
        losses = model.loss(images, labels)
        total = model.parse_losses(losses)[0]
    total.backward()
    assert torch.isfinite(total) and 'decode.loss_balance' in losses and 'decode.load_1' in losses
    assert model.decode_head.threshold == 0.5
    with torch.no_grad():
        shape = model.eval().predict(images)[0].pred_sem_seg.data.shape
    assert shape == (1, 128, 128)


@pytest.mark.parametrize(('options', 'told'), [
    (dict(experts=[]), 'expected at least one, found none'),
    (dict(expert=None, num_experts=None), 'expected either'),
    (dict(num_experts=0), 'num_experts: expected at least 1, found 0'),
    (dict(top_k=4), r'top_k: expected 1..3, the number of experts, found 4'),
    (dict(top_k=0), 'top_k: expected 1..3'),
    (dict(experts=[FCN, dict(FCN, num_classes=5, out_channels=5)]), r'experts.1.num_classes: expected 2 .* found 5'),
    (dict(experts=[FCN, dict(FCN, out_channels=2)]), r'experts.1.out_channels: expected 1 .* found 2'),
    (dict(experts=[FCN], num_experts=3), 'num_experts: expected 1'),
    (dict(upscale=0), 'upscale: expected at least 1'),
    (dict(router=dict(hidden=-1)), 'hidden: expected at least 0'),
    (dict(information_weight=-1), 'information_weight: expected at least 0'),
])
def test_bad_arguments_are_one_line(options, told):
    with pytest.raises(UserError, match=told):
        head(**options)
