"""The benchmark of the preparation: its status says whether its aims are reached."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest


@pytest.fixture
def tool(repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The benchmark, over a tile of 8,000 points of which the peer makes 100 a second."""
    spec = importlib.util.spec_from_file_location(
        'lidar_preparation_benchmark', repository / 'tools/benchmarks/lidar_preparation.py')
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # its dataclass asks for it
    spec.loader.exec_module(module)
    (tmp_path / 'tile.laz').write_bytes(b'')
    monkeypatch.setattr(module, 'read_header', lambda path: SimpleNamespace(count=8000))
    monkeypatch.setattr(module, 'peer', lambda folder: folder / 'peer')
    monkeypatch.setattr(module, 'run_peer', lambda *arguments: module.Cost(80.0, 80.0, 2000.0))
    monkeypatch.setattr(module, 'workers', lambda *arguments: {'ratio': 1.0})  # missed, which is no failure
    return module


@pytest.mark.parametrize('cpu, memory, peer, words, status', [
    (10.0, 400.0, True, ['at most 400 MB: reached', '8x of full features: reached'], 0),
    (10.1, 400.0, True, ['at most 400 MB: reached', '8x of full features: missed'], 1),
    (10.0, 401.0, True, ['at most 400 MB: missed', '8x of full features: reached'], 1),
    (99.0, 300.0, False, ['at most 400 MB: reached'], 0),
    (99.0, 500.0, False, ['at most 400 MB: missed'], 1)])
def test_a_missed_aim_is_status_1(tool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture,
                                  cpu: float, memory: float, peer: bool, words: list[str], status: int) -> None:
    monkeypatch.setattr(tool, 'prepare', lambda *arguments: tool.Cost(cpu, cpu, memory))
    peer_options = ['--peer-venv', str(tmp_path)] if peer else []
    monkeypatch.setattr(sys, 'argv', ['lidar_preparation.py', str(tmp_path), *peer_options])
    assert tool.main() == status
    told = [line.removeprefix('aim: ') for line in capsys.readouterr().out.splitlines() if line.startswith('aim: ')]
    assert told == words
