"""Sampling along lines: the right value inside, at the border and beyond it, and gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from projects.roofline.models.line_sampling import line_points, pooled_samples, sample_lines, sample_map


def ramp(height: int, width: int) -> Tensor:
    """(2, 2, h, w): in image 0 the cell centre's y and x, in image 1 100 more."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing='ij')
    return torch.stack((torch.stack((y, x)), torch.stack((y, x)) + 100))


def random_lines(number: int, low: float, high: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    lines = torch.rand(number, 2, 2, generator=generator) * (high - low) + low
    return lines, torch.randint(0, 2, (number,), generator=generator)


def by_grid_sample(features: Tensor, lines: Tensor, image: Tensor, points: int) -> Tensor:
    """(L, C, points), line after line."""
    height, width = features.shape[-2:]
    grid = 2 * line_points(lines, points) / torch.tensor([height, width], dtype=lines.dtype) - 1
    return torch.stack([
        F.grid_sample(features[number][None], places.flip(-1)[None, None], padding_mode='border',
                      align_corners=False)[0, :, 0]
        for number, places in zip(image.tolist(), grid)
    ])


def test_points_run_from_the_first_end_to_the_second_and_include_both():
    line = torch.tensor([[0.3, 7.7], [9.1, 1.3]])
    points = line_points(line, 64)
    assert torch.equal(points[[0, -1]], line)
    torch.testing.assert_close(points[21], line[0] + (line[1] - line[0]) * 21 / 63)
    torch.testing.assert_close(line_points(line.flip(0), 64), points.flip(0))


def test_a_ramp_gives_back_the_coordinates_and_stays_level_beyond_the_outer_centres():
    features = ramp(6, 9)
    lines = torch.tensor([[[1.25, 2.5], [4.0, 8.25]], [[0.0, 0.0], [6.0, 9.0]], [[0.2, 4.0], [0.2, 4.0]]])
    image = torch.tensor([0, 1, 0])
    samples = sample_lines(features, lines, image, points=5)
    expected = line_points(lines, 5).clamp_min(0.5)
    expected = torch.minimum(expected, torch.tensor([5.5, 8.5])) + 100 * image[:, None, None]
    torch.testing.assert_close(samples, expected.transpose(1, 2))
    torch.testing.assert_close(sample_map(features[:, 1], lines, image, 5), samples[:, 1])


@pytest.mark.parametrize('size', [(7, 12), (1, 5), (5, 1), (1, 1)])
def test_samples_are_those_of_grid_sample_inside_at_the_border_and_outside(size: tuple[int, int]):
    features = torch.randn(2, 5, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    lines, image = random_lines(40, -3, 15)
    lines = lines.double()
    expected = by_grid_sample(features, lines, image, 16)
    torch.testing.assert_close(sample_lines(features, lines, image, 16), expected)
    torch.testing.assert_close(sample_map(features[:, 2], lines, image, 16), expected[:, 2])


def test_pooling_takes_the_largest_of_neighbouring_points_and_a_masked_point_is_zero():
    features = -ramp(4, 10)[:, 1:]  # -x
    line, image = torch.tensor([[[2.0, 1.0], [2.0, 8.0]]]), torch.zeros(1, dtype=torch.long)
    mask = torch.tensor([[1.0, 1, 1, 1, 0, 1, 0.5, 1]])
    torch.testing.assert_close(pooled_samples(features, line, image, 8, 4), torch.tensor([[[-1.0, -3, -5, -7]]]))
    torch.testing.assert_close(
        pooled_samples(features, line, image, 8, 4, mask), torch.tensor([[[-1.0, -3, 0, -3.5]]]))


@pytest.mark.parametrize('masked', [False, True])
def test_a_line_scores_the_same_in_training_in_inference_and_in_any_company(masked: bool):
    features = torch.randn(2, 6, 8, 8, generator=torch.Generator().manual_seed(2))
    lines, image = random_lines(150, -1, 9)  # more than are taken at once
    mask = torch.rand(150, 16, generator=torch.Generator().manual_seed(3)) if masked else None
    trained = pooled_samples(features.requires_grad_(), lines, image, 16, 4, mask)
    with torch.no_grad():
        inferred = pooled_samples(features, lines, image, 16, 4, mask)
        alone = pooled_samples(features, lines[100:101], image[100:101], 16, 4, mask[100:101] if masked else None)
        samples = sample_lines(features, lines, image, 16)
    assert trained.requires_grad
    torch.testing.assert_close(inferred, trained)
    torch.testing.assert_close(inferred[100:101], alone)
    samples = samples * mask[:, None] if masked else samples
    torch.testing.assert_close(inferred, F.max_pool1d(samples, 4))


def test_gradients_reach_features_mask_and_map():
    generator = torch.Generator().manual_seed(4)
    features = torch.randn(2, 2, 4, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    mask = torch.rand(3, 8, dtype=torch.float64, generator=generator, requires_grad=True)
    lines, image = random_lines(3, -1, 6)
    lines = lines.double()
    assert torch.autograd.gradcheck(lambda values: sample_lines(values, lines, image, 8), features)
    assert torch.autograd.gradcheck(lambda values, m: pooled_samples(values, lines, image, 8, 2, m), (features, mask))
    assert torch.autograd.gradcheck(lambda values: sample_map(values[:, 0], lines, image, 8), features)


def test_no_gradient_reaches_the_coordinates():
    lines, image = random_lines(3, 0, 4)
    lines.requires_grad_()
    features = torch.randn(2, 2, 4, 5, requires_grad=True)
    total = sample_lines(features, lines, image, 8).sum() + sample_map(features[:, 0], lines, image, 8).sum()
    total.backward()
    assert lines.grad is None


def test_half_precision_features_are_sampled_in_single():
    features = ramp(8, 8).bfloat16()
    lines, image = random_lines(4, 1, 7)
    samples = sample_lines(features, lines, image, 8)
    assert samples.dtype == torch.float32
    torch.testing.assert_close(samples, sample_lines(features.float(), lines, image, 8))


def test_no_lines_are_no_samples():
    lines, image = torch.zeros(0, 2, 2), torch.zeros(0, dtype=torch.long)
    features = torch.randn(1, 3, 4, 4, requires_grad=True)
    assert sample_lines(features, lines, image).shape == (0, 3, 64)
    assert pooled_samples(features, lines, image).shape == (0, 3, 8)
    assert sample_map(features[:, 0], lines, image).shape == (0, 64)
    pooled_samples(features, lines, image).sum().backward()
    assert (features.grad == 0).all()
    with torch.no_grad():
        assert pooled_samples(features, lines, image).shape == (0, 3, 8)
