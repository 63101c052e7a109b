"""Pictures of what the network really sees: after the pipeline and the data preprocessor, brought back to colours."""

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
from projects.evaluation.gallery import (
    LEGEND_LINE,
    colour_mask,
    displayable,
    distinct_palette,
    draw_legend,
    label_font,
    wrap_legend,
)

IGNORE_COLOUR = (255, 0, 255)
MARGIN, GAP, LINE = 12, 8, 20
INK, PALE = (31, 41, 51), (102, 114, 127)


@dataclass(frozen=True)
class View:
    """One pass of a sample through pipeline and preprocessor.

    Args:
        image: (H, W, C) float32 on the 0..255 scale, as the network gets it, padding included.
        mask: (H', W') uint8 class ids, or None where the sample has no mask.
        mean, std: (C,) of the network's own input.
    """

    image: np.ndarray
    mask: np.ndarray | None
    mean: np.ndarray
    std: np.ndarray


def draw_samples(cfg: Mapping[str, Any], split: str, dataset: Any, samples: Iterable[Sample]) -> Iterator[Path]:
    """For `projects.evaluation.browsing.browse`: write a picture for each sample, image | mask, a row for each view."""
    preprocessor = MODELS.build(cfg['model']['data_preprocessor'])
    meta = dataset.metainfo
    classes = meta['classes']
    palette = meta.get('palette') or distinct_palette(len(classes))
    for title, path, passes in samples:
        views = [view(packed, preprocessor, training=split == 'train') for packed in passes]
        picture = sheet(title, views, classes, palette, meta.get('ignore_index', 255))
        with atomic_path(path) as temporary:
            picture.save(temporary)
        yield path


def view(packed: Mapping[str, Any], preprocessor: nn.Module, training: bool) -> View:
    """Run the data preprocessor on one packed sample and undo its normalisation.

    Args:
        packed: What the pipeline's `PackSegInputs` returns: `inputs` (C, H, W) and `data_samples`.
        preprocessor: An mmseg `SegDataPreProcessor`.
        training: Whether it pads as for training.
    """
    batch = {'inputs': [packed['inputs']], 'data_samples': [packed['data_samples']]}
    with torch.no_grad():
        batch = preprocessor(batch, training)
    inputs = batch['inputs'][0].float()
    image = inputs
    if getattr(preprocessor, '_enable_normalize', False):
        image = image * preprocessor.std + preprocessor.mean
    sample = batch['data_samples'][0]
    mask = sample.gt_sem_seg.data[0].numpy().astype(np.uint8) if 'gt_sem_seg' in sample else None
    return View(
        image=image.permute(1, 2, 0).numpy(),
        mask=mask,
        mean=inputs.mean((1, 2)).numpy(),
        std=inputs.std((1, 2)).numpy(),
    )


def sheet(
    title: str,
    views: Sequence[View],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    ignore_index: int = 255,
    side: int = 512,
) -> Image.Image:
    """Draw views of one sample below each other: image | mask, with the statistics of the input and a legend.

    Args:
        title: Heading.
        views: At least one.
        classes, palette: Names and colours of the classes. Ignored pixels are magenta, hatched.
        ignore_index: Label of ignored pixels.
        side: Longest side of a panel, px; larger views are reduced by nearest neighbour, so that no colour is mixed.
    """
    font, bold = label_font(14), label_font(15, bold=True)
    rows = [[_fit(panel, side) for panel in _panels(v, palette, ignore_index)] for v in views]
    present = set().union(*(np.unique(v.mask).tolist() for v in views if v.mask is not None))
    legend = [(name, tuple(palette[i])) for i, name in enumerate(classes) if i in present]
    if ignore_index in present:
        legend.append(('ignored', IGNORE_COLOUR))
    width = max(360, max(sum(panel.width + GAP for panel in row) - GAP for row in rows))
    legend_rows = wrap_legend(legend, font, width)
    height = LINE + 6 + sum(max(panel.height for panel in row) + LINE + GAP for row in rows)
    height += LEGEND_LINE * len(legend_rows)
    canvas = Image.new('RGB', (width + 2 * MARGIN, height + 2 * MARGIN), 'white')
    draw = ImageDraw.Draw(canvas)
    draw.text((MARGIN, MARGIN - 2), title, fill=INK, font=bold)
    y = MARGIN + LINE + 6
    for row, v in zip(rows, views):
        x = MARGIN
        for panel in row:
            canvas.paste(panel, (x, y))
            draw.rectangle((x - 1, y - 1, x + panel.width, y + panel.height), outline=(190, 197, 205))
            x += panel.width + GAP
        y += max(panel.height for panel in row) + 2
        draw.text((MARGIN, y), _describe(v), fill=PALE, font=font)
        y += LINE + GAP - 2
    draw_legend(canvas, legend_rows, (MARGIN, y), font)
    return canvas


def _panels(v: View, palette: Sequence[Sequence[int]], ignore_index: int) -> list[Image.Image]:
    panels = [Image.fromarray(displayable(v.image))]
    if v.mask is not None:
        colours = colour_mask(v.mask, palette, None)
        ignored = v.mask == ignore_index
        stripes = np.add.outer(np.arange(v.mask.shape[0]), np.arange(v.mask.shape[1])) // 6 % 2 == 0
        colours[ignored] = (255, 150, 255)  # a class may have any one colour, hardly two in stripes
        colours[ignored & stripes] = IGNORE_COLOUR
        panels.append(Image.fromarray(colours))
    return panels


def _describe(v: View) -> str:
    """Return size, bands and statistics of the network's input in one line."""
    height, width, bands = v.image.shape
    mean, std = (' '.join(f'{value:.2f}' for value in values) for values in (v.mean, v.std))
    return f'{width} x {height} px, {bands} bands; input mean {mean}, std {std}'


def _fit(panel: Image.Image, side: int) -> Image.Image:
    longest = max(panel.size)
    if longest > side:
        size = tuple(max(1, round(length * side / longest)) for length in panel.size)
        return panel.resize(size, Image.Resampling.NEAREST)
    factor = max(1, side // 2 // longest)  # small views are enlarged by a whole factor
    return panel.resize((panel.width * factor, panel.height * factor), Image.Resampling.NEAREST)
