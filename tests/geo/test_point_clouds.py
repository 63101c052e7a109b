"""Reading point clouds: values, crops, channel masks, and what damaged files say."""

import struct
from pathlib import Path

import laspy
import lazrs
import numpy as np
import pytest

from projects.engine.errors import UserError
from projects.geo.las_layout import _plane_epsg, read_layout
from projects.geo.point_clouds import copy_with, iter_points, read_header, read_points, write_points

COUNT = 1000
ORIGIN = np.array([770_500.0, 6_277_500.0, 20.0])


def cloud(count: int = COUNT, seed: int = 0) -> np.ndarray:
    """Places on the grid of 1 cm within 50 x 50 x 20 m."""
    steps = np.random.default_rng(seed).integers(0, (5000, 5000, 2000), (count, 3))
    return np.round(ORIGIN + steps * 0.01, 2)


def colours(count: int = COUNT, high: int = 65536) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {name: rng.integers(0, high, count).astype(np.uint16) for name in ('red', 'green', 'blue')}


@pytest.mark.parametrize('suffix', ['.las', '.laz'])
@pytest.mark.parametrize('point_format', [0, 1, 2, 3, 6, 7, 8])
def test_what_is_written_is_read(tmp_path: Path, suffix: str, point_format: int) -> None:
    path = tmp_path / f'tile{suffix}'
    xyz = cloud()
    fields = {'intensity': np.arange(COUNT, dtype=np.uint16), 'return_number': np.arange(COUNT) % 4 + 1,
              'number_of_returns': np.full(COUNT, 4), 'classification': np.arange(COUNT) % 7,
              'lod3': (np.arange(COUNT) % 30).astype(np.uint8)}
    if point_format in (2, 3, 7, 8):
        fields |= colours()
    if point_format == 8:
        fields['nir'] = np.arange(COUNT, dtype=np.uint16) * 60
    write_points(path, xyz, fields, point_format=point_format)

    header = read_header(path)
    assert (header.count, header.point_format, header.extra) == (COUNT, point_format, ('lod3',))
    assert header.version == ('1.2' if point_format < 6 else '1.4')
    assert header.bounds == pytest.approx((*xyz.min(0), *xyz.max(0)), abs=1e-9)
    assert (header.has_colour, header.has_nir) == ('red' in fields, 'nir' in fields)
    points = read_points(path)
    np.testing.assert_allclose(points.xyz, xyz, rtol=0, atol=1e-8)
    for name, value in fields.items():
        np.testing.assert_array_equal(points.fields[name], value, err_msg=name)
    assert (points.has_colour, points.has_nir) == (header.has_colour, header.has_nir)


def test_chosen_dimensions_are_those_of_all(tmp_path: Path) -> None:
    """Formats from 6 on decompress only the layers that are asked for."""
    path = tmp_path / 'tile.laz'
    rank = np.arange(COUNT)
    write_points(path, cloud(), {**colours(), 'classification': rank % 7, 'gps_time': rank / 8.0, 'intensity': rank,
                                 'part': rank.astype(np.int32)})
    everything = read_points(path).fields
    for name in ('classification', 'red', 'intensity', 'part', 'gps_time', 'return_number'):
        chosen = read_points(path, [name])
        assert list(chosen.fields) == [name]
        np.testing.assert_array_equal(chosen.fields[name], everything[name])
        assert chosen.has_colour == (name == 'red')
    assert read_points(path, []).fields == {}
    with pytest.raises(UserError, match=r'tile\.laz: expected the dimension lod9, found intensity'):
        read_points(path, ['lod9'])


def test_crop_is_half_open(tmp_path: Path) -> None:
    path = tmp_path / 'tile.laz'
    xyz = ORIGIN + np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0], [1, 1, 0], [1, 2, 0.0]])
    write_points(path, xyz, {'intensity': np.arange(5)})
    x, y = ORIGIN[:2]
    assert read_points(path, bounds=(x, y, x + 2, y + 2)).fields['intensity'].tolist() == [0, 1, 3]
    assert len(read_points(path, bounds=(0, 0, 1, 1))) == 0


def test_chunks_are_the_whole(tmp_path: Path) -> None:
    path = tmp_path / 'tile.laz'
    dark_first = np.sort(colours()['red'])  # the first chunk alone looks like 8 bits
    write_points(path, cloud(), {'red': dark_first})
    chunks = list(iter_points(path, ['red', 'intensity'], chunk=3))
    assert [len(chunk) for chunk in chunks] == [3] * 333 + [1]
    np.testing.assert_array_equal(np.concatenate([chunk.fields['red'] for chunk in chunks]), dark_first)
    np.testing.assert_allclose(np.concatenate([chunk.xyz for chunk in chunks]), cloud(), rtol=0, atol=1e-8)


