"""Draws follow the weights: exactly in a pass, on any number of ranks, through a resume."""

import logging
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmseg.registry import DATA_SAMPLERS
from torch.utils.data import DataLoader, Dataset

from projects.engine.batches import seeded, watched
from projects.engine.config import load_config
from projects.engine.errors import UserError
from projects.multistage import hard_sampler
from projects.multistage.difficulty import Difficulty, SampleDifficulty, write_difficulty, write_weights
from projects.multistage.hard_sampler import HardSampleSampler, comb

WEIGHTS = [1.0, 1.0, 2.0, 3.0, 4.5, 6.0, 1.5, 1.0]


class Tiles(Dataset):
    def __init__(self, number=8, ids=None):
        self.ids = ids or [f'tile_{index}' for index in range(number)]

    def __len__(self):
        return len(self.ids)

    def get_data_info(self, index):
        return {'sample_id': self.ids[index], 'img_path': f'/data/{index}.png'}

    def __getitem__(self, index):
        return index


@pytest.fixture
def weights_file(tmp_path):
    path = tmp_path / 'sample_weights.txt'
    write_weights(path, {f'tile_{index}': weight for index, weight in reversed(list(enumerate(WEIGHTS)))})
    return path


@pytest.fixture
def sampler(weights_file, monkeypatch):
    def build(rank=0, world_size=1, dataset=None, **arguments):
        monkeypatch.setattr(hard_sampler, 'get_dist_info', lambda: (rank, world_size))
        return HardSampleSampler(dataset or Tiles(), **{'difficulty': weights_file, 'seed': 3, **arguments})
    return build


def passes(samplers, numbers):
    """The draws of all ranks, pass by pass, and that each rank has as many as it says."""
    for number in numbers:
        drawn = []
        for one in samplers:
            one.set_epoch(number)
            part = list(one)
            assert len(part) == len(one) == len(samplers[0])
            drawn += part
        yield drawn


@settings(max_examples=300, deadline=None)
@given(weights=st.lists(st.floats(0, 1e6, allow_subnormal=False) | st.sampled_from([1.0, 1.5, 2.0, 1 / 3, 0.1]),
                        min_size=1, max_size=12).filter(any),
       number=st.integers(1, 60), offset=st.integers(0, 2**62 - 1), generator=st.randoms())
def test_each_occurs_floor_or_ceil_of_its_expectation(weights, number, offset, generator):
    from fractions import Fraction
    order = list(range(len(weights)))
    generator.shuffle(order)
    drawn = comb(weights, order, number, offset)
    assert len(drawn) == number
    counts, total = Counter(drawn), sum(map(Fraction, weights))
    for index, weight in enumerate(weights):
        expected = Fraction(weight) * number / total
        assert counts[index] in (expected.__floor__(), expected.__ceil__())


