"""Fusers: exactness, the undisturbed start, gradients, formats and bad input."""

import pytest
import torch
from mmengine.model import BaseModule, ModuleList
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from torch import nn

import projects.multiscale.register  # noqa: F401
from projects.engine.errors import UserError
from projects.multiscale.fusion.absi import ABSIFusion
from projects.multiscale.fusion.base import divisor_up_to, from_tokens, to_tokens
from projects.multiscale.fusion.gated import GatedFusion
from projects.multiscale.fusion.hierarchical import HierarchicalFusion, ScaleJoin

FUSERS = (ABSIFusion, HierarchicalFusion, GatedFusion)
WEIGHING = (ABSIFusion, GatedFusion)
every_fuser = pytest.mark.parametrize('kind', FUSERS)


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def features(scales=3, channels=8, size=(5, 6), batch=2, dtype=torch.float32, **options):
    return [torch.randn(batch, channels, *size, dtype=dtype, **options) for _ in range(scales)]


def disturbed(fuser):
    """A fuser as if it were trained: nothing is zero."""
    for parameter in fuser.parameters():
        nn.init.normal_(parameter, std=0.3)
    return fuser


def test_tokens_go_there_and_back():
    x = torch.randn(2, 3, 4, 5)
    assert torch.equal(to_tokens(x)[1], x[:, 1].flatten())
    assert torch.equal(from_tokens(to_tokens(x), x), x)
    assert to_tokens(x.to(memory_format=torch.channels_last)).is_contiguous() is False  # a view, not a copy
    assert to_tokens(x[:1]).data_ptr() == x.data_ptr()


@pytest.mark.parametrize('number, limit, expected', [(64, 6, 4), (320, 6, 5), (96, 6, 6), (7, 6, 1), (4, 9, 4),
                                                     (8, 0, 1)])
def test_divisor_up_to(number, limit, expected):
    assert divisor_up_to(number, limit) == expected


