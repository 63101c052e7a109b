"""Colours of points: by class, by error, by a value, or their own; every colouring is a code a point and a table."""

from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps

from projects.engine.errors import UserError
from projects.lidar.classes import BUILDING, IGNORE, LOD3, candidates
from projects.lidar.palette import Colour, label_name, label_table
from projects.lidar.view.cloud import Cloud

# What became of a point: name and colour. Codes of `errors`.
ERRORS: tuple[tuple[str, Colour], ...] = (
    ('right', (176, 190, 197)), ('another part of a building', (255, 193, 7)), ('building missed', (216, 27, 96)),
    ('building invented', (94, 53, 177)), ('wrong', (239, 108, 0)), ('no truth', (96, 100, 108)))
_RAMPS = {'ndvi': 'RdYlGn', 'confidence': 'cividis', 'entropy': 'magma', 'scale disagreement': 'magma',
          'normal_x': 'coolwarm', 'normal_y': 'coolwarm', 'normal_z': 'coolwarm', 'intensity': 'gray'}
UNITS = {'height': 'm'}
_FIXED = {'ndvi': (-1.0, 1.0), 'normal_x': (-1.0, 1.0), 'normal_y': (-1.0, 1.0), 'normal_z': (-1.0, 1.0),
          'confidence': (0.0, 1.0), 'entropy': (0.0, 1.0), 'scale disagreement': (0.0, 1.0)}


@dataclass(frozen=True)
class Colouring:
    """How points are coloured.

    Attributes:
        by: 'class', 'predicted', 'error', 'colour', or the name of a value.
        code: ``(n,)`` uint8 into ``table``; a class, an error, or the place between ``low`` and ``high``.
        table: ``(256, 3)`` uint8.
        legend: (code, name, points) of what occurs, the classes in their order; empty for a value.
        low: What code 0 stands for, high: code 255; None without a ramp.
        rgb: ``(n, 3)`` uint8 instead of code and table, for 'colour'.
    """

    by: str
    code: np.ndarray
    table: np.ndarray
    legend: tuple[tuple[int, str, int], ...] = ()
    low: float | None = None
    high: float | None = None
    rgb: np.ndarray | None = None

    @property
    def unit(self) -> str:
        return UNITS.get(self.by, '')

    def colours(self) -> np.ndarray:
        """Return the colour of every point, ``(n, 3)`` uint8."""
        return self.table[self.code] if self.rgb is None else self.rgb


def errors(label: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return what became of points, ``(n,)`` uint8 codes of :data:`ERRORS`.

    A prediction is right where the label leaves it open: any part of a building for "some building part".

    Args:
        label: ``(n,)`` of projects/lidar/classes.py.
        predicted: ``(n,)`` LOD3 classes; anything else (255: not classified) is wrong.
    """
    open_to = np.zeros((256, 256), bool)
    open_to[:BUILDING + 1, :len(LOD3)] = candidates()
    is_building = np.zeros(256, bool)
    is_building[:LOD3.index('ground')] = is_building[BUILDING] = True
    truth, guess = is_building[label], is_building[predicted]
    code = np.select(
        [label > BUILDING, open_to[label, predicted], truth & guess, truth, guess], [5, 0, 1, 2, 3], default=4)
    return code.astype(np.uint8)


def choices(cloud: Cloud) -> list[str]:
    """Return what a cloud can be coloured by, the most telling first."""
    first = ['class', *(['predicted', 'error'] if cloud.predicted is not None else [])]
    return [*first, *(['colour'] if cloud.rgb is not None else []), *cloud.values]


def colour_by(cloud: Cloud, by: str) -> Colouring:
    """Colour a cloud.

    Raises:
        UserError: It has no such thing.
    """
    if by not in choices(cloud):
        why = ' (it needs --prediction FILE)' if by in ('predicted', 'error') else ''
        raise UserError(f'{cloud.title}: --by: expected one of {", ".join(choices(cloud))}, found {by!r}{why}')
    if by == 'colour':
        return Colouring(by, np.zeros(len(cloud), np.uint8), np.zeros((256, 3), np.uint8), rgb=cloud.rgb)
    if by == 'error':
        table = np.zeros((256, 3), np.uint8)
        table[:len(ERRORS)] = [colour for _, colour in ERRORS]
        code = errors(cloud.label, cloud.predicted)
        return Colouring(by, code, table, _legend(code, lambda number: ERRORS[number][0]))
    if by in ('class', 'predicted'):
        code = cloud.label if by == 'class' else cloud.predicted
        code = np.where(code > BUILDING, IGNORE, code).astype(np.uint8)
        return Colouring(by, code, label_table(), _legend(code, label_name))
    return _ramp(by, cloud.values[by])


def _legend(code: np.ndarray, name) -> tuple[tuple[int, str, int], ...]:
    counts = np.bincount(code, minlength=256)
    return tuple((int(number), name(int(number)), int(counts[number])) for number in np.flatnonzero(counts))


def _ramp(by: str, values: np.ndarray) -> Colouring:
    finite = values[np.isfinite(values)]
    if by in _FIXED:
        low, high = _FIXED[by]
    elif len(finite):
        low, high = (float(value) for value in np.percentile(finite, (1, 99)))  # one bird must not take the whole ramp
        if by == 'height':
            low = min(0.0, low) if low > -1 else low
    else:
        low, high = 0.0, 1.0
    if high - low < 1e-6:
        high = low + 1.0
    code = np.clip(np.round((np.nan_to_num(values, nan=low) - low) / (high - low) * 255), 0, 255).astype(np.uint8)
    table = np.round(colormaps[_RAMPS.get(by, 'viridis')](np.arange(256))[:, :3] * 255).astype(np.uint8)
    return Colouring(by, code, table, low=low, high=high)
