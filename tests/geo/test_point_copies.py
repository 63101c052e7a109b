"""Copies of point clouds with new dimensions: everything else comes through bit for bit."""

import re
import struct
import subprocess
import sys
from pathlib import Path

import laspy
import numpy as np
import pytest

from projects.engine.errors import UserError
from projects.engine.failpoints import VARIABLE
from projects.geo.las_layout import EXTRA_BYTES, LASZIP, Record, read_layout
from projects.geo.point_clouds import copy_with, read_points

CLASS = {'terrace_class': ('u1', 'LOD3 class')}


def every_bit(path: Path, point_format: int, count: int = 2000, extra: bool = True) -> np.ndarray:
    """Write a file in which every bit of every point is random, with records of its own; return the points' bytes."""
    header = laspy.LasHeader(point_format=point_format)
    header.offsets = np.array([700_000.0, 6_000_000.0, 0.0])
    header.vlrs.append(laspy.VLR('LASF_Projection', 2112, 'text', b'PROJCS["anything"]\0\0'))
    header.vlrs.append(laspy.VLR('someone', 77, 'else', bytes(range(256))))
    if extra:
        header.add_extra_dims([laspy.ExtraBytesParams('height', 'i4', 'above ground', offsets=[0.5], scales=[0.1]),
                               laspy.ExtraBytesParams('vector', '3u2'), laspy.ExtraBytesParams('id', 'u8')])
    cloud = laspy.LasData(header)
    raw = np.random.default_rng(point_format).integers(0, 256, (count, header.point_format.size)).astype(np.uint8)
    if point_format >= 6:  # the compressor orders layers by scanner channel and return: any are fine
        raw[:, 14] |= 0x11
    cloud.points = laspy.ScaleAwarePointRecord(raw.reshape(-1).view(header.point_format.dtype()).copy(),
                                               header.point_format, header.scales, header.offsets)
    if point_format >= 6:
        cloud.evlrs = laspy.vlrs.vlrlist.VLRList([laspy.VLR('behind', 5, 'the points', b'x' * 70_000)])
    cloud.write(str(path), laz_backend=laspy.LazBackend.Lazrs if path.suffix == '.laz' else None)
    return raw


def others(path: Path) -> list[bytes]:
    """All records but those that a copy has to change."""
    layout = read_layout(path)
    return [record.raw for record in layout.records if record.key not in (EXTRA_BYTES, LASZIP)]


@pytest.mark.parametrize('suffix', ['.las', '.laz'])
@pytest.mark.parametrize('point_format', [0, 1, 3, 6, 7, 8])
@pytest.mark.parametrize('extra', [True, False])
def test_every_bit_survives(tmp_path: Path, suffix: str, point_format: int, extra: bool) -> None:
    path, copy = tmp_path / f'in{suffix}', tmp_path / f'out{".laz" if suffix == ".las" else ".las"}'
    raw = every_bit(path, point_format, extra=extra)
    value = np.arange(len(raw)) % 251
    copy_with(path, copy, {**CLASS, 'confidence': ('f4', '')}, {'terrace_class': value, 'confidence': value / 7})

    before, after = read_layout(path), read_layout(copy)
    points = np.concatenate(list(after.points()))
    np.testing.assert_array_equal(points[:, :raw.shape[1]], raw)
    np.testing.assert_array_equal(points[:, raw.shape[1]], value)
    assert others(path) == others(copy)
    assert [record.raw for record in before.extended] == [record.raw for record in after.extended]
    assert len(after.extended) == (point_format >= 6)
    changed = {*range(96, 107), *range(235, 243)}  # where points and extended records begin, sizes
    assert all(one == other or place in changed for place, (one, other) in enumerate(zip(before.header, after.header)))
    read = laspy.read(str(copy))  # and others can read it
    np.testing.assert_array_equal(read.terrace_class, value)
    np.testing.assert_array_equal(read.confidence, (value / 7).astype(np.float32))
    if extra:
        np.testing.assert_array_equal(read['vector'], laspy.read(str(path))['vector'])
        assert read.point_format.dimension_by_name('height').scales.tolist() == [0.1]
        assert read.header.vlrs.get_by_id('someone')[0].record_data == bytes(range(256))


def test_a_copy_without_new_dimensions_is_the_same_file(tmp_path: Path) -> None:
    path, copy = tmp_path / 'in.las', tmp_path / 'out.las'
    every_bit(path, 8)
    copy_with(path, copy, {}, {})
    assert copy.read_bytes() == path.read_bytes()