@pytest.mark.parametrize('scales', [2, 3, 5])
@pytest.mark.parametrize('channels_last', [False, True])
def test_absi_is_multi_head_attention_over_the_scales(scales, channels_last):
    fuser = disturbed(ABSIFusion(64, scales, reference=1, heads=4))
    attention = nn.MultiheadAttention(64, 4, batch_first=True)
    with torch.no_grad():
        attention.in_proj_weight.copy_(fuser.qkv)
        attention.in_proj_bias.copy_(torch.cat([fuser.q_bias, torch.zeros(64), fuser.v_bias]))
        attention.out_proj.weight.copy_(fuser.out.weight)
        attention.out_proj.bias.copy_(fuser.out.bias)
        own = [x.to(memory_format=torch.channels_last) if channels_last else x for x in features(scales, 64)]
        fused = fuser(own)
        tokens = torch.stack([x.permute(0, 2, 3, 1).flatten(0, 2) for x in own], 1)
        tokens = tokens + fuser.scale_embedding  # (N*h*w, S, C)
        answers, weights = attention(tokens, tokens, tokens)  # weights: of query i for key j, mean over the heads
        importance = (tokens @ fuser.importance[0]).softmax(1)
        expected = own[1] + (importance[..., None] * answers).sum(1).view(2, 5, 6, 64).permute(0, 3, 1, 2)
        omega = torch.einsum('ti,tij->tj', importance, weights).view(2, 5, 6, scales).permute(0, 3, 1, 2)
    assert importance.std() > 0.05 and (expected - own[1]).std() > 0.1  # the comparison means something
    torch.testing.assert_close(fused, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(fuser.scale_weights(own), omega, rtol=1e-5, atol=1e-5)


def test_hierarchical_lets_one_scale_after_another_join():
    fuser = disturbed(HierarchicalFusion(8, 3, reference=0))
    own = features()
    state = fuser.joins[1](fuser.joins[0](own[0], own[1]), own[2])
    expected = own[0] + torch.einsum('oc,nchw->nohw', fuser.out.weight, state) + fuser.out.bias[:, None, None]
    torch.testing.assert_close(fuser(own), expected)


def test_a_join_scales_channels_and_places():
    join = ScaleJoin(16)
    own = features(2, 16)
    plain = nn.functional.gelu(join.norm(join.reduce(torch.cat(own, 1))))
    gates = join(*own) / plain
    channel = join.channel_attention(plain) / plain
    place = gates / channel
    assert 0 < channel.min() < channel.max() < 1
    torch.testing.assert_close(channel, channel[..., :1, :1].expand_as(channel))  # one gate a channel
    torch.testing.assert_close(place, place[:, :1].expand_as(place))  # one gate a place
    assert place.std((2, 3)).min() > 0


def test_gated_weighs_values_group_by_group():
    fuser = disturbed(GatedFusion(8, 3, reference=2, groups=4))
    own = features()
    hidden = nn.functional.gelu(fuser.bottleneck(torch.cat(own, 1)))
    gates = fuser.gate(hidden).view(2, 3, 4, 5, 6).softmax(1)
    values = torch.stack([conv(x) for conv, x in zip(fuser.values, own)], 1)
    mixed = (gates.repeat_interleave(2, 2) * values).sum(1)
    expected = own[2] + torch.einsum('oc,nchw->nohw', fuser.out.weight, mixed) + fuser.out.bias[:, None, None]
    torch.testing.assert_close(fuser(own), expected)
    torch.testing.assert_close(fuser.scale_weights(own), gates.mean(2))


class Parent(BaseModule):
    """Initialises everything that it can find, as a decoder's config may."""

    def __init__(self, fuser, container):
        super().__init__(dict(type='Normal', std=1.0, bias=0.5, layer=['Conv2d', 'Linear', 'GroupNorm', 'LayerNorm']))
        self.fusers = container([fuser])


@every_fuser
@pytest.mark.parametrize('scales', [2, 3, 5])
@pytest.mark.parametrize('start', ['built', 'init_weights', 'parent', 'parent with a plain list'])
def test_the_start_is_the_reference_bit_for_bit(kind, scales, start):
    fuser = kind(8, scales, reference=scales - 1)
    if start == 'init_weights':
        fuser.init_weights()
    elif start != 'built':
        with DefaultScope.overwrite_default_scope('mmseg'):
            Parent(fuser, ModuleList if start == 'parent' else nn.ModuleList).init_weights()
        convolutions = [m for m in fuser.modules() if isinstance(m, nn.Conv2d)]
        assert all((m.bias == 0.5).all() for m in convolutions if m.bias is not None)  # the parent did reach them
    own = features(scales)
    with torch.no_grad():
        assert torch.equal(fuser(own), own[-1])
        with torch.autocast('cpu', torch.bfloat16):
            assert torch.equal(fuser(own), own[-1])


@every_fuser
def test_an_override_of_all_weights_does_not_move_the_start(kind):
    """Such a config sets whatever has a weight, of any type; the output then sets itself back."""
    fuser = kind(8, 3, reference=1)
    parent = Parent(fuser, ModuleList)
    parent.init_cfg = dict(type='Normal', std=1.0, layer='Conv2d', override=dict(type='Normal', std=1.0, bias=1.0,
                                                                                name='fusers'))
    with DefaultScope.overwrite_default_scope('mmseg'):
        parent.init_weights()
    own = features()
    assert torch.equal(fuser(own), own[1])


def test_trained_outputs_survive_a_checkpoint():
    trained = disturbed(ABSIFusion(8, 3, reference=0))
    fuser = ABSIFusion(8, 3, reference=0)
    fuser.init_weights()
    fuser.load_state_dict(trained.state_dict())
    own = features()
    assert torch.equal(fuser(own), trained(own)) and not torch.equal(fuser(own), own[0])


@every_fuser
@pytest.mark.parametrize('scales', [2, 3, 5])
@pytest.mark.parametrize('size, batch', [((5, 6), 2), ((1, 1), 1)])
def test_every_parameter_learns_within_two_steps(kind, scales, size, batch):
    fuser = kind(16, scales, reference=1)
    optimizer = torch.optim.SGD(fuser.parameters(), lr=0.1)
    seen, losses = set(), []
    own, target = features(scales, 16, size, batch), torch.randn(batch, 16, *size)
    for _ in range(2):
        optimizer.zero_grad()
        loss = (fuser(own) - target).square().mean()
        loss.backward()
        seen |= {name for name, p in fuser.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
        losses.append(loss.item())
        optimizer.step()
    assert seen == {name for name, _ in fuser.named_parameters()}
    assert (fuser(own) - target).square().mean().item() < losses[1] < losses[0]


@every_fuser
@pytest.mark.parametrize('channels_last', [False, True])
def test_gradients_are_those_of_finite_differences(kind, channels_last):
    fuser = disturbed(kind(4, 3, reference=1).double())
    if kind is ABSIFusion:
        fuser = disturbed(ABSIFusion(4, 3, reference=1, heads=2).double())
    own = features(3, 4, (2, 3), dtype=torch.float64)
    own = [x.to(memory_format=torch.channels_last) if channels_last else x for x in own]
    names, values = zip(*fuser.named_parameters())

    def run(*tensors):
        return torch.func.functional_call(fuser, dict(zip(names, tensors[3:])), (tensors[:3],))

    inputs = [x.requires_grad_() for x in own] + [p.detach().requires_grad_() for p in values]
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)


@every_fuser
def test_formats_agree_and_are_kept(kind):
    fuser = disturbed(kind(64, 3, reference=1))
    own = features(3, 64)
    last = [x.to(memory_format=torch.channels_last) for x in own]
    plain, fused = fuser(own), fuser(last)
    assert plain.is_contiguous() and fused.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(fuser([x[:1] for x in own]), plain[:1], rtol=1e-4, atol=1e-4)  # samples do not mix


@every_fuser
def test_half_precision_is_near(kind):
    fuser = kind(64, 3, reference=1)
    nn.init.normal_(fuser.out.weight, std=0.1)
    own = features(3, 64)
    exact = fuser(own)
    with torch.autocast('cpu', torch.bfloat16):
        rough = fuser(own)
        rough.float().square().mean().backward()
    assert (rough - exact).abs().max() < 0.1 * (exact - own[1]).abs().max()
    assert all(p.grad.isfinite().all() and p.dtype == torch.float32 for p in fuser.parameters())


@every_fuser
def test_large_features_stay_finite(kind):
    fuser = kind(64, 3, reference=1)
    nn.init.normal_(fuser.out.weight, std=0.1)
    own = [(1e4 * x).requires_grad_() for x in features(3, 64)]
    fused = fuser(own)
    fused.mean().backward()
    assert fused.isfinite().all() and all(x.grad.isfinite().all() for x in own)


class Listed(nn.Module):
    def __init__(self, fuser):
        super().__init__()
        self.fuser = fuser

    def forward(self, first, second, third):
        return self.fuser([first, second, third])


@every_fuser
def test_an_export_answers_the_same_at_other_sizes(kind, tmp_path):
    onnxruntime = pytest.importorskip('onnxruntime')
    network, path = Listed(disturbed(kind(8, 3, reference=1))).eval(), str(tmp_path / 'fuser.onnx')
    names = ['first', 'second', 'third']
    torch.onnx.export(network, tuple(features()), path, dynamo=False, input_names=names,
                      dynamic_axes={name: {0: 'n', 2: 'h', 3: 'w'} for name in names})
    own = features(size=(9, 4), batch=1)
    answer, = onnxruntime.InferenceSession(path).run(None, {name: x.numpy() for name, x in zip(names, own)})
    torch.testing.assert_close(torch.from_numpy(answer), network(*own), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('kind', WEIGHING)
def test_scale_weights_are_shares(kind):
    fuser = disturbed(kind(64, 5, reference=1))
    with torch.autocast('cpu', torch.bfloat16):
        shares = fuser.scale_weights(features(5, 64))
    assert shares.shape == (2, 5, 5, 6) and shares.dtype == torch.float32
    assert shares.min() > 0 and shares.std() > 0.01
    torch.testing.assert_close(shares.sum(1), torch.ones(2, 5, 6))


def test_hierarchical_has_no_scale_weights():
    with pytest.raises(UserError, match='HierarchicalFusion weighs no scales'):
        HierarchicalFusion(8, 3, reference=1).scale_weights(features())


def test_heads_and_groups_follow_the_channels():
    assert [ABSIFusion(c, 2, 0).heads for c in (8, 64, 112, 320)] == [1, 2, 2, 10]
    assert [GatedFusion(c, 2, 0).groups for c in (64, 96, 320, 7)] == [4, 6, 5, 1]


@pytest.mark.parametrize('options, message', [
    (dict(type='ABSIFusion', heads=3), 'ABSIFusion.heads: expected a divisor of 8 channels, found 3'),
    (dict(type='ABSIFusion', heads=0), 'ABSIFusion.heads: expected a divisor of 8 channels, found 0'),
    (dict(type='GatedFusion', groups=0), 'GatedFusion.groups: expected at least 1, found 0'),
    (dict(type='HierarchicalFusion', num_scales=1), 'num_scales: expected at least 2 scales to fuse, found 1'),
    (dict(type='GatedFusion', reference=3), r'GatedFusion.reference: expected an index in 0\.\.2, found 3'),
    (dict(type='ABSIFusion', channels=0), 'ABSIFusion.channels: expected at least 1, found 0'),
])
def test_bad_options_are_named(options, message):
    with pytest.raises(UserError, match=message):
        MODELS.build(dict(dict(channels=8, num_scales=3, reference=1), **options))


def test_features_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r'expected 3 tensors \(N, 8, h, w\) of one size'):
        ABSIFusion(8, 3, reference=1)(features(2))
    with pytest.raises(ValueError, match='of one size'):
        GatedFusion(8, 3, reference=1)([*features(2), *features(1, size=(2, 2))])
