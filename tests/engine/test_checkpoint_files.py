"""Checkpoints on disk."""

import errno
import os
import shutil
import zipfile
from collections import namedtuple

import pytest
import torch

from projects.engine import checkpoint_files
from projects.engine.checkpoint_files import tensor_bytes, verify_checkpoint, write_checkpoint
from projects.engine.checkpoints import read_checkpoint
from projects.engine.errors import UserError


def content(size=1000):
    return {'state_dict': {'weight': torch.arange(size, dtype=torch.float32)}, 'meta': {'iter': 3}}


def test_written_verified_and_readable_by_plain_torch(tmp_path):
    path = tmp_path / 'iter_1.pth'
    write_checkpoint(content(), path)
    assert verify_checkpoint(path) is True
    assert torch.equal(torch.load(path, weights_only=True)['state_dict']['weight'], torch.arange(1000.0))
    assert zipfile.ZipFile(path).comment.startswith(b'terrace sha256 ')
    assert [found.name for found in tmp_path.iterdir()] == ['iter_1.pth']


@pytest.mark.parametrize('place', [0.3, 0.5, 0.9])
def test_one_flipped_bit_is_found_where_torch_finds_none(tmp_path, place):
    path = tmp_path / 'iter_1.pth'
    write_checkpoint(content(100_000), path)
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 1
    path.write_bytes(data)
    torch.load(path, weights_only=True)  # says nothing
    with pytest.raises(UserError, match='damaged, its checksum does not agree'):
        read_checkpoint(path)


def test_files_from_elsewhere_have_no_checksum(tmp_path):
    torch.save(content(), tmp_path / 'plain.pth')
    assert verify_checkpoint(tmp_path / 'plain.pth') is False
    assert read_checkpoint(tmp_path / 'plain.pth')['meta'] == {'iter': 3}
    (tmp_path / 'short.pth').write_bytes(b'abc')
    assert verify_checkpoint(tmp_path / 'short.pth') is False


def test_room_is_asked_for_first(tmp_path, monkeypatch):
    usage = namedtuple('usage', 'total used free')
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage(10**9, 10**9, 1_500_000))
    write_checkpoint(content(1000), tmp_path / 'iter_1.pth')
    with pytest.raises(UserError, match=r'iter_2.pth: not written, it takes 0.8 MB and the disk has 1.5 MB free'):
        write_checkpoint(content(200_000), tmp_path / 'iter_2.pth')
    assert [found.name for found in tmp_path.iterdir()] == ['iter_1.pth']


@pytest.mark.parametrize('moment', ['half_written', 'before_fsync', 'before_rename'])
def test_a_disk_that_fills_while_writing_leaves_the_old_file(tmp_path, monkeypatch, moment):
    path = tmp_path / 'iter_1.pth'
    write_checkpoint(content(), path)
    before = path.read_bytes()
    monkeypatch.setenv('TERRACE_FAIL_POINT', f'{moment}:iter_1.pth:full')
    with pytest.raises(UserError, match='not written .No space left on device.; make room'):
        write_checkpoint(content(2000), path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_another_error_of_the_system_is_told_without_advice(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(checkpoint_files, 'atomic_path', refuse)
    with pytest.raises(UserError, match=r'not written \(Read-only file system\)$'):
        write_checkpoint(content(), tmp_path / 'iter_1.pth')


def test_shared_storage_counts_once():
    weight = torch.zeros(10)
    assert tensor_bytes({'a': weight, 'b': [weight, (weight.double(),)]}) == 40 + 80
