"""Extra dimensions of LAS points: the records that describe them, read and extended (LAS 1.4 R15, table 24)."""

import struct
from collections.abc import Mapping

import numpy as np
from laspy.errors import LaspyException
from laspy.point.dims import DimensionInfo, DimensionKind
from laspy.point.format import PointFormat
from laspy.point.record import PackedPointRecord
from laspy.vlrs.known import ExtraBytesVlr

from projects.engine.errors import UserError
from projects.geo.las_layout import EXTRA_BYTES, Layout, Record

STRUCT = 192  # bytes that describe one dimension
UNDOCUMENTED = 0
UNDOCUMENTED_SIZE = 7  # larger ones make laspy look for a scale and an offset
_TYPES = ('u1', 'i1', 'u2', 'i2', 'u4', 'i4', 'u8', 'i8', 'f4', 'f8')  # codes 1 to 10


def described(layout: Layout) -> bytes:
    """Return the descriptions of all extra dimensions, one behind the other.

    Some writers leave several such records; readers that look at the first alone miss the rest. Bytes that nobody
    described get a description as "undocumented" where one has to follow.
    """
    return b''.join(record.data[:len(record.data) // STRUCT * STRUCT] for record in layout.find(EXTRA_BYTES))


def point_format_of(layout: Layout) -> PointFormat:
    """Return laspy's point format with all extra dimensions.

    Raises:
        UserError: A point is shorter than its format, or a description is damaged.
    """
    form = PointFormat(layout.point_format)
    standard = form.size
    if layout.size > standard and described(layout):
        record = ExtraBytesVlr()
        record.parse_record_data(described(layout))
        taken = set(form.dimension_names)
        try:
            infos = record.type_of_extra_dims()
        except (LaspyException, ValueError, KeyError, IndexError) as error:  # names that are no text among them
            raise UserError(f'{layout.path}: damaged description of the extra dimensions ({error})') from error
        for number, info in enumerate(infos):
            if not described(layout)[number * STRUCT + 2]:  # the byte of its options is a size here, laspy reads flags
                info.scales = info.offsets = info.no_data = None
            while info.name in taken:
                info.name += '_'
            taken.add(info.name)
            form.add_extra_dimension(info)
    rest = layout.size - form.size
    if rest < 0:
        raise UserError(f'{layout.path}: expected points of {form.size} bytes, found {layout.size}')
    if rest:
        form.dimensions.append(DimensionInfo('ExtraBytes', DimensionKind.UnsignedInteger, 8 * rest, rest, False,
                                             'undocumented'))
    return form


def scaled(record: PackedPointRecord, form: PointFormat, name: str) -> np.ndarray:
    """Return a dimension's values, ``(N,)`` or ``(N, k)``: bit fields as integers, scaled dimensions as float64."""
    info = form.dimension_by_name(name)
    values = np.array(record[name])
    if info.is_scaled:
        values = values * np.asarray(info.scales) + np.asarray(info.offsets)
    return values


def description(name: str, dtype: np.dtype, text: str) -> bytes:
    """Describe one extra dimension of one element.

    Raises:
        UserError: LAS has no such type, or a name or text of more than 32 bytes.
    """
    code = f'{dtype.kind}{dtype.itemsize}'
    if code not in _TYPES:
        raise UserError(f'{name}: expected an extra dimension of type {", ".join(_TYPES)}, found {dtype}')
    if not name or len(name.encode()) > 32 or len(text.encode()) > 32:
        raise UserError(f'{name}: expected an extra dimension with a name and a description of up to 32 bytes')
    return struct.pack('<2xBB32s4x120x32s', _TYPES.index(code) + 1, 0, name.encode(), text.encode())


def undocumented(size: int) -> bytes:
    """Describe bytes about which nothing is known, with names of their own: readers refuse equal ones."""
    steps = range(0, size, UNDOCUMENTED_SIZE)
    return b''.join(struct.pack('<2xBB32s4x120x32s', UNDOCUMENTED, min(UNDOCUMENTED_SIZE, size - at),
                                f'undocumented_{at}'.encode(), b'') for at in steps)


def extended_record(layout: Layout, extra: Mapping[str, tuple[np.dtype, str]]) -> Record:
    """Return one record that describes the extra dimensions of a file and new ones behind them.

    Raises:
        UserError: A new name exists already.
    """
    form = point_format_of(layout)
    taken = sorted(set(extra) & set(form.dimension_names))
    if taken:
        raise UserError(f'{layout.path}: expected no dimension {", ".join(taken)} yet, found one')
    before = described(layout) if layout.size > PointFormat(layout.point_format).size else b''
    names = list(form.extra_dimension_names)
    if names[-1:] == ['ExtraBytes'] and (before == b'' or len(names) > len(before) // STRUCT):
        rest = form.dimension_by_name('ExtraBytes').num_elements
        before += undocumented(rest)
    new = b''.join(description(name, np.dtype(dtype), text) for name, (dtype, text) in extra.items())
    return Record.make(EXTRA_BYTES, before + new, 'extra dimensions')
