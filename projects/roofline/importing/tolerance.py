"""How far apart two ends may lie that are one corner: pixels or metres, never degrees."""

import math
import re
from dataclasses import dataclass

from projects.engine.errors import UserError
from projects.roofline.geometry.place import LARGEST_PIXELS

LEAST = 1e-3  # of a pixel or a metre; below it, a tolerance that is not 0 was meant in degrees (1e-5 is a metre)


@dataclass(frozen=True)
class Tolerance:
    """A snapping distance: ``value`` in ``unit``, 'px' or 'm'."""

    value: float
    unit: str

    def pixels(self, resolution: float | None) -> float:
        """Return the distance in pixels.

        Args:
            resolution: Metres a pixel.

        Raises:
            UserError: It is in metres, and nothing says how large a pixel is; it is more than 100 pixels.
        """
        if self.unit != 'px' and resolution is None:
            raise UserError(f'--snap: expected pixels (2px), found {self.value:g}m for images without resolution')
        pixels = self.value if self.unit == 'px' else self.value / resolution
        if pixels > LARGEST_PIXELS:
            of = '' if self.unit == 'px' else f' ({pixels:.4g}px of {resolution:.3g} m)'
            raise UserError(f'--snap: expected at most {LARGEST_PIXELS:g}px, found {self.value:g}{self.unit}{of}')
        return pixels


def read_tolerance(text: str) -> Tolerance:
    """Read ``2px`` or ``0.3m``; a bare number would be pixels to one reader and metres to another.

    Raises:
        UserError: It is neither, without unit, below 0, or so small that it can only be degrees.
    """
    found = re.fullmatch(r'\s*([-+.\deE]+)\s*(px|m|)\s*', text)
    try:
        value = float(found[1]) if found else math.nan
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise UserError(f'--snap: expected a distance in pixels or metres (2px, 0.3m), found {text!r}')
    if 0 < value < LEAST:
        raise UserError(f'--snap: expected a distance in pixels or metres (2px, 0.3m), found {text}, which looks like '
                        f'degrees: 1e-05 degrees of latitude are 1.1m')
    if not found[2]:
        raise UserError(f'--snap: expected a unit, {value:g}px or {value:g}m, found {text!r}')
    return Tolerance(value, found[2])
