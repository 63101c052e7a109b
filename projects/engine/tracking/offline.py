"""The ``.wandb`` file of a run: what Weights & Biases has written down, and up to where it is whole.

The file is a log in LevelDB's format (github.com/google/leveldb/blob/main/doc/log_format.md) behind seven bytes of
header: blocks of 32 KiB, each record cut into chunks of CRC-32, length and type; a record is a protocol buffer. A
process that was killed leaves the last record half written, and ``wandb sync`` gives such a file up.
"""

import json
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from projects.engine.scalars import Key
from projects.engine.tracking.history import key_of

HEADER = struct.pack('<4sHB', b':W&B', 0xBEE1, 0)
BLOCK = 1 << 15
CHUNK = struct.Struct('<IHB')
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@dataclass
class Transcript:
    """One ``.wandb`` file, read."""

    path: Path
    history: list[dict[str, Any]] = field(default_factory=list)  # rows, their nested values as dicts
    records: list[Any] = field(default_factory=list)  # all others, as protocol buffers
    whole: int = 0  # bytes that hold whole records
    size: int = 0

    @property
    def torn(self) -> bool:
        """Whether the file ends within a record."""
        return self.whole < self.size

    @property
    def offline(self) -> bool:
        return self.path.parent.name.startswith('offline-')

    @property
    def synced(self) -> bool:
        """Whether ``wandb sync`` has sent it."""
        return self.path.with_name(self.path.name + '.synced').exists()

    @property
    def run(self) -> Any:
        """The run's record (id, project, group, job type, name, tags), or None in a file that ends before it."""
        return next((record.run for record in self.records if record.WhichOneof('record_type') == 'run'), None)

    def keys(self) -> set[Key]:
        """Return what the rows of training and validation are identified by."""
        return {key for row in self.history if (key := key_of(row)) is not None}

    def summary(self) -> dict[str, Any]:
        """Return the summary that the file ends with."""
        found: dict[str, Any] = {}
        for record in self.records:
            for item in record.summary.update:
                *above, last = list(item.nested_key) or [item.key]
                here = found
                for key in above:
                    if not isinstance(here.get(key), dict):
                        here[key] = {}
                    here = here[key]
                here[last] = json.loads(item.value_json)
        return found

    def next_step(self) -> int:
        """Return the first of W&B's own steps that is free."""
        return 1 + max((int(row.get('_step', -1)) for row in self.history), default=-1)


def read_transcript(path: str | Path) -> Transcript:
    """Read a ``.wandb`` file as far as it is whole."""
    from wandb.proto import wandb_internal_pb2

    path = Path(path)
    data = path.read_bytes()
    transcript = Transcript(path, size=len(data), whole=min(len(HEADER), len(data)))
    for body, end in records(data):
        record = wandb_internal_pb2.Record.FromString(body)
        transcript.whole = end
        if record.WhichOneof('record_type') == 'history':
            transcript.history.append({
                '.'.join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item})
        else:
            transcript.records.append(record)
    return transcript


def transcripts(work_dir: str | Path, run_id: str) -> list[Transcript]:
    """Return the files of a run below its work directory, oldest first."""
    folders = sorted(Path(work_dir).glob(f'wandb/*run-*-{run_id}'), key=lambda folder: folder.name.split('run-', 1)[1])
    return [read_transcript(path) for folder in folders if (path := folder / f'run-{run_id}.wandb').is_file()]


def encode(bodies: Iterable[bytes]) -> bytes:
    """Return the bytes of a ``.wandb`` file with these records."""
    data = bytearray(HEADER)
    for body in bodies:
        view, first = memoryview(body), True
        while True:
            left = BLOCK - len(data) % BLOCK
            if left < CHUNK.size:
                data += bytes(left)
                continue
            part = view[:left - CHUNK.size]
            view = view[len(part):]
            kind = (FULL if first else LAST) if not view else (FIRST if first else MIDDLE)
            data += CHUNK.pack(zlib.crc32(bytes([kind]) + bytes(part)), len(part), kind) + part
            first = False
            if not view:
                break
    return bytes(data)


def records(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield each whole record and the position behind it; stop at the first that is not."""
    if not data.startswith(HEADER[:6]):
        return
    position, parts = len(HEADER), []
    while True:
        left = BLOCK - position % BLOCK
        if left < CHUNK.size:  # too short for a chunk: padding
            position += left
            continue
        if position + CHUNK.size > len(data):
            return
        checksum, length, kind = CHUNK.unpack_from(data, position)
        body = data[position + CHUNK.size:position + CHUNK.size + length]
        if len(body) < length or not FULL <= kind <= LAST or zlib.crc32(bytes([kind]) + body) != checksum:
            return
        position += CHUNK.size + length
        parts = [body] if kind in (FULL, FIRST) else [*parts, body]
        if kind in (FULL, LAST):
            yield b''.join(parts), position
