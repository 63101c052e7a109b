"""The multi-scale backbone: its identity with the single one, its modes, its memory, its mistakes."""

import copy

import pytest
import torch
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import nn

from projects.engine import startup
from projects.engine.errors import UserError
from projects.multiscale import register  # noqa: F401
from projects.multiscale.backbone import MultiScaleBackbone
from projects.multiscale.recomputation import repeated_blocks
from projects.multistage.initialise import initialise

startup.start()
FUSERS = ('PlainSumFusion', 'ABSIFusion', 'HierarchicalFusion', 'GatedFusion')
RESNET = dict(type='ResNetV1c', depth=18, stem_channels=4, base_channels=4, norm_cfg=dict(type='BN'))


@MODELS.register_module()
class PlainSumFusion(BaseModule):
    """The reference, and a layer over the sum of all scales that begins with zeros."""

    def __init__(self, channels, num_scales, reference, init_cfg=None):
        super().__init__(init_cfg)
        self.reference, self.num_scales = reference, num_scales
        self.out = nn.Conv2d(channels, channels, 1)
        self.init_weights()

    def init_weights(self):
        super().init_weights()
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, features):
        assert len(features) == self.num_scales
        return features[self.reference] + self.out(sum(features))

    def scale_weights(self, features):
        return torch.stack([f.float().mean(1) for f in features], 1).softmax(1)


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.mix = nn.Sequential(nn.Conv2d(channels, 4 * channels, 3, padding=1), nn.GELU(),
                                 nn.Conv2d(4 * channels, channels, 1))
        self.drop = nn.Dropout(0.3)

    def forward(self, x):
        return x + self.drop(self.mix(self.norm(x)))


@MODELS.register_module()
class BlocksForScales(nn.Module):
    """Two stages of blocks with what makes a recomputation hard: running statistics and dropout."""

    def __init__(self, depth=3):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=4)
        self.stage1 = nn.ModuleList([Block(8) for _ in range(depth)])
        self.down = nn.Conv2d(8, 16, 2, stride=2)
        self.stage2 = nn.Sequential(*[Block(16) for _ in range(depth)])

    def forward(self, x):
        x = self.stem(x)
        for block in self.stage1:
            x = block(x)
        return x, self.stage2(self.down(x))


def build(backbone=None, seed=0, **options):
    torch.manual_seed(seed)
    options.setdefault('fusion', dict(type='PlainSumFusion'))
    model = MultiScaleBackbone(backbone or dict(type='BlocksForScales'), **options)
    model.init_weights()
    return model


def learned(model):
    """Let fusers count."""
    with torch.no_grad():
        for fuser in model.fusers:
            for parameter in fuser.parameters():
                parameter.normal_(std=0.2)
    return model


def images(size=64, number=2, seed=0):
    return torch.randn(number, 3, size, size, generator=torch.Generator().manual_seed(seed))


def step(model, x, modes=None, seed=3, autocast=False):
    """Run a training step; return the loss and the gradients by name."""
    model.train().zero_grad()
    model.modes = modes
    torch.manual_seed(seed)
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        loss = sum((maps.float() ** 2).mean() for maps in model(x))
    loss.backward()
    return loss.detach(), {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize('scales, reference', [
    ((0.5, 1.0), 1.0), ((0.5, 1.0, 1.5), 1.0), ((0.5, 1.0, 1.5), 0.5), ((1.5, 0.5, 1.0), 1.5),
    ((0.25, 0.5, 1.0, 1.5, 2.0), 1.0)])
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('fuser', FUSERS)
def test_at_step_0_the_features_are_the_single_backbones(scales, reference, layout, fuser):
    options = dict(scales=scales, reference=reference, fusion=dict(type=fuser))
    model = build(RESNET, **options).eval().to(memory_format=layout)
    x = images(64).contiguous(memory_format=layout)
    single = build(RESNET, single_scale=True, **options).eval().to(memory_format=layout)
    single.load_state_dict(model.state_dict())
    with torch.no_grad():
        fused, alone = model(x), single(x)
        if reference == 1:
            plain = model.backbone(x)
            assert all(torch.equal(a, b) for a, b in zip(fused, plain))
    assert len(fused) == 4 and all(torch.equal(a, b) for a, b in zip(fused, alone))
    learned(model)
    assert not torch.equal(model(x)[0], alone[0])


def test_sizes_and_real_scales():
    model = build()
    assert model.sizes(352, 384) == [(160, 192), (352, 384), (512, 576)]
    assert model.real_scales(352, 384) == [(160 / 352, 0.5), (1.0, 1.0), (512 / 352, 1.5)]
    assert model.sizes(20, 40) == [(32, 32), (32, 40), (32, 64)]


def test_what_runs_has_those_sizes():
    model = build(divisor=32).eval()
    seen = []
    model.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape[-2:])))
    fused, per_scale = model.forward_scales(images(20))
    assert seen == [(32, 32), (32, 32), (32, 32)]  # enlarged to the divisor
    assert [maps.shape for maps in fused] == [(2, 8, 8, 8), (2, 16, 4, 4)]
    seen.clear()
    fused, per_scale = model.forward_scales(images(96))
    assert seen == [(32, 32), (96, 96), (128, 128)]
    assert [maps[1].shape[-1] for maps in per_scale] == [4, 12, 16] and fused[1].shape[-1] == 12
    with torch.no_grad():
        assert torch.equal(per_scale[1][0], model.backbone(images(96))[0])


