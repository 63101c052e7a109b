"""Pictures of wireframes: junctions, lines by type or score, and errors, over the image."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from PIL import Image, ImageDraw

from projects.evaluation.gallery import (
    GAP,
    HEADING,
    LEGEND_LINE,
    MARGIN,
    displayable,
    draw_legend,
    label_font,
    wrap_legend,
)
from projects.roofline.graph import LINE_TYPES, RoofGraph
from projects.roofline.metrics.image_scores import LINE_THRESHOLDS, OPERATING
from projects.roofline.metrics.matching import cells_per_pixel, match_lines
from projects.roofline.wireframe import LINE_SCORE, Wireframe

TYPE_COLOURS = {'outline': (255, 210, 0), 'inner': (0, 215, 255), 'ridge': (255, 70, 70), 'hip': (255, 140, 225),
                'valley': (80, 140, 255), 'eave': (130, 235, 70), 'verge': (255, 150, 30), 'break': (195, 120, 255)}
MATCHED, FALSE, MISSED = (70, 220, 90), (255, 50, 50), (60, 130, 255)
JUNCTION, HALO, BLANK = (255, 255, 255), (15, 20, 25), 70
FRACTION = 4  # bits of a pixel that cv2 is given: lines end where they do, not at whole pixels
LABEL_ROOM = 34  # shorter lines get no score, in pixels of the picture


@dataclass(frozen=True, eq=False)
class LineErrors:
    """Which predicted lines hit and which true lines were found."""

    hits: np.ndarray  # (L,) bool
    found: np.ndarray  # (M,) bool


def line_errors(predicted: Wireframe, truth: RoofGraph, size: tuple[int, int]) -> LineErrors:
    """Match lines as sAP10 does.

    Args:
        predicted: lines in pixels; all are taken.
        size: (height, width) of the image.
    """
    scale = cells_per_pixel(size)
    ranked = match_lines(predicted.segments() * scale, predicted.scores, truth.segments() * scale,
                         (LINE_THRESHOLDS[OPERATING],))
    hits, found = np.zeros(len(predicted.lines), bool), np.zeros(len(truth.lines), bool)
    hits[ranked.order[ranked.hits[0]]] = True
    found[ranked.nearest[ranked.hits[0]]] = True
    return LineErrors(hits, found)


def canvas_of(image: np.ndarray | None, size: tuple[int, int], side: int) -> np.ndarray:
    """Return an image, or plain grey without one, with its longer side at ``side`` pixels: (h, w, 3) uint8 RGB."""
    height, width = (max(round(length * side / max(size)), 1) for length in size)
    if image is None:
        return np.full((height, width, 3), BLANK, np.uint8)
    smaller = max(size) > side
    return cv2.resize(displayable(image), (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)


def draw_lines(canvas: np.ndarray, lines: np.ndarray, colours: np.ndarray, scale: float, thickness: int = 2) -> None:
    """Draw anti-aliased lines with a dark rim onto a canvas.

    Args:
        canvas: (h, w, 3) uint8 RGB, changed.
        lines: (M, 2, 2) ends (x, y) in pixels of the image, origin at the corner; the last lies on top.
        colours: (M, 3) RGB.
        scale: pixels of the canvas a pixel of the image.
    """
    ends = _fixed_point(lines, scale)
    for width, paint in ((thickness + 2, [HALO] * len(lines)), (thickness, np.asarray(colours).tolist())):
        for (first, second), colour in zip(ends.tolist(), paint):
            cv2.line(canvas, first, second, colour, width, cv2.LINE_AA, FRACTION)


def draw_junctions(canvas: np.ndarray, junctions: np.ndarray, scale: float, colour: Sequence[int] = JUNCTION,
                   radius: float = 3.0) -> None:
    """Draw junctions (N, 2) in pixels of the image as anti-aliased dots with a dark rim onto a canvas."""
    for x, y in _fixed_point(junctions, scale).tolist():
        for size, paint in ((radius + 1.2, HALO), (radius, tuple(colour))):
            cv2.circle(canvas, (x, y), round(size * (1 << FRACTION)), paint, -1, cv2.LINE_AA, FRACTION)


def draw_scores(canvas: np.ndarray, lines: np.ndarray, scores: np.ndarray, scale: float) -> np.ndarray:
    """Write scores in percent beside the middles of lines, the best first; what would cover another is left out."""
    picture = Image.fromarray(canvas)
    draw, font = ImageDraw.Draw(picture), label_font(11)
    taken: list[tuple[float, float, float, float]] = []
    ends = lines * scale
    for index in np.argsort(-scores, kind='stable'):
        if np.linalg.norm(ends[index, 1] - ends[index, 0]) < LABEL_ROOM:
            continue
        text, (x, y) = f'{100 * scores[index]:.0f}', ends[index].mean(axis=0)
        box = draw.textbbox((x, y), text, font=font, anchor='mm', stroke_width=2)
        if any(box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3] for other in taken):
            continue
        taken.append(box)
        draw.text((x, y), text, font=font, anchor='mm', fill=(255, 255, 255), stroke_width=2, stroke_fill=HALO)
    return np.asarray(picture)


def draw_graph(image: np.ndarray | None, graph: RoofGraph, size: tuple[int, int], side: int = 640) -> np.ndarray:
    """Draw a graph with its lines coloured by type.

    Args:
        image: (H, W, 3) RGB uint8; None draws on plain grey.
        graph: in pixels of the image.
        size: (height, width) of the image.
        side: the picture's longer side in pixels.

    Returns:
        (h, w, 3) uint8 RGB.
    """
    canvas, scale = canvas_of(image, size, side), side / max(size)
    draw_lines(canvas, graph.segments(), type_colours(graph.types), scale)
    draw_junctions(canvas, graph.junctions, scale)
    return canvas


def draw_wireframe(image: np.ndarray | None, wireframe: Wireframe, size: tuple[int, int], side: int = 640,
                   types: np.ndarray | None = None, lowest: float = 0.0) -> np.ndarray:
    """Draw a predicted wireframe with its scores in percent.

    Args:
        wireframe: all of its lines are drawn, the best on top, and the junctions that they use.
        types: (L,) places in LINE_TYPES to colour lines by; without them lines are coloured by score.
        lowest: the score that has the first colour; 1 has the last.

    See :func:`draw_graph` for the rest.
    """
    canvas, scale = canvas_of(image, size, side), side / max(size)
    order = np.argsort(wireframe.scores, kind='stable')
    lines, scores = wireframe.segments()[order], wireframe.scores[order]
    colours = score_colours(scores, lowest) if types is None else type_colours(np.asarray(types)[order])
    draw_lines(canvas, lines, colours, scale)
    draw_junctions(canvas, wireframe.junctions[np.unique(wireframe.lines)], scale)
    return draw_scores(canvas, lines, scores, scale)


def draw_errors(image: np.ndarray | None, wireframe: Wireframe, truth: RoofGraph, errors: LineErrors,
                size: tuple[int, int], side: int = 640) -> np.ndarray:
    """Draw matched lines green, false ones red, missed true ones blue; see :func:`draw_graph`."""
    canvas, scale = canvas_of(image, size, side), side / max(size)
    lines = wireframe.segments()
    parts = ((truth.segments()[~errors.found], MISSED), (lines[~errors.hits], FALSE), (lines[errors.hits], MATCHED))
    for part, colour in parts:
        draw_lines(canvas, part, np.tile(colour, (len(part), 1)), scale)
    return canvas


def type_colours(types: np.ndarray) -> np.ndarray:
    """Return the colours (M, 3) of line types (M,)."""
    return np.array(list(TYPE_COLOURS.values()))[np.asarray(types, np.int64)]


def score_colours(scores: np.ndarray, lowest: float = 0.0) -> np.ndarray:
    """Return colours (M, 3) from blue-green at ``lowest`` to yellow at 1."""
    share = np.clip((np.asarray(scores) - lowest) / max(1 - lowest, 1e-9), 0, 1)
    level = (255 * (0.35 + 0.65 * share)).round().astype(np.uint8)  # the map's darkest part is lost on a roof
    table = cv2.applyColorMap(np.arange(256, dtype=np.uint8), cv2.COLORMAP_VIRIDIS).reshape(256, 3)[:, ::-1]
    return table[level].astype(np.int64)


def wireframe_panel(image: np.ndarray | None, truth: RoofGraph | None, prediction: Wireframe, size: tuple[int, int],
                    *, threshold: float = LINE_SCORE, types: np.ndarray | None = None, title: str = '', side: int = 640
                    ) -> Image.Image:
    """Compose one sample's picture: image | truth | prediction | errors, side by side, with a legend.

    Args:
        image: (H, W, 3) RGB uint8; None leaves its panel out and draws the others on grey.
        truth: None leaves truth and errors out.
        prediction: lines below ``threshold`` are not drawn.
        size: (height, width) of the image.
        types: (L,) types of the predicted lines, where they are known.
        side: the longer side of a panel in pixels.
    """
    kept = prediction.scores >= threshold
    types = None if types is None else np.asarray(types)[kept]
    shown = replace(prediction, lines=prediction.lines[kept], scores=prediction.scores[kept])
    panels = [] if image is None else [('image', canvas_of(image, size, side))]
    if truth is not None:
        panels.append((f'truth: {len(truth.lines)} lines', draw_graph(image, truth, size, side)))
    panels.append((f'prediction: {len(shown.lines)} lines of {threshold:g} or more, scores in percent',
                   draw_wireframe(image, shown, size, side, types, threshold)))
    present = [] if types is None else [types]
    present += [] if truth is None else [truth.types]
    legend = [(LINE_TYPES[index], TYPE_COLOURS[LINE_TYPES[index]])
              for index in np.unique(np.concatenate(present))] if present else []
    if types is None:
        steps = np.linspace(threshold, 1, 3)
        legend += [(f'score {step:.2f}', tuple(colour))
                   for step, colour in zip(steps, score_colours(steps, threshold).tolist())]
    if truth is not None:
        errors = line_errors(shown, truth, size)
        panels.append((f'errors: {errors.hits.sum()} matched, {(~errors.hits).sum()} false, '
                       f'{(~errors.found).sum()} missed', draw_errors(image, shown, truth, errors, size, side)))
        legend += [('matched', MATCHED), ('false', FALSE), ('missed', MISSED)]
    return _compose(panels, legend, title)


def _compose(panels: list[tuple[str, np.ndarray]], legend: list[tuple[str, tuple]], title: str) -> Image.Image:
    font, bold = label_font(14), label_font(15, bold=True)
    height, width = panels[0][1].shape[:2]
    column = max(width, *(round(font.getlength(name)) + 4 for name, _ in panels))  # headings stay readable
    total = 2 * MARGIN + len(panels) * column + (len(panels) - 1) * GAP
    rows = wrap_legend(legend, font, total - 2 * MARGIN)
    top = MARGIN + (HEADING if title else 0)
    canvas = Image.new('RGB', (total, top + HEADING + height + 10 + LEGEND_LINE * len(rows) + MARGIN - 4), 'white')
    draw = ImageDraw.Draw(canvas)
    if title:
        draw.text((MARGIN, MARGIN - 2), title, fill=(31, 41, 51), font=bold)
    for index, (name, pixels) in enumerate(panels):
        left = MARGIN + index * (column + GAP)
        draw.text((left, top + 2), name, fill=(102, 114, 127), font=font)
        canvas.paste(Image.fromarray(pixels), (left, top + HEADING))
        draw.rectangle((left - 1, top + HEADING - 1, left + width, top + HEADING + height), outline=(190, 197, 205))
    draw_legend(canvas, rows, (MARGIN, top + HEADING + height + 12), font)
    return canvas


def _fixed_point(points: np.ndarray, scale: float) -> np.ndarray:
    """Return points in cv2's fractions of a pixel: there the origin is a pixel's centre."""
    drawn = np.clip(points * scale - 0.5, -4e3, 3e4)  # far-off ends would overflow
    return (drawn * (1 << FRACTION)).round().astype(np.int64)
