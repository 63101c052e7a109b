"""FTUNetFormer: parity with the published implementation, parameters, sizes, options."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.models.backbones import SwinTransformer
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import nn

import projects.engine.backbones
import projects.landcover.losses  # noqa: F401
from projects.engine import startup
from projects.engine.config import load_config
from projects.engine.errors import UserError
from projects.landcover.checkpoints import convert_geoseg
from projects.landcover.models import FTUNetFormerHead
from projects.landcover.models.global_local import GlobalLocalAttention, relative_position_index
from projects.landcover.models.padding import reflect_pad

NARROW = (8, 16, 32, 64)
LOSSES = [dict(type='SoftCrossEntropyLoss'), dict(type='PresentDiceLoss')]


@pytest.fixture(scope='module', autouse=True)
def started() -> None:
    startup.start()


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def narrow_head(**options) -> FTUNetFormerHead:
    torch.manual_seed(0)
    options = dict(channels=16, num_classes=6, num_heads=4, window_size=4, dropout_ratio=0.0) | options
    return FTUNetFormerHead(NARROW, loss_decode=LOSSES, **options)


def maps(height: int, width: int, batch: int = 1) -> list[torch.Tensor]:
    """Maps of a backbone for an image of this size: each side halves, rounded up."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, channels, -(-height // stride), -(-width // stride), generator=generator)
            for channels, stride in zip(NARROW, (4, 8, 16, 32))]

TINY = 'configs/landcover/ftunetformer-tiny_s0-baseline_village-256.py'


def samples(labels: torch.Tensor) -> list[SegDataSample]:
    return [SegDataSample(gt_sem_seg=PixelData(data=label[None])) for label in labels]


@pytest.fixture(scope='module')
def full(repository: Path) -> nn.Module:
    """The full network of the base config, in plain BN, on one thread."""
    config = load_config(repository / 'configs/landcover/ftunetformer_s0-baseline_45e_landcover6-512.py')
    config.model.decode_head.norm_cfg = dict(type='BN')
    return MODELS.build(config.model).eval()


@pytest.fixture(scope='module')
def published(shared: Path, load_module):
    """The parity pack and its weights in published names."""
    folder = shared / 'parity'
    fill = load_module(folder / 'fill.py')
    pack = np.load(folder / 'ftunetformer.npz')
    weights = {key: torch.from_numpy(np.asarray(value)) for key, value in fill.weights(pack).items()}
    return pack, weights, torch.from_numpy(fill.image(int(pack['seed']), tuple(pack['shape'])))


def test_parameters_of_every_part(full):
    head = full.decode_head
    assert parameters(full.backbone) == 86_745_016
    assert {name: parameters(getattr(head, name)) for name in ('pre_conv', 'b4', 'p3', 'b3', 'p2', 'b2', 'p1')} == dict(
        pre_conv=262_656, b4=1_465_616, p3=1_770_498, b3=1_465_616, p2=1_180_674, b2=1_465_616, p1=1_030_914)
    assert parameters(head.seg_conv) + parameters(head.conv_seg) == 591_872
    assert parameters(full) == 95_978_478
    assert len(full.state_dict()) == 534


def test_converted_weights_give_the_published_logits(full, published):
    pack, weights, image = published
    for buffer in (key for key in pack.files if key.endswith('relative_position_index')):
        own = convert_key(buffer.removeprefix('buffer:'))
        assert torch.equal(full.state_dict()[own], torch.from_numpy(pack[buffer])), own
    full.load_state_dict(convert_geoseg({f'net.{key}': value for key, value in weights.items()}), strict=True)
    with torch.no_grad():
        quarter = full(image, mode='tensor')
        result = full.encode_decode(image, [dict(img_shape=image.shape[-2:])])
    assert quarter.shape == (1, 6, 64, 64)
    reference = torch.from_numpy(pack['logits_stride8'])
    difference = (result[:, :, ::8, ::8] - reference).abs().max() / reference.abs().max()
    assert difference < 5e-6  # the pack asks for 1e-4


def convert_key(key: str) -> str:
    stem, rest = key.split('.', 1)
    if stem == 'decoder':
        return f'decode_head.{rest}'
    return f'backbone.{rest}'.replace('.layers.', '.stages.').replace('.attn.', '.attn.w_msa.')