def test_values_may_come_in_runs_or_from_a_function(tmp_path: Path) -> None:
    path = tmp_path / 'in.laz'
    value = (np.arange(len(every_bit(path, 3))) % 200).astype(np.uint8)
    runs = ({'terrace_class': part} for part in np.split(value, [7, 7, 1500]))
    copy_with(path, tmp_path / 'runs.laz', CLASS, runs)
    copy_with(path, tmp_path / 'asked.laz', CLASS, lambda first, count: {'terrace_class': value[first:first + count]})
    copy_with(path, tmp_path / 'whole.laz', CLASS, {'terrace_class': value})
    assert laspy.read(str(tmp_path / 'whole.laz')).terrace_class.tolist() == value.tolist()
    whole = (tmp_path / 'whole.laz').read_bytes()
    assert (tmp_path / 'runs.laz').read_bytes() == whole
    assert (tmp_path / 'asked.laz').read_bytes() == whole


@pytest.mark.parametrize(('values', 'found'), [
    ({'terrace_class': np.zeros(1999)}, 'a value for each of 2,000 points, found 1,999'),
    ({}, 'a value for each of 2,000 points, found 0'),
    ([{'terrace_class': np.zeros(900)}], 'values for 2,000 points, found 900'),
    ([{'terrace_class': np.zeros(900)}, {'terrace_class': np.zeros(1101)}],
     'values for 2,000 points, found at least 2,001'),
    ([{'terrace_class': np.zeros(2000)}, {'terrace_class': np.zeros(3)}],
     'values for 2,000 points, found at least 2,003'),
    (lambda first, count: {'terrace_class': np.zeros(5)}, 'a value for each of 2,000 points, found 5')])
def test_too_few_or_too_many_values(tmp_path: Path, values, found: str) -> None:
    path, copy = tmp_path / 'in.las', tmp_path / 'out.las'
    every_bit(path, 3)
    with pytest.raises(UserError, match=rf'in\.las: .*expected {found}'):
        copy_with(path, copy, CLASS, values)
    assert [file.name for file in tmp_path.iterdir()] == ['in.las']


def test_what_a_copy_refuses(tmp_path: Path) -> None:
    path = tmp_path / 'in.las'
    raw = every_bit(path, 8)
    zeros = {'height': np.zeros(len(raw)), 'terrace_class': np.zeros(len(raw))}
    with pytest.raises(UserError, match=r'in\.las: expected no dimension height yet, found one'):
        copy_with(path, tmp_path / 'out.las', {'height': ('f4', '')}, zeros)
    with pytest.raises(UserError, match=r'in\.las: expected another file than the input'):
        copy_with(path, path, CLASS, zeros)
    with pytest.raises(UserError, match=r'expected an extra dimension of type u1, .* found float16'):
        copy_with(path, tmp_path / 'out.las', {'terrace_class': ('f2', '')}, zeros)
    (tmp_path / 'out.las').write_text('mine')
    with pytest.raises(UserError, match=r'out\.las: exists already'):
        copy_with(path, tmp_path / 'out.las', CLASS, zeros, overwrite=False)
    assert (tmp_path / 'out.las').read_text() == 'mine'
    data = bytearray(path.read_bytes())
    data[6] |= 2
    path.write_bytes(data)
    with pytest.raises(UserError, match='expected no waveforms inside the file'):
        copy_with(path, tmp_path / 'out.las', CLASS, zeros)


def test_several_records_of_extra_dimensions_become_one(tmp_path: Path) -> None:
    """Readers look at the first record only: dimensions described behind it would be lost to them."""
    path, copy = tmp_path / 'in.las', tmp_path / 'out.laz'
    raw = every_bit(path, 8)
    layout = read_layout(path)
    one, = layout.find(EXTRA_BYTES)
    parts = [Record.make(EXTRA_BYTES, one.data[:192]), Record.make(EXTRA_BYTES, one.data[192:])]
    records = [record for record in layout.records if record.key != EXTRA_BYTES] + parts
    data = bytearray(path.read_bytes())
    behind = data[layout.start:]
    header = bytearray(layout.header)
    start = len(header) + sum(len(record.raw) for record in records)
    struct.pack_into('<II', header, 96, start, len(records))
    struct.pack_into('<Q', header, 235, layout._field('Q', 235) + start - layout.start)
    path.write_bytes(header + b''.join(record.raw for record in records) + behind)

    copy_with(path, copy, CLASS, {'terrace_class': np.arange(len(raw)) % 9})
    read = laspy.read(str(copy))
    assert list(read.point_format.extra_dimension_names) == ['height', 'vector', 'id', 'terrace_class']
    np.testing.assert_array_equal(read.terrace_class, np.arange(len(raw)) % 9)
    np.testing.assert_array_equal(np.concatenate(list(read_layout(copy).points()))[:, :raw.shape[1]], raw)


