"""scalars.json of all starts, joined."""

import json
from pathlib import Path

import pytest

from projects.engine import scalars as module
from projects.engine.scalars import Row, Scalars, read_scalars


def write(work_dir: Path, start: int, lines: list, tail: str = '') -> Path:
    path = work_dir / f'20260101_00000{start}' / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(json.dumps(line) + '\n' for line in lines) + tail)
    return path


def train(iteration: int, **more) -> dict:
    return {'loss': iteration / 10, 'iter': iteration, 'step': iteration, **more}


def val(iteration: int, score: float = 0.5) -> dict:
    return {'mIoU': score, 'step': iteration}


def keys(work_dir: Path) -> list:
    return [row.key for row in read_scalars(work_dir)]


def test_a_row_holds_its_clocks_apart_from_its_values(tmp_path):
    write(tmp_path, 0, [train(3, epoch=1), val(3)])
    assert read_scalars(tmp_path) == [Row('train', 3, 1, 0, {'loss': 0.3}), Row('val', 3, None, 0, {'mIoU': 0.5})]


def test_a_validation_repeated_at_the_resume_point_takes_no_training_line_with_it(tmp_path):
    write(tmp_path, 0, [*map(train, range(1, 7)), val(6, 0.1), train(7), train(8)])
    write(tmp_path, 1, [val(6, 0.2), *map(train, range(7, 13)), val(12)])
    assert keys(tmp_path) == [*(('train', index) for index in range(1, 7)), ('val', 6),
                              *(('train', index) for index in range(7, 13)), ('val', 12)]
    assert [row.start for row in read_scalars(tmp_path)] == [0] * 6 + [1] * 8


def test_what_a_resume_goes_back_behind_is_gone(tmp_path):
    write(tmp_path, 0, [train(5), val(5), train(10), val(10), train(15), val(15)])
    write(tmp_path, 1, [train(10), val(12)])
    assert keys(tmp_path) == [('train', 5), ('val', 5), ('train', 10), ('val', 12)]


def test_a_start_without_training_drops_nothing(tmp_path):
    write(tmp_path, 0, [train(5), val(5), train(10), val(10)])
    write(tmp_path, 1, [])
    write(tmp_path, 2, [val(5, 0.9)])
    assert keys(tmp_path) == [('train', 5), ('val', 5), ('train', 10), ('val', 10)]
    assert read_scalars(tmp_path)[1].values == {'mIoU': 0.9}


@pytest.mark.parametrize('tail', ['{"loss": 1.0, "it', '[1]\n', '{"loss": 1.0}\n', '{"step": true}\n', 'ÿ\n', '\n'])
def test_what_is_no_line_of_the_log_is_skipped(tmp_path, tail):
    write(tmp_path, 0, [train(1)], tail)
    assert keys(tmp_path) == [('train', 1)]


def test_only_what_is_new_is_parsed(tmp_path, monkeypatch):
    parsed = []
    original = module._row
    monkeypatch.setattr(module, '_row', lambda text, start: parsed.append(text) or original(text, start))
    path = write(tmp_path, 0, [train(1), train(2)], tail='{"loss": 1.0, "i')
    scalars = Scalars(tmp_path)
    assert len(scalars.rows()) == 2
    del parsed[:]
    assert len(scalars.rows()) == 2 and not parsed
    with open(path, 'a') as file:
        file.write('ter": 3, "step": 3}\n')
    assert [row.iteration for row in scalars.rows()] == [1, 2, 3] and len([text for text in parsed if text]) == 1
    with open(path, 'a') as file:
        file.write(json.dumps(train(4)))  # its newline comes later
    assert [row.iteration for row in scalars.rows()] == [1, 2, 3, 4]
    with open(path, 'a') as file:
        file.write('\n' + json.dumps(train(5)) + '\n')
    assert [row.iteration for row in scalars.rows()] == [1, 2, 3, 4, 5]
    write(tmp_path, 0, [train(1)])  # begun anew
    write(tmp_path, 1, [train(2)])
    assert [(row.iteration, row.start) for row in scalars.rows()] == [(1, 0), (2, 1)]
