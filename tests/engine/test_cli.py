"""A mistake is one line and status 2; what --cfg-options means."""

import subprocess
import sys

import pytest

from projects.engine.cli import Parser, add_cfg_options, run
from projects.engine.errors import UserError
from projects.engine.options import read_options, read_value, write_value


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
    monkeypatch.setattr('sys.argv', ['tool', '--cfg-options', 'a=1', 'x=[1,2'])
    assert ended(main, capsys) == (2, "error: --cfg-options x: brackets do not match in '[1,2'; a text with commas "
                                      'stands in quotes\n')


def test_options_add_up_and_the_last_one_counts():
    parser = Parser()
    add_cfg_options(parser)
    arguments = ['--cfg-options', 'a.b=1', 'root=my data/x', '--cfg-options', 'a.b=(2,3)', 'm=${x.y}']
    assert parser.parse_args(arguments).cfg_options == {'a.b': (2, 3), 'root': 'my data/x', 'm': '${x.y}'}
    assert parser.parse_args([]).cfg_options is None


@pytest.mark.parametrize(('text', 'value'), [
    ('3', 3), ('1e-4', 1e-4), ('-.5', -.5), ('true', True), ('False', False), ('None', None), ('', ''), ('a', 'a'),
    ('1,2', [1, 2]), ('a,', ['a']), ('[1, 2]', [1, 2]), ('(1,)', (1,)), ('(1)', (1,)), ('[]', []), ('()', ()),
    ('[[1,2],(a,None)]', [[1, 2], ('a', None)]), ("['a', 'b']", ['a', 'b']), ('"[(1,2)]"', [(1, 2)]), ('[1', '[1')])
def test_values_that_mmengine_reads_the_same(text, value):
    from mmengine.config import DictAction
    assert repr(read_value(text)) == repr(DictAction._parse_iterable(text)) == repr(value)


@pytest.mark.parametrize(('text', 'value'), [
    ('Forest Land', 'Forest Land'), (' a b ', ' a b '), ('[Forest Land,x]', ['Forest Land', 'x']), ("it's", "it's"),
    ("'1, 2'", '1, 2'), ('"True"', 'True'), ("'[a]'", '[a]'), ("['a, b',c]", ['a, b', 'c']), ('(a) b (c)', '(a) b (c)'),
    ('(1,2),(3,4)', [(1, 2), (3, 4)]), ('a (1, 2)/x', 'a (1, 2)/x')])
def test_texts_that_mmengine_would_change(text, value):
    assert repr(read_value(text)) == repr(value)


@pytest.mark.parametrize(('text', 'message'), [
    ('[1,2', 'brackets do not match'), ('[1,(2]', 'brackets do not match'), ("a,'b", 'a quote is not closed')])
def test_lists_that_do_not_end(text, message):
    with pytest.raises(UserError, match=f'--cfg-options x: {message} in'):
        read_options([f'x={text}'])


@pytest.mark.parametrize('value', [
    1, 1.5, 1e-5, True, None, '', 'a b', '1', 'None', 'a,b', '[a]', "'q'", '"[a]"', "it's (", [], (), (1,), [''],
    [(1, 2), ['a, b', 'c d', None]]])
def test_what_is_written_is_read_as_the_same(value):
    assert repr(read_value(write_value(value))) == repr(value)


@pytest.mark.parametrize('value', [{}, {'a': 1}, object(), float('nan'), '\'a\', "b"'])
def test_what_cannot_be_written_is_refused(value):
    with pytest.raises(ValueError, match='cannot be written as a value of --cfg-options'):
        write_value(value)


def test_options_bring_no_torch():
    code = ('import sys; from projects.engine.cli import Parser, add_cfg_options; add_cfg_options(Parser()); '
            'sys.exit("torch" in sys.modules)')
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0
