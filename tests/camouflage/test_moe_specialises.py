"""Trained on two kinds of scenes, a mixture keeps all experts at work, and the expert tells the kind."""

from functools import cache

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn

from projects.camouflage.metrics.specialisation import mutual_information, permuted_null, specialisation
from projects.camouflage.scenes.scene import SceneOptions, make_scene
from projects.engine import startup
from projects.engine.errors import UserError

SIDE, TRAINED, JUDGED = 64, 450, 200


@cache
def scenes():
    """Draw pictures (N, 3, S, S), each with mean 0 and deviation 1, their masks (N, 1, S, S) and kinds (N,), 0 or 1.

    Light and contrast differ from picture to picture more than ground and water do: unnormalised, a stem that has
    learnt nothing would sort by these.
    """
    drawn = [make_scene(3, 0, index, SceneOptions((SIDE, SIDE), difficulty=(0, 0.5), area=(0.05, 0.4)))
             for index in range(TRAINED + JUDGED)]
    images = torch.from_numpy(np.stack([scene.image for scene in drawn])).permute(0, 3, 1, 2).float()
    images = images - images.mean((1, 2, 3), keepdim=True)
    masks = torch.from_numpy(np.stack([scene.mask > 0 for scene in drawn]))[:, None].long()
    kinds = np.array([int(scene.kind == 'aquatic') for scene in drawn])
    return images / images.std((1, 2, 3), keepdim=True), masks, kinds


class Stem(nn.Module):
    """Two levels of a few convolutions."""

    def __init__(self):
        super().__init__()
        self.fine = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU())
        self.coarse = nn.Sequential(nn.Conv2d(16, 24, 3, 2, 1), nn.ReLU(), nn.Conv2d(24, 24, 3, 1, 1), nn.ReLU())

    def forward(self, x):
        fine = self.fine(x)
        return fine, self.coarse(fine)


def train(experts, top_k, batch, steps, seed, stem_rate=1.5e-3):
    """Train a mixture; return how it routes the scenes kept apart, (kinds, probabilities, choice), and its losses."""
    startup.start()
    from mmseg.registry import MODELS

    import projects.camouflage.models  # noqa: F401

    torch.manual_seed(seed)
    head = MODELS.build(dict(
        type='ModelLevelMoE', in_channels=(16, 24), num_classes=2, out_channels=1, num_experts=experts, top_k=top_k,
        expert=dict(type='FCNHead', in_channels=24, in_index=1, channels=8, num_convs=1, concat_input=False,
                    dropout_ratio=0, norm_cfg=None),
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True, avg_non_ignore=True)))
    stem, (images, masks, kinds) = Stem(), scenes()
    generator = np.random.default_rng(seed)
    optimizer = torch.optim.Adam([dict(params=stem.parameters(), lr=stem_rate), dict(params=head.parameters())], 1.5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)  # features settle, which the router keeps
    curve = []
    for _ in range(steps):
        chosen = generator.integers(0, TRAINED, batch)
        samples = [SegDataSample(gt_sem_seg=PixelData(data=masks[index])) for index in chosen]
        losses = head.loss(stem(images[chosen]), samples, None)
        optimizer.zero_grad()
        sum(value for name, value in losses.items() if 'loss' in name).backward()
        optimizer.step()
        schedule.step()
        curve.append(losses['loss_ce'].item())
    with torch.no_grad():
        probabilities = head.eval().router_probabilities(stem(images[TRAINED:]))
        return kinds[TRAINED:], probabilities.numpy(), head.choice(probabilities).numpy(), curve


def assert_balanced(load):
    """Each of E shares is between 0.5/E and 2/E."""
    assert load.min() >= 0.5 / len(load) and load.max() <= 2 / len(load), load


@pytest.mark.slow
@pytest.mark.parametrize(('experts', 'top_k'), [(2, 1), (3, 2), (4, 2)])
def test_all_experts_work_and_the_expert_tells_the_kind(experts, top_k):
    kinds, probabilities, choice, _ = train(experts, top_k, batch=16, steps=300, seed=0)
    first = probabilities.argmax(1)
    assert_balanced((choice > 0).mean(0) / top_k)  # the load: of the pictures sent (Shazeer et al. 2017)
    found = specialisation(first, kinds, np.random.default_rng(0), permutations=500)
    assert found.information > found.null and found.p_value < 0.01, found


def test_batch_1_trains():
    """It says nothing about the loads: with one picture a step they are not kept on scenes that are new."""
    _, probabilities, _, curve = train(4, 2, batch=1, steps=400, seed=0)
    assert np.mean(curve[-150:]) < 0.8 * np.mean(curve[:10])
    assert probabilities.std(0).min() > 0.01  # each expert is for some pictures more than for others


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
