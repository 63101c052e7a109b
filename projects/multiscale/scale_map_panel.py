"""The picture of a sample's scale maps: for each level, which scale won where, and the weight of each scale."""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from projects.evaluation.gallery import (
    GAP,
    HEADING,
    LEGEND_LINE,
    MARGIN,
    displayable,
    distinct_palette,
    draw_legend,
    label_font,
    wrap_legend,
)

NARROWEST = 0.01  # range of weights that dark to bright stands for, at least: no noise is blown up
TEXT, FAINT, FRAME = (31, 41, 51), (102, 114, 127), (190, 197, 205)


def winners(weights: np.ndarray) -> np.ndarray:
    """Return the index of the largest weight ``(h, w)`` of weights ``(S, h, w)``; of equals the first."""
    return weights.argmax(0)


def heat(weights: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return weights ``(h, w)`` as RGB ``(h, w, 3)`` uint8, dark at ``low`` and bright at ``high``."""
    level = np.clip((weights - low) / max(high - low, 1e-12), 0, 1)
    return cv2.cvtColor(cv2.applyColorMap((255 * level).round().astype(np.uint8), cv2.COLORMAP_VIRIDIS),
                        cv2.COLOR_BGR2RGB)


def heat_range(weights: np.ndarray) -> tuple[float, float]:
    """Return the weights that dark and bright stand for: lowest and highest of all scales, at least 0.01 apart."""
    low, high = float(weights.min()), float(weights.max())
    missing = max(NARROWEST - (high - low), 0) / 2
    return low - missing, high + missing


def scale_map_panel(image: np.ndarray, maps: Sequence[np.ndarray], scales: Sequence[str], levels: Sequence[int],
                    *, title: str = '', side: int = 256) -> Image.Image:
    """Compose one sample's picture: a row a level with the image, the winning scales, and a heat map of each scale.

    Args:
        image: ``(H, W, C)`` as :func:`~projects.evaluation.gallery.displayable` takes it.
        maps: For each level the weights ``(S, h, w)``, summing to 1 over S.
        scales: Names of the S scales.
        levels: Numbers of the levels, for the headings.
        side: Longest side of a panel in pixels. Maps are enlarged by nearest neighbour: a cell stays a cell.
    """
    longest = max(image.shape[:2])
    height, width = (max(round(length * side / longest), 1) for length in image.shape[:2])
    smoothly = cv2.INTER_AREA if longest > side else cv2.INTER_NEAREST
    picture = cv2.resize(displayable(image), (width, height), interpolation=smoothly)
    colours = distinct_palette(len(scales))

    font, bold = label_font(12), label_font(15, bold=True)
    columns = 2 + len(scales)
    total = 2 * MARGIN + columns * width + (columns - 1) * GAP
    legend = wrap_legend([(f'{name} wins', colour) for name, colour in zip(scales, colours)], label_font(14),
                         total - 2 * MARGIN)
    top = MARGIN + (HEADING if title else 0)
    bottom = top + len(maps) * (HEADING + height) + 12
    canvas = Image.new('RGB', (total, bottom + LEGEND_LINE * len(legend) + MARGIN - 4), 'white')
    draw = ImageDraw.Draw(canvas)
    if title:
        draw.text((MARGIN, MARGIN - 2), _cut(title, bold, total - 2 * MARGIN), fill=TEXT, font=bold)
    for row, (weights, level) in enumerate(zip(maps, levels)):
        low, high = heat_range(weights)
        won = winners(weights)
        shares = ' / '.join(f'{100 * (won == index).mean():.0f}' for index in range(len(scales)))
        panels = [(f'level {level}: {won.shape[0]} x {won.shape[1]}', picture),
                  (f'wins {shares} %', np.asarray(colours, np.uint8)[won])]
        panels += [(f'{name}: {low:.2f}..{high:.2f}, mean {share.mean():.2f}', heat(share, low, high))
                   for name, share in zip(scales, weights)]
        y = top + row * (HEADING + height)
        for column, (heading, pixels) in enumerate(panels):
            x = MARGIN + column * (width + GAP)
            draw.text((x, y + 6), _cut(heading, font, width), fill=FAINT, font=font)
            pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_NEAREST)
            canvas.paste(Image.fromarray(pixels), (x, y + HEADING))
            draw.rectangle((x - 1, y + HEADING - 1, x + width, y + HEADING + height), outline=FRAME)
    draw_legend(canvas, legend, (MARGIN, bottom), label_font(14))
    return canvas


def _cut(text: str, font: object, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + '…') > width:
        text = text[:-1]
    return text + '…'
