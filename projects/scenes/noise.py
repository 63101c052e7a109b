"""Value noise as a function of ground coordinates: every tile that looks at a place sees the same values.

Hashes are integer arithmetic and the interpolation is elementwise, so results do not depend on where a tile begins.
"""

import numpy as np

_U = np.uint32


def hash01(ix: np.ndarray, iy: np.ndarray, seed: int) -> np.ndarray:
    """Return float32 values in [0, 1) from integer lattice coordinates (broadcast against each other)."""
    with np.errstate(over='ignore'):
        h = np.asarray(ix).astype(np.int64).astype(_U) * _U(0x85EBCA6B)
        salt = _U((seed * 0x9E3779B1 + 0x7F4A7C15) & 0xFFFFFFFF)
        h = h ^ (np.asarray(iy).astype(np.int64).astype(_U) * _U(0xC2B2AE35) + salt)
        h ^= h >> _U(15)
        h *= _U(0x2C1B3C6D)
        h ^= h >> _U(12)
        h *= _U(0x297A2D39)
        h ^= h >> _U(15)
    return (h >> _U(8)).astype(np.float32) * np.float32(1 / (1 << 24))


def _lattice(coordinates: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Split metres into lattice cell (int64) and smoothed position in the cell (float32 in [0, 1])."""
    u = np.asarray(coordinates, np.float64) / scale
    cell = np.floor(u)
    t = u - cell
    return cell.astype(np.int64), (t * t * (3 - 2 * t)).astype(np.float32)


def noise_at(x: np.ndarray, y: np.ndarray, scale: float, seed: int) -> np.ndarray:
    """Value noise in [0, 1] at scattered points; ``scale`` is the size of a blob in metres."""
    cx, tx = _lattice(x, scale)
    cy, ty = _lattice(y, scale)
    low = hash01(cx, cy, seed) * (1 - tx) + hash01(cx + 1, cy, seed) * tx
    high = hash01(cx, cy + 1, seed) * (1 - tx) + hash01(cx + 1, cy + 1, seed) * tx
    return low * (1 - ty) + high * ty


def noise_grid(x: np.ndarray, y: np.ndarray, scale: float, seed: int) -> np.ndarray:
    """Value noise in [0, 1] on the grid of columns ``x`` (W,) and rows ``y`` (H,); equals :func:`noise_at` there.

    Interpolates along rows first and columns second, so that the hash is taken per lattice point and not per pixel.
    """
    cx, tx = _lattice(x, scale)
    cy, ty = _lattice(y, scale)
    columns = np.arange(cx.min(), cx.max() + 2)
    rows = np.arange(cy.min(), cy.max() + 2)
    lattice = hash01(columns[None, :], rows[:, None], seed)  # (rows, columns)
    ix, iy = cx - columns[0], cy - rows[0]
    along_x = lattice[:, ix] * (1 - tx) + lattice[:, ix + 1] * tx  # (rows, W)
    ty = ty[:, None]
    return along_x[iy] * (1 - ty) + along_x[iy + 1] * ty


def fractal_grid(x: np.ndarray, y: np.ndarray, scale: float, seed: int, octaves: int = 3) -> np.ndarray:
    """Sum of ``octaves`` of value noise, each half as large and 0.55 times as strong; scaled to [0, 1]."""
    total = np.zeros((len(y), len(x)), np.float32)
    weight, norm = 1.0, 0.0
    for octave in range(octaves):
        total += np.float32(weight) * noise_grid(x, y, scale / 2**octave, seed + 101 * octave)
        norm += weight
        weight *= 0.55
    return total * np.float32(1 / norm)


def fractal_at(x: np.ndarray, y: np.ndarray, scale: float, seed: int, octaves: int = 3) -> np.ndarray:
    """The same as :func:`fractal_grid` at scattered points."""
    total = np.zeros(np.broadcast(x, y).shape, np.float32)
    weight, norm = 1.0, 0.0
    for octave in range(octaves):
        total += np.float32(weight) * noise_at(x, y, scale / 2**octave, seed + 101 * octave)
        norm += weight
        weight *= 0.55
    return total * np.float32(1 / norm)