def test_a_changed_aspect_ratio_is_told_once_a_shape(monkeypatch):
    told = []
    monkeypatch.setattr('projects.multiscale.backbone.print_log', lambda text, *_, **__: told.append(text))
    model = build().eval()
    with torch.no_grad():
        model(images(64))
        assert not told
        for _ in range(2):
            model(torch.zeros(1, 3, 64, 96))  # 0.5x would be 32 x 48, 1.5x 96 x 144
    assert told == ['an image of 64 x 96 changes its aspect ratio at 0.5x 32 x 32 (+50 %), 1.5x 96 x 128 (+12 %): '
                    'sizes are multiples of 32']
    with torch.no_grad():
        model(torch.zeros(1, 3, 20, 64))
    assert len(told) == 2 and '20 x 64' in told[1] and '1x 32 x 64 (+60 %)' in told[1]


def test_levels_have_fusers_of_their_own():
    model = learned(build(fusion=[None, dict(type='PlainSumFusion')])).eval()
    assert [key for key in model.state_dict() if key.startswith('fusers')] == ['fusers.1.out.weight',
                                                                                'fusers.1.out.bias']
    x = images(64)
    with torch.no_grad():
        fused, plain, maps = model(x), model.backbone(x), model.scale_maps(x)
    assert torch.equal(fused[0], plain[0]) and not torch.equal(fused[1], plain[1])
    assert [m.shape for m in maps] == [(2, 3, 8, 8)]
    torch.testing.assert_close(maps[0].sum(1), torch.ones(2, 8, 8))


def test_channels_are_found_and_nothing_is_changed_by_it():
    torch.manual_seed(0)
    backbone = MODELS.build(RESNET)
    backbone.train()
    backbone.layer1.eval()
    before, state = copy.deepcopy(backbone.state_dict()), torch.get_rng_state()
    model = MultiScaleBackbone(backbone, fusion=[None] * 4)
    assert model.channels == (4, 8, 16, 32) and model.backbone is backbone
    assert torch.equal(torch.get_rng_state(), state)
    assert backbone.training and backbone.layer2.training and not backbone.layer1.training
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


def test_both_have_the_same_keys_and_one_scale_trains_no_fuser():
    single, multi = build(single_scale=True), build()
    assert list(single.state_dict()) == list(multi.state_dict())
    assert {key.split('.')[0] for key in multi.state_dict()} == {'backbone', 'fusers'}
    single.train()
    sum(maps.sum() for maps in single(images(64))).backward()
    assert all(parameter.grad is not None for parameter in single.parameters() if parameter.requires_grad)
    assert not any(parameter.requires_grad for parameter in single.fusers.parameters())
    with pytest.raises(UserError, match='expected several scales'):
        single.scale_maps(images(64))
    fused, per_scale = single.forward_scales(images(64))
    assert len(per_scale) == 1 and fused[0] is per_scale[0][0]


