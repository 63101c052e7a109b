"""Where pixels lie: world files, lengths, areas, and tolerances that were meant in degrees."""

import re
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from PIL import Image
from rasterio.crs import CRS

from projects.engine.errors import UserError
from projects.geo.sources import open_source
from projects.roofline.geometry.place import Place, place_of, read_crs, read_projection, read_world_file, snap_pixels

LAMBERT = Place(Affine(0.2, 0, 700_000, 0, -0.2, 6_600_000), CRS.from_epsg(2154))
DEGREES = Place(Affine(2e-6, 0, 3, 0, -2e-6, 46.5), CRS.from_epsg(4326))
UTM = CRS.from_epsg(25832).to_wkt()
DAMAGED = UTM.replace('UNIT["metre",1', 'UNIT["metre",0')  # is read, and cannot be written
LINE = np.array([[[0.0, 0.0], [300.0, 400.0]]])


def picture(folder: Path, name: str = 'a.png', **files: str) -> Path:
    Image.fromarray(np.zeros((8, 12, 3), np.uint8)).save(folder / name)
    for suffix, text in files.items():
        (folder / 'a').with_suffix(f'.{suffix}').write_text(text)
    return folder / name


@pytest.mark.parametrize(('name', 'suffix'), [('a.png', 'pgw'), ('a.jpg', 'jgw'), ('a.jpeg', 'jgw'), ('a.png', 'wld'),
                                              ('a.png', 'pngw'), ('a.png', 'PGW')])
def test_world_files_name_the_middle_of_the_first_pixel(tmp_path: Path, name: str, suffix: str):
    path = picture(tmp_path, name, **{suffix: '0.5\n0.0\n0.0\n-0.5\n1000.25\n1999.75\n'})
    assert read_world_file(path) == Affine(0.5, 0, 1000, 0, -0.5, 2000)
    with open_source(path, [1, 2, 3], None) as source:
        place = place_of(source, CRS.from_epsg(2154))
    np.testing.assert_allclose(place.ground(np.array([[0, 0], [12, 8]])), [[1000, 2000], [1006, 1996]])
    assert place.crs == CRS.from_epsg(2154) and place.pixel_size() == 0.5


def test_a_projection_file_gives_the_crs(tmp_path: Path):
    path = picture(tmp_path, pgw='1 0 0 -1 0 0', prj=CRS.from_epsg(25832).to_wkt())
    with open_source(path, [1, 2, 3], None) as source:
        assert place_of(source).crs == CRS.from_epsg(25832)
        with pytest.raises(UserError, match='--crs: expected EPSG:25832'):
            place_of(source, CRS.from_epsg(2154))


@pytest.mark.parametrize('text', ['1 0 0 -1 0', 'north up', '0 0 0 0 5 5', 'nan 0 0 -1 0 0'])
def test_damaged_world_files(tmp_path: Path, text: str):
    with pytest.raises(UserError, match=r'a\.pgw: expected'):
        read_world_file(picture(tmp_path, pgw=text))


@pytest.mark.parametrize('text', ['', 'north up', 'EPSG:x', 'EPSG:999999', '[1]', '{"proj": 5}', UTM[:200], DAMAGED,
                                  '\x00\x01', UTM.encode('utf-16').decode('latin-1')])
def test_damaged_projection_files(tmp_path: Path, text: str):
    path = picture(tmp_path, prj=text)
    with pytest.raises(UserError, match=r'a\.prj: expected a CRS in WKT, found other text$'):
        read_projection(path)
    with pytest.raises(UserError, match='--crs: expected a CRS like EPSG:2154, found '):
        read_crs(text)


def test_a_projection_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = picture(tmp_path, prj=UTM)
    assert read_projection(path) == CRS.from_epsg(25832)

    def refused(*_, **__):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(Path, 'read_text', refused)
    with pytest.raises(UserError, match=r'a\.prj: expected a CRS in WKT, found Permission denied$'):
        read_projection(path)


def raster(folder: Path, crs: str, transform: str = '0, 0.5, 0, 8, 0, -0.5') -> Path:
    """Write an image that names any text as its CRS and geotransform (in GDAL's order)."""
    band = '<VRTRasterBand dataType="Byte" band="{}"/>'
    (folder / 'a.vrt').write_text(
        f'<VRTDataset rasterXSize="12" rasterYSize="8"><SRS>{crs.replace(chr(34), "&quot;")}</SRS>'
        f'<GeoTransform>{transform}</GeoTransform>{"".join(map(band.format, (1, 2, 3)))}</VRTDataset>')
    return folder / 'a.vrt'


