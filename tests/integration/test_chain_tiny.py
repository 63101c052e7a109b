"""The land-cover chain in two minutes: all five stages, killed once, and nothing to do the second time."""

import json
import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from projects.landcover.data.prepare import Options, prepare
from projects.landcover.taxonomy import get_taxonomy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SHORT = ['crop_size=(64,64)', 'batch_size=2', 'num_workers=0', 'train_cfg.max_iters=6', 'train_cfg.val_interval=3',
         'warmup_iters=1', 'default_hooks.logger.interval=1']
TRAININGS = ('baseline', 'pretrain', 'finetune', 'distil')


@pytest.fixture
def source(tmp_path):
    """Six images of other stripes; the settlement fills one of them."""
    generator = np.random.default_rng(5)
    palette = np.array(get_taxonomy('landcover6').palette, np.uint8)
    for index in range(6):
        mask = np.repeat(generator.integers(0, 6, 8), 8).astype(np.uint8)[:, None].repeat(64, 1)
        mask[:] = 4 if index == 0 else np.where(mask == 4, 1, mask)
        image = np.clip(palette[mask].astype(int) + generator.integers(-20, 20, (64, 64, 3)), 0, 255).astype(np.uint8)
        for name, array in (('images', image[..., ::-1]), ('masks', mask)):
            (tmp_path / 'other' / name).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / 'other' / name / f'other{index}.png'), array)
    out = tmp_path / 'source'
    prepare(tmp_path / 'other', out, Options(layout='folder', split_by='groups', ratios=(1, 0, 0)))
    return out


def test_it_is_killed_goes_on_and_then_does_nothing(prepared, source, repository, tmp_path):
    work_dir = tmp_path / 'chain'
    command = [sys.executable, repository / 'tools/run_stages.py', repository / 'configs/landcover/chain_tiny.py',
               '--work-dir', work_dir, '--set', f'target={prepared}', f'source={source}', '--cfg-options', *SHORT]

    def start():
        return subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd='/',
            env=dict(os.environ, OMP_NUM_THREADS='1'))

    first = start()
    log, limit = work_dir / 'pretrain.log', time.monotonic() + 240
    while not (log.exists() and 'Iter(train) [2/6]' in log.read_text()):
        assert first.poll() is None and time.monotonic() < limit, first.stdout.read()[-2000:]
        time.sleep(0.05)
    training = json.loads((work_dir / 'chain.json').read_text())['stages']['pretrain']['process']
    first.kill()
    os.killpg(training, signal.SIGKILL)
    first.communicate()

    second = start()
    printed = second.communicate()[0]
    assert second.returncode == 0, printed[-3000:]
    assert 'baseline: begins' not in printed and 'pretrain: killed: goes on' in printed
    stages = json.loads((work_dir / 'chain.json').read_text())['stages']
    assert all(stage['status'] == 'complete' for stage in stages.values()), stages
    assert [stages[name]['starts'] for name in TRAININGS] == [1, 2, 1, 1]
    scores = json.loads((work_dir / 'ensemble/evaluation/test/scores.json').read_text())
    assert 0 <= scores['scores']['mIoU'] <= 1
    fitted = json.loads((work_dir / 'fit/ensemble.json').read_text())
    assert sum(member['weight'] for member in fitted['members']) == pytest.approx(1)
    filtered = json.loads((work_dir / 'filter/data/manifest.json').read_text())
    gone = filtered['filtered'][0]['items']
    assert 'source_other0' in [item['id'] for item in gone] and len(filtered['items']) == 12 + 6 - len(gone)
    assert all(item['split'] == 'train' and item['pixels'][4] > 64 * 64 / 2 for item in gone)
    table = (work_dir / 'chain.md').read_text()
    assert 'ensemble' in table and 'Training images' in table

    before = {path: path.stat().st_mtime_ns for path in work_dir.rglob('*') if path.is_file()}
    third = start()
    printed = third.communicate()[0]
    assert third.returncode == 0 and 'begins' not in printed, printed
    changed = [path.name for path, when in before.items() if path.stat().st_mtime_ns != when]
    assert changed in ([], ['.lock'])
