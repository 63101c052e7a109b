"""What a camera does to a scene: light falling off, white balance, noise, the traces of JPEG."""

import cv2
import numpy as np


def vignette(rng: np.random.Generator, height: int, width: int, strength: float) -> np.ndarray:
    """Factor (H, W, 1) that falls off towards the corners."""
    y = (np.arange(height, dtype=np.float32) / height - np.float32(rng.uniform(0.4, 0.6)))[:, None]
    x = (np.arange(width, dtype=np.float32) / width - np.float32(rng.uniform(0.4, 0.6)))[None, :]
    return (1 - np.float32(strength) * 2 * (x * x + y * y))[..., None]


def develop(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Turn a scene (H, W, 3) in [0, 1] into a photograph (H, W, 3) uint8."""
    height, width = image.shape[:2]
    if rng.random() < 0.4:
        image = image * vignette(rng, height, width, rng.uniform(0.05, 0.5))
    image = image * np.exp(rng.normal(0, 0.06, 3)).astype(np.float32)
    grey = image.mean(-1, keepdims=True)
    image = grey + (image - grey) * np.float32(rng.uniform(0.7, 1.3))
    level = float(np.percentile(grey[::4, ::4], 50)) + 1e-3
    wanted = rng.uniform(0.22, 0.58)
    image = np.clip(image * np.float32(np.clip(wanted / level, 0.6, 2.2)), 0, None)
    image = image / (1 + 0.15 * image ** 4) ** np.float32(0.25)  # highlights roll off
    image = np.clip(image, 0, 1) ** np.float32(np.exp(rng.normal(0, 0.15)))
    form, amount = rng.random(), rng.uniform(0, 1)
    if form < 0.2:
        image = cv2.GaussianBlur(image, (0, 0), 0.3 + 0.6 * amount)
    elif form < 0.7:  # cameras sharpen
        soft = cv2.GaussianBlur(image, (0, 0), 1.0)
        image = np.clip(image + (image - soft) * np.float32(0.1 + 0.9 * amount), 0, 1)
    noise = rng.choice([0.0, 0.008, 0.02, 0.04], p=[0.4, 0.35, 0.18, 0.07])
    if noise:
        grain = rng.standard_normal((height, width, 3), dtype=np.float32)
        image = image + grain * np.float32(noise) * np.sqrt(np.clip(image, 0.05, 1))
    photo = np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        quality = int(rng.integers(40, 95))
        photo = cv2.imdecode(cv2.imencode('.jpg', photo, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    return photo
