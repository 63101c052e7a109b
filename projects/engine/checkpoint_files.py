"""Checkpoints on disk: written whole or not at all, with a checksum inside.

A checkpoint is PyTorch's own ZIP archive. Its checksum is the archive's comment, which every reader ignores: one file,
one rename, nothing to fall out of step. PyTorch itself loads an archive with a flipped bit without a word.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch

from projects.engine.errors import UserError
from projects.engine.failpoints import VARIABLE, fail_point
from projects.engine.files import atomic_path

MARK = b'terrace sha256 '
COMMENT = len(MARK) + 64


class _Hashing:
    """A file that hashes what is written to it."""

    def __init__(self, file: BinaryIO, path: Path, half: int) -> None:
        self.file, self.path, self.half = file, path, half
        self.sha256 = hashlib.sha256()
        self.written = 0
        self.armed = VARIABLE in os.environ

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        self.written += self.file.write(data)
        if self.armed and self.written >= self.half:
            self.file.flush()
            fail_point('half_written', self.path)
        return len(data)

    def flush(self) -> None:
        self.file.flush()


def write_checkpoint(checkpoint: dict, path: str | Path) -> None:
    """Write a checkpoint: to a temporary file, checksum, flush to the disk, rename. ``path`` is whole or not touched.

    Raises:
        UserError: There is not enough room, before or while writing; what was there stays.
    """
    path = Path(path)
    checkpoint.setdefault('meta', {})['checksum'] = True  # so that its absence is noticed
    fail_point('before_write', path)
    size = tensor_bytes(checkpoint)
    path.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(path.parent).free
    if free < 1.02 * size + 1_000_000:
        raise UserError(f'checkpoint {path}: not written, it takes {_mb(size)} and the disk has {_mb(free)} free; '
                        'make room and continue with --resume')
    try:
        with atomic_path(path) as temporary, open(temporary, 'wb') as file:
            hashing = _Hashing(file, path, size // 2)
            torch.save(checkpoint, hashing)
            comment = MARK + hashing.sha256.hexdigest().encode()
            file.seek(-2, 2)  # the last field of a ZIP archive: the length of its comment, 0
            file.write(len(comment).to_bytes(2, 'little') + comment)
    except (OSError, RuntimeError) as error:  # PyTorch turns a failed write into a RuntimeError, the cause beneath it
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, (OSError, KeyboardInterrupt)):
            cause = cause.__cause__ or cause.__context__
        if not isinstance(cause, OSError):
            raise cause or error from None
        hint = '; make room and continue with --resume' if cause.errno in (errno.ENOSPC, errno.EDQUOT,
                                                                           errno.EFBIG) else ''
        raise UserError(f'checkpoint {path}: not written ({cause.strerror or cause}){hint}') from error


def verify_checkpoint(path: str | Path) -> bool:
    """Compare a file with the checksum in it.

    Returns:
        True when there is one and it agrees, False when there is none (a file from elsewhere).

    Raises:
        UserError: It does not agree.
    """
    path = Path(path)
    with open(path, 'rb') as file:
        length = file.seek(0, 2)
        if length < COMMENT + 22:
            return False
        file.seek(-COMMENT, 2)
        comment = file.read(COMMENT)
        if not comment.startswith(MARK):
            return False
        file.seek(0)
        sha256, left = hashlib.sha256(), length - COMMENT - 2
        while left:
            data = file.read(min(left, 1 << 22))
            sha256.update(data)
            left -= len(data)
        sha256.update(b'\0\0')  # the comment's length, before there was a comment
    if sha256.hexdigest().encode() != comment[len(MARK):]:
        raise UserError(f'checkpoint {path}: damaged, its checksum does not agree')
    return True


def tensor_bytes(value: Any) -> int:
    """Return the size of all tensors in nested dicts and lists, in bytes; one that occurs twice counts once."""
    return sum({(tensor.untyped_storage().data_ptr(), tensor.nbytes): tensor.nbytes
                for tensor in _tensors(value)}.values())


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


def _mb(size: float) -> str:
    return f'{size / 1e6:,.1f} MB'
