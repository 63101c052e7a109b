"""Gaussian noise with a given spectrum: natural images have amplitudes that fall as 1 / frequency.

Field 1987, "Relations between the statistics of natural images and the response properties of cortical cells".
"""

import numpy as np


def _frequencies(height: int, width: int, angle: float, stretch: float) -> np.ndarray:
    """Radius of the frequency (cycles a pixel) on rfft2's grid; ``angle``, ``stretch`` as in :func:`power_noise`."""
    fy = np.fft.fftfreq(height).astype(np.float32)[:, None]
    fx = np.fft.rfftfreq(width).astype(np.float32)[None, :]
    if stretch == 1:
        return np.sqrt(fx * fx + fy * fy)
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along, across = (fx * c + fy * s) * np.float32(stretch), fy * c - fx * s
    return np.sqrt(along * along + across * across)


def _shaped(rng: np.random.Generator, height: int, width: int, amplitude: np.ndarray) -> np.ndarray:
    spectrum = np.fft.rfft2(rng.standard_normal((height, width), dtype=np.float32))
    field = np.fft.irfft2(spectrum * amplitude, s=(height, width)).astype(np.float32)
    field -= field.mean()
    return field / max(float(field.std()), 1e-6)


def power_noise(rng: np.random.Generator, height: int, width: int, slope: float = 1.0, angle: float = 0.0,
                stretch: float = 1.0, largest: float = 0.5) -> np.ndarray:
    """Noise (H, W), mean 0, deviation 1, whose amplitude falls as frequency to the power of -``slope``.

    Args:
        rng: where the randomness comes from.
        height, width: size in pixels.
        slope: 0 is white, 1 a natural image, 2 clouds.
        angle, stretch: features are ``stretch`` times longer along ``angle`` (radians).
        largest: features larger than this share of the shorter side grow no stronger.
    """
    radius = _frequencies(height, width, angle, stretch)
    floor = np.float32(1 / (largest * min(height, width)))
    amplitude = np.maximum(radius, floor) ** np.float32(-slope)
    return _shaped(rng, height, width, amplitude)


def band_noise(rng: np.random.Generator, height: int, width: int, period: float, width_octaves: float = 0.5,
               angle: float = 0.0, stretch: float = 1.0) -> np.ndarray:
    """Noise (H, W), mean 0, deviation 1, of features about ``period`` pixels apart; see :func:`power_noise`."""
    radius = np.maximum(_frequencies(height, width, angle, stretch), 1e-6)
    amplitude = np.exp(-0.5 * (np.log2(radius * np.float32(period)) / np.float32(width_octaves)) ** 2)
    amplitude[0, 0] = 0
    return _shaped(rng, height, width, amplitude.astype(np.float32))


def _cubic_weights(length: int, cells: int, start: float, step: float) -> np.ndarray:
    """Weights (length, cells) of cubic interpolation (Keys 1981, a = -0.75) at start, start + 1 / step ..."""
    at = np.float32(start) + np.arange(length, dtype=np.float32) / np.float32(step)
    away = np.abs(at[:, None] - np.arange(cells, dtype=np.float32)[None, :])
    near = (1.25 * away - 2.25) * away * away + 1
    far = ((-0.75 * away + 3.75) * away - 6) * away + 3
    return np.where(away <= 1, near, np.where(away < 2, far, 0)).astype(np.float32)


def smooth_noise(rng: np.random.Generator, height: int, width: int, cells: float) -> np.ndarray:
    """Soft noise (H, W) in about [-1, 1] with ``cells`` blobs along the longer side; cheap.

    Two small matrix products and not cv2.resize, whose last bit depends on the number of threads.
    """
    step = max(height, width) / cells
    small = rng.uniform(-1, 1, (int(height / step) + 5, int(width / step) + 5)).astype(np.float32)
    rows, columns = (_cubic_weights(n, m, 1.5, step) for n, m in zip((height, width), small.shape, strict=True))
    return rows @ small @ columns.T


def phase_randomised(rng: np.random.Generator, patch: np.ndarray, height: int, width: int) -> np.ndarray:
    """Texture (H, W, C) with the spectrum and the correlations between channels of ``patch`` (h, w, C).

    Galerne et al. 2011, "Random phase textures": the same random phase is added in every channel.
    """
    mean = patch.mean((0, 1))
    spectrum = np.fft.rfft2((patch - mean) * np.sqrt(height * width / (patch.shape[0] * patch.shape[1])),
                            s=(height, width), axes=(0, 1))
    noise = np.fft.rfft2(rng.standard_normal((height, width), dtype=np.float32))
    spectrum *= (noise / np.maximum(np.abs(noise), 1e-6))[..., None]
    return (np.fft.irfft2(spectrum, s=(height, width), axes=(0, 1)) + mean).astype(np.float32)
