"""Loss weights follow the runner's clock."""

from types import SimpleNamespace

import pytest
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from mmseg.registry import MODELS
from torch import nn

from projects.engine.errors import UserError
from projects.multistage.warmup import StageWarmupHook


class Loss(nn.Module):
    loss_weight = 1.0


class Network(nn.Module):
    """What a schedule may point at."""

    def __init__(self):
        super().__init__()
        self.kd_weight, self.name, self.scale_loss = 0.7, 'text', None
        self.student = nn.Module()
        self.student.decode_head = nn.Module()
        self.student.decode_head.loss_decode = nn.ModuleList([Loss(), Loss()])
        self.terms = [Loss()]


def runner(epochs=True):
    loop = object.__new__(EpochBasedTrainLoop if epochs else IterBasedTrainLoop)
    return SimpleNamespace(model=Network(), train_loop=loop, epoch=0, iter=0)


def follow(hook, found, times, read, clock='epoch'):
    values = []
    for when in times:
        setattr(found, clock, when)
        hook.before_train_iter(found, 0)
        values.append(read(found.model))
    return values


def test_weights_by_epoch_and_by_iteration():
    for epochs in (True, False):
        found = runner(epochs)
        hook = StageWarmupHook({'kd_weight': [(0, 0.0), (5, 0.7), (8, 0.1)]}, by_epoch=epochs)
        hook.before_train(found)
        assert follow(hook, found, range(10), lambda model: model.kd_weight, 'epoch' if epochs else 'iter') == [
            0.0] * 5 + [0.7] * 3 + [0.1] * 2


def test_a_warm_up_of_no_length_is_on_from_the_start():
    """What configs/landcover/_base_/distil.py makes of warmup = 0."""
    for ramp in (0, 3):
        found = runner()
        hook = StageWarmupHook({'kd_weight': [(0, 0.0), (0, 0.7)]}, ramp=ramp)
        hook.before_train(found)
        assert follow(hook, found, range(3), lambda model: model.kd_weight) == [0.7] * 3


def test_a_loss_of_an_ordinary_segmentor(networks):
    """No teacher: the second loss of the head is off, then counts half."""
    found = runner()
    found.model = MODELS.build(networks.segmentor()).eval()
    hook = StageWarmupHook({'decode_head.loss_decode.1.loss_weight': [(0, 0.0), (1, 1.0), (2, 0.5)]})
    hook.before_train(found)

    def dice(model):
        losses = model(**model.data_preprocessor(networks.batch(), True), mode='loss')
        assert losses['decode.loss_ce'] > 0
        return float(losses['decode.loss_dice'])

    off, on, half = follow(hook, found, range(3), dice)
    assert off == 0.0 and on > 0 and half == pytest.approx(on / 2)


def test_a_resume_in_the_middle_has_the_right_weight_at_once():
    found = runner()
    hook = StageWarmupHook({'kd_weight': [(0, 0.0), (5, 0.7)]})
    hook.before_train(found)
    assert follow(hook, found, [6], lambda model: model.kd_weight) == [0.7]
    assert follow(hook, found, [4], lambda model: model.kd_weight) == [0.0]


def test_paths_lead_through_modules_and_lists():
    found = runner()
    hook = StageWarmupHook({'student.decode_head.loss_decode.1.loss_weight': [(0, 0.25)],
                            'terms.0.loss_weight': [(0, 3)]})
    hook.before_train(found)
    hook.before_train_iter(found, 0)
    losses = found.model.student.decode_head.loss_decode
    assert (losses[0].loss_weight, losses[1].loss_weight, found.model.terms[0].loss_weight) == (1.0, 0.25, 3.0)


def test_the_model_is_found_in_a_wrapper(monkeypatch):
    found = runner()
    found.model = SimpleNamespace(module=found.model)
    monkeypatch.setattr('projects.multistage.warmup.is_model_wrapper', lambda model: True)
    hook = StageWarmupHook({'kd_weight': [(0, 0.5)]})
    hook.before_train(found)
    hook.before_train_iter(found, 0)
    assert found.model.module.kd_weight == 0.5


def test_a_ramp_goes_in_equal_steps():
    found = runner()
    hook = StageWarmupHook({'kd_weight': [(0, 1.0), (2, 0.0)]}, ramp=3)
    hook.before_train(found)
    assert follow(hook, found, range(7), lambda model: model.kd_weight) == [1.0, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]


def test_a_cosine_over_a_whole_training():
    """The factor (1 - cos(pi t / T)) / 2 of an uncertainty-aware loss, T = 4."""
    found = runner()
    hook = StageWarmupHook({'kd_weight': [(0, 0.0), (1, 1.0)]}, ramp=3, shape='cosine')
    hook.before_train(found)
    assert follow(hook, found, range(6), lambda model: model.kd_weight) == pytest.approx(
        [0, (1 - 0.5 ** 0.5) / 2, 0.5, (1 + 0.5 ** 0.5) / 2, 1, 1], abs=1e-12)


