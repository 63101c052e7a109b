"""A student with a teacher: what it trains on, and what nobody else sees of the teacher."""

import copy

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.model import ExponentialMovingAverage
from mmengine.optim import OptimWrapper
from mmengine.runner.checkpoint import load_state_dict
from mmseg.registry import MODELS
from torch import nn

from projects.engine.checkpoints import compare_keys, load_weights
from projects.engine.errors import UserError
from projects.engine.parameter_groups import ParameterGroups
from projects.multistage.distillation import DistilledSegmentor
from projects.multistage.initialise import initialise


@pytest.fixture
def distilled(networks, tmp_path):
    """Make a distillation; arguments replace the default ones."""

    def make(student=None, teacher=None, classes=None, seed=0, **arguments):
        student = student or networks.segmentor()
        path = tmp_path / 'teacher.pth'
        networks.save(path, teacher or student, classes or networks.CLASSES, seed=7)
        torch.manual_seed(seed)
        model = MODELS.build(dict(dict(
            type='DistilledSegmentor', teacher_checkpoint=str(path), classes=networks.CLASSES,
            loss=dict(type='ConfidenceMaskedKDLoss', threshold=0.3)), student=student, **arguments))
        model.init_weights()
        return model

    return make


def losses_of(model, batch, autocast=False):
    data = model.data_preprocessor(copy.deepcopy(batch), True)
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        return model(**data, mode='loss')


def test_the_sum_and_its_terms(distilled, networks):
    model, batch = distilled(hard_weight=0.25, kd_weight=2.0), networks.batch()
    states = torch.get_rng_state()
    found = losses_of(model, batch)
    torch.set_rng_state(states)  # dropout
    plain = losses_of(model.student, batch)
    for name in ('decode.loss_ce', 'decode.loss_dice'):
        torch.testing.assert_close(found[name], 0.25 * plain[name])
    assert torch.equal(found['decode.acc_seg'], plain['decode.acc_seg'])
    total, log = model.parse_losses(found)
    torch.testing.assert_close(total, found['decode.loss_ce'] + found['decode.loss_dice'] + found['loss_kd'])
    assert {'kd/kept_share', 'kd/teacher_entropy', 'kd/agreement', 'kd/kept_agreement'} <= set(log)
    assert 0 < log['kd/kept_share'] <= 1 and found['loss_kd'] > 0
    model.kd_weight = 1.0
    torch.set_rng_state(states)
    torch.testing.assert_close(losses_of(model, batch)['loss_kd'], found['loss_kd'] / 2)


def test_an_equal_teacher_teaches_nothing(distilled, networks):
    """Both in eval mode, KD only."""
    model = distilled(hard_weight=0.0, kd_weight=1.0)
    load_weights(model, model.teacher.path)
    total, _ = model.parse_losses(losses_of(model.eval(), networks.batch()))
    total.backward()
    assert abs(total.item()) < 1e-6
    assert max(float(p.grad.abs().max()) for p in model.parameters() if p.grad is not None) < 1e-6


def test_kd_is_taken_at_the_size_of_the_labels(distilled, networks, tmp_path):
    """Student at 1/4, teacher at 1/32 of another width; the loss is that of both resized logits."""
    teacher = networks.segmentor(level=3, base_channels=16)
    (tmp_path / 'teacher.py').write_text(f'model = {teacher!r}\n')
    model = distilled(networks.segmentor(auxiliary=True), teacher, teacher_config=str(tmp_path / 'teacher.py')).eval()
    data = model.data_preprocessor(networks.batch(), True)
    found = model(**data, mode='loss')
    with torch.no_grad():
        label = torch.cat([sample.gt_sem_seg.data for sample in data['data_samples']])
        logits = [network(data['inputs'], mode='tensor') for network in (model.student, model.teacher.network)]
        assert [one.shape[2:] for one in logits] == [(16, 16), (2, 2)]
        expected, _ = model.kd_loss(*(nn.functional.interpolate(one, size=(64, 64), mode='bilinear')
                                      for one in logits), label)
    torch.testing.assert_close(found['loss_kd'].detach(), 0.7 * expected)


