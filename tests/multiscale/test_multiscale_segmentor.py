"""Supervision of each scale beside the segmentor's own losses: on, off, and never in a prediction."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.runner import EpochBasedTrainLoop
from mmseg.registry import MODELS

from projects.engine.errors import UserError
from projects.engine.export import export_onnx
from projects.engine.parameter_groups import ParameterGroups
from projects.multistage.initialise import initialise
from projects.multistage.warmup import StageWarmupHook

FOLDER = Path(__file__).parent


def module_of(name):
    specification = importlib.util.spec_from_file_location(name, FOLDER / f'{name}.py')
    module = importlib.util.module_from_spec(specification)
    sys.modules.setdefault(name, module)
    specification.loader.exec_module(module)
    return module


scale_networks = module_of('scale_networks')
build, batch = scale_networks.build, scale_networks.batch


def plain_config(config):
    """Return the config of the same network, as an ``EncoderDecoder``."""
    return ConfigDict({key: value for key, value in config.items() if not key.startswith('scale_')},
                      type='EncoderDecoder')


def calls_of(model):
    """Count how often scale heads are run."""
    seen = []
    for head in model.scale_heads:
        head.register_forward_hook(lambda module, *_: seen.append(module))
    return seen


@pytest.mark.parametrize('options', [{}, dict(auxiliary=True), dict(neck=True), dict(out_channels=2)])
def test_the_own_losses_are_those_of_an_encoder_decoder(options):
    model = build(**options)
    torch.nn.init.normal_(model.backbone.fusers[1].out.weight)  # else the fused maps are the reference's
    plain = MODELS.build(plain_config(scale_networks.config(**options)))
    plain.load_state_dict({key: value for key, value in model.state_dict().items() if not key.startswith('scale_')})
    inputs, samples = batch()
    own, expected = model.loss(inputs, samples), plain.loss(inputs, samples)
    assert {name: float(own[name]) for name in expected} == {name: float(value) for name, value in expected.items()}
    assert set(own) - set(expected) == {'loss_scale', 'scale/0.5', 'scale/1', 'scale/1.5'}


def test_the_scale_loss_is_that_of_each_scales_own_maps():
    model = build()
    inputs, samples = batch()
    losses = model.loss(inputs, samples)
    label = torch.stack([sample.gt_sem_seg.data for sample in samples]).squeeze(1)
    _, pyramids = model.backbone.forward_scales(inputs)
    assert [tuple(pyramid[0].shape[-2:]) for pyramid in pyramids] == [(4, 4), (8, 8), (12, 12)]
    expected = model.scale_loss([head(pyramid) for head, pyramid in zip(model.scale_heads, pyramids)], label)
    assert float(losses['loss_scale']) == float(expected['loss_scale']) > 0
    total, log = model.parse_losses(losses)
    assert float(total) == pytest.approx(float(losses['decode.loss_ce'] + losses['loss_scale']))  # each term once
    assert float(log['scale/0.5']) == float(expected['scale/0'])


def test_heads_learn_apart_and_every_parameter_has_a_gradient():
    """At step 0 the zero fusers pass no gradient on; after two steps every parameter has had one."""
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    had = {}
    for step in range(3):
        optimizer.zero_grad()
        model.parse_losses(model.loss(*batch(seed=step)))[0].backward()
        for name, parameter in model.named_parameters():
            had[name] = had.get(name, False) or bool(parameter.grad.abs().sum() > 0)
        optimizer.step()
    assert [name for name, value in had.items() if not value] == []
    heads = [head.conv_seg.weight for head in model.scale_heads]
    assert not torch.equal(heads[0], heads[1]) and not torch.equal(heads[1], heads[2])


def test_off_the_heads_are_not_run_but_have_a_zero_gradient():
    model = build()
    seen = calls_of(model)
    hook = StageWarmupHook({'scale_loss.loss_weight': [(0, 0.3), (2, 0.0)]})
    runner = SimpleNamespace(model=model, train_loop=object.__new__(EpochBasedTrainLoop), epoch=2, iter=9)
    hook.before_train(runner)
    hook.before_train_iter(runner, 0)
    losses = model.loss(*batch())
    assert not seen and float(losses['loss_scale']) == 0 and not any(name.startswith('scale/') for name in losses)
    model.parse_losses(losses)[0].backward()
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in model.scale_heads.parameters())
    runner.epoch = 1
    hook.before_train_iter(runner, 0)
    model.loss(*batch())
    assert len(seen) == 3


def test_a_prediction_runs_no_scale_head():
    model = build().eval()
    seen = calls_of(model)
    inputs, samples = batch()
    with torch.no_grad():
        model(inputs, samples, mode='predict'), model(inputs, mode='tensor')
    assert not seen
    model.train()
    model.loss(inputs, samples)  # afterwards, and after a failure, features are asked for as ever
    with pytest.raises(AttributeError):
        model.loss(inputs, [None])
    assert isinstance(model.extract_feat(inputs)[0], torch.Tensor) and model._scales is None and len(seen) == 3


def test_one_scale_of_a_trained_model_predicts_and_does_not_train():
    model = build()
    one = build(single_scale=True)
    one.load_state_dict(model.state_dict())
    inputs, samples = batch()
    with torch.no_grad():
        found = one.eval()(inputs, samples, mode='predict')[0].seg_logits.data
        expected = model.eval()(inputs, samples, mode='predict')[0].seg_logits.data
    assert torch.equal(found, expected)  # the fusers are still zero
    with pytest.raises(UserError, match='model.scale_loss: expected none .* model.backbone.single_scale=True'):
        one.train().loss(inputs, samples)
    one.scale_loss.loss_weight = 0.0
    assert float(one.loss(inputs, samples)['loss_scale']) == 0


@pytest.mark.parametrize('change, message', [
    (dict(scale_head=None), 'model.scale_head: expected one beside model.scale_loss, found none'),
    (dict(scale_loss=None), 'model.scale_loss: expected one beside model.scale_head, found none'),
    (dict(backbone=dict(type=scale_networks.TwoLevels)), 'expected a backbone of several scales .*, found TwoLevels'),
    (dict(backbone=scale_networks.backbone(scales=(0.5, 1.0))),
     r'model.scale_loss.weights: expected 2, one for each of the scales \(0.5, 1.0\), found 3'),
    (dict(scale_head=dict(type='ScaleHead', in_channels=(6, 10), num_classes=3)),
     'model.scale_head.num_classes: expected 2 as model.decode_head has, found 3')])
def test_configs_that_contradict_themselves(change, message):
    with pytest.raises(UserError, match=message):
        MODELS.build(ConfigDict(scale_networks.config(), **change))


def test_without_both_it_is_an_encoder_decoder():
    model = build(scale_head=False, scale_loss=False)
    assert set(model.loss(*batch())) == {'decode.loss_ce', 'decode.acc_seg'}
    assert not any(name.startswith('scale_') for name in model.state_dict())


def test_it_begins_with_a_single_scale_checkpoint(tmp_path):
    model = build()
    single = MODELS.build(ConfigDict(plain_config(scale_networks.config()),
                                     backbone=dict(type=scale_networks.TwoLevels)))
    meta = {'dataset_meta': {'classes': ['background', 'object']}}
    torch.save({'state_dict': single.state_dict(), 'meta': meta}, tmp_path / 'single.pth')
    arguments = dict(rename={'backbone.': 'backbone.backbone.'}, new=['backbone.fusers', 'scale_heads'])
    report = initialise(model, tmp_path / 'single.pth', **arguments, dataset_meta=meta['dataset_meta'])
    assert report.share == 1 and all(key.startswith(('backbone.fusers.', 'scale_heads.')) for key in report.new)
    inputs, _ = batch()
    with torch.no_grad():
        assert torch.equal(model.eval()(inputs, mode='tensor'), single.eval()(inputs, mode='tensor'))
    # The heads of the scales are new, that of the model is not: its classes still have to be the data set's.
    with pytest.raises(UserError, match='class'):
        initialise(model, tmp_path / 'single.pth', **arguments, dataset_meta={'classes': ['object', 'background']})
    arguments['new'].append('decode_head.conv_seg')
    initialise(model, tmp_path / 'single.pth', **arguments, dataset_meta={'classes': ['other', 'names']})


def test_fusers_and_heads_learn_at_the_full_rate():
    model = build()
    groups = ParameterGroups(dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1.0)),
                             dict(backbone_lr_mult=0.1, layer_decay=0.5)).groups(model)
    rates = {id(p): group['lr'] for group in groups for p in group['params']}
    found = {name: rates[id(parameter)] for name, parameter in model.named_parameters()}
    assert found['backbone.backbone.block2.weight'] == pytest.approx(0.1)
    assert found['backbone.backbone.block1.weight'] == pytest.approx(0.05)
    rest = {rate for name, rate in found.items() if not name.startswith('backbone.backbone.')}
    assert rest == {1.0} and any(name.startswith('backbone.fusers.') for name in found)


EXPORTED = """
default_scope = 'mmseg'
custom_imports = dict(imports=['projects.multiscale.register'], allow_failed_imports=False)
model = dict(
    type='MultiScaleSegmentor',
    data_preprocessor=dict(type='SegDataPreProcessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(
        type='MultiScaleBackbone', fusion=dict(type='GatedFusion'),
        backbone=dict(type='ResNetV1c', depth=18, base_channels=4, stem_channels=4, out_indices=(0, 1, 2, 3))),
    decode_head=dict(type='FCNHead', in_channels=32, in_index=3, channels=4, num_classes=2),
    test_cfg=dict(mode='whole'))