@pytest.mark.parametrize(('transform', 'found'), [
    ('500000, 0, 0, 5300000, 0, -0.5', '0 0 500000 0 -0.5 5.3e+06'),
    ('500000, 0.5, 0, nan, 0, -0.5', '0.5 0 500000 0 -0.5 nan')])
def test_damaged_geotransforms(tmp_path: Path, transform: str, found: str):
    with open_source(raster(tmp_path, UTM, transform), [1, 2, 3], None) as source, \
            pytest.raises(UserError, match=rf'a\.vrt: geotransform: .* invertible .* found {re.escape(found)}$'):
        place_of(source)


@pytest.mark.parametrize('crs', [
    'LOCAL_CS["site",UNIT["metre",1]]', 'VERT_CS["x",VERT_DATUM["y",2005],UNIT["m",1]]', 'EPSG:4978',
    re.sub(r'PROJECTION\["[^"]*"\]', 'PROJECTION["Unknown"]', UTM), UTM.replace('_factor",0.9996', '_factor",0')])
def test_planes_that_do_not_lead_to_degrees(tmp_path: Path, crs: str):
    with open_source(raster(tmp_path, crs), [1, 2, 3], None) as source:
        place = place_of(source)
    assert place.crs is not None and place.degrees(LINE[0]) is None
    np.testing.assert_allclose(place.lengths(LINE), [250.0 if place.crs.is_projected else np.nan])


def test_a_picture_without_anything_has_no_place(tmp_path: Path):
    with open_source(picture(tmp_path), [1, 2, 3], None) as source:
        place = place_of(source)
    assert place.transform is None and place.crs is None and place.degrees(LINE[0]) is None
    assert np.isnan(place.lengths(LINE)).all() and (place.ground(LINE[0]) == LINE[0]).all()


def test_lengths_and_areas():
    assert LAMBERT.lengths(LINE)[0] == pytest.approx(100.0)
    feet = Place(Affine(1, 0, 0, 0, -1, 0), CRS.from_epsg(2263))  # US survey feet
    assert feet.lengths(LINE)[0] == pytest.approx(500 * 1200 / 3937)
    north = Place(Affine(1e-5, 0, 3, 0, -1e-5, 60), CRS.from_epsg(4326))
    east_west = north.lengths(np.array([[[0.0, 0.0], [100.0, 0.0]]]))[0]
    assert east_west == pytest.approx(55.80, abs=0.01)  # 0.001 degree at 60 degrees: 111.412 cos - ... of WGS 84
    mercator = Place(Affine(1, 0, 0, 0, -1, 8_399_737.9), CRS.from_epsg(3857))  # 60 degrees north: scale 2
    assert mercator.lengths(np.array([[[0.0, 0.0], [100.0, 0.0]]]))[0] == pytest.approx(50.125, abs=0.02)
    square = [np.array([[0, 0], [10, 0], [10, 10], [0, 10]], float), np.array([[2, 2], [4, 2], [4, 4], [2, 4]], float)]
    assert LAMBERT.areas([square])[0] == pytest.approx(96 * 0.04)


@pytest.mark.parametrize(('text', 'place', 'pixels'), [
    ('3px', LAMBERT, 3.0), ('0.5m', LAMBERT, 2.5), ('0.5', LAMBERT, 2.5), ('3', Place(), 3.0), ('3 px', DEGREES, 3.0)])
def test_tolerances(text: str, place: Place, pixels: float):
    assert snap_pixels(text, place, 'a.tif') == pytest.approx(pixels)


@pytest.mark.parametrize(('text', 'place', 'message'), [
    ('1e-5', LAMBERT, 'looks like degrees'), ('0.00001m', LAMBERT, 'looks like degrees'),
    ('1e-5', DEGREES, 'degrees'), ('0.5m', DEGREES, r'expected pixels \(3px\)'), ('0.5', DEGREES, 'EPSG:4326'),
    ('1e-5', Place(), 'looks like degrees'), ('1e-5px', LAMBERT, 'looks like degrees'),
    ('0.5m', Place(), 'no metres'), ('0', LAMBERT, 'more than 0'), ('-1px', LAMBERT, 'more than 0'),
    ('nan', LAMBERT, 'expected pixels'), ('three', LAMBERT, 'expected pixels'), ('100m', LAMBERT, 'at most 100 px')])
def test_tolerances_in_degrees_and_other_nonsense(text: str, place: Place, message: str):
    with pytest.raises(UserError, match=message) as caught:
        snap_pixels(text, place, 'a.tif')
    assert '\n' not in str(caught.value) and '--snap' in str(caught.value)


def test_a_crs_that_is_none():
    assert read_crs('EPSG:2154').to_epsg() == 2154
    with pytest.raises(UserError, match='--crs'):
        read_crs('metres')
