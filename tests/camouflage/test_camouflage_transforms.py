"""Photographs and masks as the network gets them: whole, upright, in RGB; labels 0 and 1, in their own size."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from PIL import ExifTags, Image

from projects.camouflage.datasets import CamouflageDataset
from projects.camouflage.datasets.masks import binarise, read_levels, settle_values
from projects.camouflage.datasets.pictures import read_photograph
from projects.camouflage.datasets.transforms import LoadCamouflageMask, LoadPhotograph, RandomRotation, ResizeImage
from projects.engine import startup
from projects.engine.errors import UserError
from projects.multiscale.ensemble import EnsembleTTA


@pytest.fixture(scope='module', autouse=True)
def started() -> None:
    startup.start()


def colours(height: int = 24, width: int = 40) -> np.ndarray:
    """A picture whose red, green and blue differ, and no two of whose sides are alike."""
    y, x = np.mgrid[:height, :width]
    return np.stack([10 + 5 * x, 200 - 4 * y, 3 * x + 2 * y], axis=2).astype(np.uint8)


def saved(path: Path, array: np.ndarray, mode: str | None = None, turn: int | None = None, **keys) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(array)
    picture = picture.convert(mode) if mode else picture
    if turn:
        exif = picture.getexif()
        exif[ExifTags.Base.Orientation] = turn
        keys['exif'] = exif
    picture.save(path, **keys)
    return path


def halves(low: int, high: int, dtype: type = np.uint8, shape: tuple[int, int] = (24, 40)) -> np.ndarray:
    array = np.full(shape, low, dtype)
    array[:, shape[1] // 2:] = high
    return array


def test_a_photograph_is_rgb(tmp_path):
    path = saved(tmp_path / 'a.png', colours())
    results = LoadPhotograph()(dict(img_path=str(path)))
    np.testing.assert_array_equal(results['img'], colours())
    assert results['ori_shape'] == results['img_shape'] == (24, 40)
    jpeg = read_photograph(saved(tmp_path / 'a.jpg', colours(), quality=95)).astype(int)
    assert np.abs(jpeg - colours()).mean() < 4


@pytest.mark.parametrize('mode', ['L', 'LA', 'RGBA', 'P', '1', 'CMYK'])
def test_whatever_it_is_stored_as_it_has_three_channels(tmp_path, mode):
    suffix = '.tif' if mode == 'CMYK' else '.png'
    image = read_photograph(saved(tmp_path / f'a{suffix}', colours(), mode))
    assert image.shape == (24, 40, 3) and image.dtype == np.uint8 and image.flags.writeable
    expected = Image.fromarray(colours()).convert(mode).convert('RGB')
    np.testing.assert_array_equal(image, np.asarray(expected))


def test_16_bits_become_8(tmp_path):
    deep = np.arange(24 * 40, dtype=np.uint16).reshape(24, 40) * 68
    image = read_photograph(saved(tmp_path / 'a.png', deep))
    np.testing.assert_array_equal(image, np.repeat(np.round(deep / 257).astype(np.uint8)[..., None], 3, 2))
    with pytest.raises(UserError, match='expected values of 8 or 16 bits, found floating-point'):
        read_photograph(saved(tmp_path / 'a.tif', np.ones((4, 4), np.float32)))


def test_exif_turns_an_image_as_its_mask_was_drawn(tmp_path):
    stored = saved(tmp_path / 'a.png', colours(), turn=6)  # a viewer shows it turned by 90 degrees, clockwise
    upright = np.rot90(colours(), -1)
    drawn_upright = saved(tmp_path / 'upright.png', halves(0, 255, shape=(40, 24)))
    drawn_as_stored = saved(tmp_path / 'stored.png', halves(0, 255, shape=(24, 40)))
    np.testing.assert_array_equal(read_photograph(stored), upright)
    np.testing.assert_array_equal(read_photograph(stored, drawn_upright), upright)
    np.testing.assert_array_equal(read_photograph(stored, drawn_as_stored), colours())
    for mask, shape in ((drawn_upright, (40, 24)), (drawn_as_stored, (24, 40))):
        results = LoadPhotograph()(dict(img_path=str(stored), seg_map_path=str(mask)))
        assert LoadCamouflageMask()(results)['gt_seg_map'].shape == results['ori_shape'] == shape
    deep = np.arange(24 * 40, dtype=np.uint16).reshape(24, 40) * 257 % 60000
    turned = read_photograph(saved(tmp_path / 'deep.png', deep, turn=6))
    np.testing.assert_array_equal(turned[..., 0], np.rot90(np.round(deep / 257), -1))


@pytest.mark.parametrize(('name', 'keys'), [
    ('a.jpg', {}), ('b.jpg', dict(progressive=True)), ('a.png', {}), ('a.webp', {}), ('a.bmp', {})])
@pytest.mark.parametrize('share', [0.02, 0.5, 0.95])
def test_a_truncated_file_is_no_half_picture(tmp_path, name, keys, share):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    path = saved(tmp_path / name, noise, **keys)
    content = path.read_bytes()
    path.write_bytes(content[:int(len(content) * share)])
    with pytest.raises(UserError, match=rf'{name}: expected a whole image, found one that is damaged or truncated'):
        read_photograph(path)


def test_what_is_no_image_is_named(tmp_path):
    (tmp_path / 'a.jpg').write_bytes(b'')
    (tmp_path / 'a.png').write_text('text')
    for name in ('a.jpg', 'a.png'):
        for read in (read_photograph, read_levels):
            with pytest.raises(UserError, match=f'{name}: expected a whole image') as error:
                read(tmp_path / name)
            assert '\n' not in str(error.value)
    with pytest.raises(UserError, match='away.png: no such file'):
        read_levels(tmp_path / 'away.png')


def labels(path: Path, values: str | None, shape: tuple[int, int] | None = None) -> np.ndarray:
    results = dict(img_path='image.jpg', seg_map_path=str(path), mask_values=values, seg_fields=[])
    if shape:
        results['ori_shape'] = shape
    results = LoadCamouflageMask()(results)
    assert results['seg_fields'] == ['gt_seg_map']
    return results['gt_seg_map']


def test_labels_are_0_and_1(tmp_path):
    expected = halves(0, 1)
    np.testing.assert_array_equal(labels(saved(tmp_path / 'a.png', halves(0, 255)), '0/255'), expected)
    np.testing.assert_array_equal(labels(saved(tmp_path / 'b.png', halves(0, 1)), '0/1'), expected)
    edges = halves(3, 250)
    edges[0, :4] = 127, 128, 129, 255
    found = labels(saved(tmp_path / 'c.png', edges), '0/255')
    assert found[0, :4].tolist() == [0, 0, 1, 1] and found.dtype == np.uint8
    np.testing.assert_array_equal(found[1:], expected[1:])
    assert not labels(saved(tmp_path / 'd.png', halves(0, 0)), '0/255').any()
    assert not labels(saved(tmp_path / 'd.png', halves(0, 0)), '0/1').any()
    assert labels(saved(tmp_path / 'e.png', halves(255, 255)), '0/255').all()
    assert labels(saved(tmp_path / 'f.png', halves(1, 1)), '0/1').all()
    for values, levels in ((None, (0, 255)), (None, (0, 1))):  # without a data set each is judged alone
        np.testing.assert_array_equal(labels(saved(tmp_path / 'g.png', halves(*levels)), values), expected)


@pytest.mark.parametrize('mode', ['1', 'L', 'LA', 'RGB', 'RGBA', 'P'])
def test_masks_with_equal_channels_are_reduced(tmp_path, mode):
    path = saved(tmp_path / 'a.png', halves(0, 255), mode)
    np.testing.assert_array_equal(read_levels(path), halves(0, 255))


def test_other_ways_to_store_a_mask(tmp_path):
    indices = Image.fromarray(halves(0, 1)).convert('P')
    indices.putdata(halves(0, 1).ravel().tolist())
    indices.putpalette([0, 0, 0, 128, 0, 0])
    indices.save(tmp_path / 'voc.png')
    np.testing.assert_array_equal(read_levels(tmp_path / 'voc.png'), halves(0, 1))
    deep = saved(tmp_path / 'deep.png', halves(0, 65535, np.uint16))
    np.testing.assert_array_equal(read_levels(deep), halves(0, 255))
    blue = np.zeros((24, 40, 3), np.uint8)
    blue[:, 20:, 2] = 255
    with pytest.raises(UserError, match=r'blue.png: expected a mask in grey .*found colour \(0, 0, 255\) at \(20, 0\)'):
        read_levels(saved(tmp_path / 'blue.png', blue))
    seen = np.dstack([np.repeat(halves(0, 255)[..., None], 3, 2), halves(0, 255)])
    with pytest.raises(UserError, match='expected a mask without transparency, found an alpha channel of 0 to 255'):
        read_levels(saved(tmp_path / 'alpha.png', seen))


@pytest.mark.parametrize(('levels', 'values', 'message'), [
    ((255, 255), '0/1', 'expected a mask of 0 and 1, .*found 255 everywhere'),
    ((0, 255), '0/1', 'expected a mask of 0 and 1, .*found values 0, 255'),
    ((1, 1), '0/255', r'expected a mask of 0 and 255 \(foreground above 128\), .*found 1 everywhere'),
    ((0, 1), '0/255', 'expected a mask of 0 and 255 .*found values 0, 1'),
    ((0, 38), '0/255', 'expected a mask of 0 and 255 .*found values 0, 38'),
])
def test_a_mask_of_the_other_kind_is_refused(tmp_path, levels, values, message):
    path = saved(tmp_path / 'odd.png', halves(*levels))
    with pytest.raises(UserError, match=f'odd.png: {message}'):
        labels(path, values)
    with pytest.raises(UserError, match=message):
        binarise(halves(*levels), values, path)


@pytest.mark.parametrize(('others', 'odd'), [((0, 1), 255), ((0, 255), 1)])
def test_the_data_set_settles_what_its_masks_hold(tmp_path, others, odd):
    """All 255 in a 0/1 data set, and the reverse."""
    for index in range(9):
        saved(tmp_path / f'images/{index}.png', colours())
        saved(tmp_path / f'masks/{index}.png', halves(*others))
    saved(tmp_path / 'masks/0.png', halves(odd, odd))  # the first that is looked at
    dataset = CamouflageDataset(str(tmp_path), pipeline=[dict(type='LoadPhotograph'), dict(type='LoadCamouflageMask')])
    np.testing.assert_array_equal(dataset[4]['gt_seg_map'], halves(0, 1))
    with pytest.raises(UserError, match=rf'masks/0.png: expected a mask of 0 and {others[1]}.*found {odd} everywhere'):
        dataset[0]
    saved(tmp_path / 'masks/1.png', halves(0, 254 if odd == 255 else 1))  # one that tells the contrary is outvoted
    assert CamouflageDataset(str(tmp_path)).get_data_info(1)['mask_values'] == f'0/{others[1]}'


def test_masks_that_do_not_tell(tmp_path):
    paths = [saved(tmp_path / f'{index}.png', halves(level, level)) for index, level in enumerate((0, 1, 255))]
    assert settle_values(paths) == '0/255' and settle_values(paths[:2]) == '0/1' and settle_values(paths[:1]) == '0/255'
    tie = [saved(tmp_path / 'x.png', halves(0, 1)), saved(tmp_path / 'y.png', halves(0, 255))]
    with pytest.raises(UserError, match='here: expected masks of one kind, found 1 of 0/255 and as many of 0/1'):
        settle_values(tie, place='here')


def test_a_mask_of_another_size_is_refused(tmp_path):
    path = saved(tmp_path / 'a.png', halves(0, 255))
    with pytest.raises(UserError, match='a.png: expected a mask of 41x24 px, as its image image.jpg, found 40x24 px'):
        labels(path, '0/255', (24, 41))


def disc(height: int, width: int, x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return ((rows - y) ** 2 + (columns - x) ** 2 < radius ** 2).astype(np.uint8)


def centre(weights: np.ndarray) -> tuple[float, float]:
    rows, columns = np.mgrid[:weights.shape[0], :weights.shape[1]]
    return float((rows * weights).sum() / weights.sum()), float((columns * weights).sum() / weights.sum())


@pytest.mark.parametrize('size', [(60, 90), (300, 500), (64, 64), (150, 50)])
def test_resizing_moves_image_and_mask_alike(size):
    mask = disc(150, 200, 70.3, 80.7, 30)
    results = ResizeImage(size)(dict(img=np.repeat(mask[..., None] * np.uint8(255), 3, 2), gt_seg_map=mask.copy(),
                                     ori_shape=(150, 200)))
    assert results['img'].shape == (*size, 3) and results['img_shape'] == size and results['ori_shape'] == (150, 200)
    assert results['scale_factor'] == (size[1] / 200, size[0] / 150)
    assert set(np.unique(results['gt_seg_map'])) == {0, 1}
    # Pixel centres lie at halves: (p + 0.5) * scale - 0.5.
    expected = [(p + 0.5) * s - 0.5 for p, s in zip(centre(mask), (size[0] / 150, size[1] / 200))]
    np.testing.assert_allclose(centre(results['img'][..., 0].astype(float)), expected, atol=0.05)
    np.testing.assert_allclose(centre(results['gt_seg_map'].astype(float)), expected, atol=0.15)


def test_shrinking_averages():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    assert (ResizeImage((16, 16))(dict(img=stripes))['img'] == 100).all()  # bilinear would show 0, 200 or a moiré
    for wrong in ((0, 4), 4, (4,), (4.0, 4), 'ab'):
        with pytest.raises(UserError, match='ResizeImage: size: expected'):
            ResizeImage(wrong)


def test_turning_moves_image_and_mask_alike():
    mask = disc(101, 151, 75, 30, 12)
    angles = set()
    for seed in range(20):
        np.random.seed(seed)
        results = RandomRotation(limit=90, prob=1)(dict(img=np.repeat(mask[..., None] * np.uint8(255), 3, 2),
                                                        gt_seg_map=mask.copy()))
        turned = results['gt_seg_map']
        assert turned.shape == (101, 151) and set(np.unique(turned)) == {0, 1}
        assert np.abs((results['img'][..., 0] > 127).astype(int) - turned).sum() == 0
        row, column = centre(turned.astype(float))
        assert np.hypot(row - 50, column - 75) == pytest.approx(20, abs=0.2)  # as far from the middle as before
        angles.add(round(float(np.degrees(np.arctan2(column - 75, 50 - row)))))
    assert min(angles) < -45 and max(angles) > 45 and all(abs(angle) <= 90 for angle in angles)


def test_turning_continues_the_border_and_happens_as_often_as_asked():
    np.random.seed(3)
    even = dict(img=np.full((30, 60, 3), 77, np.uint8), gt_seg_map=np.ones((30, 60), np.uint8))
    results = RandomRotation(prob=1)(even)
    assert (results['img'] == 77).all() and (results['gt_seg_map'] == 1).all()
    image = colours(11, 17)
    same = sum(RandomRotation(prob=0.5)(dict(img=image))['img'] is image for _ in range(400))
    assert 150 < same < 250
    for wrong in (dict(prob=1.5), dict(limit=-1), dict(limit='90')):
        with pytest.raises(UserError, match='RandomRotation: '):
            RandomRotation(**wrong)


def test_predictions_come_back_in_the_masks_own_size(tmp_path):
    """The test pipeline of the base config, and mmseg's post-processing on its samples."""
    shapes = [(50, 80), (97, 41)]
    for index, shape in enumerate(shapes):
        saved(tmp_path / f'images/{index}.jpg', colours(*shape))
        saved(tmp_path / f'masks/{index}.png', halves(0, 255, shape=shape))
    keys = ('sample_id', 'dataset', 'kind', 'img_path', 'seg_map_path', 'ori_shape', 'img_shape')
    dataset = CamouflageDataset(str(tmp_path), pipeline=[
        dict(type='LoadPhotograph'), dict(type='ResizeImage', size=(64, 64)), dict(type='LoadCamouflageMask'),
        dict(type='PackSegInputs', meta_keys=keys)])
    model = MODELS.build(ConfigDict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', mean=[0, 0, 0], std=[1, 1, 1], bgr_to_rgb=False,
                               size=(64, 64), test_cfg=dict(size_divisor=32)),
        backbone=dict(type='MobileNetV2', widen_factor=0.25, out_indices=(0, 1), norm_cfg=dict(type='BN')),
        decode_head=dict(type='FCNHead', in_channels=8, channels=8, num_convs=0, concat_input=False, num_classes=2,
                         out_channels=1, threshold=0.5, in_index=0,
                         loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True)),
        train_cfg=dict(), test_cfg=dict(mode='whole'))).eval()
    tta = EnsembleTTA(model, scales=(1.0,), flips=('none', 'horizontal'))
    for index, shape in enumerate(shapes):
        packed = dataset[index]
        sample = packed['data_samples']
        assert packed['inputs'].shape == (3, 64, 64) and sample.img_shape == (64, 64)
        assert sample.sample_id == f'{tmp_path.name}/{index}' and sample.dataset == tmp_path.name
        assert sample.kind is None and sample.seg_map_path.endswith(f'masks/{index}.png')
        assert isinstance(sample.gt_sem_seg, PixelData) and sample.gt_sem_seg.data.dtype == torch.int64
        np.testing.assert_array_equal(sample.gt_sem_seg.data[0].numpy(), halves(0, 1, shape=shape))
        with torch.no_grad():
            alone = model.test_step(dict(inputs=[packed['inputs']], data_samples=[sample.clone()]))[0]
            both = tta.test_step(dict(inputs=[packed['inputs']], data_samples=[sample.clone()]))[0]
        assert alone.seg_logits.data.shape == alone.pred_sem_seg.data.shape == (1, *shape)
        shown = alone.seg_logits.data  # mmseg's quirk for one channel: probabilities already
        torch.testing.assert_close(shown, shown.clamp(0, 1))
        assert both.seg_probs.data.shape == (2, *shape)
        torch.testing.assert_close(both.seg_probs.data.sum(0), torch.ones(shape))