def test_a_single_scale_checkpoint_fills_it(tmp_path):
    def network(backbone):
        return MODELS.build(dict(
            type='EncoderDecoder', backbone=backbone, test_cfg=dict(mode='whole'),
            decode_head=dict(type='FCNHead', in_channels=16, in_index=1, channels=4, num_convs=1, num_classes=2,
                             norm_cfg=dict(type='BN'))))

    torch.manual_seed(1)
    plain = network(dict(type='BlocksForScales')).eval()
    torch.save({'state_dict': plain.state_dict(), 'meta': {}}, tmp_path / 'single.pth')
    torch.manual_seed(2)
    multi = network(dict(type='MultiScaleBackbone', backbone=dict(type='BlocksForScales'),
                         fusion=dict(type='PlainSumFusion'))).eval()
    report = initialise(multi, tmp_path / 'single.pth', rename={'backbone.': 'backbone.backbone.'},
                        new=['backbone.fusers'])
    assert report.share == 1 and not report.keys.unexpected and len(report.new) == 4
    with torch.no_grad():
        assert torch.equal(multi(images(64), mode='tensor'), plain(images(64), mode='tensor'))


@pytest.mark.parametrize('modes', [('grad', 'grad', 'checkpoint'), ('checkpoint',) * 3])
@pytest.mark.parametrize('backbone', [None, RESNET], ids=['blocks', 'resnet'])
def test_a_recomputation_changes_nothing(modes, backbone):
    """Neither gradients nor running statistics; with dropout, where the random numbers come in the same order."""
    found = []
    for tried in (('grad',) * 3, modes):
        model = learned(build(backbone, scales=(1.5, 1.0, 0.5)))  # a recomputed 1.5x is first either way
        found.append((step(model, images(64), tried[::-1]), model.state_dict()))
    (loss, gradients), state = found[0]
    (other_loss, other_gradients), other_state = found[1]
    assert torch.equal(loss, other_loss)
    for name, gradient in gradients.items():
        torch.testing.assert_close(other_gradients[name], gradient, msg=name)
    for key, value in state.items():
        assert torch.equal(value, other_state[key]), key
    counts = [value for key, value in state.items() if key.endswith('num_batches_tracked')]
    assert counts and all(count == 3 for count in counts)


@pytest.mark.parametrize('autocast', [False, True])
@pytest.mark.parametrize('modes', [('no_grad', 'grad', 'no_grad'), ('grad', 'checkpoint', 'no_grad'),
                                   ('grad', 'grad', 'checkpoint'), ('checkpoint', 'checkpoint', 'checkpoint')])
def test_every_parameter_gets_a_gradient_in_every_mode(modes, autocast):
    """Under autocast too: a copy of the weights made where there is no gradient would serve the others."""
    model = learned(build())
    _, gradients = step(model, images(64), modes, autocast=autocast)
    assert [name for name, gradient in gradients.items() if gradient is None or not gradient.any()] == []


@pytest.mark.parametrize('scales', [(0.5, 1.0), (0.5, 1.0, 1.5), (0.25, 0.5, 1.0, 1.5, 2.0)])
@pytest.mark.parametrize('fuser', FUSERS)
def test_after_two_steps_every_parameter_has_had_a_gradient(fuser, scales):
    model = build(scales=scales, fusion=dict(type=fuser))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    reached = set()
    for seed in range(2):
        _, gradients = step(model, images(64, seed=seed))
        optimizer.step()
        reached |= {name for name, gradient in gradients.items() if gradient is not None and gradient.any()}
    assert reached == {name for name, _ in model.named_parameters()}


def test_a_scale_without_gradient_is_a_constant():
    """In float64 the gradient is the numeric one of a network whose 1.5x features are held."""
    model = learned(build()).double().eval()
    x = images(64).double()
    model.train()
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.Dropout)):
            module.eval()
    weight = model.backbone.stem.weight

    def loss():
        return sum((maps ** 2).mean() for maps in model(x))

    model.modes = ('grad', 'grad', 'no_grad')
    (found,) = torch.autograd.grad(loss(), weight)
    model.modes = None
    (whole,) = torch.autograd.grad(loss(), weight)
    fused = model._fuse
    with torch.no_grad():
        held = model._features(x)[2]
    model._fuse = lambda features: fused([*features[:2], held])
    numeric = []
    with torch.no_grad():
        for sign in (1, -1):
            weight[0, 0, 0, 0] += sign * 1e-5
            numeric.append(loss())
            weight[0, 0, 0, 0] -= sign * 1e-5
    assert float(found[0, 0, 0, 0]) == pytest.approx(float(numeric[0] - numeric[1]) / 2e-5, rel=1e-5)
    assert not torch.allclose(found, whole)


