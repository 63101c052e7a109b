"""PVTv2: parity with the published implementation, parameters, sizes, gradients."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import nn

import projects.camouflage.register  # noqa: F401
from projects.camouflage.models.pvt_v2 import ARCHS, Block, ConvMLP, PVTv2, ReducedAttention, to_map, to_tokens
from projects.engine import startup
from projects.engine.errors import UserError

# what the paper's table gives, in millions
PARAMETERS = dict(b0=3.41, b1=13.50, b2=24.85, b2_li=22.04, b3=44.73, b4=62.04, b5=81.44)


@pytest.fixture(scope='module', autouse=True)
def started() -> None:
    startup.start()


def network(arch: str = 'b0', **options) -> PVTv2:
    torch.manual_seed(0)
    model = MODELS.build(dict(type='PVTv2', arch=arch, **options))
    model.init_weights()
    return model


def image(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.fixture(scope='module')
def fill(shared: Path, load_module):
    return load_module(shared / 'parity/fill.py')


def published(shared: Path, fill, arch: str):
    """The parity pack of an arch, its weights by official key, and its image."""
    pack = np.load(shared / f'parity/pvt_v2_{arch}.npz')
    weights = {key: torch.from_numpy(np.asarray(value)) for key, value in fill.weights(pack).items()}
    return pack, weights, torch.from_numpy(fill.image(int(pack['seed']), tuple(pack['shape'])))


@pytest.mark.parametrize('arch', ['b0', 'b2', 'b2_li'])
def test_official_weights_load_strictly_and_give_the_published_maps(shared, fill, arch):
    pack, weights, x = published(shared, fill, arch)
    model = network(arch).eval()
    model.load_state_dict(weights, strict=True)
    with torch.no_grad():
        maps = model(x)
    for level, (found, channels) in enumerate(zip(maps, model.channels), start=1):
        assert found.shape[1] == channels
        expected = torch.from_numpy(pack[f'level{level}_channels16'])
        assert relative(found[:, :16], expected) < 5e-6, level  # the pack asks for 1e-4


def test_only_the_classifier_is_passed_over():
    model = network()
    weights = model.state_dict() | {'head.weight': torch.zeros(1000, 256), 'head.bias': torch.zeros(1000)}
    model.load_state_dict(weights, strict=True)
    wrapped = nn.ModuleDict(dict(backbone=model))
    wrapped.load_state_dict({f'backbone.{key}': value for key, value in weights.items()}, strict=True)
    with pytest.raises(RuntimeError, match='head2.weight'):
        model.load_state_dict(weights | {'head2.weight': torch.zeros(1)}, strict=True)
    del weights['norm4.bias']
    with pytest.raises(RuntimeError, match='norm4.bias'):
        model.load_state_dict(weights, strict=True)


@pytest.mark.parametrize('arch', list(ARCHS))
def test_parameters_of_every_arch(arch):
    with torch.device('meta'):
        model = PVTv2(arch)
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(PARAMETERS[arch], abs=5e-3)
    norms = {name: module.eps for name, module in model.named_modules() if isinstance(module, nn.LayerNorm)}
    assert len(norms) > 20
    for name, eps in norms.items():
        assert eps == (1e-5 if name.startswith('patch_embed') or name.endswith('attn.norm') else 1e-6), name
    reduced = [hasattr(getattr(model, f'block{stage}')[0].attn, 'norm') for stage in (1, 2, 3, 4)]
    assert reduced == [True, True, True, arch == 'b2_li']


def test_drop_path_grows_evenly_over_all_blocks():
    model = network('b1', drop_path_rate=0.7)
    rates = [getattr(block.drop_path, 'drop_prob', 0.0) for block in model.modules() if isinstance(block, Block)]
    assert rates == pytest.approx([0.1 * i for i in range(8)])
    x = image(4, 3, 32, 32)
    assert not torch.equal(model(x)[3], model(x)[3])
    model.eval()
    assert torch.equal(model(x)[3], model(x)[3])


@pytest.mark.parametrize('size', [(32, 32), (33, 47), (64, 96), (101, 35)])
@pytest.mark.parametrize('arch', ['b0', 'b2_li'])
def test_any_size_gives_four_maps(arch, size):
    model = (network() if arch == 'b0' else PVTv2('b2_li')).eval()
    with torch.no_grad():
        maps = model(image(2, 3, *size))
    sizes = [tuple(-(-side // stride) for side in size) for stride in (4, 8, 16, 32)]
    assert [x.shape for x in maps] == [(2, channels, *side) for channels, side in zip(model.channels, sizes)]
    assert all(torch.isfinite(x).all() for x in maps)
    for x in maps:  # each position is normed over its channels: the norms are the identity at the start
        assert x.mean(1).abs().max() < 1e-4
        assert x.var(1, unbiased=False).sub(1).abs().max() < 1e-2


def test_too_small_an_image_is_named():
    with pytest.raises(UserError, match='at least 32x32 pixels, found 40x28'):
        network()(image(1, 3, 40, 28))


@pytest.mark.parametrize('arch, message', [
    ('b2-li', r"found 'b2-li'; did you mean b2_li\?$"),
    ('B2_li', 'did you mean b2_li'),
    ('resnet', "expected one of b0, b1, .*, b5, found 'resnet'$"),
])
def test_unknown_arch_is_named(arch, message):
    with pytest.raises(UserError, match=message):
        PVTv2(arch)


def test_attention_by_hand():
    """Two heads, cells of 2x2 as keys: written out with einsum and softmax."""
    torch.manual_seed(0)
    attention = ReducedAttention(8, heads=2, reduction=2, linear=False, drop_rate=0.0).double()
    x = torch.randn(2, 5 * 4, 8, dtype=torch.float64)  # 5x4: the last row has no full cell
    with torch.no_grad():
        found = attention(x, 5, 4)
        cells = x.view(2, 5, 4, 8)[:, :4].reshape(2, 2, 2, 2, 2, 8)  # n, cell row, row, cell column, column, channel
        keys = torch.einsum('narbsc,ocrs->nabo', cells, attention.sr.weight).flatten(1, 2) + attention.sr.bias
        keys = F.layer_norm(keys, (8,), attention.norm.weight, attention.norm.bias, 1e-5)
        q = (x @ attention.q.weight.T + attention.q.bias).view(2, 20, 2, 4)
        kv = (keys @ attention.kv.weight.T + attention.kv.bias).view(2, 4, 2, 2, 4)
        weights = (torch.einsum('nqhd,nkhd->nhqk', q, kv[:, :, 0]) / math.sqrt(4)).softmax(-1)
        expected = torch.einsum('nhqk,nkhd->nqhd', weights, kv[:, :, 1]).flatten(2)
        expected = expected @ attention.proj.weight.T + attention.proj.bias
    torch.testing.assert_close(found, expected)


def test_mlp_convolves_every_channel_for_itself():
    mlp = ConvMLP(2, 2, linear=True, drop_rate=0.0)
    with torch.no_grad():
        for layer in (mlp.fc1, mlp.fc2):
            layer.weight.copy_(torch.eye(2))
            layer.bias.zero_()
        mlp.dwconv.dwconv.weight.fill_(1.0)
        mlp.dwconv.dwconv.bias.copy_(torch.tensor([0.0, 1.0]))
        x = torch.tensor([[[1.0, -1.0], [2.0, -2.0], [3.0, 5.0]]])  # 1x3 positions, 2 channels
        found = mlp(x, 1, 3)
    # ReLU turns the negative ones to 0; each channel sums its neighbours: 3, 6, 5 and 0, 5, 5, plus 1
    torch.testing.assert_close(found, F.gelu(torch.tensor([[[3.0, 1.0], [6.0, 6.0], [5.0, 6.0]]])))


def test_tokens_are_a_view_of_a_channels_last_map():
    tokens = torch.randn(2, 12, 5)
    seen = to_map(tokens, 3, 4)
    assert seen.shape == (2, 5, 3, 4) and seen[1, 2, 1, 3] == tokens[1, 7, 2]
    assert seen.is_contiguous(memory_format=torch.channels_last)
    assert seen.data_ptr() == tokens.data_ptr() == to_tokens(seen).data_ptr()
    assert torch.equal(to_tokens(seen), tokens)


@pytest.mark.parametrize('arch', ['b0', 'b2_li'])
def test_every_parameter_gets_a_gradient(arch):
    model = network(arch, drop_path_rate=0.0)
    x = image(1, 3, 64, 64).requires_grad_()
    maps = model(x)
    sum((level * image(*level.shape)).sum() for level in maps).backward()
    dead = [name for name, parameter in model.named_parameters()
            if parameter.grad is None or not parameter.grad.abs().sum() > 0]
    assert dead == []
    assert x.grad.abs().sum() > 0


def test_channels_last_and_bf16_agree_with_float32():
    model = network().eval()
    x = image(2, 3, 96, 64)
    with torch.no_grad():
        expected = model(x)
        model = model.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
        for found, level in zip(model(x), expected):
            assert relative(found, level) < 1e-5
        with torch.autocast('cpu', torch.bfloat16):
            half = model(x)
    for found, level in zip(half, expected):
        assert found.is_contiguous(memory_format=torch.channels_last)
        assert relative(found.float(), level) < 0.06


def test_traced_network_takes_another_batch_and_size():
    model = network().eval()
    with torch.no_grad():
        traced = torch.jit.trace(model, image(2, 3, 67, 98), check_trace=False)
        x = image(1, 3, 96, 50)
        for found, expected in zip(traced(x), model(x)):
            torch.testing.assert_close(found, expected)


def test_init_weights_draws_as_the_paper_does():
    model = network('b1').requires_grad_(False)
    widest = model.block4[0].mlp.fc1
    assert float(widest.weight.std()) == pytest.approx(0.02, rel=0.02)
    assert float(widest.bias.abs().max()) == 0
    assert float(model.patch_embed2.proj.weight.std()) == pytest.approx(math.sqrt(2 / (9 * 128)), rel=0.02)
    assert float(model.block4[0].mlp.dwconv.dwconv.weight.std()) == pytest.approx(math.sqrt(2 / 9), rel=0.03)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.init_weights()  # a second call, as a model's that loaded a file, keeps what is there
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
