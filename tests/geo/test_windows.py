"""Windows, tapers and streamed blending against a naive whole-image blending."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from projects.engine.errors import UserError
from projects.geo.windows import BandAccumulator, axis_weights, predict_bands, taper, window_starts


def run(model, image, classes, valid=None, window=32, overlap=8, batch_size=2):
    height, width = image.shape[:2]
    valid = np.ones((height, width), bool) if valid is None else valid
    out = np.full((classes, height, width), np.nan, np.float32)
    for band in predict_bands(model, lambda top, rows: (image[top:top + rows], valid[top:top + rows]), height, width,
                              classes, window, overlap, batch_size):
        rows = band.scores.shape[1]
        assert np.isnan(out[:, band.top:band.top + rows]).all()  # every row comes once
        np.testing.assert_array_equal(band.image, image[band.top:band.top + rows])
        np.testing.assert_array_equal(band.valid, valid[band.top:band.top + rows])
        out[:, band.top:band.top + rows] = band.scores
    assert not np.isnan(out).any()
    return out


def naive(model, image, classes, window, overlap):
    """Blend with whole-image accumulators in float64, dividing by the summed weights."""
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, max(0, window - height)), (0, max(0, window - width)), (0, 0)), mode='reflect')
    total = np.zeros((classes, *padded.shape[:2]))
    weights = np.zeros(padded.shape[:2])
    square = np.outer(taper(window, overlap), taper(window, overlap))
    for top in window_starts(height, window, overlap):
        for left in window_starts(width, window, overlap):
            part = padded[top:top + window, left:left + window].transpose(2, 0, 1)[None].astype(np.float32)
            total[:, top:top + window, left:left + window] += model(part)[0] * square
            weights[top:top + window, left:left + window] += square
    return (total / weights)[:, :height, :width]


def position_model(windows):
    """Answer differently at every place of the window, and by the window's content: any wrong weight shows."""
    n, _, h, w = windows.shape
    y, x = np.mgrid[:h, :w] / max(h, w)
    mean = windows.mean(axis=(1, 2, 3))[:, None, None] / 255
    first = (0.3 * y + 0.4 * x * windows[:, 0] / 255 + 0.3 * mean).astype(np.float32)
    return np.stack([first, 1 - first], axis=1)


def pointwise_model(windows):
    p = windows[:, 0] / 255
    return np.stack([p, 1 - p], axis=1)


def test_window_starts():
    assert window_starts(100, 32, 8) == [0, 24, 47, 68]
    assert window_starts(80, 32, 8) == [0, 24, 48]  # fits exactly: no window more
    assert window_starts(64, 32, 0) == [0, 32]
    assert window_starts(32, 32, 8) == [0]
    assert window_starts(5, 32, 8) == [0]
    assert window_starts(33, 32, 8) == [0, 1]


def test_window_borders_fall_on_every_phase_of_the_network_grid():
    steps = np.diff(window_starts(10_000, 512, 128))
    assert steps.max() == 384 and steps[:-1].min() == 381  # never less overlap than asked for
    assert np.bincount(steps[:24] % 4).tolist() == [6, 6, 6, 6]


@given(length=st.integers(1, 300), window=st.integers(1, 64), share=st.floats(0, 0.999))
@settings(max_examples=60, deadline=None)
def test_weights_are_positive_and_sum_to_one(length, window, share):
    starts, weights = axis_weights(length, window, int(window * share))
    total = np.zeros(max(length, window))
    for start, values in zip(starts, weights, strict=True):
        assert start + window <= max(length, window) and (values > 0).all()
        total[start:start + window] += values
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_taper_is_a_smooth_partition():
    weights = taper(64, 16)
    assert (weights[16:48] == 1).all() and (weights > 0).all()
    np.testing.assert_allclose(weights[-16:] + weights[:16], 1)
    assert np.abs(np.diff(weights)).max() < 0.1
    np.testing.assert_array_equal(weights, weights[::-1])


