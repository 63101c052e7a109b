"""Pictures: colours where they belong, sizes, and drawings for every number of classes."""

import io

import numpy as np
import pytest
from PIL import Image

from projects.engine.errors import UserError
from projects.evaluation.calibration import Calibration
from projects.evaluation.gallery import (
    IGNORED,
    RIGHT,
    WRONG,
    colour_mask,
    displayable,
    distinct_palette,
    error_map,
    file_stem,
    palette_image,
    prediction_panel,
)
from projects.evaluation.plots import plot_confusion, plot_reliability, png_bytes
from projects.evaluation.tables import csv_table, markdown_table, plain, text_table

PALETTE = [(10, 20, 30), (200, 100, 0)]


def test_error_map_colours():
    picture = error_map(np.array([[0, 1, 255]]), np.array([[0, 0, 0]]))
    assert picture[0, 0].tolist() == list(RIGHT)
    assert picture[0, 1].tolist() == list(WRONG)
    assert picture[0, 2].tolist() == list(IGNORED)


def test_colour_mask():
    picture = colour_mask(np.array([[0, 1, 1, 9]], np.uint8), PALETTE)
    assert picture[0].tolist() == [[10, 20, 30], [200, 100, 0], [200, 100, 0], [255, 255, 255]]


@pytest.mark.parametrize(('height', 'width', 'side', 'panel'), [(40, 30, 100, (80, 60)), (400, 100, 100, (100, 25))])
def test_panel_places_and_colours(height, width, side, panel):
    truth = np.zeros((height, width), np.uint8)
    prediction = truth.copy()
    prediction[: height // 2] = 1
    image = np.full((height, width, 4), (50, 60, 70, 0), np.uint8)
    picture = np.asarray(prediction_panel(image, truth, prediction, ['a', 'b'], PALETTE, side=side))
    top, left, step = 14 + 26, 14, panel[1] + 10
    assert picture.shape[1] == 2 * 14 + 4 * panel[1] + 3 * 10
    upper = [picture[top + 3, left + i * step + 3].tolist() for i in range(4)]
    lower = [picture[top + panel[0] - 3, left + i * step + 3].tolist() for i in range(4)]
    assert upper == [[50, 60, 70], [10, 20, 30], [200, 100, 0], list(WRONG)]
    assert lower == [[50, 60, 70], [10, 20, 30], [10, 20, 30], list(RIGHT)]


def test_panel_without_truth_has_two_parts():
    picture = prediction_panel(np.zeros((50, 50, 1), np.float32), None, np.zeros((50, 50), int), ['a'], side=50)
    assert picture.width == 2 * 14 + 2 * 50 + 10


def test_displayable_clips_and_takes_three_bands():
    image = displayable(np.array([[[-5.0, 100.4, 300.0, 9.0]]]))
    assert image.dtype == np.uint8 and image[0, 0].tolist() == [0, 100, 255]
    assert displayable(np.full((2, 2), 7, np.uint8)).tolist() == np.full((2, 2, 3), 7).tolist()


def test_palette_image_keeps_indices():
    buffer = io.BytesIO()
    mask = np.array([[0, 1], [1, 0]])
    palette_image(mask, PALETTE, 2).save(buffer, 'PNG')
    picture = Image.open(buffer)
    assert picture.mode == 'P' and np.asarray(picture).tolist() == mask.tolist()
    assert np.asarray(picture.convert('RGB'))[0].tolist() == [[10, 20, 30], [200, 100, 0]]
    with pytest.raises(UserError, match='8-bit'):
        palette_image(np.array([[300]]), PALETTE, 2)


def test_file_stems_are_safe_and_different():
    assert file_stem('tile_652000_6862000') == 'tile_652000_6862000'
    assert file_stem('a/b') != file_stem('a__b')
    assert '/' not in file_stem('../../etc/passwd') and not file_stem('../x').startswith('.')


@pytest.mark.parametrize('number', [1, 2, 6, 12, 20])
def test_confusion_is_drawn_for_any_number_of_classes(number):
    confusion = np.diag(np.arange(number)) * 10**6  # the first class is not in the truth
    picture = Image.open(io.BytesIO(png_bytes(plot_confusion(confusion, [f'class {i}' for i in range(number)]), 50)))
    assert min(picture.size) > 80


def test_reliability_is_drawn_empty_and_full():
    calibration = Calibration()
    assert png_bytes(plot_reliability(calibration), 40).startswith(b'\x89PNG')
    calibration.add(np.linspace(0, 1, 50), np.arange(50) % 2 == 0)
    assert png_bytes(plot_reliability(calibration), 40).startswith(b'\x89PNG')


def test_palette_colours_differ():
    assert len(set(distinct_palette(20))) == 20


def test_tables():
    rows = [['a, "b"', 0.5, 3], ['c|d', float('nan'), 4]]
    assert csv_table(['class', 'IoU', 'px'], rows) == 'class,IoU,px\n"a, ""b""",0.5,3\nc|d,,4\n'
    assert markdown_table(['class', 'IoU', 'px'], rows).splitlines()[2:] == [
        '| a, "b" | 0.5000 | 3 |', '| c\\|d | – | 4 |']
    assert markdown_table(['class', 'IoU', 'share', 'hash', 'none'], [
        ['a', 0.5, '12.5 %', '`1f`', None], ['b', None, '–', 'x', None]]).splitlines()[1] == (
        '| :-- | --: | --: | :-- | :-- |')
    assert text_table(['x', 'yy'], [['long', '1']]) == 'x     yy\n----  --\nlong   1'
    assert plain({'a': [float('nan'), 1.0, (float('inf'),)]}) == {'a': [None, 1.0, [None]]}
