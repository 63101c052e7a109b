"""Write point clouds: from arrays, or as a copy of a file that gains dimensions and loses nothing."""

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import laspy
import lazrs
import numpy as np

from projects.engine.errors import UserError
from projects.engine.failpoints import fail_point
from projects.engine.files import atomic_path
from projects.geo.las_dimensions import extended_record
from projects.geo.las_layout import COMPRESSED, EXTRA_BYTES, LASZIP, Layout, Record, read_layout

SUFFIXES = ('.las', '.laz')
WRITTEN_FORMATS = (0, 1, 2, 3, 6, 7, 8)  # those without waveforms
CHUNK = 500_000  # points
MOST_STEPS = 2 ** 31 - 1  # a coordinate is stored as int32
COPC = 'copc'
# A provider is called with the first row and the number of rows, and returns the values of each new dimension.
Provider = Callable[[int, int], Mapping[str, np.ndarray]]
Values = Mapping[str, np.ndarray] | Iterable[Mapping[str, np.ndarray]] | Provider


def copy_with(path_in: str | Path, path_out: str | Path, extra: Mapping[str, tuple[np.dtype | str, str]],
              values: Values, *, overwrite: bool = True) -> None:
    """Copy a point cloud, point by point in order, with new dimensions; memory does not grow with the file.

    Header, records (coordinate system among them), extended records, undocumented bytes and every dimension come
    through bit for bit. What says how the input was packed does not: the index of a COPC file, the parameters of its
    compressor. Several records of extra dimensions become one.

    Args:
        path_in: LAS, LAZ or COPC.
        path_out: ``.las`` or ``.laz``; written whole or not at all.
        extra: Name of a new dimension to its type and its description (up to 32 bytes).
        values: Arrays ``(N,)``; or such mappings for consecutive runs of points, of any lengths; or a function of the
            first row and the number of rows.
        overwrite: Replace ``path_out`` where it exists.

    Raises:
        UserError: As :func:`projects.geo.point_clouds.read_header`; a name exists already; a value is missing; the
            output exists, or is the input.
    """
    layout = read_layout(path_in)
    path_out = check_output(path_out)
    if not overwrite and path_out.exists():
        raise UserError(f'{path_out}: exists already')
    if path_out.exists() and path_out.samefile(layout.path):
        raise UserError(f'{path_out}: expected another file than the input')
    if layout.internal_waveforms:
        raise UserError(f'{layout.path}: expected no waveforms inside the file: a copy would misplace them')
    dtype = np.dtype([(name, np.dtype(kind).newbyteorder('<')) for name, (kind, _) in extra.items()])
    compress = path_out.suffix.lower() == '.laz'
    new = Layout(path_out, *_new_head(layout, extended_record(layout, extra) if extra else None,
                                      layout.size + dtype.itemsize, compress), layout.extended)
    rows = _Rows(values, dtype, layout)
    with _told_of(path_out), atomic_path(path_out) as temporary, open(temporary, 'wb+') as file:
        file.write(new.header)
        file.write(b''.join(record.raw for record in new.records) + new.gap)
        sink = lazrs.LasZipCompressor(file, lazrs.LazVlr(new.laszip)) if compress else None
        for block in layout.points(CHUNK):
            fail_point('points', path_out)
            if extra:
                added = rows.take(len(block)).view(np.uint8).reshape(len(block), -1)
                block = np.concatenate([block, added], 1)
            _write(sink, file, block)
        rows.finish()
        if sink is not None:
            sink.done()
        file.seek(0, 2)
        end = file.tell()
        kept = [record for record in layout.extended if record.key[0] != COPC]
        for record in kept:
            file.write(record.raw)
        if layout.minor >= 4:
            file.seek(235)
            file.write(struct.pack('<QI', end if kept else 0, len(kept)))


