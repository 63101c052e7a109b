"""Sizes at a scale; the resize has the values of F.interpolate, whatever way it goes."""

import pytest
import torch
import torch.nn.functional as F

from projects.multiscale.resizing import _filter, aligned, resize


@pytest.mark.parametrize('side, scale, divisor, expected', [
    (352, 0.5, 32, 160), (352, 1.5, 32, 512), (352, 1.0, 32, 352),  # ties go down
    (384, 0.5, 32, 192), (384, 1.5, 32, 576), (384, 0.75, 32, 288), (384, 1.25, 32, 480), (384, 1.75, 32, 672),
    (350, 1.0, 32, 350), (31, 1.0, 32, 32), (32, 1.0, 32, 32), (20, 0.25, 32, 32), (40, 1.5, 32, 64),
    (350, 0.5, 32, 160), (370, 0.5, 32, 192), (100, 0.07, 1, 7), (320, 1.1, 32, 352), (30, 2, 1, 60)])
def test_the_nearest_multiple(side, scale, divisor, expected):
    assert aligned(side, scale, divisor) == expected


def test_what_has_the_size_is_not_touched():
    x = torch.rand(1, 3, 8, 9)
    assert resize(x, (8, 9)) is x


@pytest.mark.parametrize('channels', [3, 32])
@pytest.mark.parametrize('size', [(11, 20), (24, 40), (40, 20), (11, 50), (23, 33)])
@pytest.mark.parametrize('layout', ['nchw', 'channels_last', 'neither'])
def test_values_gradients_and_layout_are_those_of_interpolate(channels, size, layout):
    torch.manual_seed(0)
    x = torch.randn(2, channels, 24, 33)
    if layout == 'channels_last':
        x = x.contiguous(memory_format=torch.channels_last)
    elif layout == 'neither':
        x = torch.randn(2, channels, 33, 24).transpose(2, 3)
    x.requires_grad_()
    found, expected = resize(x, size), F.interpolate(x, size=size, mode='bilinear', antialias=True)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    if layout == 'channels_last' and size != (24, 33):
        assert found.is_contiguous(memory_format=torch.channels_last)
    weight = torch.randn_like(expected)
    (mine,) = torch.autograd.grad((found * weight).sum(), x)
    (theirs,) = torch.autograd.grad((expected * weight).sum(), x)
    torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('channels', [3, 32])
def test_bfloat16_is_kept_and_near(channels):
    x = torch.rand(1, channels, 32, 32).contiguous(memory_format=torch.channels_last)
    found = resize(x.bfloat16(), (22, 22))
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), resize(x, (22, 22)), atol=0.02, rtol=0)


@pytest.mark.parametrize('channels', [3, 32])
def test_autocast_does_not_lower_the_precision(channels):
    x = torch.rand(1, channels, 32, 32)
    with torch.autocast('cpu', torch.bfloat16):
        found = resize(x, (22, 22))
    assert torch.equal(found, resize(x, (22, 22))) and found.dtype == torch.float32


@pytest.mark.parametrize('channels', [3, 32])
def test_without_antialiasing_high_frequencies_stay(channels):
    """Stripes a pixel wide: nothing of them is left at a third of the size; without the filter every bit is."""
    stripes = (torch.arange(66) % 2 * 2.0 - 1).expand(1, channels, 66, 66)
    assert resize(stripes, (22, 22)).abs().max() < 0.12
    assert resize(stripes, (22, 22), antialias=False).abs().min() == 1


def test_a_filter_made_in_inference_mode_serves_a_training():
    _filter.cache_clear()
    x = torch.rand(1, 32, 16, 16)
    with torch.inference_mode():
        resize(x, (7, 7))
    y = resize(x.requires_grad_(), (7, 7))
    y.sum().backward()
    assert x.grad.sum() == pytest.approx(32 * 49, rel=1e-5)  # weights of a pixel of the output sum to 1


def test_the_cache_of_filters_is_bounded():
    assert _filter.cache_info().maxsize <= 64
