"""Layouts on disk and the data set that reads them."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from projects.engine.errors import UserError
from projects.landcover.data.layouts import list_samples
from projects.landcover.datasets import LandCoverDataset
from projects.landcover.taxonomy import get_taxonomy

META_KEYS = ('sample_id', 'img_path', 'seg_map_path', 'ori_shape', 'img_shape')
LOAD = [dict(type='LoadRasterImage'), dict(type='LoadIndexMask')]
TRAIN = [
    *LOAD,
    dict(type='Mosaic', prob=0.5),
    dict(type='RandomScale'),
    dict(type='SmartCrop', size=32),
    dict(type='RandomFlips'),
    dict(type='BrightnessContrast', prob=0.5),
    dict(type='PackSegInputs', meta_keys=META_KEYS),
]


def write_image(path: Path, seed: int = 0, size: int = 40) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(values).save(path)


def write_mask(path: Path, values: int | np.ndarray, size: int = 40) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.broadcast_to(np.asarray(values, np.uint8), (size, size)).copy()).save(path)


def folder(root: Path, count: int = 4) -> Path:
    for index in range(count):
        write_image(root / 'images' / f'a{index}.png', index)
        write_mask(root / 'masks' / f'a{index}.png', np.arange(40) % 6)
    return root


def test_openearthmap_layout(tmp_path):
    for region, number in (('aachen', 1), ('aachen', 2), ('san_jose', 1)):
        write_image(tmp_path / region / 'images' / f'{region}_{number}.tif')
        write_mask(tmp_path / region / 'labels' / f'{region}_{number}.tif', number)
    (tmp_path / 'train.txt').write_text('aachen_1.tif\n')
    (tmp_path / 'val.txt').write_text('aachen_2.tif\n')
    (tmp_path / 'test.txt').write_text('san_jose_1.tif\n')
    samples = list_samples(tmp_path, 'openearthmap').samples
    assert [(s.id, s.group, s.split) for s in samples] == [
        ('aachen_1', 'aachen', 'train'),
        ('aachen_2', 'aachen', 'val'),
        ('san_jose_1', 'san_jose', 'test'),
    ]
    dataset = LandCoverDataset(tmp_path, 'val', LOAD, 'openearthmap', remap='by_confusion')
    assert len(dataset) == 1
    # bareland (1) would be 5 by name; rangeland (2) is Grassland in both maps
    assert np.unique(dataset[0]['gt_seg_map']).tolist() == [2]
    native = LandCoverDataset(tmp_path, 'train', LOAD, 'openearthmap', taxonomy='openearthmap')
    assert np.unique(native[0]['gt_seg_map']).tolist() == [1]
    with pytest.raises(UserError, match='choose one of'):
        LandCoverDataset(tmp_path, 'val', LOAD, 'openearthmap')


def test_openearthmap_names_listed_files_that_are_missing(tmp_path):
    write_image(tmp_path / 'aachen/images/aachen_1.tif')
    write_mask(tmp_path / 'aachen/labels/aachen_1.tif', 1)
    (tmp_path / 'train.txt').write_text('aachen_1.tif\naachen_7.tif\n')
    problems = list_samples(tmp_path, 'openearthmap').problems
    assert problems == [f'{tmp_path}/aachen/images/aachen_7.tif: listed in train.txt but missing']


def test_a_missing_tile_does_not_hide_behind_another(tmp_path):
    write_image(tmp_path / 'aachen/images/aachen_12.tif')  # without a label: the problem names aachen_12
    (tmp_path / 'train.txt').write_text('aachen_1.tif\naachen_12.tif\n')
    assert list_samples(tmp_path, 'openearthmap').problems == [
        f'{tmp_path}/aachen/images/aachen_12.tif: image without a mask in {tmp_path}/aachen/labels',
        f'{tmp_path}/aachen/images/aachen_1.tif: listed in train.txt but missing',
    ]


def test_loveda_layout(tmp_path):
    write_image(tmp_path / 'Train/Urban/images_png/1366.png')
    write_mask(tmp_path / 'Train/Urban/masks_png/1366.png', np.arange(40) % 8)
    write_image(tmp_path / 'Val/Rural/images_png/2.png')
    write_mask(tmp_path / 'Val/Rural/masks_png/2.png', 7)
    write_image(tmp_path / 'Test/Rural/images_png/9.png')
    samples = list_samples(tmp_path, 'loveda').samples
    assert [(s.id, s.group, s.split) for s in samples] == [
        ('test-rural-9', 'rural', 'test'),
        ('train-urban-1366', 'urban', 'train'),
        ('val-rural-2', 'rural', 'val'),
    ]
    dataset = LandCoverDataset(tmp_path, 'train', LOAD, 'loveda', taxonomy='loveda')
    assert dataset[0]['gt_seg_map'][0, :9].tolist() == [255, 0, 1, 2, 3, 4, 5, 6, 255]
    unlabelled = LandCoverDataset(tmp_path, 'test', LOAD, 'loveda', taxonomy='loveda', test_mode=True)
    assert 'gt_seg_map' not in unlabelled[0] and unlabelled[0]['img'].shape == (40, 40, 3)
    with pytest.raises(UserError, match='no mask'):
        LandCoverDataset(tmp_path, 'test', LOAD, 'loveda', taxonomy='loveda')


@pytest.mark.parametrize('images, masks', [('images', 'masks'), ('img', 'ann'), ('image', 'label')])
def test_folder_layout_and_group_regex(tmp_path, images, masks):
    write_image(tmp_path / images / 'ec09_a-1.jpg')
    write_mask(tmp_path / masks / 'ec09_a-1.png', 3)
    (sample,) = list_samples(tmp_path, 'folder', group_regex='^([0-9a-f]+)_').samples
    assert (sample.id, sample.group, sample.split) == ('ec09_a-1', 'ec09', None)
    with pytest.raises(UserError, match='does not match'):
        list_samples(tmp_path, 'folder', group_regex='^([A-Z]+)_')
    with pytest.raises(UserError, match='group regex'):
        list_samples(tmp_path, 'folder', group_regex='(')


def test_folder_with_splits(tmp_path):
    for split in ('train', 'val'):
        folder(tmp_path / split, 2)
    assert [s.id for s in list_samples(tmp_path, 'folder', 'val').samples] == ['val-a0', 'val-a1']
    with pytest.raises(UserError, match=r"no split 'test': the data set has the splits \['train', 'val'\]"):
        list_samples(tmp_path, 'folder', 'test')


def test_geotiff_with_many_bands(tmp_path):
    (tmp_path / 'images').mkdir()
    values = np.arange(5 * 40 * 40, dtype=np.uint16).reshape(5, 40, 40)
    with rasterio.open(
        tmp_path / 'images/a.tif', 'w', driver='GTiff', width=40, height=40, count=5, dtype='uint16'
    ) as file:
        file.write(values)
    write_mask(tmp_path / 'masks/a.png', 0)
    pipeline = [dict(type='LoadRasterImage', bands=(5, 4, 1, 2), value_range=(0, 8000)), dict(type='LoadIndexMask')]
    image = LandCoverDataset(tmp_path, 'all', pipeline, 'folder')[0]['img']
    assert image.shape == (40, 40, 4) and image.dtype == np.float32
    np.testing.assert_allclose(image[3, 7], values[[4, 3, 0, 1], 3, 7] / 8000 * 255, rtol=1e-4)


def test_bad_folders(tmp_path):
    with pytest.raises(UserError, match='no such folder'):
        list_samples(tmp_path / 'nowhere', 'folder')
    with pytest.raises(UserError, match='expected a folder of images'):
        list_samples(tmp_path, 'folder')
    (tmp_path / 'images').mkdir()
    (tmp_path / 'masks').mkdir()
    with pytest.raises(UserError, match='no images found'):
        list_samples(tmp_path, 'folder')
    with pytest.raises(UserError, match="did you mean 'openearthmap'"):
        list_samples(tmp_path, 'openearthmaps')


def test_widowed_files_are_named(tmp_path):
    folder(tmp_path, 2)
    write_image(tmp_path / 'images/b.png')
    write_mask(tmp_path / 'masks/c.png', 0)
    problems = list_samples(tmp_path, 'folder').problems
    assert problems == [
        f'{tmp_path}/images/b.png: image without a mask in {tmp_path}/masks',
        f'{tmp_path}/masks/c.png: mask without an image in {tmp_path}/images',
    ]
    with pytest.raises(UserError, match=r'2 files do not fit: .*b\.png.*c\.png'):
        LandCoverDataset(tmp_path, 'all', LOAD, 'folder')


def test_images_that_are_not_read_are_named(tmp_path):
    folder(tmp_path, 1)
    for name in ('images/b.bmp', 'masks/more/c.png'):
        write_image(tmp_path / name)
    (tmp_path / 'images/a0.pgw').write_text('')
    (tmp_path / 'images/notes').mkdir()
    problems = list_samples(tmp_path, 'folder').problems
    assert problems == [
        f'{tmp_path}/images/b.bmp: .bmp is not read, expected one of .png, .jpg, .jpeg, .tif, .tiff',
        f'{tmp_path}/masks/more: a folder among the files: the images in it are not read',
    ]


def write_tif(path: Path, values: np.ndarray, left: float = 700000, **profile) -> None:
    """Write (bands, H, W) with pixels of 1 m."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = values.shape
    place = dict(crs='EPSG:2154', transform=rasterio.transform.from_origin(left, 6600000, 1, 1))
    with rasterio.open(
        path, 'w', driver='GTiff', width=width, height=height, count=count, dtype=values.dtype, **place, **profile
    ) as file:
        file.write(values)


