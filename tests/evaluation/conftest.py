"""Work directories written by hand: what a training, a test and the lineage hook leave behind."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from projects.evaluation.folder import write_evaluation
from projects.evaluation.result import Evaluation, SampleResult

MANIFEST_SHA = 'd' * 64


@pytest.fixture
def make_run(tmp_path):
    """Write a small finished run: ``right`` of each image's 100 pixels of class 0 are right, all of class 1 are."""

    def make(name: str, right: list[int], *, stage: str = 'baseline', seed: int = 0, parents: list[dict] | None = None,
             lineage: bool = True, classes: tuple[str, ...] = ('field', 'roof'), config: str = '', **more: Any) -> Path:
        folder = tmp_path / name
        samples = [SampleResult(f'tile_{index}', np.array([[value, 100 - value], [0, 50]]))
                   for index, value in enumerate(right)]
        write_evaluation(Evaluation.from_samples(samples, classes), folder / 'evaluation' / 'test')
        config_name = f'net_s{0 if stage == "baseline" else 2}-{stage}_tiny'
        (folder / f'{config_name}.py').write_text(f'lr = 0.1\nrandomness = dict(seed={seed})\n{config}')
        scalars = folder / '20250101_100000' / 'vis_data' / 'scalars.json'
        scalars.parent.mkdir(parents=True)
        scalars.write_text(''.join(json.dumps(line) + '\n' for line in (
            {'loss': 1.0, 'lr': 0.1, 'time': 0.25, 'iter': 10, 'step': 10}, {'mIoU': 0.5, 'step': 10})))
        if lineage:
            (folder / 'lineage.json').write_text(json.dumps(record(name, config_name, stage, seed, parents, **more)))
        return folder

    return make


def record(run_id: str, name: str, stage: str, seed: int, parents: list[dict] | None, **more: Any) -> dict[str, Any]:
    """Return a lineage as the hook writes it."""
    return {
        'version': 1, 'run_id': run_id, 'name': name, 'task': 'landcover', 'chain': 'net_tiny', 'stage': stage,
        'tags': [], 'config': {'file': f'{name}.py', 'text': f'lr = 0.1\nrandomness = dict(seed={seed})\n',
                               'sha256': 'c' * 64},
        'code': {'commit': 'abcdef0123456789', 'dirty': True, 'diff_sha256': 'e' * 64},
        'data': [{'name': 'village', 'root': 'data/village', 'manifest': 'manifest.json', 'sha256': MANIFEST_SHA,
                  'splits': {'train': 1234, 'val': 6, 'test': 8}, 'taxonomy_hash': 'f' * 64}],
        'parents': parents or [], 'seed': seed, 'versions': {'torch': '2.13.0'},
        'hardware': {'cpu': 'a CPU', 'cores': 2, 'memory_gib': 8, 'gpus': [], 'processes': 1},
        'starts': [{'started': '2025-01-01T10:00:00+00:00', 'ended': '2025-01-01T10:01:00+00:00', 'from_iteration': 0,
                    'to_iteration': 10, 'status': 'finished', 'reason': None, 'seconds': 60.0,
                    'peak_memory_mib': 2048.0, 'gpu_memory_mib': None, 'energy_wh': 1.5}],
        'checkpoints': {'best_mIoU_iter_10.pth': {'sha256': f'sha of {run_id}', 'step': 10, 'aliases': ['best'],
                                                  'metrics': {'mIoU': 0.5}}},
        'metrics': {'best': {'mIoU': 0.5, 'step': 10}, 'test': {'mIoU': 0.75}}, **more}


def parent(folder: Path, sha256: str | None = None, role: str = 'load_from') -> dict[str, Any]:
    """Return what a child writes down about a checkpoint of another run."""
    inner = json.loads((folder / 'lineage.json').read_text())
    return {'role': role, 'file': 'best_mIoU_iter_10.pth', 'path': '../x', 'sha256': sha256 or
            inner['checkpoints']['best_mIoU_iter_10.pth']['sha256'], 'lineage': inner}


@pytest.fixture
def parent_of():
    """Return the function that describes a parent."""
    return parent
