"""Both networks as models: padding, neighbours, precision, gradients, learning, saving."""

import numpy as np
import pytest
import torch
from mmengine.optim import OptimWrapper
from mmseg.registry import MODELS
from point_batches import BASELINE, TINY, batch_of, patch

import projects.lidar.losses
import projects.lidar.models  # noqa: F401
from projects.engine.errors import UserError
from projects.engine.precision import BFloat16OptimWrapper
from projects.lidar.models import PointSegmentor
from projects.multiscale.ensemble import EnsembleTTA

ALL = (0, 1, 2, 3, 4)
LOSSES = [dict(type='HierarchicalCrossEntropy'), dict(type='PointLovasz')]
BACKBONES = {'hybrid': TINY, 'baseline': BASELINE}


@pytest.fixture(params=BACKBONES)
def backbone(request: pytest.FixtureRequest) -> dict:
    return BACKBONES[request.param]


@pytest.fixture
def model(backbone) -> PointSegmentor:
    return build(backbone)


def build(backbone: dict) -> PointSegmentor:
    torch.manual_seed(0)
    model = MODELS.build(dict(type='PointSegmentor', backbone=backbone,
                              decode_head=dict(type='LidarPointHead', loss_decode=LOSSES)))
    for name, parameter in model.named_parameters():
        if 'film' in name:  # as after some training: every patch its own norms
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def test_padding_changes_no_point(model):
    one, other = patch(700, seed=1), patch(1500, seed=2)
    expected = model.eval()(batch_of([one], 700, near_levels=ALL)[0])
    for rows in (768, 2048):
        inputs, _ = batch_of([one, other], max(rows, 1536), [50.0, 150.0], near_levels=ALL)
        assert not torch.equal(inputs['points'][0, 700:], torch.zeros(1))
        found = model(inputs)
        torch.testing.assert_close(found[0, :, :700], expected[0], atol=2e-4, rtol=1e-4)
        assert found.isfinite().all()


def test_padding_changes_no_gradient(model):
    gradients = []
    for rows in (700, 1024):
        model.zero_grad()
        losses = model(*batch_of([patch(700)], rows, near_levels=ALL), mode='loss')
        sum(value for name, value in losses.items() if 'loss' in name).backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in model.named_parameters()})
    for name, expected in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], expected, atol=2e-4, rtol=2e-3, msg=name)


def test_the_order_of_neighbours_means_nothing(model):
    inputs, _ = batch_of([patch(600)], near_levels=ALL)
    expected = model.eval()(inputs)
    generator = torch.Generator().manual_seed(0)
    for name in ('down', 'near'):
        inputs['graph'][name] = [index[..., torch.randperm(index.shape[-1], generator=generator)]
                                 for index in inputs['graph'][name]]
    torch.testing.assert_close(model(inputs)[..., :600], expected[..., :600], atol=1e-4, rtol=1e-4)


def test_the_order_of_a_batch_means_nothing(model):
    patches, sizes = [patch(600, 1), patch(900, 2), patch(300, 3)], [50.0, 100.0, 150.0]
    expected = model.eval()(batch_of(patches, 1024, sizes, near_levels=ALL)[0])
    found = model(batch_of(patches[::-1], 1024, sizes[::-1], near_levels=ALL)[0]).flip(0)
    for row, count in enumerate((600, 900, 300)):
        torch.testing.assert_close(found[row, :, :count], expected[row, :, :count], atol=1e-4, rtol=1e-4)


def test_bfloat16_is_close(model):
    inputs, samples = batch_of([patch(1024)], near_levels=ALL)
    model.eval()
    expected = model(inputs)
    with torch.autocast('cpu', torch.bfloat16):
        found = model(inputs)
        losses = model(inputs, samples, mode='loss')
    error = (found.float() - expected).abs()
    assert error.max() > 0  # autocast did run
    assert error.mean() < 0.03 * expected.std() and error.max() < 0.5 * expected.std()
    for name, value in model(inputs, samples, mode='loss').items():
        if 'loss' in name:
            assert losses[name].dtype == torch.float32
            assert losses[name].item() == pytest.approx(value.item(), rel=0.02)


def test_every_parameter_learns_within_two_steps(backbone):
    torch.manual_seed(0)
    model = MODELS.build(dict(type='PointSegmentor', backbone=backbone,
                              decode_head=dict(type='LidarPointHead', loss_decode=LOSSES)))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    inputs, samples = batch_of([patch(1024, 1), patch(1300, 2)], sizes=[50.0, 150.0], near_levels=ALL)
    for _ in range(2):
        model.train_step(dict(inputs=inputs, data_samples=samples), wrapper)
    assert [name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])] == []


