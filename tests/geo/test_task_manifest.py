"""Records of finished tasks: what a rerun does again."""

from pathlib import Path

import pytest

from projects.engine.errors import UserError
from projects.engine.failpoints import VARIABLE
from projects.geo.task_manifest import TaskManifest, digest_of, file_identity


def test_digests_know_values_and_not_their_order() -> None:
    assert digest_of({'a': 1, 'b': [1, 2]}) == digest_of({'b': [1, 2], 'a': 1})
    assert len({digest_of(value) for value in ({'a': 1}, {'a': 2}, {'a': '1'}, {'b': 1}, [1], None)}) == 6


def test_a_file_that_changed_is_another(tmp_path: Path) -> None:
    path = tmp_path / 'tile.laz'
    path.write_bytes(b'abc')
    before = file_identity(path)
    assert file_identity(path) == before
    path.write_bytes(b'abcd')
    assert file_identity(path) != before


def test_a_rerun_does_what_is_missing_or_changed(tmp_path: Path) -> None:
    manifest = TaskManifest(tmp_path / 'tiles')
    wanted = {name: digest_of(name) for name in 'abcde'}
    assert manifest.pending(wanted) == list('abcde')
    (tmp_path / 'tiles').mkdir()
    for name in 'abcd':
        (tmp_path / 'tiles' / f'{name}.bin').write_bytes(b'data')
        manifest.write(name, wanted[name], {'points': 7}, (f'{name}.bin',))
    assert manifest.read('a') == {'points': 7, 'digest': wanted['a'], 'outputs': {'a.bin': 4}}
    assert manifest.pending(wanted) == ['e']

    (tmp_path / 'tiles' / 'a.bin').unlink()  # its output is gone
    (tmp_path / 'tiles' / 'b.bin').write_bytes(b'cut')  # or has another size
    manifest.path('c').write_text('{"digest":')  # or its record is damaged
    assert manifest.pending({**wanted, 'd': digest_of('other settings')}) == list('abcde')
    assert manifest.pending(wanted) == list('abce')
    manifest.forget('d')
    manifest.forget('d')
    assert manifest.pending(wanted) == list('abcde')
    assert manifest.read('c') is None


def test_a_full_disk_leaves_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = TaskManifest(tmp_path)
    monkeypatch.setenv(VARIABLE, 'before_rename:a.json:full')
    with pytest.raises(OSError, match='No space left'):
        manifest.write('a', 'digest')
    manifest.write('b', 'digest')
    assert manifest.pending({'a': 'digest', 'b': 'digest'}) == ['a']
    assert [path.name for path in tmp_path.iterdir()] == ['b.json']


def test_leftovers_of_killed_writers_go(tmp_path: Path) -> None:
    (tmp_path / '.a.tmp-x1.json').write_text('half')
    manifest = TaskManifest(tmp_path)
    manifest.write('b', 'digest')
    manifest.remove_leftovers()
    assert [path.name for path in tmp_path.iterdir()] == ['b.json']


def test_a_file_in_the_folders_place(tmp_path: Path) -> None:
    (tmp_path / 'tiles').write_text('')
    with pytest.raises(UserError, match='tiles: expected a folder, found a file'):
        TaskManifest(tmp_path / 'tiles').pending({'a': 'digest'})