def test_colours_of_8_bits_are_scaled(tmp_path: Path) -> None:
    path = tmp_path / 'tile.laz'
    small = colours(high=256)
    write_points(path, cloud(), {**small, 'nir': np.full(COUNT, 300)})
    points = read_points(path)
    np.testing.assert_array_equal(points.fields['red'], small['red'] * 257)
    assert points.fields['nir'].max() == 300
    assert next(iter_points(path, ['green'], 10)).fields['green'].tolist() == (small['green'][:10] * 257).tolist()


def test_channels_that_are_all_zero_are_missing(tmp_path: Path) -> None:
    path = tmp_path / 'tile.laz'
    write_points(path, cloud(), {'intensity': np.arange(COUNT)}, point_format=8)
    header, points = read_header(path), read_points(path, ['intensity', 'red', 'green', 'blue', 'nir'])
    assert (header.has_colour, header.has_nir, points.has_colour, points.has_nir) == (True, True, False, False)
    assert list(points.fields) == ['intensity']
    assert [chunk.has_colour for chunk in iter_points(path, ['red'], 600)] == [False, False]


def test_infrared_in_an_extra_dimension(tmp_path: Path) -> None:
    path = tmp_path / 'tile.laz'
    infrared = np.arange(COUNT, dtype=np.uint16) * 9
    write_points(path, cloud(), {'Infrared': infrared}, point_format=8)
    points = read_points(path, ['nir'])
    assert points.has_nir
    assert list(points.fields) == ['nir']
    np.testing.assert_array_equal(points.fields['nir'], infrared)
    assert set(read_points(path).fields) >= {'nir', 'Infrared'}


@pytest.mark.parametrize('point_format', [3, 8])
@pytest.mark.parametrize('share', [0.97, 0.5, 0.1])
def test_a_cut_laz_file_says_how_much_is_there(tmp_path: Path, point_format: int, share: float) -> None:
    path, cut = tmp_path / 'whole.laz', tmp_path / 'cut.laz'
    count = 120_000  # three chunks of the compressor
    write_points(path, cloud(count), {'gps_time': np.arange(count) * 0.1}, point_format=point_format)
    data = path.read_bytes()
    cut.write_bytes(data[:int(len(data) * share)])
    with pytest.raises(UserError, match=r'cut\.laz: truncated file: expected 120,000 points, found [\d,]+$') as failure:
        read_header(cut)
    found = int(str(failure.value).rsplit(' ', 1)[1].replace(',', ''))
    assert (share - 0.45) * count <= found <= share * count * 1.05
    assert found % 50_000 <= 1 or point_format == 3  # newer formats give whole chunks, and the next one's first point


def test_a_cut_las_file_says_how_much_is_there(tmp_path: Path) -> None:
    path = tmp_path / 'cut.las'
    write_points(path, cloud())
    data = path.read_bytes()
    path.write_bytes(data[:-5])
    with pytest.raises(UserError, match=r'cut\.las: truncated file: expected 1,000 points, found 999$'):
        read_points(path)


@pytest.mark.parametrize(('size', 'message'), [
    (0, 'expected a LAS or LAZ file, found an empty file'),
    (100, 'truncated: expected a header of 227 bytes, found 100'),
    (300, r'truncated: expected points from byte [\d,]+ on, found 300 bytes'),
    (500, r'truncated: expected points from byte [\d,]+ on, found 500 bytes')])
def test_a_cut_header(tmp_path: Path, size: int, message: str) -> None:
    path = tmp_path / 'tile.laz'
    write_points(path, cloud())
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UserError, match=r'tile\.laz: ' + message):
        read_header(path)


def test_an_extra_dimension_whose_name_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / 'tile.las'
    write_points(path, cloud(), {'lod3': np.zeros(COUNT, np.uint8)})
    path.write_bytes(path.read_bytes().replace(b'lod3', b'\xf5od3'))
    with pytest.raises(UserError, match=r'tile\.las: damaged description of the extra dimensions'):
        read_points(path)


def test_what_is_no_point_cloud(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'absent\.laz: no such file'):
        read_header(tmp_path / 'absent.laz')
    (tmp_path / 'page.laz').write_text('<html>not found</html>' * 50)
    with pytest.raises(UserError, match=r"page\.laz: expected a LAS or LAZ file, found a \.laz file that begins with "
                                        r"b'<htm'"):
        read_points(tmp_path / 'page.laz')
    path = tmp_path / 'new.las'
    write_points(path, cloud())
    data = bytearray(path.read_bytes())
    data[25] = 9
    path.write_bytes(data)
    with pytest.raises(UserError, match=r'new\.las: expected LAS 1\.0 to 1\.4, found version 1\.9'):
        read_header(path)


