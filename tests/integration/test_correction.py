"""Correction from end to end: swapped labels of a village are found; candidates, decisions, scores on both, undo."""

import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmseg.registry import MODELS
from PIL import Image

from projects.engine import startup
from projects.engine.config import load_config
from projects.geo.raster import read_image, read_mask
from projects.landcover.correction.candidates import rank
from projects.landcover.data.decisions import Decision, append_decision
from projects.landcover.data.manifest import read_manifest
from projects.landcover.data.prepare import Options, prepare
from projects.landcover.taxonomy import get_taxonomy
from projects.scenes.files import write_village

pytestmark = pytest.mark.slow
TOOL = Path(__file__).resolve().parents[2] / 'tools/landcover/correct.py'
TILES, SIZE = 100, 128


def swapped(folder: Path, out: Path) -> set[str]:
    """Prepare a village of which every tenth label has its two largest classes exchanged; return the ids of these.

    That is what a wrong name in a legend does. Nothing else is wrong with them, and nobody tells the models.
    """
    write_village(folder / 'village', TILES, SIZE, 0.5, 3)
    prepare(folder / 'village', folder / 'clean', Options('village', split_by='blocks', block_size=float(SIZE),
                                                          ratios=(0.7, 0.3, 0.0)))
    items = read_manifest(folder / 'clean')['items']
    wrong = set(np.random.default_rng(0).choice(len(items), TILES // 10, replace=False).tolist())
    for index, item in enumerate(items):
        mask = read_mask(folder / 'clean' / item['mask'])
        if index in wrong:
            first, second = np.argsort(-np.array(item['pixels']), kind='stable')[:2]
            table = np.arange(256, dtype=np.uint8)
            table[[first, second]] = second, first
            mask = table[mask]
        for name in ('images', 'masks'):
            (folder / 'noisy' / item['split'] / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / 'clean' / item['image'], folder / 'noisy' / item['split'] / 'images')
        Image.fromarray(mask).save(folder / 'noisy' / item['split'] / 'masks' / f'{item["id"]}.png')
    prepare(folder / 'noisy', out, Options('folder', split_by='official'))
    return {f'{items[index]["split"]}-{items[index]["id"]}' for index in wrong}


def features(path: Path) -> np.ndarray:
    """Return (H * W, 24): colour, and the spread of colour, around each pixel at four scales."""
    image, planes = read_image(path).astype(np.float32), []
    for width in (3, 9, 21, 41):
        mean = cv2.blur(image, (width, width))
        spread = np.sqrt(np.maximum(cv2.blur(image * image, (width, width)) - mean * mean, 0))
        planes += [mean, np.log1p(spread)]
    return np.concatenate(planes, axis=-1).reshape(-1, 24)


def gaussian_classifier(data: Path, items: list[dict]) -> dict[str, np.ndarray]:
    """Fit one Gaussian a class to the training split, wrong labels and all; return {id: probabilities (C, H, W)}.

    It stands in for networks, which take minutes on a CPU. It finds all ten; the mean of two tiny networks (seeds 0 and
    1, 300 iterations on these very labels, measured once by hand) put nine of them into the first 20, the tenth at 93.
    Log-likelihoods are scaled by 0.3, since neighbouring features are far from independent.
    """
    seen = {item['id']: features(data / item['image']) for item in items}
    labels = {item['id']: read_mask(data / item['mask']).ravel() for item in items}
    training = [item['id'] for item in items if item['split'] == 'train']
    x = np.concatenate([seen[name] for name in training])[::5]
    y = np.concatenate([labels[name] for name in training])[::5]
    scores = {name: [] for name in seen}
    for index in range(6):
        own = x[y == index]
        mean, whiten = own.mean(0), np.linalg.inv(np.linalg.cholesky(np.cov(own.T) + 1e-3 * np.eye(24)))
        bias = np.log(len(own) / len(y)) + np.log(np.diag(whiten)).sum()
        for name, values in seen.items():
            scores[name].append(bias - 0.5 * (((values - mean) @ whiten.T) ** 2).sum(1))
    probabilities = {}
    for name, rows in scores.items():
        logits = 0.3 * np.stack(rows)
        shares = np.exp(logits - logits.max(0))
        probabilities[name] = (shares / shares.sum(0)).reshape(6, SIZE, SIZE).astype(np.float32)
    return probabilities


@pytest.fixture
def tool(monkeypatch, capsys) -> Callable[..., str]:
    """Run correct.py in this process, which has loaded torch already; return what it printed."""

    def call(*arguments: object) -> str:
        monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(TOOL), run_name='__main__')
        printed = capsys.readouterr()
        assert not end.value.code, printed.err[-2000:]
        return printed.out

    return call


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob('*')) if p.is_file()}


