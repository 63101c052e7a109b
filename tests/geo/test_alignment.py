"""A mask that does not lie on its image is refused, or resampled when asked."""

import numpy as np
import pytest
import rasterio
from affine import Affine

from projects.engine.errors import UserError
from projects.geo.alignment import check_pair, resample_to
from projects.geo.raster import write_mask

GRID = Affine(30, 0, 237135, 0, -30, 1818945)
SIZE = (12, 10)  # height, width


def write(path, array, transform=GRID, crs='EPSG:32651'):
    with rasterio.open(path, 'w', driver='GTiff', dtype=array.dtype, count=1, height=array.shape[0],
                       width=array.shape[1], transform=transform, crs=crs) as dataset:
        dataset.write(array, 1)
    return path


@pytest.fixture
def image(tmp_path):
    return write(tmp_path / 'image.tif', np.ones(SIZE, np.uint16))


@pytest.fixture
def labels():
    return np.random.default_rng(0).choice([0, 1, 2, 254, 255], SIZE).astype(np.uint8)


def test_matching_pair_passes_and_resampling_changes_nothing(tmp_path, image, labels):
    mask = write(tmp_path / 'mask.tif', labels)
    check_pair(image, mask)
    for method in ('nearest', 'mode'):
        np.testing.assert_array_equal(resample_to(mask, image, method), labels)


def test_rounded_coordinates_pass(tmp_path, image, labels):
    check_pair(image, write(tmp_path / 'mask.tif', labels, GRID @ Affine.translation(1e-6, -1e-6)))


@pytest.mark.parametrize(('transform', 'crs', 'size', 'message'), [
    (Affine(30, 0, 237120, 0, -30, 1818950), 'EPSG:32651', (12, 11),
     r'x -15, y \+5 metre \(-0.5, -0.167 pixels\); size 11x12 instead of 10x12'),
    (GRID, 'EPSG:32650', SIZE, 'CRS EPSG:32650 instead of EPSG:32651'),
    (Affine(10, 0, 237135, 0, -10, 1818945), 'EPSG:32651', (36, 30), 'pixel size 10 x 10 instead of 30 x 30'),
    (GRID @ Affine.rotation(5), 'EPSG:32651', SIZE, 'turned'),
    (GRID, 'EPSG:32651', (12, 11), 'size 11x12 instead of 10x12 pixels$'),
])
def test_each_difference_is_named(tmp_path, image, transform, crs, size, message):
    mask = write(tmp_path / 'mask.tif', np.zeros(size, np.uint8), transform, crs)
    with pytest.raises(UserError, match=rf'mask.tif: does not lie on .*image.tif: .*{message}'):
        check_pair(image, mask)


def test_half_pixel_drift_across_the_image_is_found(tmp_path):
    image = write(tmp_path / 'image.tif', np.zeros((1000, 1000), np.uint8))
    mask = write(tmp_path / 'mask.tif', np.zeros((1000, 1000), np.uint8), GRID @ Affine.scale(1.0005))
    with pytest.raises(UserError, match='pixel size'):
        check_pair(image, mask)


@pytest.mark.filterwarnings('ignore::rasterio.errors.NotGeoreferencedWarning')
def test_without_georeferencing_only_sizes_count(tmp_path, image):
    write_mask(tmp_path / 'mask.png', np.zeros(SIZE, np.uint8))
    check_pair(image, tmp_path / 'mask.png')
    write_mask(tmp_path / 'small.png', np.zeros((5, 5), np.uint8))
    with pytest.raises(UserError, match='size 5x5 instead of 10x12'):
        check_pair(image, tmp_path / 'small.png')
    with pytest.raises(UserError, match='mask.png: expected a CRS'):
        resample_to(tmp_path / 'mask.png', image)


def test_resampling_moves_labels_and_fills_with_ignore(tmp_path, image, labels):
    """A mask two columns to the east: labels move by two columns, the first two are unknown; no label is altered."""
    mask = write(tmp_path / 'mask.tif', labels, GRID @ Affine.translation(2, 0))
    resampled = resample_to(mask, image)
    np.testing.assert_array_equal(resampled[:, 2:], labels[:, :-2])
    assert (resampled[:, :2] == 255).all()


def test_mode_takes_the_most_frequent_of_finer_labels(tmp_path, image):
    fine = np.full((36, 30), 3, np.uint8)
    fine[::3, ::3] = 9
    mask = write(tmp_path / 'mask.tif', fine, Affine(10, 0, 237135, 0, -10, 1818945))
    assert (resample_to(mask, image, 'mode') == 3).all()


def test_other_crs_is_reprojected(tmp_path, image):
    """Halves split along a meridian stay halves after a change of CRS."""
    from rasterio.warp import transform_bounds
    west, south, east, north = transform_bounds('EPSG:32651', 'EPSG:4326', 237135, 1818945 - 360, 237435, 1818945)
    labels = np.ones((400, 400), np.uint8)
    labels[:, 200:] = 2
    grid = Affine((east - west) / 400, 0, west, 0, (south - north) / 400, north)
    resampled = resample_to(write(tmp_path / 'mask.tif', labels, grid, 'EPSG:4326'), image)
    assert resampled.shape == SIZE
    assert (resampled[:, 1:4] == 1).all() and (resampled[:, 6:9] == 2).all()


def test_wrong_method_and_wrong_masks(tmp_path, image):
    mask = write(tmp_path / 'mask.tif', np.zeros(SIZE, np.uint8))
    with pytest.raises(UserError, match="expected one of nearest, mode, found 'cubic'"):
        resample_to(mask, image, 'cubic')
    with pytest.raises(UserError, match='expected labels 0..255'):
        resample_to(write(tmp_path / 'big.tif', np.full(SIZE, 300, np.uint16)), image)


@pytest.mark.parametrize('name', ['landcover-30m.tif', 'landcover.tif'])
def test_landsat_pair_is_refused_or_resampled(shared_data, name):
    folder = shared_data / 'landcover/geotiff/landsat_philippines'
    image, mask = folder / 'merged-landsat.tif', folder / name
    with pytest.raises(UserError, match=r'x -15, y \+5 metre'):
        check_pair(image, mask)
    resampled = resample_to(mask, image)
    assert resampled.shape == (277, 325)
    with rasterio.open(image) as target, rasterio.open(mask) as source:
        labels = source.read(1)
        for row, column in [(5, 5), (100, 200), (270, 300)]:
            x, y = target.transform @ (column + 0.5, row + 0.5)
            c, r = ~source.transform @ (x, y)
            # the true offset puts centres on pixel edges: either neighbour is the nearest
            near = labels[int(r - 1e-6):int(r + 1e-6) + 1, int(c - 1e-6):int(c + 1e-6) + 1]
            assert resampled[row, column] in near
