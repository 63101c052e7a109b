"""Class rasters of GeoTIFFs and pictures from a model that is a plain function."""

import csv

import numpy as np
import pyogrio.raw
import pytest
import rasterio
from affine import Affine
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp

from projects.engine.errors import UserError
from projects.geo.prediction import Outputs, find_inputs, plan_outputs, predict_files
from projects.geo.raster import read_mask

CLASSES = ('dark', 'middle', 'bright')
PALETTE = ((10, 20, 30), (100, 110, 120), (200, 0, 50))
LAMBERT = Affine(0.5, 0, 652000, 0, -0.5, 6862000)
CLASSES_ONLY = Outputs()
ALL = Outputs(probabilities=True, overlay=True, polygons=True, areas=True)
SMALL = dict(window=32, overlap=8, classes=CLASSES, palette=PALETTE)
pytestmark = pytest.mark.filterwarnings('ignore::rasterio.errors.NotGeoreferencedWarning')


def model(windows):
    """Three classes by the first channel: below 85, below 170, above."""
    first = windows[:, 0]
    scores = np.stack([first < 85, (first >= 85) & (first < 170), first >= 170], axis=1).astype(np.float32)
    return scores * 0.8 + 0.2 / 3


def truth(first, valid=None):
    classes = np.digitize(first, [85, 170]).astype(np.uint8)
    return classes if valid is None else np.where(valid, classes, 255)