def test_swapped_labels_of_a_village_are_found(tmp_path):
    wrong = swapped(tmp_path, tmp_path / 'data')
    items = read_manifest(tmp_path / 'data')['items']
    probabilities = gaussian_classifier(tmp_path / 'data', items)
    masks = {item['id']: tmp_path / 'data' / item['mask'] for item in items}
    scores = rank(items, 6, lambda name: (read_mask(masks[name]), probabilities[name]))
    order = sorted(scores, key=lambda name: -scores[name])
    found = wrong & set(order[:TILES // 5])
    assert len(wrong) == TILES // 10 and len(found) >= 0.8 * len(wrong)


def test_from_candidates_to_scores_and_back(prepared, config, tmp_path, tool):
    """The tools one after the other, with two networks as they come from the random generator."""
    data, out = tmp_path / 'data', tmp_path / 'candidates'
    shutil.copytree(prepared, data)
    before = contents(data)
    options = ['--cfg-options', f'data_root={data}', 'num_workers=0']
    startup.start()
    checkpoints = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = MODELS.build(load_config(config).model)
        checkpoints.append(tmp_path / f'run{seed}' / 'last.pth')
        checkpoints[-1].parent.mkdir()
        torch.save({'state_dict': model.state_dict(), 'meta': {'dataset_meta': get_taxonomy('landcover6').metainfo}},
                   checkpoints[-1])
    command = ['candidates', data, '--config', config, '--checkpoint', checkpoints[0], '--checkpoint', checkpoints[1],
               '--out', out]
    assert 'dry run' in tool(*command, '--dry-run', *options) and not out.exists()
    done = subprocess.run([sys.executable, str(TOOL), *map(str, [*command, *options])], cwd='/', capture_output=True,
                          text=True, env=dict(os.environ, OMP_NUM_THREADS='1'))
    assert done.returncode == 0, done.stderr[-2000:]
    printed = done.stdout
    assert f'wrote 9 candidates to {out}' in printed and contents(data) == before
    content = json.loads((out / 'candidates.json').read_text())
    assert [model['name'] for model in content['models']] == ['run0', 'run1']
    assert [item['rank'] for item in content['items']] == list(range(1, 10))
    assert {item['split'] for item in content['items']} == {'train', 'val'}
    scores = [item['score'] for item in content['items']]
    assert scores == sorted(scores, reverse=True)
    assert sorted(path.name for path in out.iterdir()) == ['candidates.json', 'predictions']
    val = [item['sample_id'] for item in content['items'] if item['split'] == 'val']
    for name in val:
        append_decision(out / 'decisions.csv', Decision(name, 'a', '', '2026-01-01T00:00:00Z', 'ab'))
    assert 'replaced   3 labels (3 + 0)' in tool('apply', data, out)
    assert 'every byte as the ledger says' in tool('verify', data)
    text = tool('score', data, config, checkpoints[0], *options)
    assert 'against the original labels:' in text and 'against the corrected labels (3 of 3 images differ):' in text
    assert '3 of the 3 corrected labels are predictions of this very checkpoint' in text
    row = next(line.split() for line in text.splitlines() if line.startswith('OA ') and line.count('%') == 2)
    assert row[2] == '100.00%'  # judged by itself
    assert abs(float(row[2][:-1]) - float(row[1][:-1]) - float(row[3])) < 0.02
    tool('undo', data)
    assert contents(data) == before
