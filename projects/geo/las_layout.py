"""A LAS or LAZ file as bytes: where its header, records and points lie, and whether they are all there.

Copies that change nothing but what they add work on these bytes: a reader that parses a record and writes it again
loses what it does not know. Offsets are those of the LAS 1.4 R15 specification, tables 3, 5 and 7.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import lazrs
import numpy as np

from projects.engine.errors import UserError

SHORTEST_HEADER = 227
RECORD_HEADER, EXTENDED_HEADER = 54, 60
EXTRA_BYTES = ('LASF_Spec', 4)
LASZIP = ('laszip encoded', 22204)
WKT, GEO_KEYS = ('LASF_Projection', 2112), ('LASF_Projection', 34735)
PROJECTED, USER_DEFINED = 3072, 32767  # GeoTIFF: the key of the projected system, and the value of one without a number
COMPRESSED = 0x80  # bit of the point format; the one of COPC files is the same
POINT_FORMATS = range(11)
CHUNK = 50_000  # points that LAZ files compress together
MOST_PER_BYTE = 10_000  # points; equal ones compress to some hundreds


@dataclass(frozen=True)
class Record:
    """A variable-length record: 54 bytes of header (60 in an extended one) and the data, as they stand in the file."""

    raw: bytes
    extended: bool = False

    @property
    def key(self) -> tuple[str, int]:
        """User id and record id."""
        user, number = struct.unpack_from('<16sH', self.raw, 2)
        return user.rstrip(b'\0').decode('ascii', 'replace'), number

    @property
    def data(self) -> bytes:
        """The record's content."""
        return self.raw[EXTENDED_HEADER if self.extended else RECORD_HEADER:]

    @classmethod
    def make(cls, key: tuple[str, int], data: bytes, description: str = '') -> 'Record':
        """Make a record that is not an extended one."""
        return cls(struct.pack('<H16sHH32s', 0, key[0].encode(), key[1], len(data), description.encode()) + data)