def test_no_grad_runs_in_training_mode():
    model = build()
    step(model, images(64), ('no_grad', 'grad', 'no_grad'))
    assert model.backbone.stage1[0].norm.num_batches_tracked == 3


@pytest.mark.parametrize('modes, order, again', [
    (('grad', 'grad', 'checkpoint'), [96, 32, 64], [96]), (('no_grad', 'grad', 'checkpoint'), [32, 96, 64], [96]),
    (('checkpoint', 'checkpoint', 'no_grad'), [96, 32, 64], [64, 32])])
def test_scales_without_gradient_run_first_then_those_that_are_recomputed(modes, order, again):
    """Backward goes the other way: what is recomputed comes last."""
    model = build()
    ran, inside = [], []
    model.backbone.register_forward_pre_hook(lambda module, inputs: ran.append(inputs[0].shape[-1]))
    model.backbone.stage1[0].norm.register_forward_pre_hook(
        lambda module, inputs: inside.append(4 * inputs[0].shape[-1]))
    model.train()
    model.modes = modes
    loss = sum((maps ** 2).mean() for maps in model(images(64)))
    assert ran == inside == order
    loss.backward()
    assert ran == order and inside == order + again


@pytest.mark.parametrize('policy', ['checkpoint', 'no_grad', 'stochastic(0.5, checkpoint)'])
def test_in_evaluation_nothing_is_drawn_or_recomputed(policy):
    model, plain = learned(build(policy=policy)).eval(), learned(build()).eval()
    plain.load_state_dict(model.state_dict())
    model.modes = ('no_grad', 'grad', 'checkpoint')
    state = torch.get_rng_state()
    fused = model(images(64))
    assert all(torch.equal(a, b) for a, b in zip(fused, plain(images(64))))
    assert torch.equal(torch.get_rng_state(), state)
    ran = []
    model.backbone.stem.register_forward_hook(lambda *_: ran.append(1))
    sum(maps.sum() for maps in fused).backward()
    assert not ran and model.backbone.stem.weight.grad is not None


def test_without_a_hook_a_training_draws_from_the_global_generator():
    model = build(policy='stochastic(0.5)')
    seen = set()
    for seed in range(12):
        torch.manual_seed(seed)
        expected = model.draw()
        torch.manual_seed(seed)
        model.train()
        features = model._features(images(32, 1))
        assert features[2][0].requires_grad == (expected[2] == 'grad')
        seen.add(expected[2])
    assert seen == {'grad', 'no_grad'}


def kept_bytes(model, x, modes):
    """Bytes of the different tensors that a forward keeps for backward, parameters left out."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    model.train()
    model.modes = modes
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        fused = model(x)
    result = sum(kept.values())
    del fused
    return result


def test_what_a_mode_keeps_in_memory():
    """A scale of 1.5 has 2.25 times the pixels; recomputed it keeps the blocks' inputs, without gradient nothing."""
    model = build(dict(type='BlocksForScales', depth=4), scales=(0.5, 1.0, 1.5))
    x = images(128, 1)
    whole, again, none = (kept_bytes(model, x, ('grad', 'grad', mode)) for mode in ('grad', 'checkpoint', 'no_grad'))
    model.single_scale = True
    single = kept_bytes(model, x, None)
    fusion = none - 1.25 * single  # what fusers keep: the sum and the maps
    assert 0 <= fusion < 0.1 * single
    assert whole == pytest.approx(none + 2.25 * single, rel=0.05)
    assert again - none < 0.25 * 2.25 * single


def test_blocks_of_known_networks():
    def names(network):
        known = {module: name for name, module in network.named_modules()}
        return [known[block] for block in repeated_blocks(network)]

    assert names(MODELS.build(RESNET)) == [f'layer{stage}.{block}' for stage in range(1, 5) for block in range(2)]
    swin = MODELS.build(dict(type='SwinTransformer', embed_dims=12, depths=(2, 1, 2, 1), num_heads=(1, 2, 3, 6)))
    assert names(swin) == [f'stages.{stage}.blocks.{block}' for stage, depth in enumerate((2, 1, 2, 1))
                           for block in range(depth)]
    mit = MODELS.build(dict(type='MixVisionTransformer', embed_dims=8, num_layers=[1, 2, 1, 1]))
    assert names(mit) == [f'layers.{stage}.1.{block}' for stage, depth in enumerate((1, 2, 1, 1))
                          for block in range(depth)]
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
    assert repeated_blocks(plain) == [plain]


