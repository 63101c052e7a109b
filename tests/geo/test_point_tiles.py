"""Names, neighbours and buffers of point-cloud tiles."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from projects.geo.point_buffers import BorderCache, read_buffer
from projects.geo.point_clouds import PointHeader, read_header, read_points, write_points
from projects.geo.point_tiles import TileIndex, check_name, parse_tile_name, read_headers


def header(name: str, *bounds: float) -> PointHeader:
    x0, y0, x1, y1 = bounds
    return PointHeader(Path(name), (x0, y0, 0.0, x1, y1, 9.0), 5, 8, '1.4', (), (), (0.01,) * 3, (0.0,) * 3, True, True)


@pytest.mark.parametrize(('name', 'box'), [
    ('LHD_FXX_0770_6277_PTS_C_LAMB93_IGN69.laz', (770_000, 6_276_000, 771_000, 6_277_000)),
    ('Semis_2021_0382_6565_LA93_IGN69.laz', (382_000, 6_564_000, 383_000, 6_565_000)),
    ('/data/LHD_FXX_0770_6277_PTS_O_LAMB93_IGN69.copc.laz', (770_000, 6_276_000, 771_000, 6_277_000)),
    ('0770_6277.las', (770_000, 6_276_000, 771_000, 6_277_000)),
    ('test_data_77055_627760_LA93_IGN69.laz', (770_550, 6_277_550, 770_600, 6_277_600)),
    ('crop_duplicate.laz', None), ('870000_6618000.subset.laz', None), ('village.laz', None)])
def test_names(name: str, box: tuple[float, ...] | None) -> None:
    found = parse_tile_name(name)
    assert (found and found.box) == box


def test_a_name_is_checked_against_the_header() -> None:
    assert check_name(header('LHD_FXX_0770_6277_PTS.laz', 770_000, 6_276_000, 771_000, 6_277_000)) is None
    assert check_name(header('LHD_FXX_0770_6277_PTS.laz', 770_300, 6_276_400, 770_350, 6_276_450)) is None  # a crop
    assert check_name(header('village.laz', 0, 0, 1, 1)) is None
    assert check_name(header('LHD_FXX_0770_6277_PTS.laz', 770_000, 6_277_000, 771_000, 6_278_000)) == (
        'LHD_FXX_0770_6277_PTS.laz: its name says x 770000 to 771000, y 6276000 to 6277000, its header says '
        'x 770000.00 to 771000.00, y 6277000.00 to 6278000.00; the header is taken')
    assert check_name(header('a_77055_627760_b.laz', 770_550, 6_277_550, 770_600, 6_277_600)) is None
    assert check_name(header('a_77055_627760_b.laz', 770_550, 6_277_400, 770_750, 6_277_600)) is None  # 200 m
    assert 'x 770550 to 770600' in (check_name(header('a_77055_627760_b.laz', 770_500, 6_277_550, 770_550, 6_277_600))
                                    or '')
    assert 'y 6277550 to 6277600' in (check_name(header('a_77055_627760_b.laz', 770_550, 6_277_600, 770_600, 6_277_650))
                                      or '')


def test_neighbours_and_shared_ground() -> None:
    tiles = [header(f'{x}{y}.laz', 50 * x, 50 * y, 50 * x + 50, 50 * y + 50) for x in range(3) for y in range(3)]
    index = TileIndex(tiles)

    def near(name: str, buffer: float) -> list[str]:
        tile = next(tile for tile in tiles if tile.path.name == name)
        return [other.path.stem for other in index.neighbours(tile, buffer)]

    assert near('11.laz', 8) == ['00', '01', '02', '10', '12', '20', '21', '22']
    assert near('00.laz', 8) == ['01', '10', '11']
    assert near('00.laz', 60) == ['01', '02', '10', '11', '12', '20', '21', '22']
    assert index.overlaps() == []
    wide = TileIndex([*tiles, header('wide.laz', 40, 60, 60, 90), tiles[0]])
    assert len(wide.headers) == 10
    assert wide.overlaps() == [f'{name}.laz: shares ground with wide.laz: points that lie in both count twice'
                               for name in ('01', '11')]


def write_halves(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Write points of 40 x 20 m as two tiles; return the places and, for each, its number."""
    rng = np.random.default_rng(0)
    xyz = np.round(np.array([1000.0, 2000.0, 0]) + rng.integers(0, (4000, 2000, 500), (4000, 3)) * 0.01, 2)
    number = np.arange(4000)
    for name, mine in (('a.laz', xyz[:, 0] < 1020), ('b.laz', xyz[:, 0] >= 1020)):
        fields = {'intensity': number[mine]} | ({'part': number[mine] % 9} if name == 'a.laz' else {})
        write_points(folder / name, xyz[mine], fields, crs=None)
    return xyz, number


