"""tools/browse_dataset.py shows what goes into the network, not what lies on disk."""

from pathlib import Path

import numpy as np
import pytest
from mmseg.registry import MODELS
from PIL import Image

from projects.engine.errors import UserError
from projects.evaluation.browsing import browse
from projects.landcover.datasets import LandCoverDataset
from projects.landcover.datasets.browse import View, draw_samples, sheet, view

PREPROCESSOR = dict(
    type='SegDataPreProcessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=False,
    pad_val=0,
    seg_pad_val=255,
    size=(64, 64),
    test_cfg=dict(size_divisor=32),
)
PIPELINE = [
    dict(type='LoadRasterImage'),
    dict(type='LoadIndexMask'),
    dict(type='RandomFlips'),
    dict(type='PackSegInputs', meta_keys=('sample_id',)),
]


@pytest.fixture
def config(tmp_path: Path) -> dict:
    for name in ('images', 'masks'):
        (tmp_path / 'data' / name).mkdir(parents=True)
    for index in range(5):
        generator = np.random.default_rng(index)
        Image.fromarray(generator.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(
            tmp_path / f'data/images/s{index}.png'
        )
        Image.fromarray(generator.integers(0, 6, (40, 60), dtype=np.uint8)).save(tmp_path / f'data/masks/s{index}.png')
    dataset = dict(
        type='LandCoverDataset', data_root=str(tmp_path / 'data'), split='all', layout='folder', pipeline=PIPELINE
    )
    return dict(
        model=dict(data_preprocessor=PREPROCESSOR), train_dataloader=dict(dataset=dataset), val_dataloader=None
    )


def test_a_view_is_the_network_input_in_colours(config):
    arguments = {**config['train_dataloader']['dataset'], 'pipeline': [*PIPELINE[:2], PIPELINE[3]]}
    arguments.pop('type')
    dataset = LandCoverDataset(**arguments)
    seen = view(dataset[1], MODELS.build(PREPROCESSOR), training=True)
    original = np.asarray(Image.open(Path(arguments['data_root']) / 'images/s1.png'))
    assert seen.image.shape == (64, 64, 3)
    np.testing.assert_allclose(seen.image[:40, :60], original, atol=1e-3)
    np.testing.assert_allclose(seen.image[50, 50], PREPROCESSOR['mean'], atol=1e-3)  # padding: 0 after normalisation
    assert (seen.mask[40:] == 255).all() and (seen.mask[:40, :60] < 6).all()
    expected = ((original - np.array(PREPROCESSOR['mean'])) / PREPROCESSOR['std']).sum((0, 1)) / 64**2
    np.testing.assert_allclose(seen.mean, expected, atol=1e-4)


def test_browse_writes_a_picture_a_sample_and_repeats_itself(config, tmp_path):
    paths = list(browse(draw_samples, config, tmp_path / 'a', number=3, views=2, seed=4))
    assert [path.name for path in paths] == ['train_s0.png', 'train_s2.png', 'train_s4.png']
    again = list(browse(draw_samples, config, tmp_path / 'b', number=3, views=2, seed=4))
    assert [p.read_bytes() for p in paths] == [p.read_bytes() for p in again]
    assert len(list(browse(draw_samples, config, tmp_path / 'c', number=50))) == 5
    for arguments, message in (({'split': 'val'}, 'has no val_dataloader'), ({'views': 0}, 'found 8 and 0')):
        with pytest.raises(UserError, match=message):
            browse(draw_samples, config, tmp_path, **arguments)


def test_sheet_draws_classes_and_ignored_pixels():
    mask = np.zeros((256, 256), np.uint8)
    mask[:, 128:] = 1
    mask[128:] = 255
    image = np.full((256, 256, 5), 100, np.float32)
    drawn = np.asarray(
        sheet('s', [View(image, mask, np.zeros(5), np.ones(5))], ['a', 'b', 'c'], [(1, 2, 3), (4, 250, 6), (7, 8, 9)])
    )

    def count(colour: tuple[int, int, int]) -> int:
        return int((drawn == colour).all(2).sum())

    assert count((100, 100, 100)) == 256 * 256
    assert abs(count((1, 2, 3)) - 128 * 128) < 400 and abs(count((4, 250, 6)) - 128 * 128) < 400
    assert count((255, 0, 255)) + count((255, 150, 255)) >= 128 * 256
    assert count((7, 8, 9)) == 0  # the legend names what occurs


def test_sheet_without_a_mask():
    image = np.full((1500, 700, 3), 50, np.float32)
    picture = sheet('s', [View(image, None, np.zeros(3), np.ones(3))], ['a'], [(1, 2, 3)], side=300)
    assert picture.height < 400 and (np.asarray(picture) == 50).all(2).sum() == 300 * 140