def write_points(path: str | Path, xyz: np.ndarray, fields: Mapping[str, np.ndarray] | None = None, *,
                 point_format: int = 8, scales: Sequence[float] = (0.01, 0.01, 0.01),
                 offsets: Sequence[float] | None = None, crs: str | None = 'EPSG:2154',
                 extra: Mapping[str, tuple[np.dtype | str, str]] | None = None) -> None:
    """Write a point cloud, whole or not at all; beside its arguments it takes the memory of one chunk.

    Args:
        path: ``.las`` or ``.laz``.
        xyz: ``(N, 3)`` float64, N >= 1.
        fields: Dimension name to ``(N,)`` values; a dimension that is not named is zero, and return number and number
            of returns are one.
        point_format: 0 to 3 (LAS 1.2) or 6 to 8 (LAS 1.4).
        scales: Steps of the stored coordinates, metres.
        offsets: Of the stored coordinates; default: full kilometres below the points, so that neighbours share them.
        crs: ``EPSG:NUMBER``, or None for a file that does not say.
        extra: Name of a dimension in ``fields`` that is no standard one to its type and its description. One that
            is left out takes its array's type.

    Raises:
        UserError: No points, a value does not fit into its dimension, or the format lacks it.
    """
    path = check_output(path)
    fields = dict(fields or {})
    if not len(xyz):
        raise UserError(f'{path}: expected points, found none')
    if point_format not in WRITTEN_FORMATS:
        raise UserError(f'{path}: expected a point format of {WRITTEN_FORMATS}, found {point_format}')
    header = laspy.LasHeader(point_format=point_format)
    header.scales = np.asarray(scales, float)
    header.offsets = np.floor(xyz.min(0) / 1000) * 1000 if offsets is None else np.asarray(offsets, float)
    standard = set(header.point_format.dimension_names)
    for name, value in fields.items():
        if name not in standard:
            kind, text = (extra or {}).get(name, (np.asarray(value).dtype, ''))
            header.add_extra_dim(laspy.ExtraBytesParams(name, np.dtype(kind), text))
    for record in header.vlrs.get('ExtraBytesVlr'):
        for dimension in record.extra_bytes_structs:
            dimension.options = 0  # laspy would tell the first point's value as the range of all
    if crs is not None:
        _add_crs(header, crs)
    values = _checked(path, xyz, fields, header)
    backend = laspy.LazBackend.Lazrs if path.suffix.lower() == '.laz' else None
    with _told_of(path), atomic_path(path) as temporary:
        fail_point('points', path)
        with laspy.open(str(temporary), mode='w', header=header, laz_backend=backend) as file:
            for first in range(0, len(xyz), CHUNK):
                rows = slice(first, first + CHUNK)
                file.write_points(_record(xyz[rows], {name: value[rows] for name, value in values.items()}, header))


def _checked(path: Path, xyz: np.ndarray, fields: Mapping[str, np.ndarray],
             header: laspy.LasHeader) -> dict[str, np.ndarray]:
    """Return the values of all dimensions that are not zero, each ``(N,)``, after a look at their ranges."""
    low, high = xyz.min(0), xyz.max(0)
    if not (np.abs((np.stack([low, high]) - header.offsets) / header.scales) < MOST_STEPS).all():  # nor what is NaN
        raise UserError(f'{path}: expected coordinates within {MOST_STEPS:,} steps of {list(header.scales)} around '
                        f'{header.offsets.tolist()}, found {low.tolist()} to {high.tolist()}')
    values = {}
    for name, value in {'return_number': 1, 'number_of_returns': 1, **fields}.items():
        value = values[name] = np.broadcast_to(np.asarray(value), len(xyz))
        info = header.point_format.dimension_by_name(name)
        if info.kind.name != 'FloatingPoint' and not info.min <= value.min() <= value.max() <= info.max:
            raise UserError(f'{path}: {name}: expected {info.min} to {info.max}, '
                            f'found {value.min()} to {value.max()}')
    return values


def _record(xyz: np.ndarray, values: Mapping[str, np.ndarray],
            header: laspy.LasHeader) -> laspy.ScaleAwarePointRecord:
    record = laspy.ScaleAwarePointRecord.zeros(len(xyz), header=header)
    steps = np.rint((xyz - header.offsets) / header.scales).astype(np.int32)
    for name, value in {**dict(zip('XYZ', steps.T)), **values}.items():
        record[name] = value
    return record


@contextmanager
def _told_of(path: Path) -> Iterator[None]:
    """Name the output in the system's complaints: "no space left" of a write names no file."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    except lazrs.LazrsError as error:  # the compressor keeps the system's reason to itself
        raise UserError(f'{path}: could not be written ({error}): is there space left?') from error


def check_output(path: str | Path) -> Path:
    """Return an output's path.

    Raises:
        UserError: It does not end in ``.las`` or ``.laz``.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f'{path}: expected a file that ends in {" or ".join(SUFFIXES)}')
    return path


