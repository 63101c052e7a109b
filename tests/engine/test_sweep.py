"""Sweeps: W&B's format read strictly, draws that a seed fixes, brackets, states that outlive a kill."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from random import Random

import pytest
import yaml

from projects.engine.config import load_config
from projects.engine.errors import UserError
from projects.engine.sweep import run as sweep_run
from projects.engine.sweep.definition import Hyperband, Metric, read_sweep
from projects.engine.sweep.history import best_of, metric_history, should_stop
from projects.engine.sweep.parameters import draw_all, grid, read_parameters
from projects.engine.sweep.results import result_rows
from projects.engine.sweep.run import Sweeper

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / 'configs').glob('*/sweeps/*.yaml'))
UP = Metric('val/mIoU', True, None)
# A stand-in for a training: writes the metric, answers SIGTERM with 75, goes on from what it wrote.
PROGRAM = """
import json, pathlib, signal, sys, time
args = sys.argv[1:]
work_dir = pathlib.Path(args[args.index('--work-dir') + 1])
options = dict(arg.split('=') for arg in args[args.index('--cfg-options') + 1:])
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
if options.get('fail') == 'True':
    sys.exit('error: it does not work')
old = sum(len(path.read_text().splitlines()) for path in work_dir.glob('*/vis_data/scalars.json'))
assert ('--resume' in args) == work_dir.is_dir()
folder = work_dir / f'2025010{1 + len(list(work_dir.glob("2*")))}_000000' / 'vis_data'
folder.mkdir(parents=True)
with open(folder / 'scalars.json', 'a') as file:
    for step in range(old + 1, 7):
        file.write(json.dumps({'mIoU': float(options['x']) * step, 'step': step}) + '\\n')
        file.flush()
        time.sleep(float(options.get('pause', 0)))
