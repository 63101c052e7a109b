"""Published checkpoints: conversion, refusals, and backbones that start from a file."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest
import torch
from mmcv.cnn.bricks.transformer import PatchMerging
from mmseg.models.backbones import SwinTransformer
from mmseg.registry import MODELS
from torch import nn

from projects.engine import startup
from projects.engine.backbones import convert_official_swin, load_backbone, unfold_order
from projects.engine.errors import UserError
from projects.landcover.checkpoints import convert_file, convert_geoseg
from projects.landcover.models import FTUNetFormerHead
from projects.landcover.taxonomy import get_taxonomy

SWIN = dict(embed_dims=8, depths=(1, 2, 1, 1), num_heads=(1, 2, 4, 8), window_size=7)


@pytest.fixture(scope='module', autouse=True)
def started() -> None:
    startup.start()


@pytest.fixture(scope='module')
def model() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Module()
    model.backbone = SwinTransformer(**SWIN)
    model.decode_head = FTUNetFormerHead((8, 16, 32, 64), 16, num_classes=6, num_heads=4, window_size=4)
    return model


def official_order(merging: torch.Tensor) -> torch.Tensor:
    """The way back from nn.Unfold's order to Swin's, written independently."""
    channels = merging.shape[-1] // 4
    result = torch.empty_like(merging)
    for block, (row, column) in enumerate([(0, 0), (1, 0), (0, 1), (1, 1)]):
        for channel in range(channels):
            result[..., block * channels + channel] = merging[..., channel * 4 + row * 2 + column]
    return result


def published(state_dict: dict) -> dict:
    """Name a converted state dict as upstream does."""
    result = {}
    for key, value in state_dict.items():
        if '.downsample.' in key:
            value = official_order(value)
        for ours, theirs in (('backbone.stages.', 'backbone.layers.'), ('attn.w_msa.', 'attn.'),
                             ('ffn.layers.0.0.', 'mlp.fc1.'), ('ffn.layers.1.', 'mlp.fc2.'),
                             ('patch_embed.projection.', 'patch_embed.proj.'),
                             ('decode_head.seg_conv.', 'decoder.segmentation_head.0.'),
                             ('decode_head.conv_seg.', 'decoder.segmentation_head.2.0.'), ('decode_head.', 'decoder.')):
            key = key.replace(ours, theirs)
        result[key] = value
    return result


@pytest.fixture
def geoseg(model) -> dict:
    return published(model.state_dict())


def official_swin(model: nn.Module) -> dict:
    """A classification checkpoint as Microsoft publishes it."""
    state = {key.removeprefix('backbone.'): value for key, value in published(model.state_dict()).items()
             if key.startswith('backbone.') and not key.startswith('backbone.norm')}
    return {'model': state | {'norm.weight': torch.ones(64), 'norm.bias': torch.zeros(64),
                              'head.weight': torch.zeros(10, 64), 'head.bias': torch.zeros(10),
                              'layers.1.blocks.1.attn_mask': torch.zeros(4, 49, 49)}}


class Malicious:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.system, (f'touch {self.trace}',)


def test_patch_merging_computes_what_swin_computes():
    torch.manual_seed(0)
    merging = PatchMerging(3, 6)
    weight, norm_weight, norm_bias = torch.randn(6, 12), torch.randn(12), torch.randn(12)
    merging.reduction.weight.data = unfold_order(weight)
    merging.norm.weight.data, merging.norm.bias.data = unfold_order(norm_weight), unfold_order(norm_bias)
    x = torch.randn(1, 4, 6, 3)
    pixels = torch.cat([x[:, row::2, column::2] for row, column in ((0, 0), (1, 0), (0, 1), (1, 1))], -1)
    expected = nn.functional.layer_norm(pixels, (12,), norm_weight, norm_bias) @ weight.T
    result, size = merging(x.reshape(1, 24, 3), (4, 6))
    assert size == (2, 3)
    torch.testing.assert_close(result, expected.reshape(1, 6, 6))


@pytest.mark.parametrize('wrap', [dict, lambda state: {f'net.{key}': value for key, value in state.items()},
                                  lambda state: {'state_dict': {f'net.{key}': value for key, value in state.items()}}])
def test_conversion_restores_every_tensor(model, geoseg, wrap):
    converted = convert_geoseg(wrap(geoseg))
    own = model.state_dict()
    assert set(converted) == set(own)
    assert all(torch.equal(converted[key], own[key]) for key in own)


def test_conversion_names_what_is_wrong(geoseg):
    with pytest.raises(UserError, match='expected keys backbone.* and decoder.*, found conv1.weight'):
        convert_geoseg({'conv1.weight': torch.zeros(1)})
    with pytest.raises(UserError, match='1 unknown keys: loss.weight'):
        convert_geoseg(geoseg | {'loss.weight': torch.zeros(1)})
    with pytest.raises(UserError, match='1 unknown keys .*: decode_head.aux_head.weight'):
        convert_geoseg(geoseg | {'decoder.aux_head.weight': torch.zeros(1)})
    with pytest.raises(UserError, match='2 missing keys .*: decode_head.b3.mlp.fc1.weight, decode_head.b3'):
        convert_geoseg({key: value for key, value in geoseg.items() if 'b3.mlp.fc1' not in key})
    with pytest.raises(UserError, match='1 wrongly shaped keys .*: decode_head.p3.weights: \\(3,\\) in the file'):
        convert_geoseg(geoseg | {'decoder.p3.weights': torch.zeros(3)})
    with pytest.raises(UserError, match='expected a tensor of 4 axes at decode_head.conv_seg.weight'):
        convert_geoseg({key: value for key, value in geoseg.items() if 'segmentation_head.2' not in key})


def test_file_conversion_writes_a_whole_checkpoint(tmp_path, model, geoseg):
    source, target = tmp_path / 'in.ckpt', tmp_path / 'out.pth'
    torch.save({'state_dict': {f'net.{key}': value for key, value in geoseg.items()}, 'epoch': 44}, source)
    assert convert_file(source, target, taxonomy='landcover6') == len(model.state_dict())
    checkpoint = torch.load(target, weights_only=True)
    model.load_state_dict(checkpoint['state_dict'], strict=True)
    assert checkpoint['meta']['converted_from'] == 'in.ckpt'
    assert tuple(checkpoint['meta']['dataset_meta']['classes']) == get_taxonomy('landcover6').classes
    assert sorted(path.name for path in tmp_path.iterdir()) == ['in.ckpt', 'out.pth']

    with pytest.raises(UserError, match='exists already'):
        convert_file(source, target)
    convert_file(source, target, overwrite=True)
    with pytest.raises(UserError, match='taxonomy openearthmap has 9 classes, found 6'):
        convert_file(source, tmp_path / 'other.pth', taxonomy='openearthmap')
    assert not (tmp_path / 'other.pth').exists()


@pytest.mark.parametrize('content, message', [
    (None, 'no such file'),
    (b'', ''),
    (b'not a checkpoint', ''),
])
def test_tool_refuses_unreadable_files_in_one_line(repository, tmp_path, monkeypatch, capsys, content, message):
    source = tmp_path / 'in.pth'
    if content is not None:
        source.write_bytes(content)
    error = refused(repository, monkeypatch, capsys, source, tmp_path / 'out.pth')
    assert str(source) in error and message in error


def test_tool_refuses_a_malicious_pickle_and_does_not_run_it(repository, tmp_path, monkeypatch, capsys):
    source, trace = tmp_path / 'evil.pth', tmp_path / 'trace'
    torch.save({'state_dict': Malicious(trace)}, source)
    error = refused(repository, monkeypatch, capsys, source, tmp_path / 'out.pth')
    assert 'evil.pth: refused' in error and 'system' in error
    assert not trace.exists()


def refused(repository: Path, monkeypatch, capsys, source: Path, target: Path) -> str:
    """Run the tool, expect one line on standard error and status 2; return the line."""
    tool = repository / 'tools/landcover/convert_checkpoint.py'
    spec = importlib.util.spec_from_file_location('convert_checkpoint', tool)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, 'argv', [str(tool), str(source), str(target)])
    with pytest.raises(SystemExit) as status:
        module.run(module.main)
    error = capsys.readouterr().err
    assert status.value.code == 2 and error.startswith('error: ') and error.count('\n') == 1
    assert not target.exists()
    return error


def test_official_swin_keeps_only_what_the_backbone_has(model):
    converted = convert_official_swin(official_swin(model))
    own = model.backbone.state_dict()
    assert set(own) - set(converted) == {f'norm{i}.{name}' for i in range(4) for name in ('weight', 'bias')}
    assert not set(converted) - set(own)
    assert all(torch.equal(converted[key], own[key]) for key in converted)
    with pytest.raises(UserError, match='not an official Swin checkpoint'):
        convert_official_swin({'model': {'conv1.weight': torch.zeros(1)}})


def test_backbone_starts_from_a_file(tmp_path, model):
    path = tmp_path / 'swin.pth'
    torch.save(official_swin(model), path)
    head = dict(type='FTUNetFormerHead', in_channels=(8, 16, 32, 64), channels=16, num_classes=6, num_heads=4)
    segmentor = MODELS.build(dict(
        type='EncoderDecoder', backbone=dict(type='SwinTransformer', **SWIN), decode_head=head,
        init_cfg=dict(type='PretrainedFile', checkpoint=str(path), layout='swin')))
    before = segmentor.decode_head.conv_seg.weight.clone()
    segmentor.init_weights()
    own, expected = segmentor.backbone.state_dict(), model.backbone.state_dict()
    assert all(torch.equal(own[key], expected[key]) for key in own if not key.startswith('norm'))
    assert all(torch.equal(own[f'norm{i}.weight'], torch.ones(8 * 2**i)) for i in range(4))
    assert segmentor.decode_head.conv_seg.weight.std() < 0.02 < before.std()  # the head is initialised too

    scratch = MODELS.build(dict(
        type='EncoderDecoder', backbone=dict(type='SwinTransformer', **SWIN), decode_head=head,
        init_cfg=dict(type='PretrainedFile', checkpoint=None, layout='swin')))
    scratch.init_weights()
    weight = scratch.backbone.stages[0].blocks[0].ffn.layers[1].weight
    assert 0.015 < weight.std() < 0.025  # mmseg's own initialisation of Swin


def test_backbone_refuses_what_does_not_fit(tmp_path, model):
    path = tmp_path / 'swin.pth'
    with pytest.raises(UserError, match=r'pretrained Swin-B not found at .*: get swin_base_patch4_window7_224.pth '
                                        r'\(official Swin release.*pass its path as model.init_cfg.checkpoint'):
        load_backbone(model.backbone, path)
    torch.save(official_swin(model), path)
    deeper = SwinTransformer(**SWIN | dict(depths=(1, 2, 2, 1)))
    before = {key: value.clone() for key, value in deeper.state_dict().items()}
    with pytest.raises(UserError, match='missing keys: stages.2.blocks.1.norm1.weight'):
        load_backbone(deeper, path)
    assert all(torch.equal(before[key], value) for key, value in deeper.state_dict().items())
    with pytest.raises(UserError, match='wrongly shaped keys'):
        load_backbone(SwinTransformer(**SWIN | dict(embed_dims=16)), path)
    with pytest.raises(UserError, match='init_cfg.layout: expected one of swin'):
        load_backbone(model.backbone, path, 'resnet')
    torch.save({'model': Malicious(tmp_path / 'trace')}, path)
    with pytest.raises(UserError, match='refused'):
        load_backbone(model.backbone, path)
    assert not (tmp_path / 'trace').exists()
