"""Pictures of what the network really sees: the image after pipeline and preprocessor, its graph, and its maps."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmseg.registry import MODELS
from PIL import Image, ImageDraw
from torch import nn

from projects.engine.files import atomic_path
from projects.evaluation.browsing import Sample
from projects.evaluation.gallery import LEGEND_LINE, displayable, draw_legend, label_font, wrap_legend
from projects.roofline.datasets.affine import scaling
from projects.roofline.drawing import TYPE_COLOURS
from projects.roofline.graph import LINE_TYPES, RoofGraph

MARGIN, GAP, LINE = 12, 8, 20
INK, PALE, FRAME = (31, 41, 51), (102, 114, 127), (190, 197, 205)
COLOURS = tuple(TYPE_COLOURS.values())
HIDDEN, JUNCTION = (255, 0, 190), (255, 255, 255)


@dataclass(frozen=True, eq=False)
class View:
    """One pass of a sample through pipeline and preprocessor.

    Args:
        image: (H, W, 3) float32 on the 0..255 scale, as the network gets it.
        graph: In the pixels of `image`; None without truth.
        jmap, lmap: (h, w) float32, the largest over the types of junctions; None where the pipeline draws none.
        negatives: How many pairs there are that only look like lines.
    """

    image: np.ndarray
    graph: RoofGraph | None
    jmap: np.ndarray | None
    lmap: np.ndarray | None
    negatives: int = 0


def draw_samples(cfg: Mapping[str, Any], split: str, dataset: Any, samples: Iterable[Sample]) -> Iterator[Path]:
    """For `projects.evaluation.browsing.browse`: write a picture of each sample, image | graph | maps, a row a view."""
    preprocessor = MODELS.build(cfg['model']['data_preprocessor'])
    for title, path, passes in samples:
        picture = sheet(title, [seen(packed, preprocessor, split == 'train') for packed in passes])
        with atomic_path(path) as temporary:
            picture.save(temporary)
        yield path


def seen(packed: Mapping[str, Any], preprocessor: nn.Module, training: bool) -> View:
    """Run the data preprocessor on one packed sample and undo its normalisation.

    Args:
        packed: What `PackRoofline` returns.
        preprocessor: An mmseg `SegDataPreProcessor`.
        training: Whether it pads as for training.
    """
    with torch.no_grad():
        inputs = preprocessor({'inputs': [packed['inputs']], 'data_samples': [packed['data_samples']]},
                              training)['inputs'][0].float()
    if getattr(preprocessor, '_enable_normalize', False):
        inputs = inputs * preprocessor.std + preprocessor.mean
    image, sample = inputs.permute(1, 2, 0).numpy(), packed['data_samples']
    if 'lmap' not in sample:
        graph, letterbox = sample.get('graph'), sample.get('letterbox')
        return View(image, graph.moved(scaling(*letterbox)) if graph is not None and letterbox else None, None, None)
    lmap, jmap = sample.lmap.numpy(), sample.jmap.numpy().max(axis=0)
    cells = sample.junctions.numpy().astype(float)
    stride = np.array(packed['inputs'].shape[1:]) / lmap.shape
    graph = RoofGraph.make((cells[:, :2] * stride)[:, ::-1], sample.lines.numpy(), sample.line_types.numpy(),
                           junction_types=cells[:, 2].astype(np.uint8), occlusions=sample.occlusions.numpy())
    return View(image, graph, jmap, lmap, len(sample.negatives))


def sheet(title: str, views: Sequence[View], side: int = 512) -> Image.Image:
    """Draw views of one sample below each other, with a legend.

    Args:
        title: Heading.
        views: At least one.
        side: Longest side of a panel, px, about: views are enlarged by a whole factor, never reduced.
    """
    font, bold = label_font(14), label_font(15, bold=True)
    rows = [_panels(view, max(1, side // max(view.image.shape[:2]))) for view in views]
    types = sorted({int(kind) for view in views if view.graph is not None for kind in view.graph.types})
    legend = [(LINE_TYPES[kind], COLOURS[kind]) for kind in types]
    if any(_hidden(view.graph).any() for view in views if view.graph is not None):
        legend.append(('hidden', HIDDEN))
    width = max(480, max(sum(panel.width + GAP for panel in row) - GAP for row in rows))
    legend_rows = wrap_legend(legend, font, width)
    height = LINE + 6 + sum(max(panel.height for panel in row) + LINE + GAP for row in rows)
    canvas = Image.new('RGB', (width + 2 * MARGIN, height + LEGEND_LINE * len(legend_rows) + 2 * MARGIN), 'white')
    draw = ImageDraw.Draw(canvas)
    draw.text((MARGIN, MARGIN - 2), title, fill=INK, font=bold)
    y = MARGIN + LINE + 6
    for row, view in zip(rows, views, strict=True):
        x = MARGIN
        for panel in row:
            canvas.paste(panel, (x, y))
            draw.rectangle((x - 1, y - 1, x + panel.width, y + panel.height), outline=FRAME)
            x += panel.width + GAP
        y += max(panel.height for panel in row) + 2
        draw.text((MARGIN, y), _told(view), fill=PALE, font=font)
        y += LINE + GAP - 2
    draw_legend(canvas, legend_rows, (MARGIN, y), font)
    return canvas


def _panels(view: View, factor: int) -> list[Image.Image]:
    picture = Image.fromarray(displayable(view.image))
    picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.BICUBIC)
    panels = [picture]
    if view.graph is not None:
        panels.append(_with_graph(picture, view.graph, factor))
    if view.lmap is not None:
        level = np.rint(255 * view.lmap)
        cells = np.stack([np.where(view.jmap > 0, 255, level), *[np.where(view.jmap > 0, 60, level)] * 2], axis=-1)
        panels.append(Image.fromarray(cells.astype(np.uint8)).resize(picture.size, Image.Resampling.NEAREST))
    return panels


def _with_graph(picture: Image.Image, graph: RoofGraph, factor: int) -> Image.Image:
    picture = picture.copy()
    draw = ImageDraw.Draw(picture)
    hidden = _hidden(graph)
    for (first, second), kind, part, is_hidden in zip(graph.segments() * factor, graph.types, graph.occlusions, hidden,
                                                      strict=True):
        _line(draw, first, second, COLOURS[kind])
        if is_hidden:
            _line(draw, first + part[0] * (second - first), first + part[1] * (second - first), HIDDEN, 4)
    for x, y in graph.junctions * factor - 0.5:  # Pillow's whole numbers are centres of pixels
        draw.ellipse((x - 2.5, y - 2.5, x + 2.5, y + 2.5), fill=JUNCTION, outline=INK)
    return picture


def _line(draw: ImageDraw.ImageDraw, first: np.ndarray, second: np.ndarray, colour: tuple, width: int = 2) -> None:
    draw.line((*(first - 0.5), *(second - 0.5)), fill=colour, width=width)


def _hidden(graph: RoofGraph) -> np.ndarray:
    """Say of which lines a part is known to be hidden, (M,) bool."""
    return graph.occlusions[:, 0] < graph.occlusions[:, 1]


def _told(view: View) -> str:
    """Return in one line how much there is."""
    height, width = view.image.shape[:2]
    parts = [f'{width} x {height} px']
    if view.graph is not None:
        parts.append(f'{len(view.graph.junctions)} junctions, {len(view.graph.lines)} lines')
    if view.lmap is not None:
        parts.append(f'{view.lmap.shape[1]} x {view.lmap.shape[0]} cells, {int((view.jmap > 0).sum())} with junctions, '
                     f'{view.negatives} negatives')
    return '; '.join(parts)
