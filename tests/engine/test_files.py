"""Files and folders are written whole or not at all."""

import os

import pytest

from projects.engine.errors import UserError
from projects.engine.files import atomic_folder, atomic_path, check_output_folder, sha256_of, write_json, write_text


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / 'a.txt'
    write_text(path, 'old')
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text('half')
        raise RuntimeError
    assert path.read_text() == 'old' and [p.name for p in tmp_path.iterdir()] == ['a.txt']


def test_a_folder_is_replaced_whole_or_stays_as_it_was(tmp_path, monkeypatch):
    folder = tmp_path / 'new' / 'a'
    with atomic_folder(folder) as temporary:
        (temporary / 'one').write_text('1')
        assert temporary.parent == folder.parent and not folder.exists()
    assert folder.stat().st_mode & 0o055  # not the private mode of a temporary folder
    with pytest.raises(RuntimeError), atomic_folder(folder) as temporary:
        (temporary / 'two').write_text('2')
        raise RuntimeError
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob('*'))] == [
        'new', 'new/a', 'new/a/one']
    with atomic_folder(folder) as temporary:
        (temporary / 'two').write_text('2')
    assert [path.name for path in sorted(tmp_path.rglob('*'))] == ['new', 'a', 'two']

    def replace(source, target, real=os.replace):
        if target == folder and '-old' not in source.name:
            raise OSError('the disk is gone')
        real(source, target)

    monkeypatch.setattr(os, 'replace', replace)
    with pytest.raises(OSError, match='the disk is gone'), atomic_folder(folder) as temporary:
        (temporary / 'three').write_text('3')
    assert [path.name for path in sorted(tmp_path.rglob('*'))] == ['new', 'a', 'two']  # moved back


def test_a_link_to_a_folder_stays_one(tmp_path, monkeypatch):
    folder, link = tmp_path / 'a', tmp_path / 'link'
    folder.mkdir()
    link.symlink_to(folder)
    monkeypatch.chdir(folder)
    for number, name in enumerate((link, '.')):
        with atomic_folder(name) as temporary:
            (temporary / str(number)).write_text('')
        assert link.is_symlink() and [path.name for path in folder.iterdir()] == [str(number)]
        monkeypatch.chdir(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a', 'link']


def test_json_and_hash(tmp_path):
    path = tmp_path / 'below' / 'a.json'
    write_json(path, {'ä': [1]})
    assert path.read_text() == '{\n "ä": [\n  1\n ]\n}\n'
    write_text(path, 'abc')
    assert sha256_of(path) == 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'
    assert path.stat().st_mode & 0o044  # not the private mode of a temporary file


def test_folders_that_cannot_be_written_to(tmp_path, monkeypatch):
    check_output_folder(tmp_path)
    check_output_folder(tmp_path / 'new' / 'below')
    assert not (tmp_path / 'new').exists()
    write_text(tmp_path / 'file', '')
    with pytest.raises(UserError, match=f'{tmp_path}/file: expected a folder for the outputs, found a file$'):
        check_output_folder(tmp_path / 'file')
    with pytest.raises(UserError, match=f'file/below: expected a folder .*, found a file: {tmp_path}/file$'):
        check_output_folder(tmp_path / 'file' / 'below')
    monkeypatch.setattr('os.access', lambda path, mode: path != tmp_path)  # a test may run as root, who may write
    with pytest.raises(UserError, match=f'{tmp_path}/new: expected .* found that {tmp_path} is not writable'):
        check_output_folder(tmp_path / 'new')