def test_full_network_takes_an_odd_size(full):
    with torch.no_grad():
        result = full.predict(torch.randn(1, 3, 333, 500, generator=torch.Generator().manual_seed(0)))
    assert result[0].seg_logits.data.shape == (6, 333, 500)
    assert torch.isfinite(result[0].seg_logits.data).all()


@pytest.mark.parametrize('size', [(256, 256), (384, 384), (640, 640), (333, 500), (500, 333), (64, 64), (32, 32),
                                  (16, 48), (1, 1)])
@pytest.mark.parametrize('window', [8, 4, 7])
def test_head_takes_any_size(size, window):
    head = narrow_head(window_size=window).eval()
    with torch.no_grad():
        logits = head(maps(*size))
    assert logits.shape == (1, 6, -(-size[0] // 4), -(-size[1] // 4))
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize('size', [(640, 640), (500, 333), (64, 96), (33, 31)])
def test_swin_and_head_take_any_size(size):
    torch.manual_seed(0)
    backbone = SwinTransformer(embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8))
    backbone.eval()  # returns None in mmseg
    with torch.no_grad():
        logits = narrow_head(window_size=8).eval()(backbone(torch.randn(1, 3, *size)))
    assert logits.shape == (1, 6, -(-size[0] // 4), -(-size[1] // 4))
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize('height, width, bottom, right', [(12, 12, 4, 4), (5, 7, 0, 3), (2, 2, 6, 6), (1, 3, 7, 5),
                                                          (1, 1, 1, 1), (3, 2, 0, 9)])
def test_reflect_pad_is_numpys(height, width, bottom, right):
    x = torch.randn(2, 3, height, width)
    expected = np.pad(x.numpy(), ((0, 0), (0, 0), (0, bottom), (0, right)), mode='reflect')
    np.testing.assert_array_equal(reflect_pad(x, right, bottom).numpy(), expected)


def test_attention_stays_inside_its_window_before_the_context():
    torch.manual_seed(0)
    attention = GlobalLocalAttention(8, 2, 4, dict(type='BN')).eval()
    x = torch.randn(1, 8, 8, 8)
    changed = x.clone()
    changed[:, :, :4, :4] += 1
    with torch.no_grad():
        difference = (attention._window_attention(changed) - attention._window_attention(x)).abs().sum(1)[0]
    assert difference[:4, :4].min() > 0
    assert difference[4:].max() == 0 and difference[:, 4:].max() == 0


def test_attention_by_hand():
    """One head, one channel, a 2x2 window: softmax over the four positions, written out."""
    attention = GlobalLocalAttention(1, 1, 2, dict(type='BN'))
    table = torch.arange(9, dtype=torch.float32)[:, None] / 10
    attention.relative_position_bias_table.data = table
    attention.qkv[0].weight.data = torch.tensor([0.5, 2.0, 3.0]).view(3, 1, 1, 1)
    x = torch.tensor([1.0, 2.0, 3.0, 4.0])
    with torch.no_grad():
        result = attention._window_attention(x.view(1, 1, 2, 2)).flatten()
    # the bias of query (r, c) and key (r', c') is row (r - r' + 1) * 3 + (c - c' + 1) of the table
    positions = [(0, 0), (0, 1), (1, 0), (1, 1)]
    for i, (row, column) in enumerate(positions):
        bias = torch.tensor([((row - r + 1) * 3 + column - c + 1) / 10 for r, c in positions])
        weight = torch.softmax(0.5 * x[i] * 2.0 * x + bias, 0)
        assert result[i] == pytest.approx(float((weight * 3 * x).sum()), rel=1e-5)
    assert relative_position_index(2)[0].tolist() == [4, 3, 1, 0]


def test_window_of_four_has_a_smaller_table():
    head = narrow_head(window_size=4)
    assert head.b2.attn.relative_position_bias_table.shape == (49, 4)
    assert head.b2.attn.proj[0].kernel_size == (4, 4)


def test_loss_predict_and_tensor_modes_of_the_segmentor(repository):
    model = MODELS.build(load_config(repository / TINY).model)
    model.init_weights()
    image = torch.randn(2, 3, 64, 64)
    labels = torch.randint(0, 6, (2, 64, 64))
    losses = model(image, samples(labels), mode='loss')
    assert {'decode.loss_ce', 'decode.loss_dice', 'decode.acc_seg'} == set(losses)
    total, _ = model.parse_losses(losses)
    assert total.item() == pytest.approx((losses['decode.loss_ce'] + losses['decode.loss_dice']).item())
    total.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    model.eval()
    with torch.no_grad():
        assert model(image, mode='tensor').shape == (2, 6, 16, 16)
        predictions = model(image, mode='predict')
    assert predictions[1].pred_sem_seg.data.shape == (1, 64, 64)


def test_a_test_image_is_padded_to_whole_patches_and_cut_back(repository):
    model = MODELS.build(load_config(repository / TINY).model)
    image = torch.randint(0, 256, (3, 50, 33), dtype=torch.uint8)
    sample = SegDataSample(metainfo=dict(img_shape=(50, 33), ori_shape=(50, 33)))
    with torch.no_grad():
        result = model.eval().test_step(dict(inputs=[image], data_samples=[sample]))[0]
    assert result.seg_logits.data.shape == (6, 50, 33)


def test_auxiliary_head_adds_a_weighted_term_in_training_only():
    head = narrow_head(aux=True, aux_weight=0.4).eval()  # eval: the same BN statistics twice
    labels = torch.randint(0, 6, (2, 64, 64), generator=torch.Generator().manual_seed(0))
    inputs = maps(64, 64, batch=2)
    losses = {name: value.detach() for name, value in head.loss(inputs, samples(labels), None).items()}
    assert set(losses) == {'loss_ce', 'loss_dice', 'acc_seg', 'aux_loss_ce', 'aux_loss_dice'}
    with torch.no_grad():
        logits, stages = head._decode(inputs)
    aux = F.interpolate(head._aux_logits(stages), size=(64, 64), mode='bilinear', align_corners=False)
    assert losses['aux_loss_ce'] == pytest.approx(0.4 * float(head.loss_decode[0](aux, labels)), rel=1e-5)
    assert head._aux_logits(stages).shape == (2, 6, 8, 8)
    plain = narrow_head()
    assert not any('aux' in name for name in plain.state_dict())
    plain.load_state_dict({key: value for key, value in head.state_dict().items() if 'aux' not in key})
    assert torch.equal(plain.eval()(inputs), logits)


def test_drop_path_and_dropout_act_in_training_only():
    head = narrow_head(drop_rate=0.5, drop_path_rate=0.5, dropout_ratio=0.5)
    inputs = maps(64, 64, batch=4)
    assert not torch.equal(head(inputs), head(inputs))
    head.eval()
    assert torch.equal(head(inputs), head(inputs))


def test_norm_layers_follow_the_config():
    head = narrow_head(norm_cfg=dict(type='SyncBN', requires_grad=True))
    kinds = {type(module) for module in head.modules() if 'norm' in type(module).__name__.lower()}
    assert len(kinds) == 1 and issubclass(kinds.pop(), nn.SyncBatchNorm)
    assert narrow_head(norm_cfg=dict(type='GN', num_groups=4)).b4.norm1.num_groups == 4


def test_channels_last_and_autocast_agree_with_float32():
    head = narrow_head(window_size=8).eval()
    inputs = maps(96, 160)
    with torch.no_grad():
        expected = head(inputs)
        head = head.to(memory_format=torch.channels_last)
        inputs = [x.contiguous(memory_format=torch.channels_last) for x in inputs]
        torch.testing.assert_close(head(inputs), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
        with torch.autocast('cpu', torch.bfloat16):
            half = head(inputs)
    assert half.dtype == torch.bfloat16
    assert (half.float() - expected).abs().max() < 0.05 * expected.abs().max()


def test_traced_network_takes_another_batch():
    head = narrow_head(window_size=8).eval()
    with torch.no_grad():
        traced = torch.jit.trace(head, (maps(96, 64),), check_trace=False)
        inputs = maps(96, 64, batch=3)
        torch.testing.assert_close(traced(inputs), head(inputs))


@pytest.mark.parametrize('options, message', [
    (dict(in_channels=(8, 16)), 'in_channels must hold 4 widths'),
    (dict(channels=18), 'channels=18 must be divisible by num_heads=4'),
    (dict(window_size=1), 'window_size must be at least 2'),
])
def test_wrong_options_are_named(options, message):
    with pytest.raises(UserError, match=message):
        FTUNetFormerHead(**dict(in_channels=NARROW, channels=16, num_classes=6, num_heads=4) | options)
