"""The policy of scales follows the runner's clock, and chance the run's seed."""

from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.config import Config
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from mmseg.registry import HOOKS, MODELS
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from projects.engine import startup
from projects.engine.errors import UserError
from projects.multiscale.backbone import MultiScaleBackbone
from projects.multiscale.scale_policy_hook import ScalePolicyHook

startup.start()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Conv2d(3, 4, 2, 2)

    def forward(self, x):
        return (self.one(x),)


def backbone(**options):
    return MultiScaleBackbone(Net(), fusion=[None], **options)


def runner(model=None, epochs=True, seed=7):
    loop = object.__new__(EpochBasedTrainLoop if epochs else IterBasedTrainLoop)
    if model is None:
        model = nn.ModuleDict({'backbone': backbone(), 'head': nn.Conv2d(4, 2, 1)})
    return SimpleNamespace(model=model, train_loop=loop, epoch=0, iter=0, seed=seed)


def policies(hook, found, times, clock='epoch'):
    seen = []
    for when in times:
        setattr(found, clock, when)
        hook.before_train_iter(found, 0)
        seen.append(str(found.model['backbone'].policy[2]))
    return seen


def modes(found, hook, iterations):
    seen = []
    for found.iter in iterations:
        hook.before_train_iter(found, 0)
        seen.append(found.model['backbone'].modes)
    return seen


@pytest.mark.parametrize('epochs', [True, False])
def test_policies_by_epoch_and_by_iteration(epochs):
    found = runner(epochs=epochs)
    hook = ScalePolicyHook([(0, 'no_grad'), (2, 'stochastic(0.5)'), (4, ['no_grad', 'checkpoint', 'grad'])],
                           by_epoch=epochs)
    hook.before_train(found)
    assert policies(hook, found, range(6), 'epoch' if epochs else 'iter') == [
        'no_grad'] * 2 + ['stochastic(0.5)'] * 2 + ['grad'] * 2
    assert list(map(str, found.model['backbone'].policy)) == ['no_grad', 'checkpoint', 'grad']
    assert found.model['backbone'].modes == ('no_grad', 'checkpoint', 'grad')


def test_a_resume_in_the_middle_has_the_right_policy_at_once():
    for when, expected in ((6, 'grad'), (4, 'no_grad')):
        found = runner()
        hook = ScalePolicyHook([(0, 'no_grad'), (5, 'grad')])
        hook.before_train(found)
        assert policies(hook, found, [when]) == [expected]
        assert found.model['backbone'].modes == ('grad', 'grad', expected)


def test_chance_is_the_seeds_and_the_iterations():
    """Another process, or a resumed run, draws the same; its own random numbers do not matter."""
    def draws(seed, iterations):
        found, hook = runner(seed=seed), ScalePolicyHook('stochastic(0.25, checkpoint)')
        hook.before_train(found)
        return modes(found, hook, iterations)

    whole = draws(7, range(400))
    assert draws(7, range(400)) == whole and draws(7, range(150, 400)) == whole[150:]
    assert draws(8, range(400)) != whole
    upper = [mode[2] for mode in whole]
    assert set(upper) == {'checkpoint', 'no_grad'} and 65 < upper.count('checkpoint') < 135
    assert all(mode[:2] == ('grad', 'grad') for mode in whole)


def test_without_a_policy_the_backbones_own_is_drawn():
    found = runner(nn.ModuleDict({'backbone': backbone(policy='stochastic(0.5)')}))
    hook = ScalePolicyHook()
    hook.before_train(found)
    assert {mode[2] for mode in modes(found, hook, range(30))} == {'grad', 'no_grad'}
    assert str(found.model['backbone'].policy[2]) == 'stochastic(0.5)'


def test_afterwards_backbones_draw_for_themselves():
    found = runner()
    hook = ScalePolicyHook('no_grad')
    hook.before_train(found)
    hook.before_train_iter(found, 0)
    assert found.model['backbone'].modes == ('grad', 'grad', 'no_grad')
    hook.after_train(found)
    assert found.model['backbone'].modes is None


def test_the_network_is_found_inside_what_is_around_it(monkeypatch):
    """A wrapper for distribution, and a student beside its teacher, whose backbone is not trained."""
    monkeypatch.setattr('projects.multiscale.scale_policy_hook.is_model_wrapper',
                        lambda model: isinstance(model, SimpleNamespace))
    student, teacher = nn.ModuleDict({'backbone': backbone()}), nn.ModuleDict({'backbone': backbone()})
    both = nn.Module()
    both.student, both.teacher, both.trained_network = student, teacher, student
    found = runner(SimpleNamespace(module=both))
    hook = ScalePolicyHook('no_grad')
    hook.before_train(found)
    hook.before_train_iter(found, 0)
    assert student['backbone'].modes == ('grad', 'grad', 'no_grad') and teacher['backbone'].modes is None


