"""The augmentations of the land-cover pipeline: what they do to pixels, and that a seed fixes them."""

import numpy as np
import pytest

from projects.engine.errors import UserError
from projects.landcover.datasets.transforms import (
    BrightnessContrast,
    Mosaic,
    RandomFlips,
    RandomScale,
    SmartCrop,
)
from projects.landcover.datasets.transforms.mosaic import middle_half


def sample(value: int, shape: tuple[int, int] = (40, 60), bands: int = 3) -> dict:
    """A sample whose image and mask hold one value everywhere."""
    return dict(
        img=np.full((*shape, bands), value, np.uint8),
        gt_seg_map=np.full(shape, value, np.uint8),
        img_shape=shape,
        seg_fields=['gt_seg_map'],
    )


def coded(shape: tuple[int, int]) -> dict:
    """A sample in which image and mask hold the same number in a pixel, so that a shift between them shows."""
    mask = np.random.default_rng(3).integers(0, 6, shape).astype(np.uint8)
    return dict(img=np.repeat(mask[..., None], 3, 2), gt_seg_map=mask, img_shape=shape)


def agree(results: dict) -> bool:
    valid = results['gt_seg_map'] != 255
    return bool((results['img'][..., 0] == results['gt_seg_map'])[valid].all())


def test_mosaic_puts_four_samples_into_four_quadrants():
    others = iter((1, 2, 3))
    mosaic = Mosaic(prob=1)
    mosaic.bind(lambda: sample(next(others), (50, 70)))
    np.random.seed(0)
    results = mosaic(sample(0))
    mask = results['gt_seg_map']
    assert mask.shape == (40, 60) and results['img'].shape == (40, 60, 3)
    row = int(np.flatnonzero(mask[:, 0] == 2)[0])
    column = int(np.flatnonzero(mask[0] == 1)[0])
    assert 10 <= row <= 30 and 15 <= column <= 45
    assert (mask[:row, :column] == 0).all() and (mask[:row, column:] == 1).all()
    assert (mask[row:, :column] == 2).all() and (mask[row:, column:] == 3).all()
    assert agree(results)


def test_mosaic_pads_small_samples_with_ignore():
    mosaic = Mosaic(prob=1)
    mosaic.bind(lambda: sample(1, (4, 4)))
    np.random.seed(0)
    mask = mosaic(sample(0))['gt_seg_map']
    # Each of the three other parts is larger than 4x4 on both sides and keeps its 16 labelled pixels.
    assert (mask == 1).sum() == 48 and (mask == 255).any()


def test_mosaic_split_covers_the_middle_half():
    np.random.seed(0)
    splits = {middle_half(8) for _ in range(200)}
    assert splits == {2, 3, 4, 5, 6}
    assert middle_half(1) == 1


def test_mosaic_happens_as_often_as_asked():
    mosaic = Mosaic()
    drawn = []
    mosaic.bind(lambda: drawn.append(1) or sample(1))
    np.random.seed(0)
    for _ in range(400):
        mosaic(sample(0))
    assert 0.2 < len(drawn) / 3 / 400 < 0.3
    with pytest.raises(RuntimeError, match='LandCoverDataset'):
        Mosaic(prob=1)(sample(0))


def test_random_scale_resizes_both_and_draws_every_scale():
    np.random.seed(0)
    shapes = {RandomScale()(sample(4))['gt_seg_map'].shape for _ in range(60)}
    assert shapes == {(30, 45), (40, 60), (50, 75), (60, 90)}
    results = RandomScale((2.0,))(coded((10, 12)))
    assert results['img_shape'] == (20, 24) and results['scale_factor'] == (2.0, 2.0)
    # Twice the size: every label is repeated twice, without the half-pixel shift of cv2.INTER_NEAREST.
    assert (results['gt_seg_map'] == np.kron(coded((10, 12))['gt_seg_map'], np.ones((2, 2)))).all()


def test_random_scale_keeps_image_and_mask_aligned_when_shrinking():
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 33:] = 200
    results = RandomScale((0.75,))(dict(img=np.repeat(mask[..., None], 3, 2), gt_seg_map=mask))
    image_edge = np.flatnonzero(results['img'][0, :, 0] >= 100)[0]
    mask_edge = np.flatnonzero(results['gt_seg_map'][0])[0]
    assert abs(int(image_edge) - int(mask_edge)) <= 1 and results['img'].shape == (48, 48, 3)


def test_smart_crop_finds_the_mixed_part():
    results = sample(1, (300, 300))
    results['gt_seg_map'][:, 140:160] = 2  # 20 of 300 columns: a crop of 64 shows both only near them
    results['img'] = np.repeat(results['gt_seg_map'][..., None], 3, 2)
    crop = SmartCrop(64, tries=10)
    np.random.seed(0)
    mixed = []
    for _ in range(50):
        out = crop(dict(results))
        assert out['gt_seg_map'].shape == (64, 64) and out['img_shape'] == (64, 64) and agree(out)
        mixed.append(crop.is_mixed(out['gt_seg_map']))
    # One try succeeds in about a seventh of the cases: 10 tries in more than three quarters.
    assert np.mean(mixed) > 0.6
    np.random.seed(0)
    once = SmartCrop(64, tries=1)
    assert np.mean([once.is_mixed(once(dict(results))['gt_seg_map']) for _ in range(50)]) < 0.4