def pixels(bands: int = 3, dtype: str = 'uint8') -> np.ndarray:
    return np.random.default_rng(0).integers(1, 255, (bands, 40, 40)).astype(dtype)


def load(root: Path, **options) -> np.ndarray:
    return LandCoverDataset(root, 'all', LOAD, 'folder', **options)[0]['gt_seg_map']


def test_misaligned_geotiffs_of_equal_size_are_refused(tmp_path):
    write_tif(tmp_path / 'images/a.tif', pixels())
    write_tif(tmp_path / 'masks/a.tif', np.ones((1, 40, 40), np.uint8), left=700015)
    with pytest.raises(UserError, match=r'masks/a.tif: does not lie on .*images/a.tif: .*off by x \+15'):
        load(tmp_path)


def test_nodata_of_image_and_mask_is_ignored(tmp_path):
    image, mask = pixels(), np.ones((1, 40, 40), np.int16)
    image[:, :5] = 0
    image[0, 20] = 0  # one band of three: data
    mask[..., :3] = -9999
    write_tif(tmp_path / 'images/a.tif', image, nodata=0)
    write_tif(tmp_path / 'masks/a.tif', mask, nodata=-9999)
    expected = np.ones((40, 40), np.uint8)
    expected[:5] = expected[:, :3] = 255
    assert (load(tmp_path) == expected).all()


