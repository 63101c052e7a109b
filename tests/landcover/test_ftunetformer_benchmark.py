"""The rule by which the step benchmark compares loss curves."""

import pytest
import torch


@pytest.fixture(scope='module')
def tool(repository, load_module):
    return load_module(repository / 'tools/benchmarks/landcover_step.py')


def test_curves_are_compared_seed_by_seed_with_the_noise_between_seeds(tool):
    falling = [1 - step / 100 for step in range(100)]
    curves = {'nchw': {0: falling, 1: [value + 0.1 for value in falling]},
              'near': {0: [value + 0.05 for value in falling], 1: [value + 0.1 for value in falling]},
              'far': {0: [value - 0.2 for value in falling], 1: [value + 0.3 for value in falling]}}
    found = tool.compare_curves(curves)
    assert found['noise'] == pytest.approx(0.1)
    assert found['settings']['near']['difference'] == pytest.approx(0.025)
    assert found['settings']['far']['difference'] == pytest.approx(0.2)
    assert [found['settings'][name]['within'] for name in ('nchw', 'near', 'far')] == [True, True, False]
    # the smoothed curve ends at the mean of the last ten losses
    assert found['settings']['nchw']['last'] == pytest.approx(sum(falling[-10:]) / 10 + 0.05)


def test_blobs_are_seeded_and_hold_every_class(tool):
    images, labels = tool.blobs(torch.Generator().manual_seed(3), 4, 64, 6)
    again, _ = tool.blobs(torch.Generator().manual_seed(3), 4, 64, 6)
    assert torch.equal(images, again) and images.shape == (4, 3, 64, 64)
    assert labels.unique().tolist() == list(range(6))
    # mean colours differ (two pairs only a little: there the stripes tell the classes apart)
    means = torch.stack([images.permute(0, 2, 3, 1)[labels == index].mean(0) for index in range(6)])
    assert torch.cdist(means, means).add(torch.eye(6) * 9).min() > 0.1