@pytest.mark.parametrize(
    'values, expected',
    [
        ([1] * 16, False),  # one class
        ([1] * 12 + [2] * 4, False),  # 0.75 is not below 0.75
        ([1] * 11 + [2] * 5, True),
        ([1] * 4 + [255] * 12, False),  # ignore is no class
        ([1] * 3 + [2] * 1 + [255] * 12, False),  # shares are of the valid pixels: 0.75
        ([1] * 2 + [2] * 2 + [255] * 12, True),
        ([255] * 16, False),
    ],
)
def test_smart_crop_rule(values, expected):
    assert SmartCrop(4).is_mixed(np.array(values, np.uint8).reshape(4, 4)) == expected


def test_smart_crop_gives_up_after_the_tries():
    windows = []
    crop = SmartCrop(8, tries=10)
    crop.is_mixed = lambda mask: windows.append(mask.shape) or False
    assert crop(sample(1))['gt_seg_map'].shape == (8, 8)
    assert windows == [(8, 8)] * 10


def test_smart_crop_pads_small_images():
    out = SmartCrop(64)(coded((40, 60)))
    assert out['img'].shape == (64, 64, 3)
    assert (out['gt_seg_map'][40:] == 255).all() and (out['gt_seg_map'][:, 60:] == 255).all()
    assert (out['gt_seg_map'][:40, :60] == coded((40, 60))['gt_seg_map']).all()
    assert (out['img'][40, :60] == out['img'][38, :60]).all()  # reflected about the last row


def test_flips_move_image_and_mask_together():
    original = coded((6, 9))
    both = RandomFlips(1, 1)(coded((6, 9)))
    assert (both['gt_seg_map'] == original['gt_seg_map'][::-1, ::-1]).all() and agree(both)
    horizontal = RandomFlips(1, 0)(coded((6, 9)))
    assert (horizontal['gt_seg_map'] == original['gt_seg_map'][:, ::-1]).all() and agree(horizontal)
    vertical = RandomFlips(0, 1)(coded((6, 9)))
    assert (vertical['gt_seg_map'] == original['gt_seg_map'][::-1]).all() and agree(vertical)
    none = RandomFlips(0, 0)(coded((6, 9)))
    assert [(r['flip'], r['flip_direction']) for r in (both, horizontal, vertical, none)] == [
        (True, 'diagonal'), (True, 'horizontal'), (True, 'vertical'), (False, None),
    ]
    np.random.seed(0)
    kinds = {RandomFlips()(coded((6, 9)))['gt_seg_map'].tobytes() for _ in range(40)}
    assert len(kinds) == 4


def test_brightness_contrast_uint8_equals_float():
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    change = BrightnessContrast(prob=1)
    np.random.seed(5)
    as_bytes = change(dict(img=image))['img']
    np.random.seed(5)
    as_float = change(dict(img=image.astype(np.float32)))['img']
    assert as_bytes.dtype == np.uint8 and as_float.dtype == np.float32
    np.testing.assert_allclose(as_bytes, as_float, atol=0.51)
    np.random.seed(5)
    np.random.random()
    contrast, brightness = np.random.uniform(-0.25, 0.25, 2)
    np.testing.assert_allclose(as_float, np.clip(image * (1 + contrast) + 255 * brightness, 0, 255), rtol=1e-4)


@pytest.mark.parametrize('bands', [1, 4, 13])
def test_any_number_of_bands(bands):
    mosaic = Mosaic(prob=1)
    mosaic.bind(lambda: sample(2, bands=bands))
    np.random.seed(0)
    results = sample(1, bands=bands)
    results['img'] = results['img'].astype(np.float32)
    for transform in (mosaic, RandomScale((0.75,)), SmartCrop(48), RandomFlips(1, 1), BrightnessContrast(prob=1)):
        results = transform(results)
        assert results['img'].dtype == np.float32
    assert results['img'].shape == (48, 48, bands)


@pytest.mark.parametrize(
    'make, message',
    [
        (lambda: Mosaic(prob=1.5), 'Mosaic: prob: '),
        (lambda: RandomScale((0.5, 0)), 'RandomScale: scales: '),
        (lambda: RandomScale(()), 'RandomScale: scales: '),
        (lambda: RandomScale(0.5), 'RandomScale: scales: '),
        (lambda: SmartCrop(0), 'SmartCrop: size: '),
        (lambda: SmartCrop((64, 64, 3)), 'SmartCrop: size: '),
        (lambda: SmartCrop(64.0), 'SmartCrop: size: '),
        (lambda: SmartCrop(64, tries=0), 'SmartCrop: tries: '),
        (lambda: SmartCrop(64, max_share=75), 'SmartCrop: max_share: '),
        (lambda: RandomFlips(horizontal=-0.1), 'RandomFlips: horizontal: '),
        (lambda: RandomFlips(vertical='often'), 'RandomFlips: vertical: '),
        (lambda: BrightnessContrast(limit=25), 'BrightnessContrast: limit: '),
        (lambda: BrightnessContrast(prob=float('nan')), 'BrightnessContrast: prob: '),
    ],
)
def test_arguments_out_of_range_are_named(make, message):
    with pytest.raises(UserError, match=message):
        make()