def test_while_the_weights_are_zero_the_teacher_is_not_asked(distilled, networks, monkeypatch):
    model = distilled(kd_weight=0.0)
    monkeypatch.setattr(model.teacher.network, 'extract_feat', lambda inputs: pytest.fail('asked'))
    found = losses_of(model, networks.batch())
    assert float(found['loss_kd']) == 0.0 and not any(name.startswith('kd/') for name in found)


def test_statistics_leave_the_log_with_kd(distilled, networks):
    """A log line repeats the last value of what a step does not report."""
    model, scalars = distilled(), MessageHub.get_current_instance().log_scalars
    scalars.update({'train/kd/kept_share': 0.6, 'train/kd/agreement': 0.8, 'train/loss': 1.0})
    losses_of(model, networks.batch())
    assert 'train/kd/kept_share' in scalars
    model.kd_weight = 0.0
    losses_of(model, networks.batch())
    assert scalars.pop('train/loss') == 1.0 and not any('kd' in name for name in scalars)


def test_a_step_trains_the_student_and_leaves_the_teacher(distilled, networks):
    model = distilled()
    before = copy.deepcopy(model.teacher.network.state_dict())
    own = copy.deepcopy(model.student.state_dict())
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    for seed in range(3):
        model.train()
        model.train_step(networks.batch(seed=seed), wrapper)
    after = model.teacher.network.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)  # running statistics among them
    assert not any(module.training for module in model.teacher.network.modules())
    assert not torch.equal(own['decode_head.conv_seg.weight'], model.student.decode_head.conv_seg.weight)
    assert all(p.grad is None and not p.requires_grad for p in model.teacher.network.parameters())


def test_without_kd_it_is_the_student_to_the_bit(distilled, networks):
    """The teacher takes no random number; initialisation and losses are those of the student alone."""
    model = distilled(networks.segmentor(level=3), hard_weight=1.0, kd_weight=0.0, seed=4)
    torch.manual_seed(4)
    alone = MODELS.build(networks.segmentor(level=3))
    alone.init_weights()
    torch.manual_seed(5)
    found = model.parse_losses(losses_of(model, networks.batch()))[0]
    torch.manual_seed(5)
    expected = alone.parse_losses(losses_of(alone, networks.batch()))[0]
    assert torch.equal(found, expected)
    found.backward(), expected.backward()
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(model.parameters(), alone.parameters(), strict=True))


def test_autocast_reaches_the_teacher_and_not_the_loss(distilled, networks):
    model = distilled(kd_weight=1.0)
    full, half = (losses_of(model.eval(), networks.batch(), autocast)['loss_kd'] for autocast in (False, True))
    assert full.dtype == half.dtype == torch.float32 and full != half
    torch.testing.assert_close(full, half, rtol=0.05, atol=1e-3)
    half.backward()


def test_the_teacher_is_in_nothing(distilled, networks, tmp_path):
    model = distilled()
    alone = MODELS.build(networks.segmentor())
    assert list(model.state_dict()) == list(alone.state_dict())
    assert [name for name, _ in model.named_parameters()] == [f'student.{name}' for name, _ in alone.named_parameters()]
    assert not any('teacher' in name for name, _ in (*model.named_modules(), *model.named_buffers()))
    average = ExponentialMovingAverage(model, update_buffers=True)
    assert [key for key in average.state_dict() if key != 'steps'] == [f'module.{key}' for key in alone.state_dict()]
    assert average.module.teacher is model.teacher and average.module.student is not model.student


