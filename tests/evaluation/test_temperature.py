"""Temperature scaling on made logits whose right temperature is known."""

import math

import numpy as np
import pytest
import torch

from projects.engine.errors import UserError
from projects.evaluation.temperature import (
    PixelSample,
    expected_calibration_error,
    fit_temperature,
    fit_weights,
    held_out_groups,
    negative_log_likelihood,
    temperature_of,
)
from projects.multiscale.fit import fit_views, merge_pixels


def honest(pixels, seed, classes=5):
    """Logits whose softmax is the distribution that the labels are drawn from."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(pixels, classes, generator=generator)
    return logits, torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]


def test_golden_section_finds_the_minimum():
    assert fit_temperature(lambda t: (math.log(t) - math.log(3.3)) ** 2) == pytest.approx(3.3, rel=1e-3)


@pytest.mark.parametrize('factor', [0.5, 1.0, 3.0])
def test_the_temperature_of_overconfident_logits_is_found(factor):
    logits, labels = honest(20000, 0)
    assert temperature_of(factor * logits, labels) == pytest.approx(factor, rel=0.05)


def test_calibration_lowers_the_error_on_held_out_pixels():
    (logits, labels), (other, other_labels) = honest(8000, 0), honest(8000, 1)
    temperature = temperature_of(4 * logits, labels)
    before, after = (4 * other).log_softmax(1), (4 * other / temperature).log_softmax(1)
    assert expected_calibration_error(before, other_labels) > 0.15
    assert expected_calibration_error(after, other_labels) < 0.02
    assert negative_log_likelihood(after, other_labels) < negative_log_likelihood(before, other_labels)
    assert torch.equal(before.argmax(1), after.argmax(1))


def test_calibration_of_an_overfitted_network_on_held_out_blocks():
    """A network that has learnt its few pixels by heart is too sure of others; its temperature comes from half the
    blocks, and is judged on the other half."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pixels = torch.randn(120 + 4000, 20)
        labels = torch.multinomial((pixels @ torch.randn(20, 4) / 3).softmax(1), 1)[:, 0]
        network = torch.nn.Sequential(torch.nn.Linear(20, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(pixels[:120]), labels[:120]).backward()
        optimizer.step()
    logits, labels = network(pixels[120:]).detach(), labels[120:]
    blocks = [f'block{index // 400}' for index in range(4000)]
    apart = held_out_groups(blocks)
    held_out = torch.tensor([block in apart for block in blocks])
    temperature = temperature_of(logits[~held_out], labels[~held_out])
    before, after = (
        expected_calibration_error((logits[held_out] / t).log_softmax(1), labels[held_out]) for t in (1, temperature))
    assert temperature > 2 and before > 0.2 and after < 0.1


@pytest.mark.parametrize('merge', ['prob', 'logit'])
def test_a_member_that_knows_nothing_gets_no_weight(merge):
    logits, labels = honest(4000, 0)
    noise = torch.randn(4000, 5, generator=torch.Generator().manual_seed(7))
    views = torch.stack([logits, noise], dim=1)[:, :, None]
    weights, temperatures, common = fit_views(views, labels, merge)
    assert weights[0] > 0.9 and sum(weights) == pytest.approx(1)
    alone = negative_log_likelihood(logits.log_softmax(1), labels)
    fitted = negative_log_likelihood(merge_pixels(views, merge, weights, temperatures, common), labels)
    assert fitted < alone + 0.01
    assert fitted < negative_log_likelihood(merge_pixels(views, merge, [0.5, 0.5], [1, 1], 1), labels) - 0.05


def test_equal_members_share_the_weight():
    logits, labels = honest(1000, 0)
    assert fit_weights(lambda w: (w.sum() * logits.double()).log_softmax(1), labels, 2) == pytest.approx([0.5, 0.5])
    assert fit_weights(lambda w: w, labels, 1) == [1.0]


def test_a_sample_is_bounded_and_even():
    counts = np.zeros(10)
    for seed in range(200):
        sample = PixelSample(50, seed)
        for image in range(10):
            size = 40 if image < 9 else 400
            chosen, keys = sample.choose(size)
            sample.add(keys, torch.full((len(chosen), 2), float(image)), torch.full((len(chosen),), image))
        values, labels = sample.result()
        assert len(values) == len(labels) == 50
        counts += np.bincount(labels.numpy(), minlength=10)
    share = counts / counts.sum()
    assert share[9] == pytest.approx(400 / 760, abs=0.02)
    assert share[:9] == pytest.approx(np.full(9, 40 / 760), abs=0.012)


def test_the_sample_of_one_seed_is_the_same_again():
    def draw():
        sample = PixelSample(5, 3)
        for _ in range(3):
            chosen, keys = sample.choose(20)
            sample.add(keys, torch.from_numpy(chosen)[:, None], torch.from_numpy(chosen))
        return sample.result()[1].tolist()
    assert draw() == draw()


def test_groups_are_halved_and_never_divided():
    groups = [f'block{index % 7}' for index in range(50)]
    held_out = held_out_groups(groups)
    assert held_out == held_out_groups(groups[::-1]) and len(held_out) == 3 and held_out < set(groups)
    with pytest.raises(UserError, match='expected at least 2'):
        held_out_groups(['a', 'a'])


def test_bad_input():
    logits, labels = honest(10, 0)
    with pytest.raises(UserError, match='votes have no likelihood'):
        fit_views(logits[:, None, None], labels, 'vote')
    with pytest.raises(UserError, match='expected at least 1'):
        PixelSample(0)
    with pytest.raises(UserError, match='no labelled pixel'):
        PixelSample(5).result()
