"""A mistake is one line and status 2."""

import pytest

from projects.engine.cli import Parser, add_cfg_options, run
from projects.engine.errors import UserError


def ended(main, capsys):
    with pytest.raises(SystemExit) as caught:
        run(main)
    return caught.value.code, capsys.readouterr().err


def raising(error):
    def main():
        raise error
    return main


def test_a_user_error_is_one_line(capsys):
    assert ended(raising(UserError('a.png: two\n  lines')), capsys) == (2, 'error: a.png: two lines\n')


def test_what_one_rank_alone_has_met_is_told(capsys, monkeypatch):
    monkeypatch.setenv('RANK', '1')
    assert ended(raising(UserError('a.png: truncated')), capsys) == (2, 'error: (rank 1) a.png: truncated\n')


def test_the_traceback_that_torch_wraps_around_a_worker_is_dropped(capsys):
    wrapped = ('Caught UserError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  File '
               '"x.py", line 1\nprojects.engine.errors.UserError: a.png: truncated\n')
    assert ended(raising(UserError(wrapped)), capsys) == (2, 'error: a.png: truncated\n')


def test_a_full_disk_is_one_line(capsys):
    assert ended(raising(OSError(28, 'No space left on device', 'run/a.pth')), capsys) == (
        2, 'error: run/a.pth: No space left on device\n')


def test_success_status_and_traceback_on_request(capsys, monkeypatch):
    assert ended(lambda: None, capsys) == (0, '')
    assert ended(lambda: 3, capsys) == (3, '')
    monkeypatch.setenv('TERRACE_DEBUG', '1')
    with pytest.raises(UserError):
        run(raising(UserError('a')))


def test_a_wrong_option_is_one_line(capsys, monkeypatch):
    def main():
        parser = Parser(prog='tool')
        add_cfg_options(parser)
        parser.parse_args()

    monkeypatch.setattr('sys.argv', ['tool', '--foo'])
    assert ended(main, capsys) == (2, 'error: unrecognized arguments: --foo (see tool --help)\n')
    monkeypatch.setattr('sys.argv', ['tool', '--cfg-options', 'foo'])
    assert ended(main, capsys) == (2, "error: --cfg-options: expected KEY=VALUE, found 'foo'\n")