def test_it_loads_what_the_student_loads(distilled, networks, tmp_path):
    model, alone = distilled(), networks.save(tmp_path / 'other.pth', networks.segmentor(), seed=9)
    assert compare_keys(model, alone.state_dict()).fits
    load_weights(model, tmp_path / 'other.pth')
    assert all(torch.equal(value, alone.state_dict()[key]) for key, value in model.student.state_dict().items())
    with pytest.raises(RuntimeError, match=r'Missing key\(s\).*student.backbone'):
        model.load_state_dict({}, strict=True)
    with pytest.raises(RuntimeError, match=r'Unexpected key\(s\).*another'):
        model.load_state_dict({**alone.state_dict(), 'another': torch.zeros(1)}, strict=True)
    fresh = distilled(seed=1)
    average = ExponentialMovingAverage(fresh)
    load_state_dict(average.module, alone.state_dict(), strict=True)  # as EMAHook does
    assert torch.equal(average.module.student.decode_head.conv_seg.weight, alone.decode_head.conv_seg.weight)
    kept = copy.deepcopy(average.state_dict())
    again = ExponentialMovingAverage(distilled(seed=2))
    again.load_state_dict(kept, strict=True)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in kept.items())


def test_initialise_knows_a_new_output_layer(distilled, networks, tmp_path):
    """Prefixes are those of state keys; a new head may have other classes, as without a teacher."""
    model = distilled()
    networks.save(tmp_path / 'other.pth', networks.segmentor(num_classes=3), classes=('a', 'b', 'c'))
    report = initialise(model, tmp_path / 'other.pth', new=['decode_head.conv_seg'],
                        dataset_meta=dict(classes=networks.CLASSES))
    assert report.share == 1.0 and report.new == ('decode_head.conv_seg.weight', 'decode_head.conv_seg.bias')


def test_parameter_groups_are_those_of_the_student(distilled, networks):
    build = ParameterGroups(dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.5)),
                            dict(backbone_lr_mult=0.1, layer_decay=0.5))

    def facts(wrapper):
        return [(group['name'], group['lr'], group['weight_decay'], [p.shape for p in group['params']])
                for group in wrapper.optimizer.param_groups]

    model = distilled()
    found = facts(build(model))
    assert found == facts(build(MODELS.build(networks.segmentor()))) and found[0][0].startswith('backbone')
    assert sum(len(group[3]) for group in found) == len(list(model.parameters()))


def test_prediction_is_the_students(distilled, networks):
    model, batch = distilled().eval(), networks.batch(1)
    with torch.no_grad():
        found = model.test_step(copy.deepcopy(batch))[0].seg_logits.data
        assert torch.equal(found, model.student.test_step(copy.deepcopy(batch))[0].seg_logits.data)
        images = model.data_preprocessor(copy.deepcopy(batch), False)['inputs']
        assert torch.equal(model(images), model.student(images))


def test_channels_last_reaches_the_teacher(distilled):
    model = distilled().to(memory_format=torch.channels_last)
    weight = model.teacher.network.backbone.layer1[0].conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()


def test_a_teacher_with_another_config_classes_and_normalisation(networks, tmp_path, distilled):
    """From a config of its own: other width and stride, BGR, another mean; its logits are those it gives alone."""
    other = networks.segmentor(level=3, base_channels=16, mean=[100.0, 90.0, 80.0], std=[50.0, 40.0, 30.0],
                               bgr_to_rgb=True)
    config = tmp_path / 'teacher.py'
    config.write_text(f'model = {other!r}\n')
    model = distilled(teacher=other, teacher_config=str(config))
    batch = networks.batch()
    data = model.data_preprocessor(copy.deepcopy(batch), True)
    found, _ = model.teacher(model.conversion(data['inputs']))
    own = model.teacher.network.data_preprocessor(copy.deepcopy(batch), True)['inputs']
    assert found.shape == (2, 4, 2, 2) and not found.is_inference()
    torch.testing.assert_close(found, model.teacher.network(own, mode='tensor'), rtol=1e-3, atol=1e-3)


def test_permuted_classes_are_refused_and_mapped_by_name(distilled, networks):
    permuted = ('wood', 'water', 'town', 'field')
    with pytest.raises(UserError, match='the classes of the student in another order: expected water, wood, field, town'
                                        '; found wood, water, town, field'):
        distilled(classes=permuted)
    by_name = distilled(classes=permuted, remap={name: name for name in permuted})
    assert by_name.remap.tolist() == [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]
    found = losses_of(by_name.eval(), networks.batch())['loss_kd']
    straight = distilled().eval()
    head = straight.teacher.network.decode_head.conv_seg
    with torch.no_grad():  # the same teacher with its outputs in the student's order
        for value in (head.weight, head.bias):
            value.copy_(value[[1, 0, 3, 2]].clone())
    torch.testing.assert_close(found, losses_of(straight, networks.batch())['loss_kd'])


