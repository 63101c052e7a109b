"""Batches depend on the seed and their number alone."""

import os
import random

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmseg.structures import SegDataSample
from torch.utils.data import BatchSampler, DataLoader, Dataset

from projects.engine.batches import SeededBatchSampler, WatchedDataset, naming_dead_workers, seeded, watched
from projects.engine.errors import UserError
from projects.engine.random_state import random_state, set_random_state


class Noise(Dataset):
    """Each sample is its index and a draw from every generator."""

    classes = ('a', 'b')

    def __init__(self, broken=()):
        self.broken = broken

    def __len__(self):
        return 10

    def get_data_info(self, index):
        return {'sample_id': f'tile_{index}'}

    def __getitem__(self, index):
        if index in self.broken:
            raise ValueError('cannot decode')
        return [index, np.random.random(), random.random(), torch.rand(()).item()]


def loader(sampler=InfiniteSampler, workers=0, dataset=None):
    dataset = dataset or Noise()
    plain = DataLoader(dataset, batch_size=3, sampler=sampler(dataset, shuffle=True, seed=5), num_workers=workers,
                       collate_fn=list)
    return seeded(watched(plain), seed=7)


def take(loader, number, start=0):
    loader.batch_sampler.number = start
    batches = iter(loader)
    return [next(batches) for _ in range(number)]


@pytest.mark.parametrize('workers', [0, 2])
def test_any_position_is_reached_without_the_ones_before(workers):
    whole = take(loader(), 12)
    assert take(loader(workers=workers), 5, start=7) == whole[7:]
    assert len({draw for batch in whole for _, *draws in batch for draw in draws}) == 3 * 3 * 12  # no draw twice


def test_the_training_s_own_generators_are_left_alone():
    before = random_state()
    take(loader(), 4)
    after = random_state()
    for name in ('python', 'numpy'):
        assert str(before[name]) == str(after[name])
    assert torch.equal(before['torch'], after['torch'])


def test_passes_over_a_finite_sampler_are_shuffled_by_their_number():
    found = loader(DefaultSampler)
    first, second = take(found, 4), take(found, 4, start=4)
    assert sorted(item[0] for batch in first for item in batch) == list(range(10))
    assert [item[0] for batch in first for item in batch] != [item[0] for batch in second for item in batch]
    assert take(loader(DefaultSampler), 2, start=6) == second[2:]


def test_ranks_draw_differently():
    sampler = BatchSampler(InfiniteSampler(Noise(), seed=1), 2, False)
    seeds = [next(iter(SeededBatchSampler(sampler, 3, rank)))[0].seed for rank in (0, 1)]
    assert seeds == [(3, 0, 0, 0), (3, 1, 0, 0)]


class Packed(Noise):
    """Samples as a pipeline packs them."""

    def __getitem__(self, index):
        return {'inputs': super().__getitem__(index), 'data_samples': SegDataSample()}


def views_of(batches):
    """Return what each (sample, augmentation seed) looked like, every time."""
    found = {}
    for batch in batches:
        for item in batch:
            found.setdefault(item['data_samples'].augmentation_seed, []).append(item['inputs'])
    return found


@pytest.mark.parametrize('workers', [0, 2])
def test_views_come_again_and_are_named(workers):
    def make():
        plain = DataLoader(Packed(), batch_size=3, sampler=InfiniteSampler(Packed(), shuffle=True, seed=5),
                           num_workers=workers, collate_fn=list)
        return seeded(watched(plain), seed=7, views=2)

    whole = take(make(), 30)
    found = views_of(whole)
    assert set(found) == {(7, index, view) for index in range(10) for view in range(2)}
    assert all(looks.count(looks[0]) == len(looks) and looks[0][0] == seed[1] for seed, looks in found.items())
    assert len({tuple(looks[0]) for looks in found.values()}) == 20  # two views of a sample differ
    rest = take(make(), 10, start=20)  # a resume draws the same views
    assert [[item['data_samples'].augmentation_seed for item in batch] for batch in rest] == [
        [item['data_samples'].augmentation_seed for item in batch] for batch in whole[20:]]
    assert views_of(rest) == views_of(whole[20:])


def test_without_views_nothing_is_noted_and_nothing_changes():
    plain = DataLoader(Packed(), batch_size=3, sampler=InfiniteSampler(Packed(), shuffle=True, seed=5), collate_fn=list)
    item = take(seeded(watched(plain), seed=7), 1)[0][0]
    assert 'augmentation_seed' not in item['data_samples']
    assert item['inputs'] == take(loader(), 1)[0][0]
    sampler = BatchSampler(InfiniteSampler(Noise(), seed=1), 2, False)
    assert next(iter(SeededBatchSampler(sampler, 3)))[1][1:] == ((3, 0, 0, 1), False)


@pytest.mark.parametrize('views', [0, -1, 1.5, 'many'])
def test_views_are_counted(views):
    with pytest.raises(UserError, match='augmentation_views: expected None or a whole number of at least 1'):
        SeededBatchSampler(BatchSampler(InfiniteSampler(Noise(), seed=1), 2, False), 3, views=views)


def test_the_wrapped_data_set_is_still_itself():
    dataset = WatchedDataset(Noise(), 0)
    assert dataset.classes == ('a', 'b') and len(dataset) == 10 and not hasattr(dataset, 'metainfo')


@pytest.mark.parametrize('workers', [0, 2])
def test_an_unreadable_sample_is_named(workers):
    with pytest.raises(UserError, match='sample tile_4: ValueError: cannot decode'):
        take(loader(workers=workers, dataset=Noise({4})), 5)


class Deadly(Noise):
    def __getitem__(self, index):
        if index == 6:
            os._exit(3)
        return super().__getitem__(index)


def test_a_dead_worker_names_its_sample():
    found = loader(workers=1, dataset=Deadly())
    with (pytest.raises(UserError, match=r'data-loader worker \d+ .* while it read sample tile_6'),
          naming_dead_workers(found)):
        take(found, 6)
    with pytest.raises(RuntimeError, match='something else'), naming_dead_workers(found):
        raise RuntimeError('something else')


def test_random_state_comes_back():
    state = random_state()
    draws = (random.random(), random.gauss(0, 1), np.random.randn(), torch.rand(3).tolist())
    set_random_state(state)
    assert draws == (random.random(), random.gauss(0, 1), np.random.randn(), torch.rand(3).tolist())
