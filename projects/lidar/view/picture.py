"""A PNG of points: one panel a colouring, each with its legend, and a scale bar."""

import io
import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from projects.engine.files import write_bytes
from projects.lidar.view.cloud import Cloud, thinned
from projects.lidar.view.colouring import Colouring, colour_by
from projects.lidar.view.raster import TOP, Camera, draw_points

INK, MUTED, PAPER, GROUND = '#1f2933', '#66727f', '#ffffff', (247, 249, 251)
NAMES = {'class': 'Class', 'predicted': 'Predicted class', 'error': 'Error: prediction against truth',
         'colour': 'Colour of the points', 'height': 'Height above ground'}
MOST = 4_000_000  # points drawn; more than the pixels of any panel
_INCHES = 7.2


def bar_length(width: float) -> float:
    """Return a round length in metres, 1, 2 or 5 times a power of ten, of about a fifth of a width."""
    wanted = max(width, 1e-6) / 5
    power = 10 ** math.floor(math.log10(wanted))
    return power * max(step for step in (1, 2, 5) if step * power <= wanted * 1.0001)


def draw(cloud: Cloud, by: Sequence[str], camera: Camera = TOP, pixels: int = 1100, columns: int | None = None
         ) -> Figure:
    """Draw a cloud once a colouring.

    Args:
        cloud: What.
        by: Colourings, see :func:`projects.lidar.view.colouring.choices`.
        camera: From where.
        pixels: Width of a panel.
        columns: Panels in a row (up to 3).

    Raises:
        UserError: The cloud has no such colouring.
    """
    cloud = thinned(cloud, MOST)
    colourings = [colour_by(cloud, name) for name in by]
    drawn = [draw_points(cloud.xyz, colouring.colours(), camera, pixels, paper=GROUND,
                         shading=0.6 if colouring.by == 'colour' else 1.0) for colouring in colourings]
    columns = columns or min(len(by), 3)
    rows = math.ceil(len(by) / columns)
    tall = drawn[0][0].shape[0] / drawn[0][0].shape[1] * _INCHES
    lines = max(_legend_lines(colouring) for colouring in colourings)
    head, foot, gap = 0.62, 0.42 + 0.23 * lines, 0.3
    width = columns * _INCHES + (columns + 1) * gap
    height = 0.75 + rows * (head + tall + foot)
    figure = Figure(figsize=(width, height), facecolor=PAPER)
    figure.text(gap / width, 1 - 0.34 / height, cloud.title, color=INK, fontsize=17, fontweight='bold', va='center')
    shown = f'{len(cloud):,} points' if cloud.total <= len(cloud) else f'{len(cloud):,} of {cloud.total:,} points'
    figure.text(gap / width, 1 - 0.64 / height, f'{shown}, {_stands(camera)}', color=MUTED, fontsize=11.5, va='center')
    for number, (colouring, (picture, pixel)) in enumerate(zip(colourings, drawn)):
        row, column = divmod(number, columns)
        left = gap + column * (_INCHES + gap)
        bottom = height - 0.75 - (row + 1) * (head + tall + foot) + foot
        axes = figure.add_axes((left / width, bottom / height, _INCHES / width, tall / height))
        axes.imshow(picture, interpolation='antialiased')
        axes.set_axis_off()
        figure.text(left / width, (bottom + tall + 0.16) / height, _name(colouring.by), color=INK,
                    fontsize=13.5, fontweight='bold', va='center')
        _draw_bar(figure, left + _INCHES, bottom + tall + 0.16, pixel * picture.shape[1], width, height)
        _draw_legend(figure, colouring, left, bottom - 0.3, width, height)
    return figure


def write_picture(path: str | Path, cloud: Cloud, by: Sequence[str], camera: Camera = TOP, pixels: int = 1100,
                  dpi: int = 140) -> None:
    """Draw a cloud into a PNG, see :func:`draw`."""
    figure = draw(cloud, by, camera, pixels)
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=dpi, facecolor=PAPER)
    write_bytes(path, buffer.getvalue())


def _name(by: str) -> str:
    return NAMES.get(by, by.replace('_', ' ').capitalize())


def _stands(camera: Camera) -> str:
    if camera.elevation >= 89.5:
        return 'from above' if camera.azimuth % 360 == 0 else f'from above, turned by {camera.azimuth:g}°'
    winds = ('south', 'south-east', 'east', 'north-east', 'north', 'north-west', 'west', 'south-west')
    return f'from the {winds[round(camera.azimuth / 45) % 8]}, {camera.elevation:g}° above the horizon'


def _draw_bar(figure: Figure, right: float, middle: float, metres: float, width: float, height: float) -> None:
    """Draw a scale bar that ends at ``right``; places in inches, ``metres`` is the width of the panel."""
    length = bar_length(metres)
    inches = length / metres * _INCHES
    for part, colour in ((0, INK), (0.5, PAPER)):
        figure.add_artist(Rectangle(((right - inches * (1 - part)) / width, (middle - 0.035) / height),
                                    inches / 2 / width, 0.07 / height, facecolor=colour, edgecolor=INK, linewidth=0.8))
    figure.text((right - inches - 0.1) / width, middle / height, f'{length:g} m', color=INK, fontsize=11, ha='right',
                va='center')


def _legend_columns(colouring: Colouring) -> int:
    return 2 if max(len(name) for _, name, _ in colouring.legend) > 18 else 3


def _legend_lines(colouring: Colouring) -> int:
    if not colouring.legend:
        return 0 if colouring.rgb is not None else 2
    return math.ceil(len(colouring.legend) / _legend_columns(colouring))


def _draw_legend(figure: Figure, colouring: Colouring, left: float, top: float, width: float, height: float) -> None:
    if colouring.rgb is not None:
        return
    if not colouring.legend:
        axes = figure.add_axes((left / width, (top - 0.12) / height, 0.55 * _INCHES / width, 0.16 / height))
        axes.imshow(colouring.table[None], aspect='auto', extent=(colouring.low, colouring.high, 0, 1))
        axes.set_yticks([])
        axes.tick_params(length=3, color=MUTED, labelcolor=MUTED, labelsize=10.5)
        for spine in axes.spines.values():
            spine.set_visible(False)
        figure.text((left + 0.57 * _INCHES) / width, (top - 0.04) / height, colouring.unit, color=MUTED, fontsize=10.5,
                    va='center')
        return
    columns = _legend_columns(colouring)
    total = sum(count for _, _, count in colouring.legend)
    lines = math.ceil(len(colouring.legend) / columns)
    for number, (code, name, count) in enumerate(colouring.legend):
        column, row = divmod(number, lines)
        x, y = left + column * _INCHES / columns, top - 0.23 * row
        figure.add_artist(Rectangle((x / width, (y - 0.06) / height), 0.17 / width, 0.13 / height,
                                    facecolor=tuple(colouring.table[code] / 255), edgecolor='#00000030', linewidth=0.5))
        figure.text((x + 0.25) / width, y / height, name.replace('_', ' '), color=INK, fontsize=10.5, va='center')
        figure.text((x + (_INCHES / columns) - 0.2) / width, y / height, share(count, total), color=MUTED, fontsize=10,
                    va='center', ha='right')


def share(count: int, total: int) -> str:
    """Write a share in percent: one decimal, and never 0.0 for something that occurs."""
    percent = 100 * count / max(total, 1)
    return '<0.1 %' if 0 < percent < 0.05 else f'{percent:.1f} %'
