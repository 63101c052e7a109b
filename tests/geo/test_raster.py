"""Reading of images and masks: values, bands, validity, damaged files."""

import cv2
import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from projects.engine.errors import UserError
from projects.geo.raster import read_image, read_mask, read_valid_mask, write_mask

pytestmark = pytest.mark.filterwarnings('ignore::rasterio.errors.NotGeoreferencedWarning')
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)


def write_tif(path, array, **profile):
    array = np.atleast_3d(array)
    profile = dict(driver='GTiff', dtype=array.dtype, count=array.shape[2], height=array.shape[0],
                   width=array.shape[1]) | profile
    with rasterio.open(path, 'w', **profile) as dataset:
        dataset.write(np.moveaxis(array, -1, 0))
    return path


def test_png_and_tif_are_rgb_and_exact(tmp_path):
    Image.fromarray(RGB).save(tmp_path / 'a.png')
    write_tif(tmp_path / 'a.tif', RGB)
    for name in ('a.png', 'a.tif'):
        image = read_image(tmp_path / name)
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, RGB)


def test_jpeg_is_rgb_not_bgr(tmp_path):
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 250
    Image.fromarray(red).save(tmp_path / 'a.jpg', quality=95)
    assert np.abs(read_image(tmp_path / 'a.jpg').astype(int) - red).max() <= 3


def test_bands_are_picked_in_order_and_may_repeat(tmp_path):
    five = RNG.integers(0, 256, (8, 9, 5), dtype=np.uint8)
    path = write_tif(tmp_path / 'a.tif', five)
    np.testing.assert_array_equal(read_image(path, bands=(5, 1, 1)), five[..., [4, 0, 0]])


def test_missing_band_names_the_file(tmp_path):
    path = write_tif(tmp_path / 'grey.tif', RGB[..., :1])
    with pytest.raises(UserError, match=r'grey.tif: expected bands \(1, 2, 3\), found 1 band '):
        read_image(path)
    with pytest.raises(UserError, match='1-based'):
        read_image(path, bands=(0,))


def test_sixteen_bit_needs_a_range_and_is_mapped_linearly(tmp_path):
    values = np.array([[0, 100, 600, 1100, 60000]], np.uint16)
    path = write_tif(tmp_path / 'a.tif', values)
    with pytest.raises(UserError, match='a.tif: expected 8-bit values, found uint16: set `value_range'):
        read_image(path, bands=(1,))
    image = read_image(path, bands=(1,), value_range=(100, 1100))
    assert image.dtype == np.float32
    np.testing.assert_allclose(image[0, :, 0], [0, 0, 127.5, 255, 255], atol=1e-4)


def test_sixteen_bit_png_keeps_its_bits_and_channel_order(tmp_path):
    values = RNG.integers(0, 65536, (6, 7, 3)).astype(np.uint16)
    cv2.imwrite(str(tmp_path / 'a.png'), values[..., ::-1])
    image = read_image(tmp_path / 'a.png', value_range=(0, 65535))
    np.testing.assert_allclose(image, values / 65535 * 255, atol=1e-3)


@pytest.mark.parametrize('value_range', [(5, 5), (9, 1), (0, np.inf), (1,), 3, ('a', 'b')])
def test_wrong_range_is_refused(tmp_path, value_range):
    Image.fromarray(RGB).save(tmp_path / 'a.png')
    with pytest.raises(UserError, match='value_range'):
        read_image(tmp_path / 'a.png', value_range=value_range)


def test_palette_png_is_colours_as_image_and_indices_as_mask(tmp_path):
    mask = np.array([[0, 1], [2, 255]], np.uint8)
    write_mask(tmp_path / 'm.png', mask, palette=[(1, 2, 3), (40, 50, 60), (7, 8, 9)])
    np.testing.assert_array_equal(read_mask(tmp_path / 'm.png'), mask)
    np.testing.assert_array_equal(read_image(tmp_path / 'm.png')[0], [[1, 2, 3], [40, 50, 60]])


@pytest.mark.parametrize('suffix', ['png', 'jpg', 'webp', 'bmp', 'tif'])
def test_truncated_file_is_named(tmp_path, suffix):
    whole = tmp_path / f'whole.{suffix}'
    noise = RNG.integers(0, 256, (200, 200, 3), dtype=np.uint8)
    if suffix == 'tif':
        write_tif(whole, noise, compress='deflate')
    else:
        Image.fromarray(noise).save(whole)
    data = whole.read_bytes()
    cut = tmp_path / f'cut.{suffix}'
    for share in (0.1, 0.5, 0.95):
        cut.write_bytes(data[:int(len(data) * share)])
        with pytest.raises(UserError, match=f'cut.{suffix}: (damaged|not a readable)'):
            read_image(cut)


@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')  # rasterio's logging of the same
def test_a_damaged_file_whose_bytes_gdal_quotes_is_named(tmp_path):
    (tmp_path / 'a.vrt').write_bytes(b'<VRTDataset rasterXSize="1" rasterYSize="1"><VRTRasterBand dataType="\x98" '
                                     b'band="1"/></VRTDataset>')  # GDAL's message is no UTF-8 then
    with pytest.raises(UserError, match='a.vrt: not a readable raster'):
        read_image(tmp_path / 'a.vrt')