def test_bytes_that_nobody_described_survive(tmp_path: Path) -> None:
    path, copy = tmp_path / 'in.las', tmp_path / 'out.las'
    raw = every_bit(path, 3)
    path.write_bytes(path.read_bytes().replace(b'LASF_Spec\0', b'Someone\0\0\0'))
    copy_with(path, copy, CLASS, {'terrace_class': np.full(len(raw), 9)})
    points = read_points(copy)
    assert points.fields['terrace_class'].tolist() == [9] * len(raw)
    np.testing.assert_array_equal(np.concatenate(list(read_layout(copy).points()))[:, :raw.shape[1]], raw)
    assert laspy.read(str(copy)).terrace_class.tolist() == [9] * len(raw)


@pytest.mark.parametrize('moment', ['points', 'before_fsync', 'before_rename'])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    path, copy = tmp_path / 'in.laz', tmp_path / 'out.laz'
    raw = every_bit(path, 6)
    copy.write_text('old')
    monkeypatch.setenv(VARIABLE, f'{moment}:out.laz:full')
    with pytest.raises(OSError, match='No space left') as failure:
        copy_with(path, copy, CLASS, {'terrace_class': np.zeros(len(raw))})
    assert failure.value.filename == str(copy)
    assert sorted(file.name for file in tmp_path.iterdir()) == ['in.laz', 'out.laz']
    assert copy.read_text() == 'old'
    monkeypatch.delenv(VARIABLE)
    copy_with(path, copy, CLASS, {'terrace_class': np.zeros(len(raw))})
    assert len(read_points(copy)) == len(raw)


@pytest.mark.parametrize('suffix', ['.las', '.laz'])
def test_the_systems_limit_names_the_output(tmp_path: Path, suffix: str) -> None:
    """A real refusal to write comes through the compressor."""
    path = tmp_path / 'in.las'
    every_bit(path, 6, 20_000)
    code = ('import resource, signal, sys\nfrom projects.engine.cli import run\n'
            'from projects.geo.point_clouds import copy_with\n'
            'signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n'
            'resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n'
            'run(lambda: copy_with(sys.argv[1], sys.argv[2], {}, {}))\n')
    done = subprocess.run([sys.executable, '-c', code, path, tmp_path / f'out{suffix}'], capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 2
    assert re.fullmatch(rf'error: .*/out{suffix}: (File too large|could not be written .* is there space left\?)\n',
                        done.stderr)
    assert [file.name for file in tmp_path.iterdir()] == ['in.las']


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """2 million points of 38 bytes: 76 MB that must not all be in memory."""
    path = tmp_path / 'in.las'
    raw = every_bit(path, 8, 2000, extra=False)
    layout = read_layout(path)
    times = 2_000_000 // len(raw)
    header = bytearray(layout.header)
    struct.pack_into('<I', header, 107, 0)
    struct.pack_into('<Q', header, 247, len(raw) * times)
    struct.pack_into('<QI', header, 235, 0, 0)
    with open(path, 'wb') as file:
        file.write(header + b''.join(record.raw for record in layout.records) + layout.gap)
        for _ in range(times):
            file.write(raw.data)
    code = ('import resource, sys\nimport numpy as np\nfrom projects.geo.point_clouds import copy_with, iter_points\n'
            'base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n'
            'values = lambda first, count: {"a": np.arange(first, first + count) % 99}\n'
            'copy_with(sys.argv[1], sys.argv[2], {"a": ("u1", "")}, values)\n'
            'count = sum(len(part) for part in iter_points(sys.argv[2], ["a"], 100_000))\n'
            'print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base)\n')
    done = subprocess.run([sys.executable, '-c', code, path, tmp_path / 'out.las'], capture_output=True, text=True,
                          timeout=100, check=True)
    count, grown = map(int, done.stdout.split())
    assert count == 2_000_000
    assert grown < 70_000  # kB


def test_real_tiles_survive(tmp_path: Path, shared_data: Path) -> None:
    for name in ('crop_duplicate.laz', '870000_6618000.subset.postCompletion.laz'):
        path, copy = shared_data / 'lidar/rgb_nir' / name, tmp_path / 'out.laz'
        before = read_layout(path)
        copy_with(path, copy, CLASS, lambda first, count: {'terrace_class': np.arange(first, first + count) % 30})
        after = read_layout(copy)
        np.testing.assert_array_equal(np.concatenate(list(after.points()))[:, :before.size],
                                      np.concatenate(list(before.points())))
        assert others(path) == others(copy)