@pytest.mark.parametrize('dtype, nodata', [('float32', np.nan), ('uint16', 65535), ('int8', -1), ('uint8', 99)])
def test_nodata_of_masks_of_any_type(tmp_path, dtype, nodata):
    write_image(tmp_path / 'images/a.png')
    mask = np.ones((1, 40, 40), dtype)
    mask[0, 0] = nodata
    write_tif(tmp_path / 'masks/a.tif', mask, nodata=nodata)
    assert (load(tmp_path)[0] == 255).all() and (load(tmp_path)[1:] == 1).all()
    mask[0, 3, 3] = 120
    write_tif(tmp_path / 'masks/a.tif', mask, nodata=nodata)
    with pytest.raises(UserError, match=r'a\.tif: labels outside .*found 120 \(1 px\)'):
        load(tmp_path)


def test_nodata_value_that_is_a_class_stays_one(tmp_path):
    write_image(tmp_path / 'images/a.png')
    write_tif(tmp_path / 'masks/a.tif', np.zeros((1, 40, 40), np.uint8), nodata=0)
    assert (load(tmp_path) == 0).all()


def test_alpha_of_zero_is_ignored_and_infrared_is_no_alpha(tmp_path):
    image = np.moveaxis(pixels(4), 0, -1).copy()
    image[..., 3] = 255
    image[:7, :, 3] = 0
    (tmp_path / 'images').mkdir()
    Image.fromarray(image, 'RGBA').save(tmp_path / 'images/a.png')
    write_mask(tmp_path / 'masks/a.png', 2)
    assert (load(tmp_path)[:7] == 255).all() and (load(tmp_path)[7:] == 2).all()
    (tmp_path / 'images/a.png').unlink()
    infrared = pixels(4)
    infrared[3, :7] = 0
    write_tif(tmp_path / 'images/a.tif', infrared, photometric='RGB', alpha='yes')
    assert (load(tmp_path) == 2).all()


def test_ordinary_pictures_are_not_opened_for_nodata(tmp_path, monkeypatch):
    def refuse(path):
        raise AssertionError(path)

    monkeypatch.setattr('projects.landcover.data.labels.open_raster', refuse)
    assert load(folder(tmp_path, 1)).max() == 5