def test_damaged_middle_of_a_png_is_found(tmp_path):
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / 'a.png')
    data = bytearray((tmp_path / 'a.png').read_bytes())
    data[len(data) // 2] ^= 0xFF
    (tmp_path / 'a.png').write_bytes(data)
    with pytest.raises(UserError, match='a.png: damaged'):
        read_image(tmp_path / 'a.png')


@pytest.mark.parametrize('name', ['none.png', 'none.tif'])
def test_missing_file(tmp_path, name):
    with pytest.raises(UserError, match=f'{name}: no such file'):
        read_image(tmp_path / name)


def test_text_is_no_image(tmp_path):
    for name in ('a.png', 'a.tif'):
        (tmp_path / name).write_text('hello')
        with pytest.raises(UserError, match=name):
            read_image(tmp_path / name)


def test_valid_mask_nodata_needs_all_bands(tmp_path):
    image = np.full((2, 2, 3), 7, np.uint8)
    image[0, 0] = 0
    image[0, 1, 1] = 0  # black in one band only is data
    path = write_tif(tmp_path / 'a.tif', image, nodata=0)
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(read_valid_mask(dataset), [[False, True], [True, True]])
        np.testing.assert_array_equal(read_valid_mask(dataset, Window(1, 0, 1, 2), bands=(2,)), [[False], [True]])


def test_valid_mask_alpha_unless_it_is_asked_for_as_data(tmp_path):
    image = np.full((1, 3, 4), 9, np.uint8)
    image[0, :, 3] = [0, 1, 255]
    path = write_tif(tmp_path / 'a.tif', image, photometric='rgb', alpha='yes')
    with rasterio.open(path) as dataset:
        assert dataset.colorinterp[3] == ColorInterp.alpha
        np.testing.assert_array_equal(read_valid_mask(dataset), [[False, True, True]])
        np.testing.assert_array_equal(read_valid_mask(dataset, bands=(4, 1, 2)), [[True, True, True]])


def test_valid_mask_not_a_number_and_file_mask(tmp_path):
    image = np.ones((1, 3, 2), np.float32)
    image[0, 1, 0] = np.nan
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        path = write_tif(tmp_path / 'a.tif', image)
        with rasterio.open(path, 'r+') as dataset:
            dataset.write_mask(np.array([[255, 255, 0]], np.uint8))
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(read_valid_mask(dataset, bands=(1, 2)), [[True, False, False]])
    assert read_image(path, bands=(1,), value_range=(0, 2))[0, 1, 0] == 0


@pytest.mark.parametrize('depth', [1, 2, 4, 8])
def test_grey_mask_of_few_bits_keeps_its_indices(tmp_path, depth):
    mask = RNG.integers(0, 2**min(depth, 7), (5, 9)).astype(np.uint8)
    rows = b''
    for row in mask:  # Pillow cannot write grey of 2 or 4 bits, so the file is put together here
        bits = ''.join(f'{value:0{depth}b}' for value in row)
        bits += '0' * (-len(bits) % 8)
        rows += b'\0' + int(bits, 2).to_bytes(len(bits) // 8)
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    (tmp_path / 'm.png').write_bytes(
        b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 9, 5, depth, 0, 0, 0, 0))
        + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b''))
    np.testing.assert_array_equal(read_mask(tmp_path / 'm.png'), mask)


def test_coloured_mask_needs_its_palette(tmp_path):
    palette = [(255, 0, 0), (0, 255, 0), (1, 2, 3)]
    indices = RNG.integers(0, 3, (7, 8))
    colours = np.array(palette, np.uint8)[indices]
    Image.fromarray(colours).save(tmp_path / 'm.png')
    write_tif(tmp_path / 'm.tif', colours)
    for name in ('m.png', 'm.tif'):
        with pytest.raises(UserError, match=f'{name}: expected .*palette'):
            read_mask(tmp_path / name)
        np.testing.assert_array_equal(read_mask(tmp_path / name, palette=palette), indices)
        with pytest.raises(UserError, match=rf'{name}: .*\(1, 2, 3\) among {(indices == 2).sum()} pixels'):
            read_mask(tmp_path / name, palette=palette[:2])


def test_mask_values_must_fit(tmp_path):
    ok = write_tif(tmp_path / 'ok.tif', np.array([[0, 255]], np.int32))
    np.testing.assert_array_equal(read_mask(ok), [[0, 255]])
    for name, values in (('big', np.array([[0, 300]], np.uint16)), ('low', np.array([[-1, 3]], np.int16)),
                         ('part', np.array([[0.5, np.nan]], np.float32))):
        with pytest.raises(UserError, match=f'{name}.tif: expected class indices 0..255'):
            read_mask(write_tif(tmp_path / f'{name}.tif', values))


def test_jpeg_mask_is_refused(tmp_path):
    Image.fromarray(RGB[..., 0]).save(tmp_path / 'm.jpg')
    with pytest.raises(UserError, match='m.jpg: expected a lossless mask'):
        read_mask(tmp_path / 'm.jpg')


def test_band_of_a_mask_of_several_bands(tmp_path):
    path = write_tif(tmp_path / 'm.tif', RGB)
    np.testing.assert_array_equal(read_mask(path, band=2), RGB[..., 1])


def test_sen12ms(shared_data):
    folder = shared_data / 'landcover/geotiff/sen12ms'
    path = folder / 'ROIs1970_fall_s2_4_p30.tif'
    image = read_image(path, bands=(4, 3, 2), value_range=(0, 4000))
    with rasterio.open(path) as dataset:
        raw = dataset.read([4, 3, 2]).astype(np.float64)
    np.testing.assert_allclose(image, np.clip(raw / 4000, 0, 1).transpose(1, 2, 0) * 255, atol=1e-3)
    with pytest.raises(UserError, match='4 bands: name the band'):
        read_mask(folder / 'ROIs1970_fall_lc_4_p30.tif')
    assert read_mask(folder / 'ROIs1970_fall_lc_4_p30.tif', band=1).shape == (256, 256)