@pytest.mark.parametrize('wrapper', [OptimWrapper, BFloat16OptimWrapper])
def test_a_small_patch_is_learnt(backbone, wrapper):
    torch.manual_seed(0)
    model = MODELS.build(dict(type='PointSegmentor', backbone=backbone,
                              decode_head=dict(type='LidarPointHead', loss_decode=LOSSES)))
    inputs, samples = batch_of([patch(512)], near_levels=ALL)
    wrapper = wrapper(torch.optim.AdamW(model.parameters(), lr=1e-2))
    for _ in range(60):
        log = model.train_step(dict(inputs=inputs, data_samples=samples), wrapper)
    assert log['decode.acc_seg'] > 99 and log['decode.loss_ce'] < 0.1  # 89 % are ground
    assert set(log) == {'loss', 'decode.loss_ce', 'decode.loss_lovasz', 'decode.acc_seg'}
    assert log['loss'].item() == pytest.approx((log['decode.loss_ce'] + log['decode.loss_lovasz']).item(), rel=1e-6)


def test_a_state_goes_round_strictly(backbone, model, tmp_path):
    inputs, _ = batch_of([patch(500)], near_levels=ALL)
    model(inputs)  # running statistics move
    torch.save(model.state_dict(), tmp_path / 'state.pth')
    other = MODELS.build(dict(type='PointSegmentor', backbone=backbone,
                              decode_head=dict(type='LidarPointHead', loss_decode=LOSSES)))
    other.load_state_dict(torch.load(tmp_path / 'state.pth', weights_only=True), strict=True)
    assert torch.equal(other.eval()(inputs), model.eval()(inputs))
    assert not [name for name in model.state_dict() if 'candidates' in name or 'frequencies' in name]


