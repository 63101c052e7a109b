"""Areas on the ellipsoid, and class polygons that add up to the raster."""

import numpy as np
import pyogrio.raw
import pytest
import rasterio
import shapely
from affine import Affine
from rasterio.crs import CRS

from projects.geo.vectors import HECTARE, equal_area, pixel_areas, write_polygons

CLASSES = ('field', 'forest', 'water')
GEOGRAPHIC = Affine(0.001, 0, 2.0, 0, -0.001, 48.0)
pytestmark = pytest.mark.filterwarnings('ignore::rasterio.errors.NotGeoreferencedWarning')


def write(path, classes, transform, crs):
    with rasterio.open(path, 'w', driver='GTiff', dtype='uint8', count=1, height=classes.shape[0],
                       width=classes.shape[1], transform=transform, crs=crs, nodata=255) as dataset:
        dataset.write(classes, 1)
    return path


def read(path):
    meta, _, geometry, (index, name, area) = pyogrio.raw.read(path)
    return meta, shapely.from_wkb(geometry), index, name, area


def test_whole_ellipsoid():
    """The surface of WGS 84 is 510,065,621.724 km^2 (NGA.STND.0036)."""
    to_plane = equal_area(CRS.from_epsg(4326))
    plane = to_plane(np.array([[-180.0, -90], [180, 90]]))
    assert np.prod(plane[1] - plane[0]) / 1e6 == pytest.approx(510065621.724, abs=0.01)


def test_geographic_pixel_against_numerical_integration():
    """Integrate M(f) N(f) cos(f), the surface element, over one pixel."""
    a, f = 6378137.0, 1 / 298.257223563
    e2 = f * (2 - f)
    areas = pixel_areas(GEOGRAPHIC, CRS.from_epsg(4326), 0, 500, 10)
    for row in (0, 250, 499):
        top = 48.0 - 0.001 * row
        latitude = np.radians(np.linspace(top, top - 0.001, 2001))
        middle = (latitude[1:] + latitude[:-1]) / 2
        w = np.sqrt(1 - e2 * np.sin(middle) ** 2)
        element = a * (1 - e2) / w**3 * a / w * np.cos(middle)
        expected = np.sum(element * -np.diff(latitude)) * np.radians(0.001)
        assert areas[row] == pytest.approx(expected, rel=1e-7)
    assert areas[-1] > areas[0]  # further south, wider


def test_web_mercator_is_corrected():
    """At 60 degrees north web Mercator's plane shows an area four times too large."""
    y = 6378137.0 * np.arcsinh(np.tan(np.radians(60)))
    area = pixel_areas(Affine(1, 0, 0, 0, -1, y), CRS.from_epsg(3857), 0, 1, 1)[0]
    assert area == pytest.approx(0.25, rel=0.01)


def test_projected_areas_in_metres_and_feet():
    assert pixel_areas(Affine(0.5, 0, 0, 0, -2, 0), CRS.from_epsg(2154), 3, 2, 9).tolist() == [1, 1]
    feet = pixel_areas(Affine(10, 0, 0, 0, -10, 0), CRS.from_epsg(2229), 0, 1, 9)[0]
    assert feet == pytest.approx(100 * (1200 / 3937) ** 2)
    rotated = Affine.rotation(30) @ Affine.scale(2, -3)
    assert pixel_areas(rotated, CRS.from_epsg(2154), 0, 1, 9)[0] == pytest.approx(6)
    assert pixel_areas(rotated, None, 0, 1, 9) is None


@pytest.mark.parametrize(('transform', 'crs'), [
    (Affine(0.5, 0, 652000, 0, -2, 6862000), 'EPSG:2154'),
    (Affine.translation(652000, 6862000) @ Affine.rotation(20) @ Affine.scale(1, -1), 'EPSG:2154'),
    (GEOGRAPHIC, 'EPSG:4326'),
    (Affine(30, 0, 237000, 0, -30, 6400000), 'EPSG:3857'),
])
def test_polygons_add_up_to_the_raster(tmp_path, transform, crs):
    rng = np.random.default_rng(0)
    classes = np.kron(rng.choice([0, 1, 2, 255], (12, 9)), np.ones((3, 5))).astype(np.uint8)
    raster = write(tmp_path / 'c.tif', classes, transform, crs)
    count = write_polygons(raster, tmp_path / 'c.gpkg', CLASSES)
    meta, polygons, index, name, area = read(tmp_path / 'c.gpkg')
    assert count == len(polygons) > 10
    assert CRS.from_user_input(meta['crs']) == CRS.from_user_input(crs)
    assert list(name) == [CLASSES[i] for i in index]
    assert shapely.is_valid(polygons).all()
    rows = pixel_areas(transform, CRS.from_user_input(crs), 0, len(classes), classes.shape[1])
    for i in range(3):
        expected = rows @ (classes == i).sum(axis=1) / HECTARE
        assert area[index == i].sum() == pytest.approx(expected, rel=1e-9)
    # outlines are exactly the pixels': burning them back gives the raster
    burned = rasterio.features.rasterize(zip(polygons, index), classes.shape, fill=255, transform=transform)
    np.testing.assert_array_equal(burned, classes)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['c.gpkg', 'c.tif']


def test_batches_and_a_layer_larger_than_one(tmp_path, monkeypatch):
    monkeypatch.setattr('projects.geo.vectors.BATCH', 7)
    classes = (np.indices((8, 7)).sum(axis=0) % 2).astype(np.uint8)  # 56 single pixels: eight full batches
    raster = write(tmp_path / 'c.tif', classes, GEOGRAPHIC, 'EPSG:4326')
    assert write_polygons(raster, tmp_path / 'c.gpkg', CLASSES) == 56
    assert len(read(tmp_path / 'c.gpkg')[1]) == 56


def test_without_crs_pixels_and_no_area(tmp_path):
    raster = write(tmp_path / 'c.tif', np.zeros((4, 6), np.uint8), Affine.identity(), None)
    assert write_polygons(raster, tmp_path / 'c.gpkg', CLASSES) == 1
    _, polygons, _, _, area = read(tmp_path / 'c.gpkg')
    assert polygons[0].area == 24 and np.isnan(area).all()


def test_nothing_but_nodata_gives_an_empty_layer_and_replaces(tmp_path):
    raster = write(tmp_path / 'c.tif', np.full((4, 6), 255, np.uint8), GEOGRAPHIC, 'EPSG:4326')
    (tmp_path / 'c.gpkg').write_text('old')
    assert write_polygons(raster, tmp_path / 'c.gpkg', CLASSES) == 0
    assert len(read(tmp_path / 'c.gpkg')[1]) == 0