def test_mask_band(tmp_path):
    write_image(tmp_path / 'images/a.png')
    write_tif(tmp_path / 'masks/a.tif', np.stack([np.full((40, 40), value, np.uint16) for value in (9, 8, 3, 1)]))
    assert (load(tmp_path, mask_band=3) == 3).all()
    with pytest.raises(UserError, match='found 4 bands: say which one holds the labels: --mask-band'):
        load(tmp_path)
    with pytest.raises(UserError, match=r'a\.tif: mask band 5: the file has 4'):
        load(tmp_path, mask_band=5)
    with pytest.raises(UserError, match='mask band: expected a number from 1 on, found 0'):
        load(tmp_path, mask_band=0)


def test_label_outside_the_taxonomy_names_the_file(tmp_path):
    folder(tmp_path, 1)
    write_mask(tmp_path / 'masks/a0.png', 9)
    with pytest.raises(UserError, match=r'a0\.png: labels outside taxonomy .landcover6.: found 9 \(1600 px\)'):
        LandCoverDataset(tmp_path, 'all', LOAD, 'folder')[0]


def test_mask_of_another_size(tmp_path):
    folder(tmp_path, 1)
    write_mask(tmp_path / 'masks/a0.png', 1, size=30)
    with pytest.raises(UserError, match='mask of 30x30 px for an image of 40x40 px'):
        LandCoverDataset(tmp_path, 'all', LOAD, 'folder')[0]


def test_data_info_and_metainfo(tmp_path):
    dataset = LandCoverDataset(folder(tmp_path), 'all', LOAD, 'folder')
    info = dataset.get_data_info(2)
    assert info['sample_id'] == 'a2' and info['group'] == 'a2'
    assert Path(info['img_path']) == tmp_path / 'images/a2.png'
    assert Path(info['seg_map_path']) == tmp_path / 'masks/a2.png'
    expected = get_taxonomy('landcover6').metainfo
    assert {key: dataset.metainfo[key] for key in expected} == expected


def test_pipeline_is_fixed_by_the_seed_and_varies(tmp_path):
    dataset = LandCoverDataset(folder(tmp_path), 'all', TRAIN, 'folder')

    def run(seed: int) -> list[bytes]:
        np.random.seed(seed)
        packed = [dataset[index % 4] for index in range(12)]
        assert all(tuple(p['inputs'].shape) == (3, 32, 32) for p in packed)
        assert all(p['data_samples'].metainfo['sample_id'] == f'a{i % 4}' for i, p in enumerate(packed))
        return [p['inputs'].numpy().tobytes() + p['data_samples'].gt_sem_seg.data.numpy().tobytes() for p in packed]

    assert run(1) == run(1)
    assert run(1) != run(2)
    assert len(set(run(1))) == 12


def test_mosaic_draws_from_the_same_data_set(tmp_path):
    for index in range(4):
        write_image(tmp_path / f'images/a{index}.png', index)
        write_mask(tmp_path / f'masks/a{index}.png', index)
    dataset = LandCoverDataset(tmp_path, 'all', [*LOAD, dict(type='Mosaic', prob=1)], 'folder')
    np.random.seed(0)
    seen = [np.unique(dataset[0]['gt_seg_map']).tolist() for _ in range(30)]
    assert all(labels[0] == 0 for labels in seen)  # the sample itself is always there
    assert {label for labels in seen for label in labels} == {0, 1, 2, 3}
    again = pickle.loads(pickle.dumps(dataset))  # as a worker that is spawned gets it
    np.random.seed(0)
    assert np.unique(again[0]['gt_seg_map']).tolist() == seen[0]
    subset = dataset.get_subset([1])
    assert np.unique(subset[0]['gt_seg_map']).tolist() == [1]


def test_real_loveda_tiles(shared_data):
    dataset = LandCoverDataset(
        shared_data / 'landcover/loveda', 'all', LOAD, 'folder', taxonomy='loveda', source_taxonomy='loveda'
    )
    counts = sum(np.bincount(dataset[i]['gt_seg_map'].ravel(), minlength=256) for i in range(3))
    assert counts.sum() == 3 * 1024**2 and counts[7:255].sum() == 0
    shares = counts[:7] / counts[:7].sum()
    np.testing.assert_allclose(shares[[0, 5, 6]], [0.12, 0.30, 0.475], atol=0.01)


def test_real_chesapeake_patches(shared_data):
    dataset = LandCoverDataset(
        shared_data / 'landcover/chesapeake', 'all', LOAD, 'folder', taxonomy='chesapeake', group_regex='_(ne|sw)_'
    )
    assert len(dataset) == 16 and {dataset.get_data_info(i)['group'] for i in range(16)} == {'ne', 'sw'}
    labels = set().union(*(np.unique(dataset[i]['gt_seg_map']).tolist() for i in range(16)))
    assert labels == {1, 2, 4, 5}