def _new_head(layout: Layout, described: Record | None, size: int,
              compress: bool) -> tuple[bytes, tuple[Record, ...], bytes]:
    records = []
    for record in layout.records:
        if record.key == LASZIP or record.key[0] == COPC:
            continue
        if record.key == EXTRA_BYTES and described is not None:
            record, described = described, None
            records = [other for other in records if other.key != EXTRA_BYTES] + [record]
        elif record.key == EXTRA_BYTES and any(other.key == EXTRA_BYTES for other in records) and size != layout.size:
            continue
        else:
            records.append(record)
    if described is not None:
        records.append(described)
    if compress:
        extra = size - _standard_size(layout)
        records.append(Record.make(LASZIP, lazrs.LazVlr.new_for_compression(layout.point_format, extra).record_data()))
    header = bytearray(layout.header)
    start = len(header) + sum(len(record.raw) for record in records) + len(layout.gap)
    struct.pack_into('<II', header, 96, start, len(records))
    struct.pack_into('<BH', header, 104, layout.point_format | (COMPRESSED if compress else 0), size)
    return bytes(header), tuple(records), layout.gap


def _standard_size(layout: Layout) -> int:
    return laspy.PointFormat(layout.point_format).size


def _write(sink: lazrs.LasZipCompressor | None, file: BinaryIO, points: np.ndarray) -> None:
    data = np.ascontiguousarray(points).reshape(-1)
    if sink is None:
        file.write(data.data)
    else:
        sink.compress_many(data)


class _Rows:
    """The values of new dimensions, asked for in order, however they are given."""

    def __init__(self, values: Values, dtype: np.dtype, layout: Layout) -> None:
        self._dtype, self._path, self._count = dtype, layout.path, layout.count
        if isinstance(values, Mapping):
            self._check(values, layout.count)
            values = _slices(values)
        self._ask = values if callable(values) else None
        self._runs = iter(() if callable(values) else values)
        self._rest = np.zeros(0, dtype)
        self._taken = 0

    def take(self, count: int) -> np.ndarray:
        """Return the next ``count`` rows as records."""
        if self._ask is not None:
            rows = self._records(self._ask(self._taken, count), count)
        else:
            parts = [self._rest]
            while sum(map(len, parts)) < count and (run := next(self._runs, None)) is not None:
                parts.append(self._records(run, len(next(iter(run.values()), ()))))
            rows, self._rest = np.split(np.concatenate(parts), [count])
            if len(rows) < count:
                raise self._wrong(f'{self._taken + len(rows):,}')
        self._taken += count
        return rows

    def finish(self) -> None:
        """Check that nothing is left over."""
        left = len(self._rest) or next((len(next(iter(run.values()), ())) for run in self._runs), 0)
        if left:
            raise self._wrong(f'at least {self._taken + left:,}')

    def _wrong(self, found: str) -> UserError:
        return UserError(f'{self._path}: expected values for {self._count:,} points, found {found}')

    def _check(self, given: Mapping[str, np.ndarray], count: int) -> None:
        for name in self._dtype.names or ():
            found = len(given[name]) if name in given else 0
            if found != count:
                raise UserError(f'{self._path}: {name}: expected a value for each of {count:,} points, '
                                f'found {found:,}')

    def _records(self, given: Mapping[str, np.ndarray], count: int) -> np.ndarray:
        self._check(given, count)
        rows = np.empty(count, self._dtype)
        for name in self._dtype.names:
            rows[name] = given[name]
        return rows


def _slices(values: Mapping[str, np.ndarray]) -> Provider:
    return lambda first, count: {name: value[first:first + count] for name, value in values.items()}


def _add_crs(header: laspy.LasHeader, crs: str) -> None:
    """Name the coordinate system: as text from point format 6 on, as GeoTIFF keys below it."""
    authority, _, code = crs.partition(':')
    if authority.upper() != 'EPSG' or not code.isdigit():
        raise UserError(f'crs: expected EPSG:NUMBER, found {crs}')
    if header.point_format.id >= 6:
        from rasterio.crs import CRS  # here: readers do without GDAL

        header.vlrs.append(laspy.VLR('LASF_Projection', 2112, 'OGC WKT', CRS.from_epsg(int(code)).to_wkt().encode()
                                     + b'\0'))
        header.global_encoding.wkt = True
        return
    # GTModelType projected, GTRasterType area, ProjectedCSType, ProjLinearUnits metre
    keys = (1, 1, 0, 4, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, int(code), 3076, 0, 1, 9001)
    header.vlrs.append(laspy.VLR('LASF_Projection', 34735, 'GeoTIFF keys', struct.pack(f'<{len(keys)}H', *keys)))