def test_each_path_may_have_its_own_ramp_and_shape(monkeypatch):
    told = []
    monkeypatch.setattr('projects.multistage.warmup.print_log', lambda text, *_, **__: told.append(text))
    found = runner()
    hook = StageWarmupHook({'kd_weight': [(0, 1.0), (2, 0.0)], 'terms.0.loss_weight': [(0, 0.3), (2, 0.0)],
                            'student.decode_head.loss_decode.0.loss_weight': [(0, 0.0), (2, 2.0)]},
                           ramp={'kd_weight': 3, 'student.decode_head.loss_decode.0.loss_weight': 2},
                           shape={'student.decode_head.loss_decode.0.loss_weight': 'cosine'})
    hook.before_train(found)
    values = follow(hook, found, range(6), lambda model: (
        model.kd_weight, model.terms[0].loss_weight, model.student.decode_head.loss_decode[0].loss_weight))
    linear, off, cosine = zip(*values)
    assert linear == (1.0, 1.0, 0.75, 0.5, 0.25, 0.0) and off == (0.3, 0.3, 0.0, 0.0, 0.0, 0.0)
    assert cosine == pytest.approx((0.0, 0.0, 0.5, 1.5, 2.0, 2.0))
    assert told[1] == ('loss weights from epoch 3 on: kd_weight 0 (over 3 more), terms.0.loss_weight 0, '
                       'student.decode_head.loss_decode.0.loss_weight 2 (over 2 more)')


@pytest.mark.parametrize('arguments, message', [
    (dict(ramp={'kd_wieght': 3}), "loss_schedule.ramp: 'kd_wieght' is no path of loss_schedule.weights; did you mean "
                                  'kd_weight?'),
    (dict(shape={'kd': 'cosine'}), "loss_schedule.shape: 'kd' is no path"),
    (dict(shape='cosin'), "loss_schedule.shape: expected one of linear, cosine, found 'cosin'; did you mean cosine?"),
    (dict(shape={'kd_weight': 'lin'}), "loss_schedule.shape.kd_weight: expected one of linear, cosine, found 'lin'"),
    (dict(shape=None), 'loss_schedule.shape: expected one of'),
    (dict(ramp=-1), 'loss_schedule.ramp: expected a whole number of at least 0, found -1'),
    (dict(ramp=float('nan')), 'loss_schedule.ramp: expected a whole number of at least 0, found nan'),
    (dict(ramp={'kd_weight': 'long'}), "loss_schedule.ramp.kd_weight: expected a whole number of at least 0, found "
                                       "'long'"),
    (dict(ramp={'kd_weight': 4}), 'loss_schedule.weights.kd_weight: expected points more than ramp=4 apart')])
def test_ramps_and_shapes_that_are_none_are_refused(arguments, message):
    with pytest.raises(UserError) as error:
        StageWarmupHook({'kd_weight': [(0, 1.0), (2, 0.0), (5, 1.0)]}, **arguments)
    assert message in str(error.value)


def test_a_change_is_told_once(monkeypatch):
    told = []
    monkeypatch.setattr('projects.multistage.warmup.print_log', lambda text, *_, **__: told.append(text))
    found = runner()
    hook = StageWarmupHook({'kd_weight': [(0, 0.0), (2, 0.7)], 'terms.0.loss_weight': [(0, 1.0)]})
    hook.before_train(found)
    follow(hook, found, [0, 0, 1, 1, 2, 2, 3], lambda model: None)
    assert told == ['loss weights from epoch 1 on: kd_weight 0, terms.0.loss_weight 1',
                    'loss weights from epoch 3 on: kd_weight 0.7']


@pytest.mark.parametrize('path, message', [
    ('kd_wieght', "the model has no 'kd_wieght'; did you mean kd_weight?"),
    ('studnt.decode_head', "the model has no 'studnt'; did you mean student?"),
    ('student.decode_head.loss_decode.2.loss_weight', "student.decode_head.loss_decode has no '2'"),
    ('scale_loss.loss_weight', "scale_loss has no 'loss_weight'"),
    ('terms.1.loss_weight', "terms is a list of 1, found index '1'"),
    ('student.decode_head', 'expected a number, found Module'),
    ('name', 'expected a number, found str')])
def test_an_unknown_path_is_refused_before_training(path, message):
    with pytest.raises(UserError) as error:
        StageWarmupHook({path: [(0, 1.0)]}).before_train(runner())
    assert message in str(error.value)


@pytest.mark.parametrize('points', [[(1, 0.0)], [(0, 0.0), (5, 1.0), (5, 0.5)], [(1, 0.0), (0, 0.5)], [],
                                    [(0, 0.0), (3, 1.0), (2, 0.5)],
                                    [(0, 0.0), (1.5, 1.0)], [0.5], [(0, 'much')]])
def test_schedules_that_are_none_are_refused(points):
    with pytest.raises(UserError, match='loss_schedule.weights.kd_weight'):
        StageWarmupHook({'kd_weight': points})


def test_epochs_that_never_advance_are_refused():
    """The seed's mistake: a clock that stands still."""
    with pytest.raises(UserError, match='by_epoch: expected False'):
        StageWarmupHook({'kd_weight': [(0, 1.0)]}).before_train(runner(epochs=False))


def test_points_within_a_ramp_are_refused():
    with pytest.raises(UserError, match='more than ramp=4 apart'):
        StageWarmupHook({'kd_weight': [(0, 1.0), (2, 0.0), (5, 1.0)]}, ramp=4)