def test_a_change_is_told_once(monkeypatch):
    told = []
    monkeypatch.setattr('projects.multiscale.scale_policy_hook.print_log', lambda text, *_, **__: told.append(text))
    found = runner()
    hook = ScalePolicyHook([(0, 'no_grad'), (2, 'stochastic(0.25, checkpoint)')])
    hook.before_train(found)
    policies(hook, found, [0, 0, 1, 2, 2, 3])
    assert told == ['scale policy from epoch 1 on: 0.5x grad, 1x grad, 1.5x no_grad',
                    'scale policy from epoch 3 on: 0.5x grad, 1x grad, 1.5x stochastic(0.25, checkpoint)']


@pytest.mark.parametrize('policy, message', [
    ([], 'expected whole, ascending times that begin at 0, found []'),
    ([(1, 'grad')], 'found [1]'), ([(0, 'grad'), (5, 'no_grad'), (5, 'grad')], 'found [0, 5, 5]'),
    ([(0, 'grad'), (1.5, 'no_grad')], 'found [0, 1.5]'), (['grad', 'grad', 'grad'], 'expected pairs (when, policy)'),
    (3, 'expected pairs'), ([(0, 'gard')], 'ScalePolicyHook.policy[0]: expected'),
    ([(0, 'grad'), (1, ['grad', 'no_grad', 'grad'])], 'ScalePolicyHook.policy[1][1]: expected'),
    ([(0, ['grad'])], 'one for each of 3 scales, found 1')])
def test_schedules_that_are_none_are_refused_before_training(policy, message):
    with pytest.raises(UserError) as error:
        ScalePolicyHook(policy).before_train(runner())
    assert message in str(error.value)


def test_a_model_without_scales_is_refused():
    with pytest.raises(UserError, match='expected a MultiScaleBackbone in the model, found none'):
        ScalePolicyHook('grad').before_train(runner(nn.Conv2d(3, 3, 1)))


def test_epochs_that_never_advance_are_refused():
    with pytest.raises(UserError, match='by_epoch: expected False'):
        ScalePolicyHook([(0, 'grad'), (1, 'no_grad')]).before_train(runner(epochs=False))
    ScalePolicyHook('grad').before_train(runner(epochs=False))  # one policy needs no clock


def test_it_is_built_from_a_config(tmp_path):
    (tmp_path / 'config.py').write_text(
        "custom_hooks = [dict(type='ScalePolicyHook', policy=[(0, 'stochastic(0.25)'), (3, ['grad'] * 3)])]\n")
    hook = HOOKS.build(Config.fromfile(tmp_path / 'config.py').custom_hooks[0])
    found = runner()
    hook.before_train(found)
    assert policies(hook, found, [0, 3]) == ['stochastic(0.25)', 'grad']


class Fusion(nn.Module):
    def __init__(self, channels, num_scales, reference):
        super().__init__()
        self.out = nn.Conv2d(num_scales * channels, channels, 1)

    def forward(self, features):
        return self.out(torch.cat(list(features), 1))


def train(rank, folder):
    dist.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    torch.manual_seed(0)
    MODELS.register_module(module=Fusion, name='FusionOfThisTest', force=True)
    network = nn.Sequential(MultiScaleBackbone(Net(), fusion=dict(type='FusionOfThisTest')))
    network[0].backbone.norm = nn.BatchNorm2d(3)
    network[0].backbone.register_forward_pre_hook(lambda module, inputs: (module.norm(inputs[0]),))
    # Seeds as with diff_rank_seed; an unused parameter would be an error in the next iteration.
    found = runner(DistributedDataParallel(network), seed=7 + rank)
    hook = ScalePolicyHook([(0, 'stochastic(0.5, checkpoint)'), (8, ['no_grad', 'checkpoint', 'no_grad'])],
                           by_epoch=False)
    hook.before_train(found)
    torch.manual_seed(rank)  # each has its own random numbers
    optimizer, modes = torch.optim.SGD(network.parameters(), lr=0.1), []
    for found.iter in range(10):
        hook.before_train_iter(found, 0)
        modes.append(network[0].modes)
        optimizer.zero_grad()
        (found.model(torch.randn(1, 3, 32, 32))[0] ** 2).mean().backward()
        optimizer.step()
    torch.save(dict(modes=modes, weights=[p.detach() for p in network.parameters()],
                    gradients=[p.grad for p in network.parameters()]), f'{folder}/{rank}.pt')
    dist.destroy_process_group()


def test_two_processes_run_the_same_scales_and_leave_no_parameter_unused(tmp_path):
    mp.start_processes(train, (str(tmp_path),), nprocs=2, start_method='spawn')
    first, second = (torch.load(tmp_path / f'{rank}.pt') for rank in range(2))
    assert first['modes'] == second['modes'] and len(set(first['modes'])) == 3
    for one, other in zip(first['weights'] + first['gradients'], second['weights'] + second['gradients']):
        assert torch.equal(one, other) and one.any()
