"""Pictures of predictions: image | truth | prediction | error side by side, with a legend."""

import colorsys
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from projects.engine.errors import UserError

RIGHT, WRONG, IGNORED = (196, 228, 196), (203, 32, 39), (150, 150, 150)  # right is pale: errors stand out
UNKNOWN = (255, 255, 255)  # a label without a colour
GAP, MARGIN, HEADING, LEGEND_LINE = 10, 14, 26, 24


def distinct_palette(number: int) -> list[tuple[int, int, int]]:
    """Return ``number`` RGB colours that differ in hue and lightness, for classes without a palette."""
    return [
        tuple(round(255 * v) for v in colorsys.hls_to_rgb((0.58 + 0.618034 * i) % 1, 0.42 + 0.2 * (i % 2), 0.62))
        for i in range(number)
    ]


def colour_mask(
    mask: np.ndarray, palette: Sequence[Sequence[int]], ignore_index: int | None = 255
) -> np.ndarray:
    """Return a mask ``(H, W)`` of class ids as RGB ``(H, W, 3)`` uint8; ignored pixels are hatched grey."""
    table = np.full((256, 3), UNKNOWN, np.uint8)
    table[: len(palette)] = np.asarray(palette, np.uint8)
    picture = table[mask.astype(np.uint8)]
    if ignore_index is not None:
        _hatch(picture, mask == ignore_index)
    return picture


def error_map(truth: np.ndarray, prediction: np.ndarray, ignore_index: int | None = 255) -> np.ndarray:
    """Return ``(H, W, 3)`` uint8: green where the prediction is right, red where wrong, grey where ignored."""
    picture = np.where((truth == prediction)[..., None], np.uint8(RIGHT), np.uint8(WRONG))
    if ignore_index is not None:
        _hatch(picture, truth == ignore_index)
    return picture


def displayable(image: np.ndarray) -> np.ndarray:
    """Return an image ``(H, W, C)`` as RGB uint8: the first three bands, or one band as grey.

    uint8 stays as it is, float is taken to be on the 0..255 scale and clipped.
    """
    if image.ndim == 2:
        image = image[..., None]
    image = image[..., :3] if image.shape[2] >= 3 else np.repeat(image[..., :1], 3, axis=2)
    return image if image.dtype == np.uint8 else np.clip(np.nan_to_num(image), 0, 255).round().astype(np.uint8)


def prediction_panel(
    image: np.ndarray | None,
    truth: np.ndarray | None,
    prediction: np.ndarray,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]] | None = None,
    *,
    ignore_index: int | None = 255,
    title: str = '',
    side: int = 512,
) -> Image.Image:
    """Compose one sample's picture.

    Args:
        image: ``(H, W, C)`` RGB uint8, or float on the 0..255 scale; ``None`` leaves the panel out.
        truth: ``(H, W)`` class ids; ``None`` leaves truth and error out.
        prediction: ``(H, W)`` class ids.
        palette: RGB of each class; ``None`` takes :func:`distinct_palette`.
        side: longest side of a panel in pixels; larger samples are reduced, masks by nearest neighbour, samples
            below half of it are enlarged by a whole factor.

    Returns:
        A picture of 1 to 4 panels with headings; below it the legend of the classes that occur.
    """
    palette = distinct_palette(len(classes)) if palette is None else palette
    panels: list[tuple[str, np.ndarray]] = []
    if image is not None:
        panels.append(('image', _fit(displayable(image), side, smooth=True)))
    small_prediction = _fit(prediction.astype(np.uint8), side)
    small_truth = None if truth is None else _fit(truth.astype(np.uint8), side)
    if small_truth is not None:
        panels.append(('truth', colour_mask(small_truth, palette, ignore_index)))
    panels.append(('prediction', colour_mask(small_prediction, palette, ignore_index)))
    heading = ''
    if truth is not None and small_truth is not None:
        counted = np.ones(truth.shape, bool) if ignore_index is None else truth != ignore_index
        right = float((truth == prediction)[counted].mean()) if counted.any() else float('nan')
        heading = f'error: {100 * (1 - right):.1f} % wrong' if counted.any() else 'error: nothing labelled'
        panels.append((heading, error_map(small_truth, small_prediction, ignore_index)))
    height, width = panels[-1][1].shape[:2]
    present = np.unique(prediction) if truth is None else np.union1d(np.unique(prediction), np.unique(truth))
    legend = [(name, tuple(int(v) for v in palette[i])) for i, name in enumerate(classes) if i in present]
    if truth is not None:
        legend += [('right', RIGHT), ('wrong', WRONG)]
    if ignore_index is not None and truth is not None and (truth == ignore_index).any():
        legend.append(('ignored', IGNORED))

    font, bold = label_font(14), label_font(15, bold=True)
    total = 2 * MARGIN + len(panels) * width + (len(panels) - 1) * GAP
    rows = wrap_legend(legend, font, total - 2 * MARGIN)
    top = MARGIN + (HEADING if title else 0)
    canvas = Image.new('RGB', (total, top + HEADING + height + 10 + LEGEND_LINE * len(rows) + MARGIN - 4), 'white')
    draw = ImageDraw.Draw(canvas)
    if title:
        draw.text((MARGIN, MARGIN - 2), _cut(title, bold, total - 2 * MARGIN), fill=(31, 41, 51), font=bold)
    for i, (name, pixels) in enumerate(panels):
        left = MARGIN + i * (width + GAP)
        draw.text((left, top + 2), _cut(name, font, width), fill=(102, 114, 127), font=font)
        panel = Image.fromarray(pixels)
        canvas.paste(panel if panel.size == (width, height) else panel.resize((width, height)), (left, top + HEADING))
        draw.rectangle((left - 1, top + HEADING - 1, left + width, top + HEADING + height), outline=(190, 197, 205))
    draw_legend(canvas, rows, (MARGIN, top + HEADING + height + 12), font)
    return canvas