@pytest.mark.parametrize(('height', 'width'), [(100, 130), (32, 32), (20, 75), (75, 20), (1, 1), (33, 64)])
@pytest.mark.parametrize(('window', 'overlap'), [(32, 8), (32, 0), (32, 20), (17, 16)])
def test_stream_equals_naive_blending(height, width, window, overlap):
    image = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    expected = naive(position_model, image, 2, window, overlap)
    for batch_size in (1, 3):
        found = run(position_model, image, 2, window=window, overlap=overlap, batch_size=batch_size)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_pointwise_model_gives_the_pointwise_result_without_seams():
    image = np.random.default_rng(2).integers(0, 256, (121, 95, 1), dtype=np.uint8)
    found = run(pointwise_model, image, 2)
    np.testing.assert_allclose(found[0], image[..., 0] / 255, atol=5e-7)
    np.testing.assert_array_equal(found[0] > 0.5, image[..., 0] > 127)


def test_windows_without_valid_pixels_are_skipped_and_change_nothing():
    image = np.random.default_rng(3).integers(1, 256, (96, 96, 1), dtype=np.uint8)
    valid = np.zeros((96, 96), bool)
    valid[70:90, 60:96] = True
    seen = []

    def model(windows):
        seen.append(len(windows))
        return pointwise_model(windows)

    found = run(model, image, 2, valid)
    np.testing.assert_allclose(found[0][valid], image[valid][:, 0] / 255, atol=5e-7)
    assert sum(seen) == 4  # of 16 windows at (0, 24, 47, 64)^2, those at 47 and 64
    seen.clear()
    run(model, image, 2, np.zeros((96, 96), bool))
    assert not seen


def test_invalid_pixels_reach_the_network_as_zero():
    image = np.full((32, 32, 1), 200, np.uint8)
    valid = np.ones((32, 32), bool)
    valid[3, 4] = False
    inputs = []

    def model(windows):
        inputs.append(windows.copy())
        return pointwise_model(windows)

    run(model, image, 2, valid)
    assert inputs[0][0, 0, 3, 4] == 0 and (inputs[0] == 200).sum() == 32 * 32 - 1


def test_every_window_is_full():
    shapes = set()

    def model(windows):
        shapes.add(windows.shape[1:])
        assert windows.flags['C_CONTIGUOUS'] and windows.dtype == np.float32
        return pointwise_model(windows)

    for size in [(5, 7, 3), (32, 90, 3), (71, 33, 3)]:
        run(model, np.full(size, 9, np.uint8), 2)
    assert shapes == {(3, 32, 32)}


def test_memory_does_not_grow_with_the_height():
    import tracemalloc

    def peak(height):
        tracemalloc.start()
        for _ in predict_bands(
            lambda x: np.zeros((len(x), 4, 64, 64), np.float32),
            lambda top, rows: (np.zeros((rows, 200, 3), np.uint8), np.ones((rows, 200), bool)), height, 200, 4, 64, 16,
        ):
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak(128)
    low, high = peak(256), peak(8192)
    assert high < low + 500_000  # 32 times as high; the plan of windows grows by some bytes a window
    accumulator = BandAccumulator(4, 64, 200)
    for _ in range(10):
        accumulator.advance(48)
        assert accumulator.scores.shape == (4, 64, 200)


def test_bad_options_and_a_bad_model():
    image = np.zeros((40, 40, 1), np.uint8)
    with pytest.raises(UserError, match='overlap: expected 0 <= overlap < window'):
        run(pointwise_model, image, 2, overlap=32)
    with pytest.raises(UserError, match='window'):
        run(pointwise_model, image, 2, window=0)
    with pytest.raises(UserError, match='batch_size'):
        run(pointwise_model, image, 2, batch_size=0)
    with pytest.raises(ValueError, match=r'scores of shape \(2, 2, 32, 32\), expected \(2, 3, 32, 32\)'):
        run(pointwise_model, image, 3)
