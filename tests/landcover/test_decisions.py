"""The decisions file: what counts, what is refused, what a killed writer may leave."""

import json
import logging
from pathlib import Path

import pytest

from projects.engine.errors import UserError
from projects.landcover.data.decisions import Decision, append_decision, read_decisions, read_rows

TIME = '2026-01-02T03:04:05+00:00'


def row(sample_id: str, decision: str, note: str = '', order: str = 'ba') -> Decision:
    return Decision(sample_id, decision, note, TIME, order)


@pytest.mark.parametrize('name', ['decisions.csv', 'deep/decisions.json'])
def test_the_last_row_counts_and_undone_ones_are_gone(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    rows = [row('x', 'keep'), row('y', 'a', 'roof, "north"\nside; é'), row('x', 'b'), row('z', 'skip'), row('z', '')]
    for decision in rows:
        append_decision(path, decision)
    found = read_decisions(path)
    assert found == {'y': row('y', 'a', 'roof, "north" side; é'), 'x': row('x', 'b')}
    assert list(found) == ['y', 'x']
    assert [decision.decision for decision in read_rows(path)] == ['keep', 'a', 'b', 'skip', '']


def test_csv_is_one_header_and_one_line_a_row(tmp_path: Path) -> None:
    path = tmp_path / 'decisions.csv'
    append_decision(path, row('x', 'keep', 'a, b'))
    append_decision(path, row('y', 'a'))
    assert path.read_text(encoding='utf-8') == (
        f'sample_id,decision,note,time,order\nx,keep,"a, b",{TIME},ba\ny,a,,{TIME},ba\n')


@pytest.mark.parametrize('tail', ['y', 'y,ke', 'y,keep,"half a no', 'y,keep,note,2026', 'y,delete,,t,ba'])
def test_a_torn_last_line_is_ignored_and_cut_off_by_the_next(tmp_path: Path, tail: str,
                                                             caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / 'decisions.csv'
    append_decision(path, row('x', 'keep'))
    whole = path.read_bytes()
    path.write_bytes(whole + tail.encode())
    with caplog.at_level(logging.WARNING):
        assert list(read_decisions(path)) == ['x']
    assert 'the last line is not complete' in caplog.text
    append_decision(path, row('z', 'b'))
    assert path.read_bytes() == whole + f'z,b,,{TIME},ba\n'.encode()


def test_a_torn_character_and_a_torn_header(tmp_path: Path) -> None:
    path = tmp_path / 'decisions.csv'
    path.write_bytes(b'sample_id,deci')
    assert read_decisions(path) == {}
    append_decision(path, row('x', 'keep'))
    path.write_bytes(path.read_bytes() + 'y,keep,é'.encode()[:-1])
    assert list(read_decisions(path)) == ['x']


def test_a_whole_last_line_without_a_line_break_counts(tmp_path: Path) -> None:
    path = tmp_path / 'decisions.csv'
    path.write_text('sample_id,decision\nx,keep\ny,a')  # as an editor may leave it
    assert {key: value.decision for key, value in read_decisions(path).items()} == {'x': 'keep', 'y': 'a'}
    append_decision(path, row('z', 'skip', 'lost: there is no such column'))
    assert path.read_text() == 'sample_id,decision\nx,keep\ny,a\nz,skip\n'


@pytest.mark.parametrize(('text', 'message'), [
    ('sample_id,decision\nx,delete\n', r"row 1 \(x\): decision: expected keep, the letter of a model, skip or nothing, "
                                       "found 'delete'"),
    ('sample_id,decision\nx,A\n', "found 'A'"),
    ('sample_id,verdict\nx,keep\n', 'columns: expected sample_id,decision,note,time,order, found sample_id,verdict'),
    ('sample_id,note\nx,keep\n', 'columns: expected'),
    ('sample_id,decision\nx,keep,more\n', 'row 1: expected 2 columns, found 3'),
    ('sample_id,decision\n,keep\n', 'sample_id is empty'),
])
def test_a_wrong_file_is_told_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / 'decisions.csv'
    path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        read_decisions(path)
    assert '\n' not in str(error.value) and str(path) in str(error.value)


@pytest.mark.parametrize(('value', 'message'), [
    ({'sample_id': 'x'}, 'expected a list'),
    ([{'sample_id': 'x'}], r"row 1: unknown keys \[\], missing keys \['decision'\]"),
    ([{'sample_id': 'x', 'decision': 1}], 'decision: expected a text, found 1'),
])
def test_wrong_json(tmp_path: Path, value: object, message: str) -> None:
    path = tmp_path / 'decisions.json'
    path.write_text(json.dumps(value))
    with pytest.raises(UserError, match=message):
        read_decisions(path)


def test_only_known_models_and_known_decisions(tmp_path: Path) -> None:
    path = tmp_path / 'decisions.csv'
    with pytest.raises(UserError, match='no such decisions file'):
        read_decisions(path)
    with pytest.raises(UserError, match="found 'ab'"):
        append_decision(path, row('x', 'ab'))
    assert not path.exists()
    append_decision(path, row('x', 'c'))
    with pytest.raises(UserError, match="expected keep, a, b, skip or nothing, found 'c'"):
        read_decisions(path, letters='ab')