def file_stem(sample_id: str) -> str:
    """Return a file name for a sample id: path separators become ``__``, other unsafe characters ``_``.

    A changed name gets eight digits of the id's hash, so that two ids never share a file. Plain ids stay as they are.
    """
    stem = re.sub(r'[^\w.+-]', '_', re.sub(r'[/\\]+', '__', sample_id.strip())).lstrip('.')[:180]
    if stem == sample_id:
        return stem
    return f'{stem}-{hashlib.sha256(sample_id.encode()).hexdigest()[:8]}'


def palette_image(mask: np.ndarray, palette: Sequence[Sequence[int]] | None, number: int) -> Image.Image:
    """Return class ids ``(H, W)`` as an indexed picture: the pixels are the ids, the palette their colours."""
    if mask.size and (mask.min() < 0 or mask.max() > 255):
        raise UserError(f'labels {int(mask.min())}..{int(mask.max())} do not fit an 8-bit mask')
    table = np.full((256, 3), IGNORED, np.uint8)
    colours = np.asarray(distinct_palette(number) if palette is None else palette, np.uint8)
    table[: len(colours)] = colours
    picture = Image.fromarray(mask.astype(np.uint8), mode='P')
    picture.putpalette(table.reshape(-1).tolist())
    return picture


def _hatch(picture: np.ndarray, where: np.ndarray) -> None:
    """Stripe pixels in two greys: a class may be grey itself."""
    rows, columns = np.nonzero(where)
    picture[rows, columns] = np.where(((rows + columns) // 4 % 2 == 0)[:, None], np.uint8(IGNORED), np.uint8(190))


def _fit(pixels: np.ndarray, side: int, smooth: bool = False) -> np.ndarray:
    height, width = pixels.shape[:2]
    longest = max(height, width)
    if longest > side:
        size = (max(round(width * side / longest), 1), max(round(height * side / longest), 1))
        return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if smooth else cv2.INTER_NEAREST)
    factor = side // longest
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1) if factor > 1 else pixels


def label_font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return the font of all pictures at a size in pixels."""
    name = 'DejaVuSans-Bold.ttf' if bold else 'DejaVuSans.ttf'  # shipped with matplotlib: the same on every machine
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / 'fonts' / 'ttf' / name), size)


def draw_legend(canvas: Image.Image, rows: list[list[tuple[str, tuple]]], at: tuple[int, int],
                font: ImageFont.FreeTypeFont) -> None:
    """Draw rows of (name, colour) from :func:`wrap_legend` onto a canvas, ``LEGEND_LINE`` pixels a row."""
    draw = ImageDraw.Draw(canvas)
    left, y = at
    for row in rows:
        x = left
        for name, colour in row:
            draw.rectangle((x, y + 2, x + 15, y + 17), fill=colour, outline=(120, 130, 140))
            if name == 'ignored' and colour == IGNORED:
                swatch = np.empty((14, 14, 3), np.uint8)
                _hatch(swatch, np.ones((14, 14), bool))
                canvas.paste(Image.fromarray(swatch), (x + 1, y + 3))
            draw.text((x + 22, y), name, fill=(31, 41, 51), font=font)
            x += _entry_width(name, font)
        y += LEGEND_LINE


def _entry_width(name: str, font: ImageFont.FreeTypeFont) -> int:
    return 22 + round(font.getlength(name)) + 20


def wrap_legend(legend: list[tuple[str, tuple]], font: ImageFont.FreeTypeFont,
                width: int) -> list[list[tuple[str, tuple]]]:
    """Break (name, colour) entries into rows of at most ``width`` pixels."""
    rows: list[list[tuple[str, tuple]]] = [[]] if legend else []
    used = 0
    for entry in legend:
        need = _entry_width(entry[0], font)
        if rows[-1] and used + need > width:
            rows.append([])
            used = 0
        rows[-1].append(entry)
        used += need
    return rows


def _cut(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + '…') > width:
        text = text[:-1]
    return text + '…'