"""


@pytest.mark.parametrize('size', [None, (64, 64)])
def test_an_export_says_that_it_cannot(tmp_path, size):
    pytest.importorskip('onnxruntime')
    (tmp_path / 'config.py').write_text(EXPORTED)
    model = MODELS.build(Config.fromfile(tmp_path / 'config.py').model)
    torch.save({'state_dict': model.state_dict(), 'meta': {'dataset_meta': {'classes': ['a', 'b']}}},
               tmp_path / 'weights.pth')
    with pytest.raises(UserError, match='model.backbone: expected a backbone of one scale, found MultiScaleBackbone'):
        export_onnx(tmp_path / 'config.py', tmp_path / 'weights.pth', tmp_path / 'net.onnx', size=size)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['config.py', 'weights.pth']


def test_two_processes_with_the_loss_on_then_off(tmp_path, repository):
    script = module_of('two_processes_scale_loss')
    environment = {**os.environ, 'PYTHONPATH': str(repository), 'OMP_NUM_THREADS': '1'}
    subprocess.run([sys.executable, str(FOLDER / 'two_processes_scale_loss.py'), str(tmp_path)], check=True,
                   env=environment, cwd=tmp_path, timeout=120)
    ranks = [torch.load(tmp_path / f'{rank}.pt', weights_only=True) for rank in (0, 1)]
    for rank in ranks:
        assert all(not step['without'] for step in rank['told'])
        assert [step['heads'] > 0 for step in rank['told']] == [True, True, False, False, True]
        assert [step['loss_scale'] > 0 for step in rank['told']] == [True, True, False, False, True]
    first, second = (rank['state_dict'] for rank in ranks)
    assert all(torch.equal(first[key], second[key]) for key in first)
    alone = build()  # both halves of each batch in one process: the same mean gradient
    script.train(alone, alone, 0, 1)
    for key, value in alone.state_dict().items():
        torch.testing.assert_close(first[key], value, atol=1e-5, rtol=1e-4)