@pytest.mark.parametrize('cache', [None, BorderCache(), BorderCache(capacity=0)])
def test_a_buffer_is_what_one_tile_would_have(tmp_path: Path, cache: BorderCache | None) -> None:
    xyz, number = write_halves(tmp_path)
    index = TileIndex([read_header(tmp_path / name) for name in ('a.laz', 'b.laz')])
    fields = {'intensity': np.uint16(0), 'part': np.uint8(77), 'red': np.uint16(5)}
    for header, other, mine in zip(index.headers, index.headers[::-1], (xyz[:, 0] < 1020, xyz[:, 0] >= 1020)):
        x0, y0, _, x1, y1, _ = header.bounds
        around, found, unread = read_buffer(index, header, 5.0, fields, cache)
        inside = (np.abs(xyz[:, 0] - (x0 + x1) / 2) < (x1 - x0) / 2 + 5) & ~mine
        inside &= (xyz[:, 1] >= y0 - 5) & (xyz[:, 1] < y1 + 5)
        assert found['intensity'].tolist() == number[inside].tolist()  # in the order of the file
        assert unread == {}
        np.testing.assert_allclose(around, xyz[inside], rtol=0, atol=1e-8)
        part = number[inside] % 9 if other.path.name == 'a.laz' else np.full(inside.sum(), 77)  # b has none
        assert found['part'].tolist() == part.tolist()
        assert found['red'].tolist() == [5] * inside.sum()  # and none has colours
        assert {name: value.dtype for name, value in found.items()} == {
            name: value.dtype for name, value in fields.items()}
    around, found, unread = read_buffer(index, index.headers[0], 0.0, fields, cache)
    assert (around.shape, found['part'].shape, found['part'].dtype) == ((0, 3), (0,), np.uint8)


def test_a_cached_border_is_read_again_when_its_file_changed(tmp_path: Path) -> None:
    xyz, number = write_halves(tmp_path)
    cache, fields = BorderCache(), {'intensity': np.uint16(0)}
    index = TileIndex([read_header(tmp_path / name) for name in ('a.laz', 'b.laz')])
    before = read_buffer(index, index.headers[0], 5.0, fields, cache)[1]['intensity']
    write_points(tmp_path / 'b.laz', xyz[xyz[:, 0] >= 1020], {'intensity': np.full((xyz[:, 0] >= 1020).sum(), 9)},
                 crs=None)
    after = read_buffer(index, index.headers[0], 5.0, fields, cache)[1]['intensity']
    assert len(after) == len(before) and set(after.tolist()) == {9} != set(before.tolist())


@pytest.mark.parametrize('cache', [None, BorderCache()])
def test_a_neighbour_that_cannot_be_read_is_left_out_and_told(tmp_path: Path, cache: BorderCache | None) -> None:
    xyz, number = write_halves(tmp_path)
    write_points(tmp_path / 'c.laz', xyz[:9] + (0, 20, 0), {'intensity': number[:9]}, crs=None)
    index = TileIndex([read_header(tmp_path / name) for name in ('a.laz', 'b.laz', 'c.laz')])
    fields = {'intensity': np.uint16(0)}
    whole = (tmp_path / 'b.laz').read_bytes()
    (tmp_path / 'b.laz').write_bytes(whole[:2000] + bytes(4000) + whole[6000:])
    read_header(tmp_path / 'b.laz')  # only its body is damaged
    _, found, unread = read_buffer(index, index.headers[0], 20.0, fields, cache)
    assert list(unread) == ['b.laz'] and str(tmp_path) not in unread['b.laz']
    assert set(found['intensity'].tolist()) <= set(range(9)) and len(found['intensity'])
    (tmp_path / 'b.laz').unlink()
    assert read_buffer(index, index.headers[0], 20.0, fields, cache)[2].keys() == {'b.laz'}
    (tmp_path / 'b.laz').write_bytes(whole)
    _, found, unread = read_buffer(index, index.headers[0], 20.0, fields, cache)
    assert unread == {} and len(found['intensity']) > 1000


