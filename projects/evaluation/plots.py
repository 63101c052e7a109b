"""Pictures of an evaluation and of a training: confusion matrix, reliability diagram, curves.

Every function returns a :class:`matplotlib.figure.Figure`; nothing touches pyplot's global state. :func:`png_bytes`
renders one.
"""

import io
import math
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator

from projects.evaluation.calibration import Calibration
from projects.evaluation.curves import Curves, finite

INK, MUTED, GRID = '#1f2933', '#66727f', '#e3e8ee'
BLUE, ORANGE, GREEN, PINK, SKY, GOLD = '#2d6cc0', '#d1661e', '#2a8c6a', '#b0518f', '#5aa9dd', '#c79a1b'
SERIES = (BLUE, ORANGE, GREEN, PINK, SKY, GOLD)
SHADES = LinearSegmentedColormap.from_list('shades', ['#f3f6fa', '#d0e1f4', '#86b2df', '#2d6cc0', '#12396f'])


def png_bytes(figure: Figure, dpi: int = 120) -> bytes:
    """Render a figure as PNG."""
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=dpi, facecolor='white', bbox_inches='tight', pad_inches=0.15)
    return buffer.getvalue()


def plot_confusion(
    confusion: np.ndarray,
    classes: Sequence[str],
    title: str = 'Confusion matrix',
    missed: np.ndarray | None = None,
) -> Figure:
    """Draw a confusion matrix: colour and percent by row (what became of each true class), pixel counts below.

    Args:
        confusion: ``(C, C)`` counts, row = truth; made for 2 to 20 classes, counts are left out above 12.
        classes: C names.
        title: heading, may be empty.
        missed: ``(C,)`` pixels of each true class without a prediction; they belong to the 100 % of its row.
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
    unit = 'percent of each true class' + ('' if number > 12 else ', pixels below')
    axes.set_title(title, loc='left', color=INK, fontsize=13, fontweight='bold', pad=26)
    axes.annotate(unit, (0, 1), xycoords='axes fraction', xytext=(0, 9), textcoords='offset points', ha='left',
                  va='bottom', fontsize=8.5, color=MUTED)
    bar_axes = figure.add_axes((1 - 0.85 / width, below / height, 0.16 / width, number * cell / height))
    bar = figure.colorbar(image, cax=bar_axes)
    bar.set_ticks([0, 0.25, 0.5, 0.75, 1], labels=['0', '25', '50', '75', '100 %'])
    bar.ax.tick_params(labelsize=small, length=0, labelcolor=MUTED)
    bar.outline.set_visible(False)
    return figure


def plot_reliability(calibration: Calibration, title: str = 'Reliability') -> Figure:
    """Draw accuracy against confidence, and below how many pixels have which confidence."""
    bins = len(calibration.count)
    edges = np.linspace(0, 1, bins + 1)
    accuracy, confidence = calibration.accuracy, calibration.mean_confidence
    figure = Figure(figsize=(5.2, 5.8), layout='constrained')
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
    used = calibration.count > 0
    top.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label='perfect')
    top.bar(edges[:-1][used], accuracy[used], width=1 / bins, align='edge', color=BLUE, edgecolor='white',
            linewidth=0.8, label='accuracy')
    gap = confidence - accuracy
    top.bar(edges[:-1][used], gap[used], bottom=accuracy[used], width=1 / bins, align='edge', facecolor='none',
            edgecolor=ORANGE, hatch='////', linewidth=0.8, label='gap to confidence')
    top.set(ylim=(0, 1), xlim=(0, 1))
    top.set_ylabel('accuracy', color=MUTED)
    top.legend(loc='upper left', frameon=False, fontsize=9, labelcolor=INK)
    top.set_title(title, loc='left', color=INK, fontsize=13, fontweight='bold')
    total = calibration.count.sum()
    error = calibration.error
    if total:
        side = 'too sure' if calibration.confidence.sum() > calibration.correct.sum() else 'not sure enough'
        top.text(0.97, 0.04, f'ECE {100 * error:.2f} %\non average {side}', transform=top.transAxes, ha='right',
                 va='bottom', color=INK, fontsize=10,
                 bbox=dict(facecolor='white', edgecolor='none', alpha=0.85, boxstyle='round,pad=0.4'))
    share = calibration.count / max(total, 1)
    bottom.bar(edges[:-1], share, width=1 / bins, align='edge', color='#b9c6d4', edgecolor='white', linewidth=0.8)
    bottom.set_ylabel('share of pixels', color=MUTED)
    bottom.set_xlabel('confidence (largest class probability)', color=MUTED)
    for axes in (top, bottom):
        _plain_axes(axes)
    return figure


def plot_curves(curves: Curves, title: str = 'Training') -> Figure:
    """Draw loss terms, validation scores and learning rate over iterations; a dashed line marks each resume."""
    losses = {name: points for name, points in curves.train.items() if 'loss' in name.lower() and finite(points)}
    scores = {
        name: points for name, points in curves.validation.items()
        if name.rpartition('/')[2] in ('mIoU', 'mIoU_foreground', 'mF1', 'OA', 'mAcc') and finite(points)
    }
    rates = {name: points for name, points in curves.train.items() if name in ('lr', 'base_lr') and finite(points)}
    panels = [(kind, series) for kind, series in (('loss', losses), ('score', scores), ('rate', rates)) if series]
    if not panels:
        figure = Figure(figsize=(6, 1.6))
        figure.text(0.5, 0.5, 'no scalars logged', ha='center', va='center', color=MUTED)
        return figure
    ratios = [0.7 if kind == 'rate' else 1 for kind, _ in panels]
    figure = Figure(figsize=(4.3 * sum(ratios) + 0.4, 3.5), layout='constrained')
    figure.get_layout_engine().set(w_pad=0.12)
    for axes, (kind, series) in zip(figure.subplots(1, len(panels), width_ratios=ratios, squeeze=False)[0], panels):
        if kind == 'loss':
            _draw_losses(axes, series)
            axes.set_title('loss', loc='left', color=INK, fontsize=11, fontweight='bold')
        elif kind == 'score':
            for colour, (name, points) in zip(SERIES, series.items()):
                steps, values = zip(*finite(points))
                axes.plot(steps, values, color=colour, linewidth=1.8, marker='o', markersize=3.5, label=name)
            best = max(finite(next(iter(series.values()))), key=lambda point: point[1])
            logged = [step for points in series.values() for step, _ in finite(points)]
            at_left = best[0] - min(logged) < (max(logged) - min(logged)) / 4  # to its left is the axis
            axes.annotate(f'best {best[1]:.3f}', best, textcoords='offset points', xytext=(0, 7),
                          ha='left' if at_left else 'right', fontsize=8.5, color=BLUE)
            axes.set_ylim(0, 1)
            axes.set_title('validation scores', loc='left', color=INK, fontsize=11, fontweight='bold')
            axes.legend(frameon=False, fontsize=8.5, labelcolor=INK, loc='best')
        else:
            for colour, style, (name, points) in zip((MUTED, SKY), ('-', '--'), series.items()):
                steps, values = zip(*finite(points))
                axes.plot(steps, values, color=colour, linewidth=1.6, linestyle=style, label=name)
            axes.set_ylim(bottom=0)
            axes.yaxis.set_major_formatter(FuncFormatter(_rate))
            axes.set_title('learning rate', loc='left', color=INK, fontsize=11, fontweight='bold')
            if len(series) > 1:
                axes.legend(frameon=False, fontsize=8.5, labelcolor=INK)
        for start in curves.starts:
            axes.axvline(start, color='#9aa5b1', linewidth=1, linestyle=(0, (2, 3)), zorder=0)
            axes.text(start, 1, ' resumed', transform=axes.get_xaxis_transform(), rotation=90, ha='right', va='top',
                      fontsize=7, color=MUTED)
        axes.set_xlabel('iteration', color=MUTED, fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.xaxis.set_major_formatter(EngFormatter(sep=''))
        _plain_axes(axes)
    if title:
        figure.suptitle(title, x=0.01, ha='left', color=INK, fontsize=13, fontweight='bold')
    return figure


def _draw_losses(axes, series: dict[str, list[tuple[int, float]]]) -> None:
    order = sorted(series, key=lambda name: (name != 'loss', name))
    for colour, name in zip(SERIES, order):
        steps, values = zip(*finite(series[name]))
        short = name.rpartition('.')[2]
        label = short if sum(other.rpartition('.')[2] == short for other in order) == 1 else name
        if len(values) >= 20:  # too dense to follow: the raw line pale, a running mean on top
            axes.plot(steps, values, color=colour, linewidth=0.7, alpha=0.3)
            values = _running_mean(values)
        axes.plot(steps, values, color=colour, linewidth=1.9 if name == 'loss' else 1.3, label=label)
    everything = [value for points in series.values() for _, value in finite(points)]
    low, high = min(everything), max(everything)
    if low > 0 and high / low > 100:
        axes.set_yscale('log')
    elif low >= 0:
        axes.set_ylim(bottom=0, top=1.05 * float(np.quantile(everything, 0.995)) if high > 0 else 1)
    axes.legend(frameon=False, fontsize=8.5, labelcolor=INK, loc='upper right')


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


def _plain_axes(axes) -> None:
    axes.grid(True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, labelsize=8.5, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ('left', 'bottom'))
        spine.set_color('#c5cdd6')


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
