"""Pictures of an evaluation and of a training: confusion matrix, reliability diagram, curves.

Every function returns a :class:`matplotlib.figure.Figure`; nothing touches pyplot's global state. :func:`png_bytes`
renders one.
"""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator

from projects.evaluation.calibration import Calibration
from projects.evaluation.curves import Curves, finite

INK, MUTED, GRID = '#1f2933', '#66727f', '#e3e8ee'
BLUE, ORANGE, GREEN, PINK, SKY, GOLD = '#2d6cc0', '#d1661e', '#2a8c6a', '#b0518f', '#5aa9dd', '#c79a1b'
SERIES = (BLUE, ORANGE, GREEN, PINK, SKY, GOLD)


@dataclass(frozen=True)
class Theme:
    """Colours of a drawing."""

    ink: str = INK
    muted: str = MUTED
    grid: str = GRID
    paper: str = 'white'
    series: tuple[str, ...] = SERIES


LIGHT = Theme()
DARK = Theme(ink='#e6ebf0', muted='#9ba8b5', grid='#2e3945', paper='#1b222a',
             series=('#6aa5ec', '#f0955a', '#5cc49c', '#d98abf', '#8ccaf2', '#e3bf55'))
STYLES = ('-', '--', ':')  # of the first six series, the next six and so on
SCORES = ('mIoU', 'mIoU_foreground', 'mF1', 'OA', 'mAcc')
_LINES = 10  # scores in one figure
SHADES = LinearSegmentedColormap.from_list('shades', ['#f3f6fa', '#d0e1f4', '#86b2df', '#2d6cc0', '#12396f'])


def png_bytes(figure: Figure, dpi: int = 120, theme: Theme = LIGHT) -> bytes:
    """Render a figure as PNG on the theme's paper."""
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=dpi, facecolor=theme.paper, bbox_inches='tight', pad_inches=0.15)
    return buffer.getvalue()


