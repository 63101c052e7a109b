"""Batches of points: padding, neighbour lists, and as many patches as fit."""

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from small_store import small_store

from projects.engine.batches import SeededBatchSampler
from projects.engine.errors import UserError
from projects.lidar.datasets import LidarPatchDataset, PointBudgetBatchSampler, collate_points
from projects.lidar.graph import build_graph


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp('store')
    small_store(folder)
    return LidarPatchDataset(str(folder), pipeline=[dict(type='PackPoints')])


def test_padding_is_masked_and_changes_no_neighbour(dataset):
    small, large = dataset[0], dataset[len(dataset) - 1]
    counts = [len(small['inputs']['points']), len(large['inputs']['points'])]
    assert counts[0] < 256 < counts[1] == 512
    batch = collate_points([small, large])
    inputs = batch['inputs']
    assert inputs['points'].shape == (2, 512, 3) and inputs['features'].shape == (2, 512, 21)
    assert inputs['mask'].sum(1).tolist() == counts and not inputs['mask'][0, counts[0]:].any()
    assert torch.equal(inputs['points'][0, :counts[0]], torch.from_numpy(small['inputs']['points']))
    assert not inputs['points'][0, counts[0]:].any() and not inputs['features'][0, counts[0]:].any()
    assert torch.equal(inputs['context'][1], torch.from_numpy(large['inputs']['context']))
    assert [sample.sample_id for sample in batch['data_samples']] == [
        small['data_samples'].sample_id, large['data_samples'].sample_id]
    alone = collate_points([small])['inputs']['graph']
    for key, lists in inputs['graph'].items():
        for level, both in enumerate(lists):
            assert both.dtype == torch.int32
            one = alone[key][level][0]
            rows = -(-counts[0] // 4 ** (level + (key == 'down')))
            assert torch.equal(both[0, :rows], one[:rows]), (key, level)
    expected = build_graph(large['inputs']['points'])
    assert np.array_equal(inputs['graph']['up'][0][1].numpy(), expected['up'][0])


def test_rows_are_a_multiple_or_what_is_asked_for(dataset):
    one = dataset[0]
    assert collate_points([one], multiple=64)['inputs']['points'].shape[1] % 64 == 0
    assert collate_points([one], count=1000)['inputs']['points'].shape[1] == 1024
    graph = collate_points([one], near_levels=(0, 1), near=8)['inputs']['graph']['near']
    assert [level.shape[2] for level in graph] == [8, 8, 0, 0, 0]


def test_batches_hold_as_many_patches_as_the_points_allow(dataset):
    counts = dataset.point_counts()
    batches = PointBudgetBatchSampler(DefaultSampler(dataset, shuffle=False), batch_size=6, max_points=1024)
    made = list(batches)
    assert sum(made, []) == list(range(len(dataset)))
    assert len(batches) == len(made)
    for batch, following in zip(made, made[1:]):
        assert len(batch) <= 6 and counts[batch].max() * len(batch) <= 1024
        more = [*batch, following[0]]
        assert len(more) > 6 or counts[more].max() * len(more) > 1024  # not one more fits
    assert {len(batch) for batch in made} >= {2}  # of 512 points
    assert max(map(len, made)) > 2
    alone = PointBudgetBatchSampler(DefaultSampler(dataset, shuffle=False), batch_size=6, max_points=1)
    assert list(alone) == [[index] for index in range(len(dataset))]


def test_a_resumed_run_goes_on_with_the_same_batches(dataset):
    def from_number(number):
        inner = PointBudgetBatchSampler(InfiniteSampler(dataset, seed=5), batch_size=4, max_points=1024)
        batches = SeededBatchSampler(inner, seed=1)
        batches.number = number
        iterator = iter(batches)
        return [next(iterator) for _ in range(30 - number)]

    whole = from_number(0)
    assert from_number(17) == whole[17:]
    assert len({len(batch) for batch in whole}) > 1
    assert SeededBatchSampler(PointBudgetBatchSampler(
        InfiniteSampler(dataset), batch_size=4, max_points=1024), seed=1).endless


def test_a_shuffled_epoch_has_one_length_and_nearly_all_patches(dataset):
    sampler = DefaultSampler(dataset, shuffle=True, seed=1)
    batches = PointBudgetBatchSampler(sampler, batch_size=4, max_points=1024)
    counts, epochs = dataset.point_counts(), []
    for epoch in range(6):
        sampler.set_epoch(epoch)
        epochs.append(list(batches))
    assert {len(made) for made in epochs} == {len(batches)}
    assert epochs[0] != epochs[1] and list(batches) == epochs[-1]
    for made in epochs:
        assert len(set(sum(made, []))) > 0.85 * len(dataset)
        assert all(counts[batch].max() * len(batch) <= 1024 for batch in made)
    seen = set(sum(sum(epochs, []), []))
    assert seen == set(range(len(dataset)))
    again = SeededBatchSampler(batches, seed=1)
    again.number = len(batches) + 3  # the fourth batch of the second epoch
    assert [draw.index for draw in next(iter(again))] == epochs[1][3]


def test_all_ranks_have_epochs_of_one_length(dataset, monkeypatch):
    lengths = set()
    for rank in range(3):
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda rank=rank: (rank, 3))
        batches = PointBudgetBatchSampler(DefaultSampler(dataset, seed=2), batch_size=4, max_points=1024)
        lengths.add((len(batches), len(list(batches))))
    assert len(lengths) == 1


def test_what_the_pipeline_keeps_is_what_counts(dataset):
    thin = LidarPatchDataset(dataset.roots[0], pipeline=[dict(type='SamplePoints', count=100)])
    assert thin.point_counts().max() == 100 and len(thin[len(thin) - 1]['points']) == 100


def test_senseless_arguments_are_told(dataset):
    with pytest.raises(UserError, match='counts its points'):
        PointBudgetBatchSampler(InfiniteSampler([1, 2]), batch_size=4, max_points=1024)
    with pytest.raises(UserError, match='at least 1, found 4 and 0'):
        PointBudgetBatchSampler(InfiniteSampler(dataset), batch_size=4, max_points=0)