@dataclass(frozen=True)
class Layout:
    """The parts of one file.

    Attributes:
        path: The file.
        header: The header block, 227 bytes or more.
        records: The variable-length records in order.
        gap: Bytes between the last of them and the points.
        extended: The extended records behind the points, in order.
    """

    path: Path
    header: bytes
    records: tuple[Record, ...]
    gap: bytes
    extended: tuple[Record, ...]

    def _field(self, form: str, offset: int) -> int:
        return struct.unpack_from('<' + form, self.header, offset)[0]

    @property
    def minor(self) -> int:
        """2 of version 1.2."""
        return self.header[25]

    @property
    def start(self) -> int:
        """Offset of the points."""
        return self._field('I', 96)

    @property
    def point_format(self) -> int:
        """0 to 10."""
        return self.header[104] & 0x3F

    @property
    def compressed(self) -> bool:
        """LAZ (or COPC) rather than LAS."""
        return bool(self.header[104] & COMPRESSED)

    @property
    def size(self) -> int:
        """Bytes of one point."""
        return self._field('H', 105)

    @property
    def count(self) -> int:
        """Points that the header promises."""
        return (self._field('Q', 247) if self.minor >= 4 else 0) or self._field('I', 107)

    @property
    def internal_waveforms(self) -> bool:
        """Waveforms stand in this file, at an offset that the header holds."""
        return bool(self._field('H', 6) & 2)

    def find(self, key: tuple[str, int]) -> list[Record]:
        """Return the records, not the extended ones, of a user id and a record id."""
        return [record for record in self.records if record.key == key]

    @property
    def crs(self) -> str | None:
        """``EPSG:NUMBER`` of the plane coordinates, by the text record or the GeoTIFF keys; None where neither says."""
        for record in (*self.records, *self.extended):
            if record.key == WKT and (found := _plane_epsg(record.data.decode('utf-8', 'replace'))):
                return f'EPSG:{found}'
        for record in self.find(GEO_KEYS):
            keys = np.frombuffer(record.data[:len(record.data) // 8 * 8], '<u2').reshape(-1, 4)
            for key, place, _, value in keys[1:].tolist():
                if key == PROJECTED and place == 0 and 0 < value < USER_DEFINED:
                    return f'EPSG:{value}'
        return None

    @cached_property
    def laszip(self) -> bytes:
        """What the compressor has to know."""
        found = self.find(LASZIP)
        if not found:
            raise UserError(f'{self.path}: expected the record "{LASZIP[0]}" of a compressed file, found none')
        return found[0].data

    def points(self, chunk: int = CHUNK, selection: int | None = None) -> Iterator[np.ndarray]:
        """Yield the points' bytes in order, ``(<= chunk, size)`` uint8; an array is the caller's to keep.

        Args:
            chunk: Points at a time.
            selection: Flags ``lazrs.SELECTIVE_DECOMPRESS_*``: the other fields of formats 6 to 10 may stay zero.

        Raises:
            UserError: The file ends, or cannot be decompressed, before the last point.
        """
        with open(self.path, 'rb') as file:
            file.seek(self.start)
            source = _Decompressor(self, file, selection) if self.compressed else file
            done = 0
            while done < self.count:
                block = np.zeros((min(chunk, self.count - done), self.size), np.uint8)
                try:
                    got = source.readinto(block.data.cast('B'))
                except lazrs.LazrsError as error:
                    raise damaged(self, done, str(error)) from error
                if got < block.size:
                    raise truncated(self, done + got // self.size)
                done += len(block)
                yield block


def _plane_epsg(text: str) -> str | None:
    """Return the number of the projected system in a WKT text, version 1 or 2, that of the heights aside."""
    begin = re.search(r'PROJ(CS|CRS|ECTEDCRS)\[', text)
    if begin is None:
        return None
    depth, number = 1, None
    for part in re.finditer(r'(?:AUTHORITY|ID)\["EPSG",\s*"?(\d+)"?|"[^"]*"|[\[\]]', text[begin.end():]):
        if part[1]:
            number = part[1] if depth == 1 else number
            depth += 1
        elif part[0] in '[]':
            depth += 1 if part[0] == '[' else -1
        if depth == 0:
            break
    return number


class _Decompressor:
    """LAZ points as a readable file."""

    def __init__(self, layout: Layout, file: BinaryIO, selection: int | None = None) -> None:
        chosen = lazrs.DecompressionSelection(lazrs.SELECTIVE_DECOMPRESS_ALL if selection is None else selection)
        try:
            self._inner = lazrs.LasZipDecompressor(file, layout.laszip, chosen)
        except lazrs.LazrsError as error:
            raise UserError(f'{layout.path}: damaged file: the table of its compressed points is not readable '
                            f'({error})') from error

    def readinto(self, block: memoryview) -> int:
        self._inner.decompress_many(block)
        return len(block)


def read_layout(path: str | Path) -> Layout:
    """Read everything but the points, and check by the file's size that the points can be there.

    Raises:
        UserError: There is no such file, it is no LAS or LAZ file, or it ends before what its header promises.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f'{path}: no such file')
    length = path.stat().st_size
    with open(path, 'rb') as file:
        head = file.read(SHORTEST_HEADER)
        if head[:4] != b'LASF':
            raise UserError(f'{path}: expected a LAS or LAZ file, found '
                            + (f'a {path.suffix or "nameless"} file that begins with {head[:4]!r}' if head
                               else 'an empty file'))
        if len(head) < SHORTEST_HEADER:
            raise UserError(f'{path}: truncated: expected a header of {SHORTEST_HEADER} bytes, found {len(head)}')
        header_size, start, records = struct.unpack_from('<HII', head, 94)
        head += file.read(max(0, header_size - SHORTEST_HEADER))
        if (head[24], head[25] > 4) != (1, False):
            raise UserError(f'{path}: expected LAS 1.0 to 1.4, found version {head[24]}.{head[25]}')
        if head[104] & 0x3F not in POINT_FORMATS:
            raise UserError(f'{path}: expected a point format from 0 to 10, found {head[104] & 0x3F}')
        if length < start or len(head) < header_size:
            raise UserError(f'{path}: truncated: expected points from byte {start:,} on, found {length:,} bytes')
        if header_size < (375 if head[25] >= 4 else SHORTEST_HEADER):
            raise UserError(f'{path}: damaged header: LAS 1.{head[25]} cannot have one of {header_size} bytes')
        found = tuple(_read_records(path, file, records, False))
        gap = file.read(max(0, start - file.tell()))
        layout = Layout(path, head, found, gap, ())
        _check_length(layout, file, length)
        if layout.minor >= 4 and layout._field('I', 243):
            file.seek(layout._field('Q', 235))
            layout = Layout(path, head, found, gap, tuple(_read_records(path, file, layout._field('I', 243), True)))
    return layout


def _read_records(path: Path, file: BinaryIO, count: int, extended: bool) -> Iterator[Record]:
    for number in range(count):
        head = file.read(EXTENDED_HEADER if extended else RECORD_HEADER)
        size = struct.unpack_from('<Q' if extended else '<H', head, 20)[0] if len(head) > 27 else 1
        data = file.read(size) if size <= path.stat().st_size else b''
        if len(data) < size:
            what = 'extended record' if extended else 'record'
            raise UserError(f'{path}: truncated: expected {count} {what}s, found {number}')
        yield Record(head + data, extended)


def _check_length(layout: Layout, file: BinaryIO, length: int) -> None:
    if not layout.count:
        return
    if layout.count > MOST_PER_BYTE * length:  # before somebody reserves memory for them
        raise UserError(f'{layout.path}: damaged header: {layout.count:,} points in {length:,} bytes')
    if not layout.compressed:
        found = (length - layout.start) // max(1, layout.size)
        if found < layout.count:
            raise truncated(layout, found)
        return
    file.seek(layout.start)
    table = int.from_bytes(file.read(8), 'little', signed=True)
    if table == -1 and length - 8 > layout.start:  # a writer that could not seek left the offset at the end
        file.seek(length - 8)
        table = int.from_bytes(file.read(8), 'little', signed=True)
    if not layout.start < table <= length - 8:
        raise truncated(layout, _count_readable(layout, length))


def truncated(layout: Layout, found: int) -> UserError:
    """Return the error of a file that ends too early."""
    return UserError(f'{layout.path}: truncated file: expected {layout.count:,} points, found {found:,}')


def damaged(layout: Layout, found: int, reason: str) -> UserError:
    """Return the error of a file whose points cannot be decompressed."""
    return UserError(f'{layout.path}: damaged file: expected {layout.count:,} points, found {found:,} readable ones '
                     f'({reason})')


def _count_readable(layout: Layout, length: int) -> int:
    """Count the points that a LAZ file without its end still gives."""
    with open(layout.path, 'rb') as file:
        if length <= layout.start + 8:
            return 0
        mended = _WithTable(file, layout.start, length)
        source = _Decompressor(layout, mended)
        found = 0
        while found < layout.count:
            block = np.zeros((min(5_000, layout.count - found), layout.size), np.uint8)
            try:
                source.readinto(block.data.cast('B'))
            except lazrs.LazrsError:
                filled = np.flatnonzero(block.any(1))
                return found + (int(filled[-1]) + 1 if len(filled) else 0)
            found += len(block)
    return found


class _WithTable:
    """A cut LAZ file with an empty chunk table at its end: the decompressor refuses to begin without one."""

    def __init__(self, file: BinaryIO, start: int, length: int) -> None:
        self._file, self._start, self._length, self._at = file, start, length, start
        self._parts = ((start, length.to_bytes(8, 'little')), (length, bytes(8)))

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._length + 8)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        end = self._length + 8
        size = end - self._at if size < 0 else max(0, min(size, end - self._at))
        self._file.seek(min(self._at, self._length))
        data = bytearray(self._file.read(size).ljust(size, b'\0'))
        for place, patch in self._parts:
            low, high = max(place, self._at), min(place + 8, self._at + size)
            if low < high:
                data[low - self._at:high - self._at] = patch[low - place:high - place]
        self._at += size
        return bytes(data)

    def readinto(self, block: memoryview) -> int:
        data = self.read(len(block))
        block[:len(data)] = data
        return len(data)
