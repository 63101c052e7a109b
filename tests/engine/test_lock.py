"""One training in a directory."""

import errno
import fcntl
import subprocess
import sys

from projects.engine.lock import is_locked, locked

OTHER = """
import sys
from projects.engine.errors import UserError
from projects.engine.lock import locked
try:
    with locked(sys.argv[1]):
        print('in')
except UserError as error:
    print(error)
"""


def other(folder):
    return subprocess.run([sys.executable, '-c', OTHER, folder], capture_output=True, text=True).stdout


def test_the_second_is_refused_until_the_first_is_done(tmp_path):
    with locked(tmp_path):
        assert 'is training in it; wait for it, or choose another --work-dir' in other(tmp_path)
    assert other(tmp_path) == 'in\n'


def test_a_lock_that_a_killed_process_left_holds_nobody(tmp_path):
    code = f'{OTHER}\nimport os\nwith locked(sys.argv[1]): os.kill(os.getpid(), 9)'
    subprocess.run([sys.executable, '-c', code, tmp_path], capture_output=True)
    assert (tmp_path / '.lock').read_text().startswith('process ')
    assert other(tmp_path) == 'in\n'
    with locked(tmp_path):
        pass




def test_a_file_system_without_locks_is_no_reason_to_refuse(tmp_path, monkeypatch, caplog):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(fcntl, 'lockf', no_locks)
    with locked(tmp_path):
        assert not is_locked(tmp_path)


def test_asking_does_not_take_it(tmp_path):
    assert not is_locked(tmp_path)
    code = 'import sys; from projects.engine.lock import is_locked; print(is_locked(sys.argv[1]))'
    with locked(tmp_path):
        asked = subprocess.run([sys.executable, '-c', code, tmp_path], capture_output=True, text=True).stdout
        assert asked == 'True\n' and 'is training in it' in other(tmp_path)
    assert not is_locked(tmp_path)