"""


def definition(tmp_path, **changes):
    source = {'program': 'train_stub.py', 'method': 'grid', 'metric': {'name': 'val/mIoU', 'goal': 'maximize'},
              'parameters': {'x': {'values': [1, 3, 2]}},
              'command': ['${env}', '${interpreter}', '${program}', 'config', '--cfg-options', '${args_no_hyphens}']}
    source.update(changes)
    path = tmp_path / 'sweep.yaml'
    path.write_text(yaml.safe_dump({key: value for key, value in source.items() if value is not None}))
    return path


@pytest.fixture
def sweeper(tmp_path, monkeypatch):
    """Make a sweeper over the stand-in."""
    (tmp_path / 'train_stub.py').write_text(PROGRAM)
    monkeypatch.chdir(tmp_path)

    def make(told=None, changes=None, **options):
        return Sweeper(read_sweep(definition(tmp_path, **(changes or {}))), tmp_path / 'out', poll=0.02,
                       tell=(told if told is not None else []).append, **options)

    return make


def state(tmp_path):
    return {trial['number']: trial for trial in json.loads((tmp_path / 'out' / 'sweep.json').read_text())['trials']}


# ------------------------------------------------------------------------------------------------- definition


@pytest.mark.parametrize(('changes', 'message'), [
    (dict(paramters={}), "unknown key 'paramters'; did you mean parameters?"),
    (dict(method='gird'), "method: expected grid, random, bayes, found 'gird'; did you mean grid?"),
    (dict(method='bayes'), 'method: bayes needs W&B'),
    (dict(parameters=None), 'key parameters is missing'),
    (dict(metric={'nam': 'x'}), "metric: unknown key 'nam'; did you mean name?"),
    (dict(metric={'name': 'x', 'goal': 'max'}), "metric.goal: expected minimize or maximize, found 'max'"),
    (dict(parameters={'lr': {'vaules': [1]}}), "parameters.lr: unknown key 'vaules'; did you mean values"),
    (dict(parameters={'lr': 3}), 'parameters.lr: expected a mapping'),
    (dict(parameters={'lr': {'min': 1}}), 'parameters.lr: expected value, values, or min and max, found min'),
    (dict(parameters={'lr': {'values': ['1e-4']}}), "parameters.lr.values: expected a number, found the text '1e-4'"),
    (dict(parameters={'lr': {'min': '1e-4', 'max': 1.0, 'distribution': 'uniform'}}), r'in YAML write 1.0e-04'),
    (dict(parameters={'lr': {'min': 2, 'max': 1}}), 'parameters.lr: min 2 is above max 1'),
    (dict(parameters={'lr': {'min': 0, 'max': 1, 'distribution': 'log_uniform_values'}}), 'expected more than 0'),
    (dict(parameters={'lr': {'min': 0, 'max': 1, 'distribution': 'log_unifrm'}}), 'did you mean log_uniform'),
    (dict(parameters={'lr': {'value': 1, 'min': 3}}), "constant takes value, found 'min'"),
    (dict(parameters={'lr': {'values': [1, 2], 'probabilities': [1]}}), 'probabilities: expected 2 numbers'),
    (dict(parameters={'lr': {'min': 0.1, 'max': 0.2}}), 'a grid needs values, found the distribution uniform'),
    (dict(early_terminate={'type': 'hyperband'}), 'early_terminate: expected min_iter, or max_iter and s'),
    (dict(early_terminate={'type': 'hyperband', 'min_iter': 1, 'eta': 1}), 'eta: expected a number above 1'),
    (dict(early_terminate={'type': 'hyperband', 'min_iter': 1}, metric=None), 'early_terminate: needs metric.name'),
    (dict(command=['${program}', '${arguments}']), r'unknown macro \$\{arguments\}'),
    (dict(command=['${env}', '${program}', 'c.py']), r'expected \$\{args\} or \$\{args_no_hyphens\}'),
    (dict(command=['${program}', '${args}', '--work-dir', 'x']), '--work-dir and --resume are set for each trial'),
    (dict(run_cap=0), 'run_cap: expected a whole number from 1'),
])
def test_a_wrong_definition_is_one_line(tmp_path, changes, message):
    with pytest.raises(UserError, match=message) as error:
        read_sweep(definition(tmp_path, **changes))
    assert '\n' not in str(error.value) and 'sweep.yaml' in str(error.value)


def test_brackets_are_those_that_wandb_documents(tmp_path):
    def brackets(**options):
        return read_sweep(definition(tmp_path, early_terminate={'type': 'hyperband', **options})).hyperband.brackets

    assert brackets(min_iter=3)[:4] == (3, 9, 27, 81)
    assert brackets(max_iter=27, s=2) == (3, 9)  # 27 / eta and 27 / eta²
    assert brackets(min_iter=1, eta=1.5)[:4] == (1, 2, 3, 5)  # 1, 1.5, 2.25, 3.4, 5.1: each once


def test_the_command_is_what_the_agent_of_wandb_would_run(tmp_path):
    utils = pytest.importorskip('wandb.sdk.launch.sweeps.utils')
    parameters = {'optim_wrapper.optimizer.lr': 1e-05, 'crop_size': [64, 64], 'name': 'a b', 'flag': True}
    args = utils.create_sweep_command_args({'args': {name: {'value': value} for name, value in parameters.items()}})
    for macro in ('args', 'args_no_hyphens'):
        sweep = read_sweep(definition(tmp_path, command=['${program}', 'c.py', '--cfg-options', '${' + macro + '}']))
        command = sweep.command_of(parameters, Path('/w'), resume=True)
        assert command == [
            'train_stub.py', 'c.py', '--work-dir', '/w', '--resume', 'auto', '--cfg-options', *args[macro]]
    sweep = read_sweep(definition(tmp_path, command=['${env}', '${interpreter}', '${program}', 'c.py', '${args}']))
    assert sweep.command_of({}, Path('/w'), resume=False) == [
        '/usr/bin/env', sys.executable, 'train_stub.py', 'c.py', '--work-dir', '/w']


@pytest.mark.parametrize('path', EXAMPLES, ids=lambda path: path.name)
def test_the_examples_are_read_and_their_configs_take_the_parameters(path, tmp_path):
    sweep = read_sweep(path)
    Sweeper(sweep, tmp_path / 'out', count=2).check()
    assert not (tmp_path / 'out').exists()
    assert sweep.program == 'tools/run_stages.py' or sweep.metric.name == 'val/mIoU'  # a chain logs no metric


def test_there_are_examples():
    assert EXAMPLES


def test_a_parameter_that_the_config_does_not_know_is_named(tmp_path):
    config = 'configs/landcover/ftunetformer-tiny_s0-baseline_village-256.py'
    path = definition(tmp_path, program='tools/train.py', command=['${program}', config, '${args_no_hyphens}'],
                      parameters={'optim_wrapper.optimizer.lrr': {'value': 1.0}})
    with pytest.raises(UserError, match="has no key 'lrr'; did you mean lr?"):
        Sweeper(read_sweep(path), tmp_path / 'out').check()


@pytest.mark.parametrize(('name', 'values', 'message'), [
    ('optim_wrapper.optimizer.lr', [1e-3, 2e-3, 'abc'], "trial 5: .*lr: expected a number like .*, found 'abc'"),
    ('model.backbone.type', [None, 'FTUNetFormr'], 'trial 3: .*FTUNetFormr')])
def test_every_listed_value_is_checked_before(tmp_path, name, values, message):
    config = 'configs/landcover/ftunetformer-tiny_s0-baseline_village-256.py'
    values = [load_config(config).model.backbone.type if value is None else value for value in values]
    path = definition(tmp_path, program='tools/train.py', command=['${program}', config, '${args_no_hyphens}'],
                      parameters={'randomness.seed': {'min': 0, 'max': 1}, name: {'values': values}})
    with pytest.raises(UserError, match=message) as error:
        Sweeper(read_sweep(path), tmp_path / 'out').check()
    assert '\n' not in str(error.value)


def test_texts_with_spaces_and_lists_reach_the_config_as_the_training_reads_them(tmp_path, monkeypatch):
    config = 'configs/landcover/ftunetformer-tiny_s0-baseline_village-256.py'
    path = definition(tmp_path, program='tools/train.py', command=['${program}', config, '${args_no_hyphens}'],
                      parameters={'data_root': {'value': 'my data'}, 'crop_size': {'values': [[64, 64], [32, 64]]}})
    seen = []
    monkeypatch.setattr(sweep_run, 'load_config', lambda config, options: seen.append(options))
    Sweeper(read_sweep(path), tmp_path / 'out').check()
    assert seen == [{'data_root': 'my data', 'crop_size': [64, 64]}, {'data_root': 'my data', 'crop_size': [32, 64]}]


def test_another_program_checks_its_own_arguments(tmp_path):
    """The options of a chain are its trainings', and the Python file of its command is no training's config."""
    path = definition(tmp_path, program='tools/run_stages.py', parameters={'optim_wrapper.optimizer.lrr': {'value': 1}},
                      command=['${program}', 'configs/landcover/chain_tiny.py', '${args_no_hyphens}'])
    Sweeper(read_sweep(path), tmp_path / 'out').check()


def test_a_huge_grid_is_neither_listed_nor_begun_whole(tmp_path, sweeper):
    parameters = {'x': {'values': [1, 3]}, **{name: {'min': 0, 'max': 10 ** 9} for name in 'abc'}}
    planned = sweeper(changes=dict(parameters=parameters), count=2).planned
    assert planned == [{'x': 1, 'a': 0, 'b': 0, 'c': 0}, {'x': 3, 'a': 0, 'b': 0, 'c': 0}]
    with pytest.raises(UserError, match='trials, expected at most 100,000: give it run_cap, or --count'):
        sweeper(changes=dict(parameters=parameters))
    with pytest.raises(UserError, match='parameters.x: 1,000,000,001 values, expected at most 1,000,000'):
        sweeper(changes=dict(parameters={'x': {'distribution': 'q_uniform', 'min': 0, 'max': 10 ** 9, 'q': 1}}))


# ------------------------------------------------------------------------------------------------- parameters


def test_a_grid_is_every_combination():
    parameters = read_parameters({
        'a': {'values': ['x', 'y']}, 'b': {'value': 7}, 'c': {'min': 1, 'max': 3},
        'd': {'distribution': 'q_uniform', 'min': 0.1, 'max': 0.3, 'q': 0.1},
        'e': {'parameters': {'f': {'parameters': {'g': {'value': True}}}}}})
    found = list(grid(parameters))
    assert len(found) == 2 * 1 * 3 * 3
    assert found[0] == {'a': 'x', 'b': 7, 'c': 1, 'd': 0.1, 'e.f.g': True}
    assert [one['d'] for one in found[:3]] == [0.1, 0.2, 0.3] and found[3]['c'] == 2


def draws(about, number=4000):
    parameter, = read_parameters({'x': about})
    generator = Random(0)
    return [parameter.draw(generator) for _ in range(number)]


def mean(values):
    return sum(values) / len(values)


@pytest.mark.parametrize(('about', 'expected', 'low', 'high'), [
    (dict(min=0.0, max=2.0), 1.0, 0, 2),
    (dict(min=1, max=4), 2.5, 1, 4),
    (dict(distribution='q_uniform', min=0.0, max=1.0, q=0.25), 0.5, 0, 1),
    (dict(distribution='beta', a=2.0, b=6.0), 0.25, 0, 1),
    (dict(distribution='normal', mu=3.0, sigma=0.5), 3.0, -math.inf, math.inf),
    (dict(distribution='log_normal', mu=0.0, sigma=0.5), math.exp(0.125), 0, math.inf),
    (dict(distribution='q_normal', mu=10.0, sigma=2.0, q=5), 10.0, -math.inf, math.inf),
])
def test_distributions_have_their_means_and_ranges(about, expected, low, high):
    values = draws(about)
    assert mean(values) == pytest.approx(expected, rel=0.06)
    assert low <= min(values) and max(values) <= high
    if 'q' in about:
        assert all(value / about['q'] == pytest.approx(round(value / about['q'])) for value in values)


@pytest.mark.parametrize(('distribution', 'low', 'high'), [
    ('log_uniform', math.log(1e-4), math.log(1e-2)), ('log_uniform_values', 1e-4, 1e-2),
    ('inv_log_uniform_values', 1e-4, 1e-2), ('inv_log_uniform', math.log(1e2), math.log(1e4))])
def test_logarithmic_ones_are_uniform_in_the_logarithm(distribution, low, high):
    values = draws(dict(distribution=distribution, min=low, max=high))
    assert min(values) >= 1e-4 and max(values) <= 1e-2
    assert mean([math.log10(value) for value in values]) == pytest.approx(-3, abs=0.03)
    assert sum(value < 10 ** -3.5 for value in values) / len(values) == pytest.approx(0.25, abs=0.03)


def test_categories_and_their_probabilities():
    counts = Counter(draws(dict(values=['a', 'b', 'c'], probabilities=[0.2, 0, 0.8])))
    assert counts['b'] == 0 and counts['c'] / 4000 == pytest.approx(0.8, abs=0.03)
    assert Counter(draws(dict(values=[1, 2])))[1] / 4000 == pytest.approx(0.5, abs=0.04)
    assert set(map(type, draws(dict(min=1, max=4)))) == {int}


def test_a_trials_draw_depends_on_seed_and_number_alone():
    parameters = read_parameters({'x': {'min': 0.0, 'max': 1.0}, 'y': {'values': [1, 2, 3]}})
    some = [draw_all(parameters, 3, number) for number in range(200)]
    assert some[7] == draw_all(parameters, 3, 7) != draw_all(parameters, 4, 7)
    assert mean([one['x'] for one in some]) == pytest.approx(0.5, abs=0.06)


# ------------------------------------------------------------------------------------------------- early stopping


def test_the_best_third_and_one_more_go_on():
    hyperband = Hyperband((2, 6), 3.0, strict=False)
    others = [[0, 1.0], [0, 2.0], [0, 3.0], [0, 4.0], [0, 5.0], [0]]
    stop = [should_stop([0, value], others, hyperband, UP) is not None for value in (5.5, 4.5, 3.5, 2.5, 0.5)]
    assert stop == [False, False, False, True, True]  # of six, two and one more
    reason = should_stop([0, 2.5], others, hyperband, UP)
    assert reason == 'val/mIoU 2.5 after 2 validations: not among the best of 6 (limit 3)'
    strict = Hyperband((2, 6), 3.0, strict=True)
    stop = [should_stop([0, value], others, strict, UP) is not None for value in (5.5, 4.5, 3.5)]
    assert stop == [False, False, True]


def test_nobody_is_stopped_before_a_bracket_or_alone():
    hyperband = Hyperband((3, 9), 2.0, strict=True)
    assert should_stop([0.1, 0.1], [[0.9] * 9] * 5, hyperband, UP) is None
    assert should_stop([0.1] * 3, [], hyperband, UP) is None
    assert should_stop([0.1] * 3, [[0.9] * 2] * 5, hyperband, UP) is None  # none of them has come as far
    assert should_stop([0.9] * 3 + [0.1], [[0.5] * 4] * 5, hyperband, UP) is None  # it counts at the bracket


def test_of_two_trials_the_worse_half_goes_on_too():
    assert should_stop([0.1], [[0.9]], Hyperband((1,), 2.0, strict=False), UP) is None
    assert should_stop([0.1], [[0.9]], Hyperband((1,), 2.0, strict=True), UP) is not None


def test_a_smaller_loss_is_better():
    hyperband = Hyperband((1,), 2.0, strict=True)
    down = Metric('val/loss', False, None)
    assert should_stop([0.9], [[0.1], [0.2], [0.3]], hyperband, down) is not None
    assert should_stop([0.05], [[0.1], [0.2], [0.3]], hyperband, down) is None
    assert best_of([(1, 0.5), (2, 0.3), (3, 0.3)], down) == (2, 0.3)


def test_the_metric_is_read_from_all_starts(tmp_path):
    for stamp, lines in (('20250101_000000', [{'loss': 1, 'mIoU': 9, 'iter': 5, 'step': 5}, {'mIoU': 0.1, 'step': 10},
                                              {'mIoU': 0.2, 'step': 20}]),
                         ('20250102_000000', [{'loss': 2, 'iter': 15, 'step': 15}, {'mIoU': 0.3, 'step': 20},
                                              {'mIoU': float('nan'), 'step': 30}])):
        path = tmp_path / stamp / 'vis_data' / 'scalars.json'
        path.parent.mkdir(parents=True)
        path.write_text(''.join(json.dumps(line) + '\n' for line in lines) + '{"mIoU": 0.9, "st')
    assert metric_history(tmp_path, UP) == [(10, 0.1), (20, 0.3)]
    assert metric_history(tmp_path, Metric('train/loss', False, None)) == [(5, 1.0), (15, 2.0)]
    assert metric_history(tmp_path, Metric('mIoU', True, None)) == [(5, 9.0), (10, 0.1), (20, 0.3)]


# ------------------------------------------------------------------------------------------------- running


def test_a_grid_runs_to_its_end_and_is_sorted(sweeper, tmp_path):
    told = []
    outcome = sweeper(told).run()
    assert outcome.status == 0 and [trial.status for trial in outcome.trials] == ['finished'] * 3
    header, rows = result_rows(outcome.trials, UP)
    assert header[-1] == 'x' and [(row[0], row[2], row[3], row[-1]) for row in rows] == [
        (2, 18.0, 6, 3), (3, 12.0, 6, 2), (1, 6.0, 6, 1)]
    assert (tmp_path / 'out' / 'results.csv').read_text().splitlines()[1].startswith('2,finished,18.0,6,18.0,')
    assert 'trial 2: finished, val/mIoU 18' in told


def test_the_commands_can_be_seen_before(sweeper, tmp_path):
    commands = sweeper(count=2).commands()
    assert [command[-1] for command in commands] == ['x=1', 'x=3'] and not (tmp_path / 'out').exists()
    assert commands[1][commands[1].index('--work-dir') + 1] == str(tmp_path / 'out' / 'trial_2')


def test_a_metric_that_nobody_logs_ends_the_sweep(sweeper, tmp_path):
    changes = dict(metric={'name': 'val/mIuO', 'goal': 'maximize'})
    for _ in range(2):  # the second call runs nothing
        with pytest.raises(UserError, match='metric.name: trial 1 finished and never logged val/mIuO; '
                                            r'did you mean val/mIoU\?') as error:
            sweeper(changes=changes).run()
        assert '\n' not in str(error.value) and set(state(tmp_path)) == {1}
    assert len(list((tmp_path / 'out/trial_1').glob('2*'))) == 1


def test_a_finished_sweep_repeats_nothing_and_another_one_is_refused(sweeper, tmp_path):
    sweeper().run()
    before = (tmp_path / 'out' / 'sweep.json').read_bytes()
    assert sweeper().run().status == 0
    assert (tmp_path / 'out' / 'sweep.json').read_bytes() == before
    assert len(list((tmp_path / 'out' / 'trial_1').glob('2*'))) == 1
    with pytest.raises(UserError, match='belongs to another sweep or --seed'):
        sweeper(changes=dict(parameters={'x': {'values': [1, 3]}})).run()
    with pytest.raises(UserError, match='belongs to another sweep or --seed'):
        sweeper(seed=1).run()
    (tmp_path / 'out' / 'sweep.json').write_text('{"version": 1, "identity": "x", "trials": [{"a": 1}]}')
    with pytest.raises(UserError, match=r'sweep.json: not the state of a sweep \(TypeError'):
        sweeper().run()


def test_more_trials_can_be_added(sweeper, tmp_path):
    random = dict(method='random', parameters={'x': {'min': 1.0, 'max': 2.0}})
    with pytest.raises(UserError, match='method random has no end: give it run_cap, or --count'):
        sweeper(changes=random)
    assert len(sweeper(changes=random, count=2).run().trials) == 2
    first = state(tmp_path)
    assert len(sweeper(changes=dict(random, run_cap=3)).run().trials) == 3
    assert {number: state(tmp_path)[number] for number in (1, 2)} == first


def test_a_failing_trial_is_recorded_and_the_sweep_goes_on(sweeper, tmp_path):
    fails = dict(parameters={'x': {'value': 1}, 'fail': {'values': [True, False, True]}})
    outcome = sweeper(changes=fails).run()
    assert [trial.status for trial in outcome.trials] == ['failed', 'finished', 'failed'] and outcome.status == 1
    assert outcome.trials[0].reason == 'status 1: error: it does not work'
    outcome = sweeper(changes=fails, max_failures=1, retry=True).run()
    assert outcome.status == 1 and '1 trials in a row failed' in outcome.message


def test_failures_in_a_row_end_it(sweeper, tmp_path):
    outcome = sweeper(changes=dict(parameters={'x': {'values': [1, 2, 3]}, 'fail': {'value': True}}),
                      max_failures=2).run()
    assert len(outcome.trials) == 2 and outcome.status == 1 and 'trial_2.log' in outcome.message


def test_a_weak_trial_is_stopped_early(sweeper, tmp_path):
    early = dict(parameters={'x': {'values': [3, 2, 1]}, 'pause': {'value': 0.25}},
                 early_terminate={'type': 'hyperband', 'min_iter': 2, 'eta': 2, 'strict': True})
    outcome = sweeper(changes=early).run()
    assert [trial.status for trial in outcome.trials] == ['finished', 'stopped', 'stopped'] and outcome.status == 0
    assert len(outcome.trials[1].values) < 6
    assert outcome.trials[1].reason.startswith('val/mIoU 4 after 2 validations')


def test_a_target_ends_the_sweep(sweeper):
    outcome = sweeper(changes=dict(metric={'name': 'val/mIoU', 'goal': 'maximize', 'target': 17})).run()
    assert len(outcome.trials) == 2 and outcome.message == 'trial 2 has reached the target' and outcome.status == 0


def test_sigterm_saves_the_trial_and_the_next_call_resumes_it(sweeper, tmp_path):
    slow = dict(parameters={'x': {'values': [1, 2]}, 'pause': {'value': 0.2}})

    def end_soon():
        while not list((tmp_path / 'out' / 'trial_1').glob('*/vis_data/scalars.json')):
            time.sleep(0.02)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end_soon).start()
    outcome = sweeper(changes=slow).run()
    assert outcome.status == 75 and outcome.message.startswith('SIGTERM') and len(outcome.trials) == 1
    assert state(tmp_path)[1]['status'] == 'preempted' and 1 <= len(state(tmp_path)[1]['values']) < 6
    told = []
    outcome = sweeper(told, changes=slow).run()
    assert outcome.status == 0 and [trial.status for trial in outcome.trials] == ['finished', 'finished']
    assert told[0] == 'goes on: 0 of 2 trials are done' and told[1].startswith('trial 1 of 2 goes on: ')
    assert outcome.trials[0].values == [1, 2, 3, 4, 5, 6]  # one line each, none twice


def test_a_trial_left_behind_by_a_killed_sweep_is_not_started_twice(sweeper, tmp_path):
    sweeper().run()
    path = tmp_path / 'out' / 'sweep.json'
    left = json.loads(path.read_text())
    work_dir = tmp_path / 'out' / 'trial_3'
    running = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)', str(work_dir)])
    left['trials'][2].update(status='running', process=running.pid)
    path.write_text(json.dumps(left))
    try:
        with pytest.raises(UserError, match=f'trial 3 of a killed sweep still runs \\(process {running.pid}\\)'):
            sweeper().run()
    finally:
        running.kill()
        running.wait()
    assert sweeper().run().trials[2].status == 'finished'  # the number may belong to another process by now


def test_a_trial_that_does_not_listen_is_killed(sweeper, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep_run, 'PATIENCE', 0.3)
    (tmp_path / 'train_stub.py').write_text(PROGRAM.replace('lambda *_: sys.exit(75)', 'signal.SIG_IGN'))
    early = dict(parameters={'x': {'values': [3, 2]}, 'pause': {'value': 0.4}},
                 early_terminate={'type': 'hyperband', 'min_iter': 1, 'eta': 2, 'strict': True})
    outcome = sweeper(changes=early).run()
    assert [trial.status for trial in outcome.trials] == ['finished', 'stopped']