@pytest.mark.parametrize('cache', [None, BorderCache()])
def test_a_neighbour_with_points_off_its_box_is_damaged(tmp_path: Path, cache: BorderCache | None) -> None:
    write_halves(tmp_path)
    one, other = (read_header(tmp_path / name) for name in ('a.laz', 'b.laz'))
    x0, y0, z0, x1, y1, z1 = other.bounds
    for moved, is_read in ((1.0, True), (9.0, False)):
        found, _, unread = read_buffer(TileIndex([one, replace(other, bounds=(x0, y0, z0, x1 - moved, y1, z1))]), one,
                                       5.0, {}, cache)
        assert (len(found) > 0, 'b.laz' in unread) == (is_read, not is_read)
    assert unread['b.laz'].startswith('expected points inside the box of its header, found ')


def test_tiles_of_one_name_in_two_folders_are_two_tiles() -> None:
    index = TileIndex([header('x/a.laz', 0, 0, 50, 50), header('y/a.laz', 50, 0, 100, 50)])
    assert [other.path for other in index.neighbours(index.headers[0], 1)] == [Path('y/a.laz')]


def test_points_of_shared_ground_count_once(tmp_path: Path) -> None:
    xyz, number = write_halves(tmp_path)
    write_points(tmp_path / 'b.laz', xyz[xyz[:, 0] >= 1010], {'intensity': number[xyz[:, 0] >= 1010]}, crs=None)
    index = TileIndex([read_header(tmp_path / name) for name in ('a.laz', 'b.laz')])
    assert len(index.overlaps()) == 1
    _, found, _ = read_buffer(index, index.headers[0], 5.0, {'intensity': np.uint16(0)}, BorderCache())
    own = number[xyz[:, 0] < 1020]
    assert len(found['intensity']) and not set(found['intensity'].tolist()) & set(own.tolist())
    assert len(np.unique(found['intensity'])) == len(found['intensity'])


def test_bad_files_do_not_hide_the_others(tmp_path: Path) -> None:
    write_halves(tmp_path)
    (tmp_path / 'b.laz').write_bytes((tmp_path / 'b.laz').read_bytes()[:2000])
    headers, errors = read_headers([tmp_path / name for name in ('a.laz', 'b.laz', 'c.laz')])
    assert [found.path.name for found in headers] == ['a.laz']
    assert 'truncated file: expected' in str(errors[tmp_path / 'b.laz'])
    assert str(errors[tmp_path / 'c.laz']).endswith('c.laz: no such file')


def test_real_names_agree_with_their_headers(shared_data: Path) -> None:
    """The dense tiles are named by x minimum and y maximum, as those of a kilometre are."""
    folder = shared_data / 'lidar'
    paths = [*folder.glob('dense_150x100*/*.laz'), *folder.glob('adjacent_km/*.laz')]
    assert len(paths) == 16
    assert [check_name(read_header(path)) for path in paths] == [None] * 16


def test_real_seam(shared_data: Path) -> None:
    folder = shared_data / 'lidar/dense_150x100'
    index = TileIndex([read_header(path) for path in sorted(folder.glob('*.laz'))])
    assert index.overlaps() == []
    tile = next(one for one in index.headers if '77055_627755' in one.path.name)
    around, _, _ = read_buffer(index, tile, 8.0, {})
    merged = read_points(shared_data / 'lidar/merged_0770500_6277500_150x100_LA93_IGN69.laz', [],
                         (770_542, 6_277_492, 770_608, 6_277_558))
    assert tile.count == 72_770
    assert abs(tile.count + len(around) - len(merged)) <= 30  # the merged file rounds to centimetres