def test_a_network_without_blocks_is_recomputed_whole():
    @MODELS.register_module(force=True)
    class TwoLayersForScales(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 6, 3, 2, 1)

        def forward(self, x):
            x = self.one(x).relu()
            return x, self.two(x)

    found = []
    for mode in ('grad', 'checkpoint'):
        model = learned(build(dict(type='TwoLayersForScales')))
        found.append(step(model, images(64), ('grad', 'grad', mode))[1])
        assert 'forward' not in vars(model.backbone)
    for name in found[0]:
        torch.testing.assert_close(*(gradients[name] for gradients in found))


def test_a_mistake_inside_a_block_leaves_the_blocks_as_they_were():
    model = build()
    model.modes = ('grad', 'grad', 'checkpoint')
    model.train()
    with pytest.raises(RuntimeError):
        model(torch.zeros(1, 4, 64, 64))
    assert not any('forward' in vars(module) for module in model.modules())


@pytest.mark.parametrize('options, message', [
    (dict(scales=(0, 1.0)), 'scales: expected factors above 0, found 0'),
    (dict(scales=(-0.5, 1.0)), 'scales: expected factors above 0, found -0.5'),
    (dict(scales=(float('nan'), 1.0)), 'scales: expected factors above 0, found nan'),
    (dict(scales=(float('inf'), 1.0)), 'scales: expected factors above 0, found inf'),
    (dict(scales=('half', 1.0)), 'scales: expected numbers'),
    (dict(scales=1.0), 'scales: expected numbers, found 1.0'),
    (dict(scales=(1.0,)), 'scales: expected at least two'),
    (dict(scales=()), 'scales: expected at least two'),
    (dict(scales=(0.5, 1, 1.0)), 'scales: expected different ones, found 1 twice'),
    (dict(reference=0.75), 'reference: expected one of the scales 0.5, 1, 1.5, found 0.75'),
    (dict(reference=None), 'reference: expected one of the scales 0.5, 1, 1.5, found None'),
    (dict(divisor=0), 'divisor: expected a number of pixels of at least 1, found 0'),
    (dict(policy=['grad', 'grad']), 'policy: expected one policy, or one for each of 3 scales, found 2'),
    (dict(policy='chekpoint'), 'did you mean checkpoint?'),
    (dict(policy=['grad', 'no_grad', 'grad']), "policy[1]: expected 'grad' or 'checkpoint' for the reference"),
    (dict(policy=['grad', 'stochastic(0.5)', 'grad']), 'policy[1]: expected'),
    (dict(fusion=[dict(type='PlainSumFusion')]), 'fusion: expected one fuser, or one for each of 2 levels, found 1'),
    (dict(fusion='PlainSumFusion'), 'fusion: expected one fuser'),
    (dict(fusion=None), 'fusion: expected one fuser'),
    (dict(channels=(8,)), 'channels: expected 2 levels, found 1')])
def test_mistakes_are_told(options, message):
    with pytest.raises(UserError) as error:
        build(**options)(images(64))
    assert message in str(error.value)


def test_modes_that_are_none_are_told():
    model = build().train()
    for modes in (('grad', 'grad'), ('grad', 'grad', 'stochastic')):
        model.modes = modes
        with pytest.raises(UserError, match='MultiScaleBackbone.modes: expected one of grad, checkpoint, no_grad'):
            model(images(64))


def test_processes_do_not_draw_for_themselves(monkeypatch):
    monkeypatch.setattr('projects.multiscale.backbone.get_world_size', lambda: 2)
    model = build(policy='stochastic(0.5)').train()
    with pytest.raises(UserError, match='expected a ScalePolicyHook'):
        model(images(64))
    model.modes = ('grad', 'grad', 'no_grad')
    model(images(64))
    model.modes = None
    model.eval()(images(64))