def plot_confusion(
    confusion: np.ndarray,
    classes: Sequence[str],
    title: str = 'Confusion matrix',
    missed: np.ndarray | None = None,
    counted: str = 'pixels',
) -> Figure:
    """Draw a confusion matrix: colour and percent by row (what became of each true class), counts below.

    Args:
        confusion: ``(C, C)`` counts, row = truth; made for 2 to 30 classes, counts are left out above 12.
        classes: C names.
        title: heading, may be empty.
        missed: ``(C,)`` pixels of each true class without a prediction; they belong to the 100 % of its row.
        counted: what the counts are of.
    """
    number = len(classes)
    total = confusion.sum(axis=1, keepdims=True)
    if missed is not None:
        total = total + missed[:, None]
    share = np.divide(confusion, total, out=np.full(confusion.shape, math.nan), where=total > 0)
    cell = 0.92 if number <= 8 else 0.74 if number <= 12 else 0.52
    small = 6.5 if number > 12 else 8
    longest = max(len(name) for name in classes)
    margin = 0.75 + 0.085 * min(longest, 26)
    tilt = longest * 0.09 > cell
    below = margin * 0.8 if tilt else 0.8
    width, height = margin + number * cell + 1.1, number * cell + below + 0.75
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((margin / width, below / height, number * cell / width, number * cell / height))
    image = axes.imshow(share, cmap=SHADES, vmin=0, vmax=1, aspect='auto')
    for row in range(number):
        for column in range(number):
            value = share[row, column]
            if math.isnan(value):
                continue
            colour = 'white' if value > 0.55 else (INK if confusion[row, column] else '#b6bfc9')
            percent = _percent(value, confusion[row, column])
            if number <= 12:
                axes.text(column, row - 0.1, percent, ha='center', va='center', fontsize=small + 2, color=colour,
                          fontweight='bold' if row == column else 'normal')
                axes.text(column, row + 0.22, _count(int(confusion[row, column])), ha='center', va='center',
                          fontsize=small - 0.5, color=colour, alpha=0.85)
            elif value >= 0.005 or row == column:
                axes.text(column, row, percent.rstrip('%'), ha='center', va='center', fontsize=small, color=colour)
        if total[row] == 0:
            axes.text((number - 1) / 2, row, 'not in the truth', ha='center', va='center', fontsize=small,
                      color=MUTED, style='italic')
    names = [_shorten(name, 26) for name in classes]
    axes.set_xticks(range(number), names, rotation=35 if tilt else 0, ha='right' if tilt else 'center',
                    rotation_mode='anchor' if tilt else 'default', fontsize=small + 1, color=INK)
    axes.set_yticks(range(number), names, fontsize=small + 1, color=INK)
    axes.set_xticks(np.arange(-0.5, number), minor=True)
    axes.set_yticks(np.arange(-0.5, number), minor=True)
    axes.grid(which='minor', color='white', linewidth=1.5)
    axes.tick_params(which='both', length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xlabel('prediction', color=MUTED, fontsize=small + 2, labelpad=6)
    axes.set_ylabel('truth', color=MUTED, fontsize=small + 2, labelpad=6)
    unit = 'percent of each true class' + ('' if number > 12 else f', {counted} below')
    axes.set_title(title, loc='left', color=INK, fontsize=13, fontweight='bold', pad=26)
    axes.annotate(unit, (0, 1), xycoords='axes fraction', xytext=(0, 9), textcoords='offset points', ha='left',
                  va='bottom', fontsize=8.5, color=MUTED)
    bar_axes = figure.add_axes((1 - 0.85 / width, below / height, 0.16 / width, number * cell / height))
    bar = figure.colorbar(image, cax=bar_axes)
    bar.set_ticks([0, 0.25, 0.5, 0.75, 1], labels=['0', '25', '50', '75', '100 %'])
    bar.ax.tick_params(labelsize=small, length=0, labelcolor=MUTED)
    bar.outline.set_visible(False)
    return figure


def plot_reliability(calibration: Calibration, title: str = 'Reliability', theme: Theme = LIGHT,
                     counted: str = 'pixels') -> Figure:
    """Draw accuracy against confidence, and below how many pixels (or what is ``counted``) have which confidence."""
    bins = len(calibration.count)
    edges = np.linspace(0, 1, bins + 1)
    accuracy, confidence = calibration.accuracy, calibration.mean_confidence
    figure = Figure(figsize=(5.2, 5.8), layout='constrained')
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
    used = calibration.count > 0
    top.plot([0, 1], [0, 1], color=theme.muted, linewidth=1, linestyle=(0, (4, 3)), label='perfect')
    top.bar(edges[:-1][used], accuracy[used], width=1 / bins, align='edge', color=theme.series[0],
            edgecolor=theme.paper, linewidth=0.8, label='accuracy')
    gap = confidence - accuracy
    top.bar(edges[:-1][used], gap[used], bottom=accuracy[used], width=1 / bins, align='edge', facecolor='none',
            edgecolor=theme.series[1], hatch='////', linewidth=0.8, label='gap to confidence')
    top.set(ylim=(0, 1), xlim=(0, 1))
    top.set_ylabel('accuracy', color=theme.muted)
    top.legend(loc='upper left', frameon=False, fontsize=9, labelcolor=theme.ink)
    top.set_title(title, loc='left', color=theme.ink, fontsize=13, fontweight='bold')
    total = calibration.count.sum()
    error = calibration.error
    if total:
        side = 'too sure' if calibration.confidence.sum() > calibration.correct.sum() else 'not sure enough'
        top.text(0.97, 0.04, f'ECE {100 * error:.2f} %\non average {side}', transform=top.transAxes, ha='right',
                 va='bottom', color=theme.ink, fontsize=10,
                 bbox=dict(facecolor=theme.paper, edgecolor='none', alpha=0.85, boxstyle='round,pad=0.4'))
    share = calibration.count / max(total, 1)
    bottom.bar(edges[:-1], share, width=1 / bins, align='edge', color=theme.muted, alpha=0.55,
               edgecolor=theme.paper, linewidth=0.8)
    bottom.set_ylabel(f'share of {counted}', color=theme.muted)
    bottom.set_xlabel('confidence (largest class probability)', color=theme.muted)
    for axes in (top, bottom):
        _plain_axes(axes, theme)
    return figure


def curve_figures(
    runs: Sequence[tuple[int, Curves]], theme: Theme = LIGHT, task_scores: Sequence[str] = ()
) -> dict[str, Figure]:
    """Draw the curves of one or several runs, a small figure for each idea.

    One run: its loss terms, its validation scores, its learning rate. Several: a figure for each score, for the loss,
    for each loss term that two runs share and for the learning rate, one line a run. A dotted line marks each resume.

    Args:
        runs: (number of the colour, curves); repetitions of a stage share their number.
        theme: colours.
        task_scores: validation scores of a task's own, the most important first: one run has them in a figure before
            the other scores, several a figure of the first.

    Returns:
        The figures by their heading, in the order to show; none of a kind that nothing was logged of.
    """
    if len(runs) == 1:
        return _figures_of_one(runs[0][1], theme, task_scores)
    series: dict[str, list[tuple[int, Curves, list[tuple[int, float]]]]] = {}
    for score in (*task_scores[:1], *SCORES[:2]):
        for number, curves in runs:
            if points := finite(curves.validation.get(score, [])):
                series.setdefault(f'validation {score}', []).append((number, curves, points))
    losses = dict.fromkeys(name for _, curves in runs for name in curves.train if 'loss' in name.lower())
    for name in sorted(losses, key=lambda name: name != 'loss'):
        found = [(number, curves, points) for number, curves in runs if (points := finite(curves.train.get(name, [])))]
        if name == 'loss' or len(found) > 1:
            series[name] = found
    for number, curves in runs:
        if points := finite(curves.train.get('lr', [])):
            series.setdefault('learning rate', []).append((number, curves, points))
    figures = {}
    for heading, lines in series.items():
        figure, axes = _panel(theme)
        for number, curves, points in lines:
            _draw_line(axes, points, number, theme, marker=heading.startswith('validation'),
                       smooth=heading != 'learning rate')
            for start in curves.starts:
                axes.axvline(start, color=_colour(theme, number), linewidth=1, linestyle=(0, (2, 3)), alpha=0.8)
        if heading.startswith('validation'):
            _score_axis(axes, [value for _, _, points in lines for _, value in points])
        elif heading == 'learning rate':
            axes.set_ylim(bottom=0)
            axes.yaxis.set_major_formatter(FuncFormatter(_rate))
        else:
            _loss_axis(axes, [value for _, _, points in lines for _, value in points])
        figures[heading] = figure
    return figures


def _figures_of_one(curves: Curves, theme: Theme, task_scores: Sequence[str]) -> dict[str, Figure]:
    losses = {name: points for name, points in curves.train.items() if 'loss' in name.lower() and finite(points)}
    scores = {name: finite(points) for name, points in curves.validation.items()
              if name.rpartition('/')[2] in SCORES and finite(points)}
    if len(scores) > _LINES:  # a task's groups (small_buildings/mIoU, …): their table tells more than thirty lines
        scores = {name: points for name, points in scores.items() if '/' not in name} or dict(
            list(scores.items())[:_LINES])
    own = {name: points for name in task_scores if (points := finite(curves.validation.get(name, [])))}
    rates = {name: finite(points) for name, points in curves.train.items()
             if name in ('lr', 'base_lr') and finite(points)}
    if rates.get('lr') == rates.get('base_lr'):
        rates.pop('base_lr', None)
    figures = {}
    if losses:
        figures['loss'], axes = _panel(theme)
        for number, name in enumerate(sorted(losses, key=lambda name: (name != 'loss', name))):
            short = name.rpartition('.')[2]
            label = short if sum(other.rpartition('.')[2] == short for other in losses) == 1 else name
            _draw_line(axes, finite(losses[name]), number, theme, label, width=1.9 if name == 'loss' else 1.3)
        _loss_axis(axes, [value for points in losses.values() for _, value in finite(points)])
        axes.legend(frameon=False, fontsize=9, labelcolor=theme.ink, loc='best')
    for heading, drawn in (('validation: ' + ', '.join(own), own), ('validation scores', scores)):
        if drawn:
            figures[heading] = _score_figure(drawn, theme)
    if rates:
        figures['learning rate'], axes = _panel(theme)
        for number, (name, points) in enumerate(rates.items()):
            _draw_line(axes, points, number, theme, name, smooth=False)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(FuncFormatter(_rate))
        if len(rates) > 1:
            axes.legend(frameon=False, fontsize=9, labelcolor=theme.ink)
    for figure in figures.values():
        axes = figure.axes[0]
        for start in curves.starts:
            axes.axvline(start, color=theme.muted, linewidth=1, linestyle=(0, (2, 3)), zorder=0)
            axes.text(start, 1, ' resumed', transform=axes.get_xaxis_transform(), rotation=90, ha='right', va='top',
                      fontsize=7.5, color=theme.muted)
    return figures


def _score_figure(scores: Mapping[str, Sequence[tuple[int, float]]], theme: Theme) -> Figure:
    """Draw scores of 0..1, and say how high the first one came."""
    figure, axes = _panel(theme)
    for number, (name, points) in enumerate(scores.items()):
        _draw_line(axes, points, number, theme, name, marker=True)
    best = max(next(iter(scores.values())), key=lambda point: point[1])
    logged = [step for points in scores.values() for step, _ in points]
    at_left = best[0] - min(logged) < (max(logged) - min(logged)) / 4  # to its left is the axis
    axes.annotate(f'best {best[1]:.3f}', best, textcoords='offset points', xytext=(0, 7),
                  ha='left' if at_left else 'right', fontsize=9, color=theme.series[0])
    axes.set_ylim(0, 1)
    axes.legend(frameon=False, fontsize=9, labelcolor=theme.ink, loc='best')
    return figure


def _panel(theme: Theme) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.6, 3.2), layout='constrained')
    axes = figure.subplots()
    axes.set_xlabel('iteration', color=theme.muted, fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=''))
    _plain_axes(axes, theme)
    return figure, axes