@pytest.mark.parametrize('suffix', ['.las', '.laz'])
def test_zero_points(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f'empty{suffix}'
    laspy.LasData(laspy.LasHeader(point_format=6)).write(str(path))
    with pytest.raises(UserError, match=rf'empty\{suffix}: expected points, found none'):
        read_header(path)
    with pytest.raises(UserError, match='expected points, found none'):
        write_points(path, np.zeros((0, 3)))


def test_a_cloud_is_written_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {'part': np.arange(COUNT) % 200, 'return_number': np.arange(COUNT) % 3 + 1, 'gps_time': np.arange(COUNT)}
    write_points(tmp_path / 'whole.laz', cloud(), fields)
    monkeypatch.setattr('projects.geo.point_writing.CHUNK', 300)
    write_points(tmp_path / 'chunks.laz', cloud(), fields)
    assert (tmp_path / 'chunks.laz').read_bytes() == (tmp_path / 'whole.laz').read_bytes()


def test_the_first_value_is_not_told_as_the_range_of_all(tmp_path: Path) -> None:
    """laspy grows the range of an extra dimension by the first point of every chunk."""
    write_points(tmp_path / 'tile.las', cloud(), {'part': np.arange(COUNT) % 200})
    with laspy.open(tmp_path / 'tile.las') as reader:
        (part,) = reader.header.vlrs.get('ExtraBytesVlr')[0].extra_bytes_structs
    assert (part.min, part.max) == (None, None)


def test_flipped_bytes_give_an_error_or_points_but_no_crash(tmp_path: Path) -> None:
    path, other = tmp_path / 'tile.laz', tmp_path / 'flipped.laz'
    write_points(path, cloud(), {'gps_time': np.arange(COUNT) * 0.1, **colours()})
    data = path.read_bytes()
    rng = np.random.default_rng(3)
    told = 0
    for place in rng.integers(0, len(data), 150):
        flipped = bytearray(data)
        flipped[place] ^= int(rng.integers(1, 256))
        other.write_bytes(flipped)
        try:
            read_points(other)
        except UserError as error:
            assert 'flipped.laz' in str(error) and '\n' not in str(error)
            told += 1
    assert told > 5


@pytest.mark.parametrize(('change', 'message'), [
    (dict(xyz=np.array([[np.nan, 0, 0]])), 'expected coordinates within'),
    (dict(xyz=np.array([[0.0, 0, 0], [3e8, 0, 0]])), 'expected coordinates within'),
    (dict(fields={'classification': [300]}), r'classification: expected 0 to 255, found 300 to 300'),
    (dict(fields={'return_number': [16]}), r'return_number: expected 0 to 15, found 16 to 16'),
    (dict(point_format=5), r'expected a point format of .*, found 5'),
    (dict(path='tile.copc'), r'expected a file that ends in \.las or \.laz'),
    (dict(crs='Lambert'), 'crs: expected EPSG:NUMBER, found Lambert')])
def test_what_cannot_be_written(tmp_path: Path, change: dict, message: str) -> None:
    wanted = {'path': 'tile.las', 'xyz': ORIGIN[None], **change}
    with pytest.raises(UserError, match=message):
        write_points(tmp_path / wanted.pop('path'), wanted.pop('xyz'), **wanted)
    assert list(tmp_path.iterdir()) == []


def test_coordinate_system_is_named(tmp_path: Path) -> None:
    for point_format, kind, start in ((8, 2112, b'PROJCS["RGF93'), (3, 34735, struct.pack('<4H', 1, 1, 0, 4))):
        path = tmp_path / f'{point_format}.las'
        write_points(path, cloud(3), point_format=point_format)
        with laspy.open(path) as reader:
            record = reader.header.vlrs.get_by_id('LASF_Projection')[0]
            assert record.record_id == kind
            assert record.record_data_bytes().startswith(start)
            assert reader.header.global_encoding.wkt == (point_format == 8)


@pytest.mark.parametrize(('point_format', 'crs'), [(8, 'EPSG:2154'), (3, 'EPSG:2154'), (6, 'EPSG:2972'), (1, None)])
def test_the_header_says_the_coordinate_system(tmp_path: Path, point_format: int, crs: str | None) -> None:
    write_points(tmp_path / 'tile.laz', cloud(3), point_format=point_format, crs=crs)
    assert read_header(tmp_path / 'tile.laz').crs == crs


@pytest.mark.parametrize(('text', 'number'), [
    ('COMPD_CS["a",PROJCS["b",GEOGCS["c",AUTHORITY["EPSG","4171"]],AUTHORITY["EPSG","2154"]],VERT_CS["d",'
     'AUTHORITY["EPSG","5720"]],AUTHORITY["EPSG","9999"]]', '2154'),
    ('PROJCRS["b [1]",BASEGEOGCRS["c",ID["EPSG",4171]],CS[Cartesian,2],ID["EPSG",2154]]', '2154'),
    ('PROJCS["own",GEOGCS["c",AUTHORITY["EPSG","4171"]]]', None), ('GEOGCS["c",AUTHORITY["EPSG","4326"]]', None)])
def test_the_plane_system_of_a_text(text: str, number: str | None) -> None:
    assert _plane_epsg(text) == number



def write_copc(path: Path, xyz: np.ndarray, intensity: np.ndarray) -> None:
    """Write a COPC file of two nodes: the index in front and behind, chunks of variable sizes between."""
    plain = path.with_suffix('.las')
    write_points(plain, xyz, {'intensity': intensity}, point_format=6, crs=None)
    data = plain.read_bytes()
    start, = struct.unpack_from('<I', data, 96)
    points = np.frombuffer(data, np.uint8, offset=start).reshape(len(xyz), -1)
    vlr = lazrs.LazVlr.new_for_compression(6, 0, True)
    centre, half = (xyz.min(0) + xyz.max(0)) / 2, float(np.ptp(xyz, 0).max()) / 2
    laszip = struct.pack('<H16sHH32s', 0, b'laszip encoded', 22204, len(vlr.record_data()), b'') + vlr.record_data()
    first = 375 + 54 + 160 + len(laszip)
    with open(path, 'wb') as file:
        file.write(bytes(first))
        sink = lazrs.LasZipCompressor(file, vlr)
        sink.reserve_offset_to_chunk_table()
        places, half_count = [], len(xyz) // 3
        for part in (points[:half_count], points[half_count:]):
            file.flush()
            begin = file.tell()
            sink.compress_many(np.ascontiguousarray(part).reshape(-1))
            sink.finish_current_chunk()
            file.flush()
            places.append((begin, file.tell() - begin, len(part)))
        sink.done()
        file.seek(0, 2)
        behind = file.tell()
        pages = b''.join(struct.pack('<iiiiQii', depth, 0, 0, 0, *place) for depth, place in enumerate(places))
        file.write(struct.pack('<H16sHQ32s', 0, b'copc', 1000, len(pages), b'') + pages)
        info = struct.pack('<5dQQ2d88x', *centre, half, 1.0, behind + 60, len(pages), 0.0, 1.0)
        header = bytearray(data[:375])
        struct.pack_into('<II', header, 96, first, 2)
        header[104] |= 0x80
        struct.pack_into('<QI', header, 235, behind, 1)
        file.seek(0)
        file.write(bytes(header) + struct.pack('<H16sHH32s', 0, b'copc', 1, 160, b'') + info + laszip)


def test_copc_is_read_as_laz(tmp_path: Path) -> None:
    path = tmp_path / 'tile.copc.laz'
    write_copc(path, cloud(), np.arange(COUNT))
    with laspy.CopcReader.open(str(path)) as reader:  # the file is what it claims to be
        assert len(reader.query()) == COUNT
    points = read_points(path)
    np.testing.assert_allclose(points.xyz, cloud(), rtol=0, atol=1e-8)
    np.testing.assert_array_equal(points.fields['intensity'], np.arange(COUNT))


def test_a_copy_of_copc_is_plain_laz(tmp_path: Path) -> None:
    """Its index would point nowhere."""
    path, copy = tmp_path / 'in.copc.laz', tmp_path / 'out.laz'
    write_copc(path, cloud(), np.arange(1000))
    copy_with(path, copy, {'terrace_class': ('u1', '')}, {'terrace_class': np.arange(1000) % 30})
    assert [record.key[0] for record in (*read_layout(copy).records, *read_layout(copy).extended)] == [
        'LASF_Spec', 'laszip encoded']
    points = read_points(copy)
    np.testing.assert_array_equal(points.xyz, read_points(path).xyz)
    assert points.fields['terrace_class'].tolist() == (np.arange(1000) % 30).tolist()


def test_real_tiles(shared_data: Path) -> None:
    folder = shared_data / 'lidar/rgb_nir'
    points = read_points(folder / 'crop_duplicate.laz')
    assert (len(points), points.has_colour, points.has_nir) == (849, True, True)
    np.testing.assert_array_equal(points.fields['nir'], points.fields['Infrared'])
    several = read_header(folder / 'las_with_several_extra_byte_bloc.laz')
    assert several.extra == ('Deviation', 'confidence')  # in two records; the first alone names one of them
    dense = read_points(shared_data / 'lidar/dense_150x100/test_data_77050_627755_LA93_IGN69.laz')
    assert (len(dense), dense.has_colour, dense.has_nir) == (84_524, False, False)
    assert dense.fields['classification'].max() == 6
