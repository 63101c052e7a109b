"""Code is what git tracks."""

import subprocess

from projects.engine.tracking.source import LARGEST, read_source


def test_tracked_files_alone_with_what_they_hold_now(tmp_path):
    def git(*arguments):
        subprocess.run(['git', '-C', str(tmp_path), '-c', 'user.name=n', '-c', 'user.email=e', *arguments], check=True,
                       capture_output=True)

    git('init')
    for name in ('a.py', 'b/c.py', 'secret.txt', 'gone.py'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / 'weights.bin').write_bytes(bytes(LARGEST + 1))
    (tmp_path / 'link.py').symlink_to(tmp_path / 'secret.txt')
    git('add', 'a.py', 'b/c.py', 'weights.bin', 'link.py', 'gone.py')
    git('commit', '-m', 'x')
    source = read_source(tmp_path)
    assert source.files == ('a.py', 'b/c.py', 'gone.py') and not source.dirty and len(source.commit) == 40
    clean = source.sha256()
    (tmp_path / 'a.py').write_text('changed')
    (tmp_path / 'gone.py').unlink()
    source = read_source(tmp_path)
    assert source.files == ('a.py', 'b/c.py') and source.dirty and source.sha256() != clean


def test_no_checkout_has_no_source(tmp_path):
    assert read_source(tmp_path) is None
