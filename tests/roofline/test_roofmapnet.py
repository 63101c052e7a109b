"""The whole network: shapes, gradients of every parameter, what each loss is for, stages, predictions."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from roof_networks import LOSSES, house, roofmapnet, sample, small_roofmapnet

from projects.engine.errors import UserError
from projects.roofline.models.roofmapnet import original

SCRIPT = Path(__file__).with_name('roofmapnet_in_two.py')
BACKBONE = dict(type='ResNetV1c', depth=18, num_stages=2, out_indices=(0, 1), strides=(1, 2), dilations=(1, 1),
                stem_channels=16, base_channels=16, norm_cfg=dict(type='BN'))


def images(number=2, size=64):
    return torch.randn(number, 3, size, size, generator=torch.Generator().manual_seed(0))


def gradients(model, only=None):
    """Sum of absolute gradients by part, of the losses named or of all."""
    torch.manual_seed(0)
    model.zero_grad()
    losses = model(images(), [sample(house()), sample(house(3.3))], mode='loss')
    sum(value for name, value in losses.items() if only is None or name in only).backward()
    parts = {}
    for name, parameter in model.named_parameters():
        part = '.'.join(name.split('.')[:4 if name.startswith('map_head.heads') else 2])
        parts[part] = parts.get(part, 0.0) + (0.0 if parameter.grad is None else float(parameter.grad.abs().sum()))
    return parts


@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    return small_roofmapnet().train()


def test_every_parameter_gets_a_gradient_from_the_six_losses(model):
    torch.manual_seed(0)
    losses = model(images(), [sample(house()), sample(house(3.3))], mode='loss')
    assert set(losses) == {f'loss_{name}' for name in LOSSES}
    assert all(value > 0 for value in losses.values())
    model.zero_grad()
    sum(losses.values()).backward()
    without = [name for name, parameter in model.named_parameters()
               if parameter.grad is None or not parameter.grad.abs().sum() > 0]
    assert without == []


@pytest.mark.parametrize('loss, parts', [
    ('gauss', ['map_head.heads.0.0', 'map_head.heads.1.0', 'backbone.conv1']),
    ('qcc', ['map_head.calibrate', 'map_head.heads.0.0', 'map_head.heads.1.0', 'backbone.conv1']),
    ('lhr', ['map_head.heads.0.1', 'map_head.heads.1.1', 'backbone.conv1']),
    ('off', ['map_head.heads.0.2', 'map_head.heads.1.2', 'backbone.conv1']),
    ('lv', ['line_head.fc1', 'line_head.fc2', 'line_head.attention', 'map_head.heads.1.1', 'backbone.conv1']),
    ('sf', ['line_head.attention', 'map_head.heads.1.1', 'backbone.conv1'])])
def test_without_a_loss_the_gradient_of_its_parts_is_another(model, loss, parts):
    everything = gradients(model)
    others = gradients(model, {f'loss_{name}' for name in LOSSES if name != loss})
    assert all(abs(everything[part] - others[part]) > 1e-6 * everything[part] for part in parts)
    alone = gradients(model, {f'loss_{loss}'})
    assert all(alone[part] > 0 for part in parts)


def test_losses_that_nothing_else_stands_in_for(model):
    """Calibration learns from qcc alone (and from no map loss), the offsets of the last stack from off alone."""
    without_qcc = gradients(model, {'loss_gauss', 'loss_lhr', 'loss_off', 'loss_lv', 'loss_sf'})
    assert without_qcc['map_head.calibrate'] == 0
    assert gradients(model, {f'loss_{name}' for name in LOSSES if name != 'off'})['map_head.heads.1.2'] == 0
    assert gradients(model, {'loss_sf'})['line_head.fc2'] == 0
    assert gradients(model, {'loss_gauss', 'loss_qcc', 'loss_lhr', 'loss_off', 'loss_sf'})['line_head.fc1'] == 0


def test_images_without_lines_train(model):
    losses = model(images(), [sample(None), sample(None)], mode='loss')
    assert all(bool(torch.isfinite(value)) for value in losses.values())
    assert losses['loss_off'].item() == 0 and losses['loss_sf'].item() == 0
    sum(losses.values()).backward()


def test_two_processes_with_images_without_lines_in_one_of_them(tmp_path):
    subprocess.run([sys.executable, str(SCRIPT), str(tmp_path)], check=True, cwd=tmp_path, timeout=240,
                   env={**os.environ, 'OMP_NUM_THREADS': '1'})
    first, second = (torch.load(tmp_path / f'{rank}.pt', weights_only=True) for rank in (0, 1))
    for one, other in zip(first, second, strict=True):
        assert [name for name, value in one['together'].items() if value is None or not value.any()] == []
        for name, value in one['together'].items():
            assert bool(value.isfinite().all()) and torch.equal(value, other['together'][name]), name
            mean = (one['alone'][name] + other['alone'][name]) / 2
            torch.testing.assert_close(value, mean, rtol=1e-4, atol=1e-6, msg=name)
    last_offsets = [value for name, value in second[1]['alone'].items() if name.startswith('map_head.heads.1.2.')]
    assert last_offsets and not any(value.any() for value in last_offsets)  # it had no junction at all


def test_the_first_of_two_stages_leaves_the_verifier_alone():
    model = small_roofmapnet(lines=False).train()
    losses = model(images(), [sample(house()), sample(house())], mode='loss')
    assert set(losses) == {'loss_gauss', 'loss_qcc', 'loss_lhr', 'loss_off'}
    sum(losses.values()).backward()
    assert all(parameter.grad is None for parameter in model.line_head.parameters())
    assert all(parameter.grad is not None for parameter in model.map_head.parameters())
    answer, = model.eval()(images(1), [sample(house())], mode='predict')
    assert len(answer.pred_junctions) and len(answer.pred_unverified_lines) and not len(answer.pred_lines)


def test_any_mmseg_backbone_and_several_junction_types():
    model = small_roofmapnet(types=2, backbone=BACKBONE, in_index=0,
                             map_head=dict(type='RoofMapHead', in_channels=16, num_types=2, hidden=16, calibration=16),
                             line_head=dict(type='LineVerifier', in_channels=16, channels=16, hidden=32)).train()
    batch = [sample(house(), types=2), sample(house(2.0), types=2)]
    losses = model(images(), batch, mode='loss')
    sum(losses.values()).backward()
    unused = {name.split('.')[1] for name, parameter in model.named_parameters() if parameter.grad is None}
    assert unused <= {'layer2'}  # the second level is not read
    maps = model.eval()(images())
    assert maps['jmap'].shape == (2, 2, 16, 16) and maps['joff'].shape == (2, 2, 2, 16, 16)
    assert maps['lmap'].shape == (2, 16, 16) and maps['joff'].abs().max() <= 0.5


def test_an_hourglass_is_told_as_much_as_the_head_says():
    model = small_roofmapnet(types=3)
    assert model.backbone.feedback_channels == 13 and model.eval()(images())['jmap'].shape == (2, 3, 16, 16)


def test_predictions_are_sorted_bounded_and_in_original_pixels():
    torch.manual_seed(0)
    model = small_roofmapnet(detection=dict(junctions=20, line_limit=50, line_threshold=0.0, unverified=30)).eval()
    data = sample(house())
    data.set_metainfo(dict(ori_shape=(100, 120), letterbox=(0.5, 2.0, 7.0)))
    with torch.no_grad():
        answers = model(images(), [data, sample(house())], mode='predict')
    for answer, shape in zip(answers, ((100, 120), (64, 64))):
        xy, scores = answer.pred_junctions, answer.pred_line_scores
        assert 2 < len(xy) <= 20 and bool((xy >= 0).all()) and bool((xy <= torch.tensor(shape).flip(0)).all())
        assert len(answer.pred_lines) <= 50 and bool((scores.diff() <= 0).all())
        assert bool((answer.pred_lines[:, 0] < answer.pred_lines[:, 1]).all())
        assert int(answer.pred_lines.max()) < len(xy)
        first = answer.pred_junction_scores[answer.pred_unverified_lines].mean(1)
        assert torch.allclose(first, answer.pred_unverified_scores) and len(first) <= 30


def test_letterboxes_are_undone():
    data = sample(house())
    data.set_metainfo(dict(ori_shape=(100, 120), letterbox=(0.5, 2.0, 7.0)))
    xy, inside = original(torch.tensor([[12.0, 27.0], [0.0, 64.0], [1.5, 57.5], [-30.0, 27.0]]), data, 4.0)
    np.testing.assert_allclose(xy, [[20, 40], [0, 100], [0, 100], [0, 40]])
    assert inside.tolist() == [True, False, True, False]  # by up to 4 pixels of the input outside
    data.set_metainfo(dict(letterbox=None))  # what a flip leaves
    with pytest.raises(UserError, match='sample a: letterbox: expected scale and shift, found one turned or flipped'):
        original(torch.tensor([[12.0, 27.0]]), data, 4.0)


def test_the_verifier_scores_given_lines_and_knows_their_direction():
    model = small_roofmapnet().eval()
    lines = torch.tensor([[[2.0, 2.0], [2.0, 14.0]], [[3.0, 1.0], [12.5, 9.0]]])
    logits = model.score_lines(images(), lines, torch.tensor([0, 1]))
    again = model.score_lines(images()[1:], lines[1:])
    assert logits.shape == (2,) and torch.allclose(logits[1:], again, atol=1e-5)
    features, maps = model.maps(images())
    lmap = maps[-1].lmap.sigmoid()
    hidden = model.line_head(model.line_head.features(features[-1], lmap), lmap, lines, torch.tensor([0, 1]))[1]
    assert hidden.shape == (2, 2) and bool(((hidden >= 0) & (hidden <= 1)).all())


def test_the_hidden_interval_masks_what_it_says():
    """From the first end: hidden 0 to 1/4 of a line zeroes the first quarter of its points, softly in training."""
    head = small_roofmapnet().line_head
    interval = 1 - torch.tensor([[0.0, 0.25]]).flip(1)  # as the head counts inside: from the second end
    hard = head.eval().mask(interval)[0].flip(0)
    assert hard.tolist() == [0.0] * 16 + [1.0] * 48
    soft = head.train().mask(interval)[0].flip(0)
    assert float(soft[4]) < 0.05 and float(soft[40]) > 0.95 and bool((soft.diff()[8:24] >= 0).all())


def test_bf16_autocast_keeps_losses_finite_and_close(model):
    batch = [sample(house()), sample(house(3.3))]
    torch.manual_seed(0)
    exact = model(images(), batch, mode='loss')
    torch.manual_seed(0)
    with torch.autocast('cpu', torch.bfloat16):
        rough = model(images(), batch, mode='loss')
    for name in exact:
        assert float(rough[name]) == pytest.approx(float(exact[name]), rel=0.1), name
    assert all(value.dtype == torch.float32 for value in rough.values())


@pytest.mark.parametrize('changes, match', [
    (dict(losses={'gauss': LOSSES['gauss']}), r'model\.losses: expected gauss, qcc, lhr, off, lv, sf, found gauss'),
    (dict(detection=dict(line_limits=3)), r'model\.detection: expected keys of junctions, .*found line_limits'),
    (dict(backbone=dict(type='StackedHourglass', channels=30)), 'channels in fours'),
    (dict(line_head=dict(type='LineVerifier', points=60)), 'multiples of pooled')])
def test_wrong_arguments_are_named(changes, match):
    with pytest.raises(UserError, match=match):
        roofmapnet(**changes)


def test_wrong_calls_are_named(model):
    with pytest.raises(UserError, match='mode: expected one of loss, predict, tensor, found guess'):
        model(images(), mode='guess')
    with pytest.raises(UserError, match='a loss needs the maps of PackRoofline'):
        model(images(), mode='loss')
    with pytest.raises(UserError, match='multiples of 16, found 64 x 72'):
        model(torch.zeros(1, 3, 64, 72))
    with pytest.raises(UserError, match=r'PackRoofline.stride: expected maps of \(16, 16\) .* found \(24, 24\)'):
        model(images(1), [sample(house(), size=96)], mode='loss')