def test_a_comb_is_unbiased():
    """Over all places of the comb the mean number of draws is the expectation, not only near it."""
    weights, steps = [0.3, 1.2, 2.5], 1000
    counts = Counter()
    for step in range(steps):
        counts.update(comb(weights, [2, 0, 1], 2, (2 * step + 1) * 2**61 // steps))
    assert [counts[index] / steps for index in range(3)] == pytest.approx([0.15, 0.6, 1.25], abs=0.002)


@pytest.mark.parametrize('world_size', [1, 2, 4])
def test_long_run_frequencies_are_the_weights(sampler, world_size):
    samplers = [sampler(rank, world_size) for rank in range(world_size)]
    total = samplers[0].total_size
    assert total == 20 and len(samplers[0]) == 20 // world_size
    counts, number = np.zeros(8), 4000
    expected = np.array(WEIGHTS) * total / sum(WEIGHTS)
    by_rank = np.zeros((world_size, 8))
    for drawn in passes(samplers, range(number)):
        once = np.bincount(drawn, minlength=8)
        assert ((once >= np.floor(expected)) & (once <= np.ceil(expected))).all()
        counts += once
        for rank in range(world_size):
            by_rank[rank] += np.bincount(drawn[rank * len(samplers[0]):(rank + 1) * len(samplers[0])], minlength=8)
    assert counts / number == pytest.approx(expected, abs=5 * 0.5 / number**0.5)  # 0.5: the largest deviation there is
    assert by_rank / number == pytest.approx(np.tile(expected / world_size, (world_size, 1)), abs=0.08)


def test_ranks_share_one_pass(sampler):
    whole = next(passes([sampler()], [5]))
    ranks = [sampler(rank, 2) for rank in (0, 1)]
    drawn = next(passes(ranks, [5]))
    assert drawn[:10] == whole[::2] and drawn[10:] == whole[1::2]


def test_a_length_that_does_not_divide_has_further_draws_and_no_repeated_ones(sampler):
    ranks = [sampler(rank, 4, length=21) for rank in range(4)]
    assert ranks[0].total_size == 24
    drawn = next(passes(ranks, [0]))
    expected = np.array(WEIGHTS) * 24 / 20
    once = np.bincount(drawn, minlength=8)
    assert len(drawn) == 24 and (once >= np.floor(expected)).all() and (once <= np.ceil(expected)).all()


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('world_size', [1, 2])
def test_a_resume_draws_what_the_undisturbed_run_draws(sampler, world_size, workers):
    """Iteration-based: several passes; a stop anywhere; all ranks together keep the frequencies."""

    def run(rank, start, stop):
        plain = DataLoader(Tiles(), batch_size=3, sampler=sampler(rank, world_size), num_workers=workers,
                           collate_fn=list, drop_last=True)
        loader = seeded(watched(plain), seed=7)
        loader.batch_sampler.number = start
        found = []
        while True:  # as ResumableIterLoop
            taken = 0
            for batch in loader:
                taken += 1
                found.append(batch)
                if start + len(found) == stop:
                    return found
            loader.batch_sampler.number += taken

    length = 20 // world_size // 3
    for rank in range(world_size):
        whole = run(rank, 0, 4 * length)
        first, second = whole[:length], whole[length:2 * length]
        assert sorted(sum(first, [])) != sum(first, []) and first != second  # shuffled, and anew in each pass
        for stop in (length + 1,) if workers else (1, length - 1, length, length + 1, 2 * length + 2):
            assert run(rank, 0, stop) + run(rank, stop, 4 * length) == whole


def test_frequencies_hold_through_a_resume(sampler):
    """Stopped in the middle of each pass, by new samplers: still the weights."""
    counts, number = np.zeros(8), 1500
    expected = np.array(WEIGHTS)
    for index in range(number):
        first, second = sampler(), sampler()
        first.set_epoch(index), second.set_epoch(index)
        counts += np.bincount([*list(first)[:7], *list(second)[7:]], minlength=8)
    assert counts / number == pytest.approx(expected, abs=5 * 0.5 / number**0.5)


def test_weights_change_from_a_pass_on(sampler):
    found = sampler(length=40)
    before = list(passes([found], range(4)))
    new = {f'tile_{index}': 1.0 if index < 4 else 0.0 for index in range(8)}
    found.schedule([(2, new)])
    after = list(passes([found], range(4)))
    assert after[:2] == before[:2]
    assert [sorted(Counter(drawn).items()) for drawn in after[2:]] == [[(i, 10) for i in range(4)]] * 2
    with pytest.raises(UserError, match='length: expected a number of draws'):
        sampler().schedule([(2, new)])
    with pytest.raises(UserError, match='no weight of 1 samples: tile_7'):
        found.schedule([(2, dict.fromkeys(list(new)[:-1], 1.0))])


def test_a_difficulty_file_and_a_rule(sampler, tmp_path):
    path = tmp_path / 'difficulty.json'
    write_difficulty(path, Difficulty(('a',), {
        f'tile_{index}': SampleDifficulty(index / 10, {'a': index / 10}, {'a': 9}) for index in reversed(range(8))}))
    assert sampler(difficulty=str(path)).weights == (3.0,) * 6 + (2.0, 1.0)
    assert sampler(difficulty=str(path)).total_size == 21
    assert sampler(difficulty=path, rule=dict(type='FocalRule', gamma=1, scale=10)).weights == pytest.approx(
        (10, 9, 8, 7, 6, 5, 4, 3))
    ordered = next(passes([sampler(difficulty=path, shuffle=False)], [0]))
    assert ordered == sorted(ordered)


def test_ids_decide_and_not_places(sampler, caplog):
    shuffled = Tiles(ids=[f'tile_{index}' for index in (5, 0, 4)])
    with caplog.at_level(logging.WARNING):
        assert sampler(dataset=shuffled).weights == (6.0, 1.0, 4.5)
    with pytest.raises(UserError, match=r'no entry for 2 of the 3 samples of the data set \(new_1, new_2\)'):
        sampler(dataset=Tiles(ids=['tile_0', 'new_1', 'new_2']))
    assert sampler(dataset=Tiles(ids=['tile_5', 'new_1']), missing=1.0).weights == (6.0, 1.0)
    with pytest.raises(UserError, match=r'1 sample ids stand for several samples \(x\)'):
        sampler(dataset=Tiles(ids=['x', 'x', 'y']))
    with pytest.raises(UserError, match='expected a data set with get_data_info'):
        sampler(dataset=[1, 2])
    nameless = Tiles()
    nameless.get_data_info = lambda index: {'img_path': f'/data/tile_{index}.png'}
    assert sampler(dataset=nameless).weights == tuple(WEIGHTS)


def test_foreign_entries_are_counted(sampler, monkeypatch):
    told = []
    monkeypatch.setattr(hard_sampler, 'print_log', lambda *arguments, **_: told.append(arguments[0]))
    sampler(dataset=Tiles(ids=['tile_0', 'tile_1', 'tile_2']))
    assert len(told) == 1 and '5 of its 8 entries are of samples that the data set does not have' in told[0]


@pytest.mark.parametrize('arguments, told', [
    (dict(difficulty=None), 'difficulty: expected a file .* found none'),
    (dict(difficulty='/nowhere/d.json'), 'difficulty /nowhere/d.json: no such file'),
    (dict(length=0), "length: expected 'weights' or a number of draws of at least 1, found 0"),
    (dict(length='weight'), "found 'weight'"),
    (dict(length=True), 'found True'),
    (dict(missing=-1), 'missing: expected a weight of at least 0, found -1'),
    (dict(rule=dict(type='Sed')), 'is not registered'),
])
def test_bad_arguments(sampler, arguments, told):
    with pytest.raises(UserError, match=told):
        sampler(**arguments)


@pytest.mark.parametrize('written, option', [(40, 'weights'), ("'weights'", 40)])
def test_the_length_is_a_number_or_a_word_also_on_the_command_line(repository, tmp_path, written, option):
    config = tmp_path / 'child.py'
    base = repository / 'configs/landcover/ftunetformer-tiny_s3-distil_village-256.py'
    config.write_text(f'_base_ = [{str(base)!r}]\ntrain_sampler = dict(length={written})\n')
    assert load_config(config, {'train_sampler.length': option}).train_dataloader.sampler.length == option


def test_without_a_file_all_weights_are_one(sampler):
    found = sampler(difficulty=None, length=16)
    assert Counter(next(passes([found], [0]))) == dict.fromkeys(range(8), 2)


def test_built_as_the_runner_builds_it(weights_file):
    found = DATA_SAMPLERS.build(dict(type='HardSampleSampler', difficulty=str(weights_file)),
                                default_args=dict(dataset=Tiles(), seed=None))
    assert isinstance(found, HardSampleSampler) and isinstance(found.seed, int) and found.world_size == 1
