"""Point clouds in LAS, LAZ and COPC: headers, points by chunks, and which channels a file really has."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import lazrs
import numpy as np
from laspy.point.format import PointFormat
from laspy.point.record import PackedPointRecord

from projects.engine.errors import UserError
from projects.geo.las_dimensions import point_format_of, scaled
from projects.geo.las_layout import Layout, read_layout
from projects.geo.point_writing import copy_with, write_points

__all__ = ['CHANNELS', 'PointHeader', 'Points', 'copy_with', 'iter_points', 'read_header', 'read_points',
           'write_points']

CHUNK = 1_000_000
COLOURS = ('red', 'green', 'blue')
CHANNELS = (*COLOURS, 'nir')  # what a file may lack: a mask says so
INFRARED = ('infrared', 'nir')  # extra dimensions that stand in for it, in small letters
# Which layer of formats 6 to 10 holds a dimension; those not named here come with the coordinates.
_LAYERS = {
    'intensity': lazrs.SELECTIVE_DECOMPRESS_INTENSITY, 'classification': lazrs.SELECTIVE_DECOMPRESS_CLASSIFICATION,
    **dict.fromkeys(('synthetic', 'key_point', 'withheld', 'overlap', 'scan_direction_flag', 'edge_of_flight_line'),
                    lazrs.SELECTIVE_DECOMPRESS_FLAGS),
    'scan_angle': lazrs.SELECTIVE_DECOMPRESS_SCAN_ANGLE, 'user_data': lazrs.SELECTIVE_DECOMPRESS_USER_DATA,
    'point_source_id': lazrs.SELECTIVE_DECOMPRESS_POINT_SOURCE_ID, 'gps_time': lazrs.SELECTIVE_DECOMPRESS_GPS_TIME,
    **dict.fromkeys(COLOURS, lazrs.SELECTIVE_DECOMPRESS_RGB), 'nir': lazrs.SELECTIVE_DECOMPRESS_NIR,
    'return_number': 0, 'number_of_returns': 0, 'scanner_channel': 0}
_GEOMETRY = lazrs.SELECTIVE_DECOMPRESS_XY_RETURNS_CHANNEL | lazrs.SELECTIVE_DECOMPRESS_Z
_EVERY_OTHER = lazrs.SELECTIVE_DECOMPRESS_WAVEPACKET | lazrs.SELECTIVE_DECOMPRESS_ALL_EXTRA_BYTES


@dataclass(frozen=True)
class PointHeader:
    """What a file says about itself.

    Attributes:
        path: The file.
        bounds: ``(min x, min y, min z, max x, max y, max z)`` in the file's coordinates.
        count: Number of points, at least one.
        point_format: 0 to 10.
        version: For example ``'1.4'``.
        dimensions: Names of all dimensions in laspy's words, extra ones behind.
        extra: Names of the extra dimensions.
        scales, offsets: Of the coordinates, ``(x, y, z)``.
        has_colour, has_nir: The file has room for it; the values may still all be zero, see :class:`Points`.
        crs: ``EPSG:NUMBER`` of the plane coordinates, None where the file does not say.
    """

    path: Path
    bounds: tuple[float, ...]
    count: int
    point_format: int
    version: str
    dimensions: tuple[str, ...]
    extra: tuple[str, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    has_colour: bool
    has_nir: bool
    crs: str | None = None


@dataclass(frozen=True)
class Points:
    """Points of one or more files.

    Attributes:
        xyz: ``(N, 3)`` float64, absolute.
        fields: Dimension name to ``(N,)`` values, or ``(N, k)`` for an extra dimension of k elements. Colours and
            ``nir`` are uint16 in 0..65535, also where the file holds 8-bit values in them. An extra dimension
            "Infrared" stands in for ``nir``.
        header: Of the file (of the first, for a tile with its buffer).
        has_colour, has_nir: The *file* has the channel. False where its format lacks it, every value in the file is 0,
            or it was not asked for; the fields lack it then.
    """

    xyz: np.ndarray
    fields: dict[str, np.ndarray]
    header: PointHeader
    has_colour: bool
    has_nir: bool

    def __len__(self) -> int:
        return len(self.xyz)

    def take(self, rows: np.ndarray) -> 'Points':
        """Return the points of a mask or of row numbers."""
        return replace(self, xyz=self.xyz[rows], fields={name: value[rows] for name, value in self.fields.items()})


def read_header(path: str | Path) -> PointHeader:
    """Read a file's header; cheap.

    Raises:
        UserError: There is no such file, it is no LAS or LAZ file, it is truncated, or it has no points.
    """
    return _Source(path).header


def read_points(path: str | Path, names: Sequence[str] | None = None,
                bounds: Sequence[float] | None = None) -> Points:
    """Read a file's points in their order.

    Args:
        path: LAS, LAZ or COPC.
        names: Dimensions beside the coordinates; default all. Names of :data:`CHANNELS` that the file lacks are left
            out, and the masks say so.
        bounds: ``(x0, y0, x1, y1)``: only points with x0 <= x < x1 and y0 <= y < y1.

    Raises:
        UserError: As :func:`read_header`; a file ends early or is damaged; a dimension does not exist.
    """
    source = _Source(path, names)
    if bounds is None:
        xyz, fields = _joined(source)
    else:
        parts = [_crop(part, bounds) for part in source.chunks(CHUNK)]
        xyz = np.concatenate([part[0] for part in parts])
        fields = {name: np.concatenate([part[1][name] for part in parts]) for name in parts[0][1]}
    return source.points(xyz, fields)


def iter_points(path: str | Path, names: Sequence[str] | None = None, chunk: int = CHUNK) -> Iterator[Points]:
    """Yield a file's points in their order, ``chunk`` at a time; see :func:`read_points`."""
    source = _Source(path, names)
    source.look_ahead()
    for xyz, fields in source.chunks(chunk):
        yield source.points(xyz, fields)