def noise(height, width, channels=3, seed=0):
    blocks = np.random.default_rng(seed).integers(1, 256, (height // 4 + 1, width // 4 + 1, channels), dtype=np.uint8)
    return np.kron(blocks, np.ones((4, 4, 1), np.uint8))[:height, :width]


def write_tif(path, image, **profile):
    profile = dict(driver='GTiff', dtype=image.dtype, count=image.shape[2], height=image.shape[0],
                   width=image.shape[1], crs='EPSG:2154', transform=LAMBERT) | profile
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, 'w', **profile) as dataset:
        dataset.write(np.moveaxis(image, -1, 0))
    return path


def predict_one(source, out, outputs=CLASSES_ONLY, **options):
    [result] = predict_files(model, source, out, outputs, **(SMALL | options))
    return result


def read(path):
    with rasterio.open(path) as dataset:
        return dataset.read(1)


@pytest.mark.parametrize(('height', 'width'), [(20, 25), (32, 32), (61, 133)])
def test_georeference_colours_and_names_come_back(tmp_path, height, width):
    image = noise(height, width)
    result = predict_one(write_tif(tmp_path / 'in/a.tif', image), tmp_path / 'out', tags={'TAXONOMY': 'grey'})
    assert result.classes == tmp_path / 'out/a.tif' and result.error is None and not result.warnings
    with rasterio.open(result.classes) as dataset:
        np.testing.assert_array_equal(dataset.read(1), truth(image[..., 0]))
        assert (dataset.height, dataset.width) == (height, width)
        assert dataset.crs == 'EPSG:2154' and dataset.transform == LAMBERT
        assert dataset.dtypes == ('uint8',) and dataset.nodata == 255
        assert dataset.profile['tiled'] and dataset.profile['compress'] == 'deflate'
        colours = dataset.colormap(1)
        assert [colours[i][:3] for i in range(3)] == list(PALETTE)
        tags = dataset.tags()
        assert [tags[f'CLASS_{i}'] for i in range(3)] == list(CLASSES) and tags['TAXONOMY'] == 'grey'
        assert dataset.colorinterp[0] == ColorInterp.palette
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['a.tif']
    counts = np.bincount(truth(image[..., 0]).ravel(), minlength=3)
    assert result.pixels == tuple(counts)
    np.testing.assert_allclose(result.hectares, counts * 0.25 / 10_000)


def test_all_outputs_of_a_geotiff(tmp_path):
    image = noise(70, 90)
    image[:10, :50] = 0
    valid = image.any(axis=2)
    result = predict_one(write_tif(tmp_path / 'a.tif', image, nodata=0), tmp_path / 'out', ALL)
    expected = truth(image[..., 0], valid)
    np.testing.assert_array_equal(read(result.classes), expected)
    assert result.nodata_pixels == 500 and sum(result.pixels) == 70 * 90 - 500

    with rasterio.open(result.probabilities) as dataset:
        assert dataset.descriptions == CLASSES and dataset.transform == LAMBERT and dataset.nodata == 255
        stored = dataset.read()
        assert (stored[:, ~valid] == 255).all()
        probabilities = stored * np.array(dataset.scales)[:, None, None]
    one_hot = (expected[None] == np.arange(3)[:, None, None]) * 0.8 + 0.2 / 3
    np.testing.assert_allclose(probabilities[:, valid], one_hot[:, valid], atol=0.5 / 254 + 1e-6)

    with rasterio.open(result.overlay) as dataset:
        assert dataset.count == 4 and dataset.colorinterp[3] == ColorInterp.alpha and dataset.crs == 'EPSG:2154'
        shown = dataset.read()
    np.testing.assert_array_equal(shown[3] > 0, valid)
    mixed = 0.5 * image[valid] + 0.5 * np.array(PALETTE)[expected[valid]]
    assert np.abs(shown[:3, valid].T - mixed).max() <= 0.5

    with open(result.areas, newline='') as file:
        table = list(csv.DictReader(file))
    assert [row['class_name'] for row in table] == list(CLASSES)
    _, _, _, (index, _, area) = pyogrio.raw.read(result.polygons)
    for i, row in enumerate(table):
        hectares = (expected == i).sum() * 0.25 / 10_000
        assert int(row['pixels']) == (expected == i).sum()
        assert float(row['hectares']) == pytest.approx(hectares, abs=1e-6)
        assert area[index == i].sum() == pytest.approx(hectares, rel=1e-9)
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == [
        'a.tif', 'a_areas.csv', 'a_overlay.tif', 'a_polygons.gpkg', 'a_probabilities.tif']


def test_alpha(tmp_path):
    image = noise(40, 40, 4)
    image[..., 3] = 255
    image[5:9, :, 3] = 0
    path = write_tif(tmp_path / 'a.tif', image, photometric='rgb', alpha='yes')
    result = predict_one(path, tmp_path / 'out')
    np.testing.assert_array_equal(read(result.classes), truth(image[..., 0], image[..., 3] > 0))
    Image.fromarray(image).save(tmp_path / 'b.png')
    result = predict_one(tmp_path / 'b.png', tmp_path / 'out')
    np.testing.assert_array_equal(read_mask(result.classes), truth(image[..., 0], image[..., 3] > 0))


def test_sixteen_bits_and_five_bands(tmp_path):
    image = noise(40, 50, 5).astype(np.uint16) * 16
    path = write_tif(tmp_path / 'a.tif', image)
    with pytest.raises(UserError, match='a.tif: expected 8-bit values, found uint16'):
        predict_one(path, tmp_path / 'out')
    assert list((tmp_path / 'out').glob('*')) == []
    result = predict_one(path, tmp_path / 'out', Outputs(overlay=True), bands=(4, 5, 1), value_range=(0, 4080))
    np.testing.assert_array_equal(read(result.classes), truth(image[..., 3] / 16))
    with rasterio.open(result.overlay) as dataset:
        expected = 0.5 * image[..., 4] / 16 + 0.5 * np.array(PALETTE)[truth(image[..., 3] / 16)][..., 1]
        assert np.abs(dataset.read(2) - expected).max() <= 0.51


@pytest.mark.parametrize('transform', [
    Affine(0.5, 0, 652000, 0, -2, 6862000),  # pixels four times as high as wide
    Affine.translation(652000, 6862000) @ Affine.rotation(33) @ Affine.scale(0.7, -0.7),
    Affine(1, 0, 652000, 0, 1, 6862000),  # south up
])
def test_any_affine_grid_is_kept(tmp_path, transform):
    path = write_tif(tmp_path / 'a.tif', noise(50, 40), transform=transform)
    result = predict_one(path, tmp_path / 'out', ALL)
    for raster in (result.classes, result.probabilities, result.overlay):
        with rasterio.open(raster) as dataset:
            assert dataset.transform.almost_equals(transform, 1e-9) and dataset.shape == (50, 40)
    assert sum(result.hectares) == pytest.approx(2000 * abs(transform.determinant) / 10_000)


def test_without_crs_is_a_warning(tmp_path):
    path = write_tif(tmp_path / 'a.tif', noise(40, 40), crs=None, transform=Affine.identity())
    result = predict_one(path, tmp_path / 'out', ALL)
    assert len(result.warnings) == 1 and 'a.tif: no CRS' in result.warnings[0]
    assert result.hectares is None
    assert ',\n' in result.areas.read_text()  # pixels, but no hectares
    with rasterio.open(result.classes) as dataset:
        assert dataset.crs is None and dataset.shape == (40, 40)


def test_ground_control_points_are_kept(tmp_path):
    points = [GroundControlPoint(r, c, 2 + c / 100, 48 - r / 100) for r, c in [(0, 0), (0, 40), (40, 0), (40, 40)]]
    path = write_tif(tmp_path / 'a.tif', noise(40, 40), crs=None, transform=Affine.identity())
    with rasterio.open(path, 'r+') as dataset:
        dataset.gcps = (points, rasterio.crs.CRS.from_epsg(4326))
    result = predict_one(path, tmp_path / 'out')
    assert 'ground control points' in result.warnings[0]
    with rasterio.open(result.classes) as dataset:
        found, crs = dataset.gcps
        assert crs.to_epsg() == 4326
        assert [(p.row, p.col, p.x, p.y) for p in found] == [(p.row, p.col, p.x, p.y) for p in points]


def test_overviews_show_the_most_frequent_class(tmp_path):
    image = np.full((700, 600, 3), 40, np.uint8)
    image[::7, ::7] = 200  # a nearest overview would show some of these
    image[:512, :256] = 0
    path = write_tif(tmp_path / 'a.tif', image, nodata=0)
    result = predict_one(path, tmp_path / 'out', Outputs(probabilities=True), window=256, overlap=32)
    with rasterio.open(result.classes) as dataset:
        assert dataset.overviews(1) == [2, 4]
        small = dataset.read(1, out_shape=(175, 150))
        assert set(np.unique(small)) == {0, 255}
        assert (small[:127, :63] == 255).all() and (small[130:] == 0).all()
    with rasterio.open(result.probabilities) as dataset:
        assert dataset.overviews(3) == [2, 4]


def test_all_nodata(tmp_path):
    path = write_tif(tmp_path / 'a.tif', np.zeros((40, 40, 3), np.uint8), nodata=0)
    [result] = predict_files(None, path, tmp_path / 'out', ALL, **SMALL)  # the model is never called
    assert 'holds no valid pixel' in result.warnings[0]
    assert (read(result.classes) == 255).all()
    assert result.pixels == (0, 0, 0)


@pytest.mark.parametrize('suffix', ['png', 'jpg'])
def test_picture_gives_a_palette_png(tmp_path, suffix):
    image = np.kron(np.array([[20, 130], [130, 240]], np.uint8), np.ones((20, 24), np.uint8))[..., None].repeat(3, 2)
    Image.fromarray(image).save(tmp_path / f'a.{suffix}', quality=100)
    result = predict_one(tmp_path / f'a.{suffix}', tmp_path / 'out', ALL)
    assert result.classes.name == 'a.png' and result.overlay.name == 'a_overlay.png'
    picture = Image.open(result.classes)
    assert picture.mode == 'P' and picture.size == (48, 40)
    assert picture.getpalette()[:9] == [value for colour in PALETTE for value in colour]
    np.testing.assert_array_equal(read_mask(result.classes), truth(image[..., 0]))
    assert result.hectares is None and sum(result.pixels) == 48 * 40
    mixed = 0.5 * image + 0.5 * np.array(PALETTE)[truth(image[..., 0])]
    assert np.abs(np.asarray(Image.open(result.overlay)) - mixed).max() <= 3


def test_one_bad_image_in_a_folder_is_named_and_the_others_finish(tmp_path):
    folder = tmp_path / 'in'
    folder.mkdir()
    for name in ('a', 'b', 'c'):
        Image.fromarray(noise(40, 40)).save(folder / f'{name}.png')
    whole = (folder / 'b.png').read_bytes()
    (folder / 'b.png').write_bytes(whole[:len(whole) // 2])
    (folder / 'notes.txt').write_text('not an image')
    results = list(predict_files(model, folder, tmp_path / 'out', **SMALL))
    assert [result.source.name for result in results] == ['a.png', 'b.png', 'c.png']
    assert results[0].error is None and results[2].error is None
    assert 'b.png: damaged' in results[1].error and results[1].classes is None
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['a.png', 'c.png']
    with pytest.raises(UserError, match='b.png: damaged'):
        predict_one(folder / 'b.png', tmp_path / 'out')


def test_truncated_geotiff_leaves_nothing_behind(tmp_path):
    path = write_tif(tmp_path / 'a.tif', np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:60_000])
    with pytest.raises(UserError, match='a.tif: damaged or truncated'):
        predict_one(path, tmp_path / 'out', ALL)
    assert list((tmp_path / 'out').iterdir()) == []


def test_existing_outputs_and_inputs_are_safe(tmp_path):
    path = write_tif(tmp_path / 'in/a.tif', noise(40, 40))
    before = path.read_bytes()
    with pytest.raises(UserError, match='a.tif: is an input'):
        predict_one(path, tmp_path / 'in', overwrite=True)
    assert path.read_bytes() == before
    predict_one(path, tmp_path / 'out')
    with pytest.raises(UserError, match='out/a.tif: exists already'):
        predict_one(path, tmp_path / 'out')
    assert predict_one(path, tmp_path / 'out', overwrite=True).error is None


def test_parts_of_a_vrt_are_inputs_too(tmp_path):
    path = write_tif(tmp_path / 'a.tif', noise(40, 40))
    before = path.read_bytes()
    (tmp_path / 'links').mkdir()
    from rasterio.shutil import copy
    copy(path, tmp_path / 'links/a.vrt', driver='VRT')
    with pytest.raises(UserError, match='a.tif: is a part of the input'):
        predict_one(tmp_path / 'links/a.vrt', tmp_path, overwrite=True)
    assert path.read_bytes() == before


def test_names_that_collide_are_refused(tmp_path):
    for name in ('a.png', 'a.jpg', 'b.png', 'b_overlay.png'):
        Image.fromarray(noise(8, 8)).save(tmp_path / name)
    with pytest.raises(UserError, match='both .*a.jpg and .*a.png'):
        plan_outputs([tmp_path / 'a.jpg', tmp_path / 'a.png'], tmp_path / 'out')
    with pytest.raises(UserError, match='b_overlay.png: would be written for both'):
        plan_outputs([tmp_path / 'b.png', tmp_path / 'b_overlay.png'], tmp_path / 'out', Outputs(overlay=True))


def test_find_inputs(tmp_path):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'text.txt').write_text('')
    with pytest.raises(UserError, match='empty: expected images'):
        find_inputs(tmp_path / 'empty')
    with pytest.raises(UserError, match='none.tif: no such file'):
        find_inputs(tmp_path / 'none.tif')
    with pytest.raises(UserError, match='text.txt: expected an image'):
        find_inputs(tmp_path / 'text.txt')
    with pytest.raises(UserError, match='no input'):
        find_inputs([])


def test_a_failing_model_leaves_nothing_behind(tmp_path):
    path = write_tif(tmp_path / 'a.tif', noise(70, 40))

    def broken(windows):
        raise RuntimeError('out of memory')

    with pytest.raises(RuntimeError, match='out of memory'):
        list(predict_files(broken, path, tmp_path / 'out', ALL, **SMALL))
    assert list((tmp_path / 'out').iterdir()) == []


def test_landsat_nodata_and_sen12ms(shared_data, tmp_path):
    folder = shared_data / 'landcover/geotiff'
    source = folder / 'landsat_philippines/merged-landsat.tif'
    result = predict_one(source, tmp_path, ALL, bands=(3, 2, 1), value_range=(5000, 20000))
    with rasterio.open(source) as image, rasterio.open(result.classes) as classes:
        assert (image.crs, image.transform, image.shape) == (classes.crs, classes.transform, classes.shape)
        valid = (image.read([3, 2, 1]) != 0).any(axis=0)
        np.testing.assert_array_equal(classes.read(1) != 255, valid)
    assert sum(result.hectares) == pytest.approx(valid.sum() * 900 / 10_000)
    result = predict_one(folder / 'sen12ms/ROIs2017_winter_s2_27_p36.tif', tmp_path, bands=(4, 3, 2),
                         value_range=(0, 4000))
    with rasterio.open(folder / 'sen12ms/ROIs2017_winter_s2_27_p36.tif') as image:
        np.testing.assert_array_equal(read(result.classes), truth(np.clip(image.read(4) / 4000 * 255, 0, 255)))
