"""The difficulty hook on two processes: one scoring, one set of weights, through a resume in the middle of a pass."""

from collections import Counter
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.dataset import DefaultSampler, pseudo_collate
from mmengine.logging import MessageHub, MMLogger
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn
from torch.utils.data import DataLoader, Dataset

from projects.engine.batches import seeded, watched
from projects.engine.errors import UserError
from projects.multistage import difficulty_hook
from projects.multistage.difficulty import write_weights
from projects.multistage.difficulty_hook import DifficultyHook
from projects.multistage.hard_sampler import HardSampleSampler

IMAGES, LENGTH, ITERATIONS = 5, 18, 13  # passes of nine draws a rank: four batches of two and one draw left over


class Tiles(Dataset):
    """Truth is 1 everywhere; image i is brighter than tile i - 1."""

    metainfo = dict(classes=('dark', 'bright'))

    def __len__(self):
        return IMAGES

    def get_data_info(self, index):
        return {'sample_id': f'tile_{index}'}

    def __getitem__(self, index):
        return dict(inputs=torch.linspace(index, index + 2, 64).view(1, 8, 8), data_samples=SegDataSample(
            gt_sem_seg=PixelData(data=torch.ones(1, 8, 8, dtype=torch.long)), metainfo=self.get_data_info(index)))


class Threshold(nn.Module):
    """Says 1 where a pixel is brighter than its running mean, which each rank has of its own."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(1)

    def test_step(self, batch):
        assert not self.training
        sample = batch['data_samples'][0]
        sample.pred_sem_seg = PixelData(data=(batch['inputs'][0] > self.norm.running_mean).long())
        return [sample]


def start(rank, world_size):
    sampler = HardSampleSampler(Tiles(), length=LENGTH, rule=dict(type='FocalRule', scale=9, floor=0.5), seed=3)
    plain = DataLoader(Tiles(), batch_size=2, sampler=sampler, collate_fn=pseudo_collate, drop_last=True)
    runner = SimpleNamespace(
        model=Threshold(), rank=rank, world_size=world_size, iter=0, cfg=None, message_hub=MessageHub('hook'),
        logger=MMLogger('hook'), train_loop=SimpleNamespace(dataloader=seeded(watched(plain), 7)))
    return runner, DifficultyHook(interval=3, begin=0, by_epoch=False)


def go_on(runner, hook, stop):
    """As ResumableIterLoop; each iteration moves the running mean, unlike on each rank."""
    loader, found = runner.train_loop.dataloader, []
    hook.before_train(runner)
    loader.batch_sampler.number = runner.iter
    while runner.iter < stop:
        for batch in loader:
            found.append([sample.sample_id for sample in batch['data_samples']])
            runner.model.norm.running_mean += 0.1 * (1 + runner.rank)
            hook.after_train_iter(runner, runner.iter)
            runner.iter += 1
            if runner.iter == stop:
                return found
        loader.batch_sampler.number = runner.iter
    return found


def train(rank, world_size, folder):
    if world_size > 1:
        dist.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=world_size)
    difficulty_hook.whole_images = lambda cfg: Tiles()
    runner, hook = start(rank, world_size)
    whole = go_on(runner, hook, ITERATIONS)
    own = float(runner.model.norm.running_mean)
    stopped, kept = start(rank, world_size)
    resumed = go_on(stopped, kept, 6)  # within the second pass, whose weights are not the latest ones
    again, fresh = start(rank, world_size)
    again.iter, again.model = 6, stopped.model
    fresh.load_state_dict(kept.state_dict())
    resumed += go_on(again, fresh, ITERATIONS)
    torch.save(dict(whole=whole, resumed=resumed, changes=hook.changes, fresh=fresh.changes, mean=own),
               f'{folder}/{world_size}.{rank}.pt')
    if world_size > 1:
        dist.destroy_process_group()


@pytest.mark.parametrize('world_size', [1, 2])
def test_all_ranks_have_one_set_of_weights_through_a_resume(tmp_path, world_size):
    mp.start_processes(train, (world_size, str(tmp_path)), nprocs=world_size, start_method='spawn')
    ranks = [torch.load(tmp_path / f'{world_size}.{rank}.pt') for rank in range(world_size)]
    length = LENGTH // world_size // 2
    for rank, found in enumerate(ranks):
        assert found['resumed'] == found['whole'] and found['fresh'] == found['changes']
        assert found['changes'] == ranks[0]['changes']
        assert found['mean'] == pytest.approx(0.1 * (1 + rank) * ITERATIONS)  # its own again after each scoring
    iteration, weights = ranks[0]['changes'][-1]
    assert iteration == 12 and list(weights) != [] and set(weights) == {f'tile_{index}' for index in range(IMAGES)}
    mean = 0.1 * (1 + world_size) / 2 * 12  # of the ranks' running means
    pixels = torch.linspace(0, 2, 64)
    for index in range(IMAGES):
        iou = float((pixels + index > mean).double().mean())
        assert weights[f'tile_{index}'] == pytest.approx(max(0.5, 9 * (1 - iou) ** 2), abs=0.3)
    assert len(set(weights.values())) > 1
    if world_size == 2:  # both ranks share one pass; the first is drawn by the initial network's weights
        drawn = Counter(name for found in ranks for batch in found['whole'][:length] for name in batch)
        assert sum(drawn.values()) == LENGTH - 2 and max(drawn.values()) > LENGTH / IMAGES


def test_what_the_hook_refuses(tmp_path):
    with pytest.raises(UserError, match='difficulty.interval: expected a whole number of at least 1, found 0'):
        DifficultyHook(interval=0)
    write_weights(tmp_path / 'weights.txt', {f'tile_{index}': 1.0 for index in range(IMAGES)})
    for sampler, told in (
            (DefaultSampler(Tiles()), 'train_dataloader.sampler: expected HardSampleSampler, whose weights the '
                                      'difficulty hook sets, found DefaultSampler'),
            (HardSampleSampler(Tiles(), tmp_path / 'weights.txt'),
             "train_dataloader.sampler.length: expected a number of draws, found 'weights'")):
        runner, hook = start(0, 1)
        runner.train_loop.dataloader.batch_sampler.sampler = sampler
        with pytest.raises(UserError, match=told):
            hook.before_train(runner)