def _joined(source: '_Source') -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return all chunks as one, without ever holding the points twice."""
    count = source.header.count
    xyz, fields, done = np.empty((count, 3)), {}, 0
    for part, values in source.chunks(CHUNK):
        rows = slice(done, done + len(part))
        xyz[rows] = part
        for name, value in values.items():
            fields.setdefault(name, np.empty((count, *value.shape[1:]), value.dtype))[rows] = value
        done = rows.stop
    return xyz, fields


def _crop(part: tuple[np.ndarray, dict[str, np.ndarray]],
          bounds: Sequence[float]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    xyz, fields = part
    x0, y0, x1, y1 = bounds
    rows = np.flatnonzero((xyz[:, 0] >= x0) & (xyz[:, 0] < x1) & (xyz[:, 1] >= y0) & (xyz[:, 1] < y1))
    return xyz[rows], {name: value[rows] for name, value in fields.items()}


class _Source:
    """One file, opened for some of its dimensions.

    What a channel's numbers mean (missing, 8 bits, 16 bits) only the whole file tells. ``highest`` collects that while
    chunks are read, or before, see :meth:`look_ahead`.
    """

    def __init__(self, path: str | Path, names: Sequence[str] | None = None) -> None:
        self.layout = read_layout(path)
        self.format = point_format_of(self.layout)
        self.header = _header_of(self.layout, self.format)
        own = [name for name in self.header.dimensions if name not in ('X', 'Y', 'Z')]
        missing = sorted(set(names or ()) - set(own) - set(CHANNELS))
        if missing:
            raise UserError(f'{self.layout.path}: expected the dimension {", ".join(missing)}, found {", ".join(own)}')
        wanted = [*own, 'nir'] if names is None else list(dict.fromkeys(names))
        self.names = [name for name in dict.fromkeys(wanted) if name in own]
        colours = [name for name in COLOURS if name in own] if set(wanted) & set(COLOURS) else []
        self._infrared = [name for name in own if name.lower() in INFRARED] if 'nir' in wanted else []
        self.highest = dict.fromkeys((*colours, *self._infrared), 0)

    def look_ahead(self) -> None:
        """Fill ``highest``, reading until each channel had a value above 255: in most files that is the first chunk."""
        groups = [[name for name in COLOURS if name in self.highest], self._infrared]
        for block in self.layout.points(selection=_selection(self.highest)) if self.highest else ():
            self._watch(self._record(block))
            if all(max(self.highest[name] for name in group) > 255 for group in groups if group):
                break

    def chunks(self, chunk: int) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Yield coordinates and the dimensions as the file has them, those to be watched among them."""
        scales, offsets = self.header.scales, self.header.offsets
        names = list(dict.fromkeys((*self.names, *self._infrared)))
        for block in self.layout.points(chunk, _selection((*names, *self.highest))):
            record = self._record(block)
            self._watch(record)
            xyz = np.empty((len(block), 3))
            for axis, name in enumerate('XYZ'):
                np.multiply(record[name], scales[axis], out=xyz[:, axis])
                xyz[:, axis] += offsets[axis]
            yield xyz, {name: scaled(record, self.format, name) for name in names}

    def points(self, xyz: np.ndarray, fields: dict[str, np.ndarray]) -> Points:
        """Return points with channels of 16 bits, and without those that the file lacks."""
        colour = _factor(max((self.highest.get(name, 0) for name in COLOURS), default=0))
        infrared = next((name for name in self._infrared if self.highest[name]), None)
        found = {name: fields[name] for name in self.names if name not in CHANNELS}
        for name in COLOURS if colour else ():
            if name in self.names:
                found[name] = fields[name] * np.uint16(colour)
        if infrared is not None:
            found['nir'] = fields[infrared].astype(np.uint16) * np.uint16(_factor(self.highest[infrared]))
        return Points(xyz, found, self.header, colour > 0, infrared is not None)

    def _record(self, block: np.ndarray) -> PackedPointRecord:
        return PackedPointRecord.from_buffer(block.reshape(-1).data, self.format)

    def _watch(self, record: PackedPointRecord) -> None:
        for name, highest in self.highest.items():
            if highest <= 255:
                self.highest[name] = max(highest, int(np.max(record[name])))


def _selection(names: Iterable[str]) -> int:
    selection = _GEOMETRY
    for name in names:
        selection |= _LAYERS.get(name, _EVERY_OTHER)
    return selection


def _factor(highest: int) -> int:
    """Return what makes 16 bits of a channel: 0 where it is missing, 257 for 8 bits in a 16-bit field."""
    return 0 if highest == 0 else 257 if highest <= 255 else 1


def _header_of(layout: Layout, form: PointFormat) -> PointHeader:
    if not layout.count:
        raise UserError(f'{layout.path}: expected points, found none')
    numbers = np.frombuffer(layout.header, '<f8', 12, 131).tolist()  # scales, offsets, (max, min) of x, y, z
    names = tuple(form.dimension_names)
    extra = tuple(form.extra_dimension_names)
    return PointHeader(
        layout.path, (*numbers[7::2], *numbers[6::2]), layout.count, layout.point_format, f'1.{layout.minor}', names,
        extra, tuple(numbers[:3]), tuple(numbers[3:6]), 'red' in names,
        'nir' in names or any(name.lower() in INFRARED for name in extra), layout.crs)
