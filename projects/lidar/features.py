"""What a network is told about a point: 21 numbers, each roughly in -1..1, the same for every tile and every scale.

===================  ===========================================================================================
linearity … curvature  as measured (specs/lidar.md), 0..1; curvature times 3, which makes it 0..1 too
verticality          1 - |n_z|, 0..1
normal_x, _y, _z     the unit normal, pointing up
log_density          log(1 + points per m²) / 3 - 1: 0 points -1, 19 points 0, 400 points 1
height               metres above the local ground / 10, clipped to -1..3
intensity            log(1 + intensity) / log(256) - 1: 0 becomes -1, 255 becomes 0, 65,535 becomes 1
return_number        (number - 1) / 4, clipped to 0..1; number_of_returns alike
red, green, blue     / 65,535; nir alike; 0 where the channel is missing
ndvi                 (nir - red) / (nir + red), -1..1; 0 where a channel is missing or both are 0
has_colour, has_nir  1 or 0: whether the zeros before mean anything
===================  ===========================================================================================
"""

import numpy as np

GEOMETRY_NAMES: tuple[str, ...] = ('linearity', 'planarity', 'sphericity', 'anisotropy', 'curvature', 'verticality',
                                   'normal_x', 'normal_y', 'normal_z')
FEATURE_NAMES: tuple[str, ...] = (
    *GEOMETRY_NAMES, 'log_density', 'height', 'intensity', 'return_number', 'number_of_returns', 'red', 'green', 'blue',
    'nir', 'ndvi', 'has_colour', 'has_nir')
INDEX = {name: column for column, name in enumerate(FEATURE_NAMES)}
CURVATURE_SCALE = 3.0
HEIGHT_SCALE = 10.0  # metres that become 1
HEIGHT_RANGE = (-1.0, 3.0)


def network_features(geometry: np.ndarray, log_density: np.ndarray, height: np.ndarray, intensity: np.ndarray,
                     return_number: np.ndarray, number_of_returns: np.ndarray, rgb: np.ndarray | None = None,
                     nir: np.ndarray | None = None, ndvi: bool = True) -> np.ndarray:
    """Return the features of points, ``(n, 21)`` float32, columns :data:`FEATURE_NAMES`.

    Args:
        geometry: ``(n, 9)``, columns :data:`GEOMETRY_NAMES`.
        log_density: ``(n,)`` log(1 + points per m²).
        height: ``(n,)`` metres above the local ground.
        intensity: ``(n,)`` uint16.
        return_number: ``(n,)`` from 1.
        number_of_returns: ``(n,)`` from 1.
        rgb: ``(n, 3)`` uint16, or None: missing, not black.
        nir: ``(n,)`` uint16, or None.
        ndvi: False leaves the vegetation index 0.
    """
    out = np.zeros((len(geometry), len(FEATURE_NAMES)), np.float32)
    out[:, :9] = geometry
    out[:, INDEX['curvature']] *= CURVATURE_SCALE
    out[:, INDEX['log_density']] = np.asarray(log_density, np.float32) / 3 - 1
    out[:, INDEX['height']] = np.clip(np.asarray(height, np.float32) / HEIGHT_SCALE, *HEIGHT_RANGE)
    out[:, INDEX['intensity']] = np.log1p(np.asarray(intensity, np.float32)) / np.float32(np.log(256)) - 1
    for name, values in (('return_number', return_number), ('number_of_returns', number_of_returns)):
        out[:, INDEX[name]] = np.clip((np.asarray(values, np.float32) - 1) / 4, 0, 1)
    if rgb is not None:
        out[:, INDEX['red']:INDEX['blue'] + 1] = np.asarray(rgb, np.float32) / 65535
        out[:, INDEX['has_colour']] = 1
    if nir is not None:
        out[:, INDEX['nir']] = np.asarray(nir, np.float32) / 65535
        out[:, INDEX['has_nir']] = 1
    if ndvi and rgb is not None and nir is not None:
        red, infrared = out[:, INDEX['red']], out[:, INDEX['nir']]
        total = red + infrared
        np.divide(infrared - red, total, out=out[:, INDEX['ndvi']], where=total > 0)
    return out