@pytest.mark.parametrize('remap, message', [
    (None, 'other classes than the student'),
    ({'a': 'water'}, "expected every class of the teacher .*'b' is missing"),
    ({'a': 'wather', 'b': None, 'c': None}, "student has no class 'wather'; did you mean water"),
    ({'a': 'water', 'b': {'wood': 0.7}, 'c': None}, 'distil.remap.1: expected shares of at least 0 whose sum is 1'),
    ([[1, 0, 0, 0]] * 4, r'expected 3 rows \(classes of the teacher\) of 4 numbers'),
    ([[1, 0, 0, 0], [0, 1, 0]], 'found 2 of 3, 4')])
def test_remaps_that_are_none(distilled, networks, tmp_path, remap, message):
    three = networks.segmentor(num_classes=3)
    (tmp_path / 'three.py').write_text(f'model = {three!r}\n')
    with pytest.raises(UserError, match=message):
        distilled(teacher=three, classes=('a', 'b', 'c'), remap=remap, teacher_config=str(tmp_path / 'three.py'))


def test_teachers_that_do_not_fit(distilled, networks, tmp_path):
    with pytest.raises(UserError, match='nothing.pth: no such file'):
        distilled(teacher_checkpoint=str(tmp_path / 'nothing.pth'))
    with pytest.raises(UserError, match='does not fit this network: .*distil.teacher_config names another config'):
        distilled(teacher=networks.segmentor(base_channels=16))
    with pytest.raises(UserError, match='expected weights of at least 0'):
        distilled(kd_weight=-1.0)
    with pytest.raises(UserError, match='feature_weight: expected 0 without a feature_loss'):
        distilled(feature_weight=1.0)


def test_a_teacher_without_classes_counts_its_outputs(distilled, networks, tmp_path):
    networks.save(tmp_path / 'three.pth', networks.segmentor(num_classes=3), classes=None)
    with pytest.raises(UserError, match='does not fit this network'):
        distilled(teacher_checkpoint=str(tmp_path / 'three.pth'))


def test_feature_distillation(distilled, networks):
    model = distilled(kd_weight=0.0, feature_weight=2.0, feature_loss=dict(type='FeatureDistillationLoss')).eval()
    found = losses_of(model, networks.batch())
    images = model.data_preprocessor(networks.batch(), True)['inputs']
    expected = model.feature_loss(model.student.extract_feat(images), model.teacher.network.extract_feat(images))
    torch.testing.assert_close(found['loss_feature'], 2.0 * expected)
    assert float(found['loss_kd']) == 0.0
    found['loss_feature'].backward()
    assert model.student.backbone.stem[0].weight.grad.abs().max() > 0
    load_weights(model, model.teacher.path)
    assert float(losses_of(model, networks.batch())['loss_feature']) == pytest.approx(0.0, abs=1e-6)


def test_a_kept_share_out_of_range_is_told_now_and_then(distilled, networks, monkeypatch):
    told = []
    monkeypatch.setattr('projects.multistage.distillation.print_log', lambda text, *_, **__: told.append(text))
    model = distilled()
    for _ in range(499):
        model._watch(torch.tensor(0.2))
    assert len(told) == 1 and 'KD keeps 20.0 % of the labelled pixels, expected 50 to 95 %' in told[0]
    model._watch(torch.tensor(1.0))
    assert len(told) == 2
    for _ in range(500):
        model._watch(torch.tensor(0.8))
    assert len(told) == 2
    model.kd_loss.threshold = 0.0
    for _ in range(500):
        model._watch(torch.tensor(1.0))
    assert len(told) == 2


def test_a_head_that_does_not_classify_pixels_is_told():
    with pytest.raises(UserError, match='gives its losses no map of logits'):
        DistilledSegmentor._own_logits([], nn.Conv2d(1, 1, 1))
