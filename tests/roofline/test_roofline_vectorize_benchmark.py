"""The benchmark of vectorizing: flags in their ranges, and a status that says whether its aims are reached."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import small_villages

from projects.engine.errors import UserError


@pytest.fixture(scope='module')
def benchmark(repository: Path, load_module: Callable[[Path], ModuleType]) -> ModuleType:
    return load_module(repository / 'tools/benchmarks/roofline_vectorize.py')


def main(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, *flags: str) -> int:
    monkeypatch.setattr(sys, 'argv', ['roofline_vectorize.py', *flags])
    return benchmark.main()


@pytest.mark.parametrize('flags, told', [
    (['--size', '5000'], '--size: expected 64 to 4096 pixels, found 5000'),
    (['--size', '0'], '--size: expected 64 to 4096 pixels, found 0'),
    (['--resolution', 'nan'], '--resolution: expected 0.05 to 5 metres, found nan'),
    (['--size', '100'], '--size x --resolution: expected 60 to 12000 metres, found 20'),
    (['--seed', '-1'], '--seed: expected 0 or more, found -1'),
    (['--weld', '0'], '--weld: expected 0.001 to 4000 pixels, found 0'),
    (['--lidar', '-5'], '--lidar: expected 0, or 0.1 to 200 pulses per square metre, found -5'),
    (['--config', 'a', '--checkpoint', 'b', '--lidar', '5'], '--lidar and --graph: expected neither with --config'),
])
def test_flags_out_of_range_are_told_in_one_line(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch,
                                                 flags: list[str], told: str):
    with pytest.raises(UserError) as caught:
        main(benchmark, monkeypatch, *flags)
    assert str(caught.value) == told


@pytest.mark.parametrize('found, lines, status', [
    ({'largest_px': 1.0}, ['every corner within 1 px: reached'], 0),
    ({'largest_px': 1.01}, ['every corner within 1 px: missed'], 1),
    ({'largest_px': 0.5, 'within_0.3m': 1.0}, ['every corner within 1 px: reached', 'ridges within 0.3 m: reached'], 0),
    ({'largest_px': 0.5, 'within_0.3m': 0.99}, ['every corner within 1 px: reached', 'ridges within 0.3 m: missed'], 1),
    ({'recall_10px': 0.8, 'mean_error_px': 3.0}, ['at least 0.8 of the corners within 10 px: reached',
                                                  'these 3 px off at most in the mean: reached'], 0),
    ({'recall_10px': 0.79, 'mean_error_px': 3.0}, ['at least 0.8 of the corners within 10 px: missed',
                                                   'these 3 px off at most in the mean: reached'], 1),
    ({'recall_10px': 0.0, 'mean_error_px': float('nan')}, ['at least 0.8 of the corners within 10 px: missed',
                                                           'these 3 px off at most in the mean: missed'], 1),
])
def test_a_missed_aim_is_status_1(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch,
                                  capsys: pytest.CaptureFixture, found: dict, lines: list[str], status: int):
    monkeypatch.setattr(benchmark, 'measure', lambda *arguments: found)
    monkeypatch.setattr(benchmark, 'measure_trained', lambda *arguments: found)
    flags = ['--config', 'a', '--checkpoint', 'b'] if 'recall_10px' in found else []
    assert main(benchmark, monkeypatch, *flags) == status
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith('aim: ')]
    assert told == [f'aim: {line}' for line in lines]


def test_ends_of_ridges_without_a_whole_face_have_no_aim(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch,
                                                 tmp_path: Path):
    scene = small_villages.scene(small_villages.building('gable', 20, 25, 14, 9, 5),
                                 small_villages.building('gable', 58, 40, 14, 9, 4))
    monkeypatch.setattr('projects.scenes.scene.make_scene', lambda seed, extent: scene)
    found = benchmark.measure(tmp_path, 300, 0.2, 0, 6.0, False, 512, 128, density=5.0)
    assert (found['ridge_ends_cut'], found['ridge_ends'], found['within_0.3m']) == (2, 2, 1.0)


def test_a_junction_serves_one_corner(benchmark: ModuleType):
    true = np.array([[0, 0], [8, 0], [100, 0], [300, 0]], float)
    found = np.array([[6, 0], [105, 0], [109, 0], [200, 0]], float)
    assert benchmark.matched_errors(true, found).tolist() == [2, 5]  # (6, 0) is near both of the first two
    assert benchmark.matched_errors(true, np.array([[6, 0], [9.5, 0]], float)).tolist() == [6, 1.5]  # as many as can
    assert len(benchmark.matched_errors(true, np.zeros((0, 2)))) == 0