def _colour(theme: Theme, number: int) -> str:
    return theme.series[number % len(theme.series)]


def _draw_line(axes: Axes, points: Sequence[tuple[int, float]], number: int, theme: Theme, label: str | None = None, *,
               width: float = 1.8, marker: bool = False, smooth: bool = True) -> None:
    steps, values = zip(*points)
    colour, style = _colour(theme, number), STYLES[number // len(theme.series) % len(STYLES)]
    if smooth and not marker and len(values) >= 20:  # too dense to follow: the raw line pale, a running mean on top
        axes.plot(steps, values, color=colour, linewidth=0.7, alpha=0.3)
        values = _running_mean(values)
    axes.plot(steps, values, color=colour, linewidth=width, linestyle=style, label=label,
              **(dict(marker='o', markersize=3.5) if marker else {}))


def _score_axis(axes: Axes, values: Sequence[float]) -> None:
    """Show the part of 0..1 that holds the lines: stages of a chain differ by little."""
    low, high = min(values), max(values)
    room = max(0.08 * (high - low), 0.01)
    axes.set_ylim(max(low - room, 0), min(high + room, 1))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{100 * value:.3g} %'))


def _loss_axis(axes: Axes, values: Sequence[float]) -> None:
    low, high = min(values), max(values)
    if low > 0 and high / low > 100:
        axes.set_yscale('log')
    elif low >= 0:
        axes.set_ylim(bottom=0, top=1.05 * float(np.quantile(values, 0.995)) if high > 0 else 1)


def _running_mean(values: Sequence[float]) -> np.ndarray:
    """Centred mean over about a twentieth of the series; the window is cut off at both ends."""
    half = max(len(values) // 40, 2)
    total = np.concatenate([[0.0], np.cumsum(values)])
    centre = np.arange(len(values))
    low, high = np.maximum(centre - half, 0), np.minimum(centre + half + 1, len(values))
    return (total[high] - total[low]) / (high - low)


def _rate(value: float, _position: int) -> str:
    """Write a learning rate as 5e-5, not as 0.00005 with an offset above the axis."""
    if value == 0:
        return '0'
    mantissa, exponent = f'{value:.1e}'.split('e')
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def _plain_axes(axes: Axes, theme: Theme = LIGHT) -> None:
    axes.set_facecolor(theme.paper)
    axes.grid(True, color=theme.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=theme.muted, labelsize=9, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ('left', 'bottom'))
        spine.set_color(theme.grid)


def _percent(value: float, count: int) -> str:
    """Round for a small cell; never show a non-zero count as 0, nor 99.97 as 100."""
    if count and value < 0.0005:
        return '<0.1%'
    if 0.9995 <= value < 1:
        return '>99.9%'
    return f'{100 * value:.1f}%' if 0 < value < 1 else f'{100 * value:.0f}%'


def _count(count: int) -> str:
    for limit, unit in ((1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
        if count >= limit:
            return f'{count / limit:.3g}{unit}' if count < 999.5 * limit else f'{count / limit:.0f}{unit}'
    return str(count)


def _shorten(name: str, limit: int) -> str:
    return name if len(name) <= limit else name[: limit - 1] + '…'
