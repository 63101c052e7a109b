"""Runs beside each other: order, repetitions, labels, noise, and when scores must not be subtracted."""

import json

import pytest

from projects.evaluation.comparison import Spread, better_and_worse, compare, noise, order_by_lineage
from projects.evaluation.workdir import read_run


def test_lineage_orders_the_stages_whatever_order_was_given(make_run, parent_of):
    base = make_run('base', [50] * 4)
    middle = make_run('middle', [60] * 4, stage='pretrain', parents=[parent_of(base)])
    last = make_run('last', [70] * 4, stage='finetune', parents=[parent_of(middle)])
    runs = [read_run(folder) for folder in (last, base, middle)]
    assert [run.work_dir.name for run in order_by_lineage(runs)] == ['base', 'middle', 'last']
    assert [run.work_dir.name for run in order_by_lineage(runs[:2])] == ['base', 'last']  # a grandparent
    comparison = compare(runs)
    assert comparison.by_lineage
    assert [stage.label for stage in comparison.stages] == ['baseline', 'pretrain', 'finetune']
    assert comparison.best().label == 'finetune'


def test_without_lineage_the_order_is_the_given_one(make_run):
    folders = make_run('b', [50] * 4, stage='finetune', lineage=False), make_run('a', [60] * 4, lineage=False)
    comparison = compare([read_run(folder) for folder in folders])
    assert not comparison.by_lineage and [stage.label for stage in comparison.stages] == ['finetune', 'baseline']


@pytest.mark.parametrize('lineage', [True, False])
def test_runs_that_differ_in_the_seed_alone_are_one_stage(make_run, lineage):
    folders = [make_run(f'r{seed}', [50 + seed] * 4, seed=seed, lineage=lineage) for seed in range(3)]
    folders.append(make_run('other', [80] * 4, lineage=lineage, stage='finetune'))
    stages = compare([read_run(folder) for folder in folders]).stages
    assert [len(stage.runs) for stage in stages] == [3, 1]
    spread = stages[0].spread('test', 'OA')
    assert spread.values == pytest.approx(((50 + 50) / 150, 101 / 150, 102 / 150))
    assert spread.deviation == pytest.approx(1 / 150)
    confusion, missed = stages[0].confusion('test')
    assert confusion.tolist() == [[4 * 153, 4 * 147], [0, 600]] and missed.tolist() == [0, 0]
    assert stages[0].samples('test')['tile_0'] == pytest.approx((51 / 100 + 50 / 99) / 2, abs=1e-3)


def test_what_a_test_has_loaded_makes_no_other_stage(make_run):
    folders = [make_run(f'r{seed}', [50] * 4, seed=seed, lineage=False,
                        config=f"load_from = '/x/r{seed}/iter_1.pth'\nx = 1\nwork_dir = '/x/r{seed}'\n")
               for seed in range(2)]
    folders.append(make_run('r2', [50] * 4, seed=2, lineage=False,
                            config="load_from = '/x/elsewhere/iter_1.pth'\nx = 1\nwork_dir = '/x/r2'\n"))
    assert [len(stage.runs) for stage in compare([read_run(folder) for folder in folders]).stages] == [2, 1]


def test_repetitions_that_began_with_their_own_seeds_parents(make_run, parent_of):
    folders = []
    for seed in range(2):
        base = make_run(f'base{seed}', [50] * 4, seed=seed)
        text = (f"lr = 0.1\nrandomness = dict(seed={seed})\ninitialise = dict(checkpoint='base{seed}/best.pth')\n"
                f"model = dict(teacher=dict(\n    teacher_checkpoint='base{seed}/best.pth', k=1))\n")
        folders.append(make_run(f'last{seed}', [60] * 4, seed=seed, stage='finetune', parents=[
            parent_of(base, role='initialise')], config=text))
        record = json.loads((folders[-1] / 'lineage.json').read_text())
        record['config']['text'] = text
        (folders[-1] / 'lineage.json').write_text(json.dumps(record))
    assert [len(stage.runs) for stage in compare([read_run(folder) for folder in folders]).stages] == [2]


def test_another_setting_or_another_parent_is_another_stage(make_run, parent_of):
    one, two = make_run('one', [50] * 4, lineage=False), make_run('two', [50] * 4, lineage=False, config='lr = 0.2\n')
    variants = compare([read_run(one), read_run(two)])
    assert [stage.label for stage in variants.stages] == ['one', 'two'] and variants.noun == 'variant'
    base, pretrained = make_run('base', [50] * 4), make_run('pre', [50] * 4, stage='pretrain')
    three = make_run('three', [50] * 4, stage='finetune', parents=[parent_of(base)])
    four = make_run('four', [50] * 4, stage='finetune', parents=[parent_of(pretrained)], seed=1)
    assert [stage.label for stage in compare([read_run(three), read_run(four)]).stages] == ['three', 'four']


@pytest.mark.parametrize(('more', 'message'), [
    (dict(classes=('field', 'tree')), 'finetune has other classes than baseline'),
    (dict(right=[50] * 5), 'finetune was evaluated on other images or labels than baseline'),
])
def test_what_must_not_be_subtracted(make_run, more, message):
    base = make_run('base', [50] * 4)
    last = make_run('last', **{'right': [60] * 4, 'stage': 'finetune', **more})
    comparison = compare([read_run(base), read_run(last)])
    assert comparison.obstacle == message and comparison.best() is None


def test_the_split_that_most_runs_have(make_run):
    folders = [make_run(f'r{index}', [50 + index] * 4, config=f'x = {index}\n', lineage=False) for index in range(3)]
    for folder in folders[1:]:
        (folder / 'evaluation' / 'test').rename(folder / 'evaluation' / 'val')
    comparison = compare([read_run(folder) for folder in folders])
    assert comparison.split == 'val' and [stage.label for stage in comparison.scored] == ['r1', 'r2']


def test_noise_is_two_standard_errors():
    one, other = Spread((0.50, 0.52, 0.54)), Spread((0.49, 0.51, 0.53))
    found = noise(one, other)
    assert found.difference == pytest.approx(0.01)
    assert found.error == pytest.approx((2 * 0.02 ** 2 / 3) ** 0.5) and found.clear is False
    assert noise(Spread((0.9,)), other).clear is True  # scatters like the other: 0.02 * sqrt(1 + 1/3)
    assert noise(Spread((0.9,)), other).error == pytest.approx(0.02 * (4 / 3) ** 0.5)
    assert noise(Spread((0.9,)), Spread((0.1,))).clear is None


def test_images_are_compared_one_by_one():
    assert better_and_worse({'a': 0.5, 'b': 0.5, 'c': 0.5, 'd': 1.0}, {'a': 0.4, 'b': 0.6, 'c': 0.5}) == (1, 1, 3)


def test_the_same_seed_twice_tells_nothing_of_noise(make_run):
    folders = [make_run(f'r{number}', [50 + number] * 4, seed=3) for number in range(2)]
    found = compare([read_run(folder) for folder in folders]).stages
    spread = found[0].spread('test', 'mIoU')
    assert len(found) == 1 and len(found[0].runs) == 2
    assert len(spread.values) == 1 and spread.deviation is None