def test_forward_and_gradients_repeat_to_the_bit(model):
    inputs, samples = batch_of([patch(800)], near_levels=ALL)
    runs = []
    for _ in range(2):
        model.zero_grad()
        losses = model(inputs, samples, mode='loss')
        losses['decode.loss_ce'].backward()
        runs.append([losses['decode.loss_ce'].detach(), *(parameter.grad.clone() for parameter in model.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*runs))


def test_a_patch_of_one_point_and_one_of_none_are_finite(model):
    inputs, samples = batch_of([patch(1), patch(300)], near_levels=ALL)
    losses = model.train()(inputs, samples, mode='loss')
    assert all(value.isfinite() for value in losses.values())
    inputs['mask'][0] = False
    assert model.eval()(inputs)[1, :, :300].isfinite().all()
    assert model.train()(*batch_of([patch(1)], near_levels=ALL), mode='loss')['decode.loss_ce'].isfinite()


def test_prediction_writes_the_points_and_no_padding(model):
    inputs, samples = batch_of([patch(300, 1), patch(500, 2)], near_levels=ALL)
    logits = model.eval()(inputs)
    answers = model.val_step(dict(inputs=inputs, data_samples=samples))
    assert model(inputs, samples, mode='predict')[0] is samples[0]
    for answer, of_patch, count in zip(answers, logits, (300, 500)):
        assert torch.equal(answer.seg_logits.data, of_patch[:, None, :count])
        assert answer.pred_sem_seg.data.shape == (1, 1, count)
        assert torch.equal(answer.pred_sem_seg.data[0, 0], of_patch[:, :count].argmax(0))
    assert len(model(inputs, mode='predict')) == 2


def test_what_is_wrong_is_said(model):
    inputs, samples = batch_of([patch(300)], near_levels=ALL)
    with pytest.raises(UserError, match='mode: expected one of loss, predict, tensor, found train'):
        model(inputs, samples, mode='train')
    with pytest.raises(UserError, match='needs the truth'):
        model(inputs, mode='loss')
    with pytest.raises(UserError, match='PointSegmentor: inputs: expected patches of points .* found Tensor'):
        model(torch.zeros(1, 3, 64, 64))
    with pytest.raises(UserError, match='expected a network of images, found one of points'):  # views, ensembles ask
        EnsembleTTA(model)


def without_positions(model: PointSegmentor) -> PointSegmentor:
    for code in model.backbone.position.values():
        torch.nn.init.zeros_(code.project.weight)
    return model


def shifted(inputs: dict) -> dict:
    return dict(inputs, points=inputs['points'] + torch.tensor([12.0, -7.0, 3.0]))


def test_where_a_patch_lies_reaches_the_hybrid_through_position_codes_alone():
    inputs, _ = batch_of([patch(900)])
    model = build(TINY).eval()
    assert (model(shifted(inputs)) - model(inputs))[..., :900].abs().max() > 1e-2
    model = without_positions(model)
    torch.testing.assert_close(model(shifted(inputs))[..., :900], model(inputs)[..., :900], atol=2e-4, rtol=1e-4)


def test_size_and_density_change_the_answer():
    inputs, _ = batch_of([patch(900)])
    model = build(TINY).eval()
    first = model(inputs)
    for context in ([1.0, 0.5], [0.0, 2.5]):
        assert (model(dict(inputs, context=torch.tensor([context]))) - first).abs().max() > 1e-2


def test_far_points_speak_to_each_other_through_the_global_path_alone():
    """A point's answer hears of a change 40 m away, not when attention is silent."""
    one = patch(2000)
    far = np.linalg.norm(one[0][:, :2] - one[0][0, :2], axis=1) > 40
    assert 10 < far.sum() < 1500
    changed = (one[0], np.where(far[:, None], -one[1], one[1]).astype(np.float32), one[2])
    narrow = dict(TINY, local_blocks=(0, 1, 0, 0, 0), widths=(16, 32, 32), radii=(2.0, 4.0))
    for name, blocks, heard in (('with', (0, 0, 1), True), ('without', (0, 0, 0), False)):
        model = build(dict(narrow, local_blocks=(0, 1, 0), global_blocks=blocks)).eval()
        graph = dict(levels=3, down=8, near_levels=(1,))
        difference = model(batch_of([one], **graph)[0])[0, :, 0] - model(batch_of([changed], **graph)[0])[0, :, 0]
        assert bool(difference.abs().max() > 1e-6) == heard, name


def test_sizes_of_the_two_hybrids():
    def millions(**options) -> float:
        return sum(p.numel() for p in MODELS.build(dict(type='HybridPointNet', **options)).parameters()) / 1e6
    assert millions() == pytest.approx(9.8, abs=0.1)
    assert millions(widths=(16, 32, 64, 128, 192), expansion=2) == pytest.approx(1.8, abs=0.05)


@pytest.mark.parametrize('options, told', [
    (dict(widths=(16, 32, 64)), 'radii: expected 2 numbers'),
    (dict(local_blocks=(1, 2)), 'local_blocks: expected 5 numbers'),
    (dict(widths=(16, 32, 60, 128, 192)), 'expected a divisor of the width 60')])
def test_a_hybrid_that_does_not_fit_is_refused(options, told):
    with pytest.raises(UserError, match=told):
        MODELS.build(dict(type='HybridPointNet', **options))


def test_the_baseline_names_the_lists_it_lacks():
    with pytest.raises(UserError, match=r'graph.near\[0\].*near_levels=\(0, 1, 2, 3\)'):
        build(BASELINE)(batch_of([patch(300)])[0])
    with pytest.raises(UserError, match='multiples of 4'):
        MODELS.build(dict(type='RandLAPointNet', widths=(8, 30, 32, 32, 32)))


def test_the_baseline_learns_statistics_of_points_only():
    statistics = []
    for rows in (700, 2048):
        model = build(BASELINE).train()
        model(batch_of([patch(700)], rows, near_levels=ALL)[0])
        statistics.append([buffer for name, buffer in model.named_buffers() if 'running_var' in name])
    for one, other in zip(*statistics):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_gradients_are_those_of_differences():
    inputs, _ = batch_of([patch(400)])
    model = build(TINY).double()
    inputs = {key: value.double() if key in ('points', 'features', 'context') else value
              for key, value in inputs.items()}
    weight = model.backbone.down[0].aggregation.offsets.weight
    direction = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def value() -> torch.Tensor:
        return model(inputs)[..., :400].sin().sum()

    def moved(step: float) -> float:
        with torch.no_grad():
            weight.add_(direction, alpha=step)
            moved_to = value().item()
            weight.sub_(direction, alpha=step)
        return moved_to

    value().backward()
    assert (weight.grad * direction).sum().item() == pytest.approx((moved(1e-7) - moved(-1e-7)) / 2e-7, rel=1e-4)
