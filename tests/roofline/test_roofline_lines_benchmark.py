"""The benchmark of the line stage: equal scores, and a status that says whether its aims are reached."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from projects.engine.errors import UserError
from projects.roofline.models.roofmapnet import DETECTION


@pytest.fixture(scope='module')
def benchmark(repository: Path, load_module: Callable[[Path], ModuleType]) -> ModuleType:
    return load_module(repository / 'tools/benchmarks/roofline_lines.py')


def test_scores_are_the_published_ones_inside_the_image(benchmark: ModuleType):
    maps, (verifier, published) = benchmark.make_maps(30), benchmark.make_verifiers()
    lines, expected, hidden, _ = published(maps, 30)
    assert len(lines) == 435
    assert expected.std() > 0.01  # it tells lines apart
    assert (hidden[:, 1] > hidden[:, 0]).float().mean() > 0.5  # and slices are set to zero
    for limit, number in ((None, 435), (100, 100)):
        found = benchmark.ours(verifier, maps, 30, limit)
        assert len(found[0]) == number
        compared = benchmark.compared(found, lines, expected, hidden)
        assert compared['lines'] > number / 2
        assert compared['difference'] < 1e-5
        assert compared['other_slice'] <= number / 100


def test_lines_are_compared_by_place(benchmark: ModuleType):
    maps, (verifier, published) = benchmark.make_maps(10), benchmark.make_verifiers()
    lines, expected, hidden, _ = published(maps, 10)
    lines_yx, scores, mine, number = benchmark.ours(verifier, maps, 10, None)
    assert benchmark.compared((lines_yx, scores + 0.5, mine, number), lines, expected, hidden)['difference'] > 0.4
    with pytest.raises(RuntimeError, match='the same lines'):
        benchmark.compared((lines_yx, scores, mine, number.flip(0)), lines, expected, hidden)


def test_the_small_run_reports_everything(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                          capsys: pytest.CaptureFixture):
    file = tmp_path / 'found.json'
    threads = torch.get_num_threads()
    monkeypatch.setattr(sys, 'argv', ['roofline_lines.py', '--junctions', '30', '--crowd', '40', '--repeats', '1',
                                      '--json', str(file)])
    assert benchmark.main() == 0
    torch.set_num_threads(threads)
    found = json.loads(file.read_text())
    assert found['reached'] and found['lines'] == 435
    assert set(found['memory_mb']) == {'pruned', 'every line'}
    assert 100 < found['memory_mb']['pruned'] < 1500
    assert {name.split(',')[0] for name in found['ratios']} == {'sampling alone', 'end to end'}
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith('aim: ')]
    assert told == ['aim: scores equal to 0.0001: reached', 'aim: at most 1500 MB: reached']


@pytest.mark.parametrize('seconds, memory, cost, status', [
    (8.0, 1500.0, 0.2, 0), (7.9, 1500.0, 0.2, 1), (8.0, 1501.0, 0.2, 1), (8.0, 1500.0, 0.21, 1)])
def test_a_missed_aim_is_status_1(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, seconds: float,
                                  memory: float, cost: float, status: int):
    monkeypatch.setattr(benchmark, 'side_by_side', lambda *arguments: {
        'ratios': {'end to end': {'median': seconds}}, 'scores': {'pruned': {'difference': 0.0}},
        'published_memory_mb': 1.0})
    monkeypatch.setattr(benchmark, 'memory_of', lambda junctions: {'pruned': memory})
    monkeypatch.setattr(benchmark, 'pruning_cost', lambda *model: {'cost': cost})
    monkeypatch.setattr(sys, 'argv', ['roofline_lines.py', '--config', 'a', '--checkpoint', 'b', '--data', 'c'])
    assert benchmark.main() == status


@pytest.mark.parametrize('repeats', ['0', '-1'])
def test_no_repeats_are_told_in_one_line(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, repeats: str):
    monkeypatch.setattr(sys, 'argv', ['roofline_lines.py', '--junctions', '10', f'--repeats={repeats}'])
    with pytest.raises(UserError, match=f'^--repeats: expected 1 to 1000, found {repeats}$'):
        benchmark.main()


def test_pruning_is_set_where_the_model_reads_it(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch,
                                                 tmp_path: Path):
    seen = {}
    monkeypatch.setattr(benchmark, 'test', lambda *arguments, cfg_options, **options: seen.update(cfg_options) or {})
    monkeypatch.setattr(sys, 'argv', ['roofline_lines.py', '--child', 'test', '--config', 'a', '--checkpoint', 'b',
                                      '--data', 'c', '--limit', '7', '--json', str(tmp_path / 'a.json')])
    threads = torch.get_num_threads()
    assert benchmark.main() == 0
    torch.set_num_threads(threads)
    assert seen['model.detection.line_limit'] == 7 and 'line_limit' in DETECTION


def test_the_cost_is_that_of_verified_lines(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch):
    scores = iter(({'sAP10': 70.0, 'unverified/sAP10': 20.0}, {'sAP10': 70.5, 'unverified/sAP10': 20.0}, {'mIoU': 1.0}))
    monkeypatch.setattr(benchmark, 'in_child', lambda *arguments: next(scores))
    assert benchmark.pruning_cost(Path('a'), Path('b'), Path('c')) == {'pruned': 70.0, 'every line': 70.5, 'cost': 0.5}
    with pytest.raises(UserError, match='a: test_evaluator: expected the metric sAP10, found mIoU'):
        benchmark.pruning_cost(Path('a'), Path('b'), Path('c'))
