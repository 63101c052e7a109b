"""Trained on two kinds of scenes, a mixture keeps all experts at work, and the expert tells the kind."""

from itertools import chain

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn

from projects.camouflage.metrics.specialisation import mutual_information, permuted_null, specialisation
from projects.engine import startup
from projects.engine.errors import UserError

SIDE, EXPERTS = 32, 4


def scenes(kinds, generator):
    """Draw (N, 3, S, S) and masks (N, 1, S, S): a disc brighter than smooth ground (0), darker than stripes."""
    number = len(kinds)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    centre, radius = generator.uniform(9, SIDE - 9, (number, 2, 1, 1)), generator.uniform(4, 8, (number, 1, 1))
    inside = (rows - centre[:, 0]) ** 2 + (columns - centre[:, 1]) ** 2 < radius ** 2
    ground = torch.from_numpy(generator.normal(size=(number, 1, 5, 5)))
    smooth = 0.6 * F.interpolate(ground, (SIDE, SIDE), mode='bicubic').numpy()[:, 0] + 0.7 * inside
    angle, pace, phase = (generator.uniform(low, high, (number, 1, 1))
                          for low, high in ((0, np.pi), (0.7, 1.1), (0, 6)))
    striped = np.sin(pace * (columns * np.cos(angle) + rows * np.sin(angle)) + phase) - 0.7 * inside
    images = np.where(np.asarray(kinds)[:, None, None] == 0, smooth, striped)[:, None]
    images = images + generator.normal(scale=0.15, size=(number, 3, SIDE, SIDE))
    return torch.from_numpy(images).float(), torch.from_numpy(inside[:, None]).long()


class Stem(nn.Module):
    """Two levels of a few convolutions."""

    def __init__(self):
        super().__init__()
        self.fine = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU())
        self.coarse = nn.Sequential(nn.Conv2d(16, 24, 3, 2, 1), nn.ReLU(), nn.Conv2d(24, 24, 3, 1, 1), nn.ReLU())

    def forward(self, x):
        fine = self.fine(x)
        return fine, self.coarse(fine)


def mixture(seed):
    startup.start()
    from mmseg.registry import MODELS

    import projects.camouflage.models  # noqa: F401

    torch.manual_seed(seed)
    head = MODELS.build(dict(
        type='ModelLevelMoE', in_channels=(16, 24), num_classes=2, out_channels=1, num_experts=EXPERTS, top_k=2,
        expert=dict(type='FCNHead', in_channels=24, in_index=1, channels=8, num_convs=1, concat_input=False,
                    dropout_ratio=0, norm_cfg=None),
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True)))
    return Stem(), head


def train(stem, head, images, masks, batch, steps, seed, rate=1.5e-3):
    generator = np.random.default_rng(seed)
    optimizer = torch.optim.Adam(chain(stem.parameters(), head.parameters()), rate)
    curve = []
    for _ in range(steps):
        chosen = generator.integers(0, len(images), batch)
        samples = [SegDataSample(gt_sem_seg=PixelData(data=masks[index])) for index in chosen]
        losses = head.loss(stem(images[chosen]), samples, None)
        optimizer.zero_grad()
        sum(value for name, value in losses.items() if 'loss' in name).backward()
        optimizer.step()
        curve.append(losses['loss_ce'].item())
    return curve


def routed(stem, head, seed=77, number=100):
    kinds = np.repeat([0, 1], number)
    images, _ = scenes(kinds, np.random.default_rng(seed))
    with torch.no_grad():
        return kinds, head.eval().router_probabilities(stem(images)).numpy()


@pytest.mark.slow
def test_all_experts_work_and_the_expert_tells_the_kind():
    stem, head = mixture(seed=0)
    kinds = np.arange(400) % 2
    train(stem, head, *scenes(kinds, np.random.default_rng(5)), batch=8, steps=600, seed=0)
    kinds, probabilities = routed(stem, head)
    load = probabilities.mean(0)
    assert load.min() >= 0.5 / EXPERTS and load.max() <= 2 / EXPERTS, load
    found = specialisation(probabilities.argmax(1), kinds, np.random.default_rng(0), permutations=500)
    assert found.information > 5 * found.null and found.p_value < 0.01, found
    assert found.share > 0.3, found


@pytest.mark.slow
def test_batch_1_trains():
    stem, head = mixture(seed=0)
    images, masks = scenes(np.arange(400) % 2, np.random.default_rng(5))
    curve = train(stem, head, images, masks, batch=1, steps=700, seed=0)
    assert np.mean(curve[-100:]) < 0.8 * np.mean(curve[:100])
    load = routed(stem, head)[1].mean(0)
    assert load.min() > 0.02 and load.max() <= 2 / EXPERTS, load  # none idle; a load over single pictures is noisier


def test_mutual_information_of_known_tables():
    assert mutual_information([0, 0, 1, 1], ['a', 'a', 'b', 'b']) == pytest.approx(np.log(2))
    assert mutual_information([0, 1, 0, 1], ['a', 'a', 'b', 'b']) == pytest.approx(0)
    expected = 0.75 * np.log(0.75 / 0.5625) + 0.25 * np.log(0.25 / 0.0625)
    assert mutual_information([0, 0, 0, 3], [5, 5, 5, 1]) == pytest.approx(expected)


def test_chance_is_within_its_null_and_a_kept_secret_is_not():
    generator = np.random.default_rng(3)
    kinds = np.repeat([0, 1], 50)
    null = permuted_null(kinds, kinds, generator, 200)
    assert null.shape == (200,) and null.max() < 0.2 < np.log(2)
    by_chance = specialisation(generator.integers(0, 3, 100), kinds, generator, 200)
    assert by_chance.p_value > 0.05
    told = specialisation(kinds, kinds, generator, 200)
    assert told.share == pytest.approx(1) and told.p_value == pytest.approx(1 / 201)


def test_labels_of_different_lengths_are_one_line():
    with pytest.raises(UserError, match='found 2 and 1 labels'):
        mutual_information([0, 1], [0])
