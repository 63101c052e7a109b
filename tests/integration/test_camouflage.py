"""Camouflaged objects from scenes to scored maps, as a user does it; and three scales can learn nine photographs."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / 'configs/camouflage'
SMALL = ['num_workers=0', 'warmup_iters=2', 'default_hooks.logger.interval=10']


@pytest.mark.slow
def test_from_scenes_to_scored_maps(tool, tmp_path):
    scenes, run, maps = tmp_path / 'scenes', tmp_path / 'run', tmp_path / 'maps'
    tool('camouflage/make_scenes.py', '--out', scenes, '--number', 8, '--val', 2, '--test', 3, '--size', 72, 64,
         '--seed', 1)
    config = tmp_path / 'with_maps.py'
    config.write_text(f'_base_ = [{str(CONFIGS / "pvtv2-tiny_ms-absi_scenes-128.py")!r}, '
                      f'{str(CONFIGS.parent / "_base_/scale_maps.py")!r}]\n')
    options = ['--cfg-options', f'data_root={scenes}', 'image_size=64,64', 'batch_size=2', *SMALL,
               'scale_epochs=2', 'policy=stochastic(0.5, checkpoint)']
    log = tool('train.py', config, '--work-dir', run, *options, 'train_cfg.max_iters=4', 'train_cfg.val_interval=4')
    assert 'scale_loss.loss_weight 0' in log  # supervised at first, then not
    assert len(list((run / 'scale_maps/iter_4').glob('*.png'))) == 2
    tool('test.py', config, run / 'iter_4.pth', '--work-dir', run, '--out', maps, *options)
    tested = json.loads((run / 'evaluation/test/camouflage.json').read_text())['groups'][0]
    written = sorted(maps.rglob('*.png'))
    assert [path.relative_to(maps).as_posix() for path in written] == [f'scenes/{n:05d}.png' for n in range(3)]
    assert all(cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape == (64, 72) for path in written)
    tool('camouflage/score_maps.py', '--pred-dir', maps / 'scenes', '--gt-dir', scenes / 'test/masks',
         '--out', tmp_path / 'scored')
    scored = json.loads((tmp_path / 'scored/camouflage.json').read_text())['groups'][0]
    assert {key: tested[key] for key in ('S', 'wF', 'MAE', 'E_max', 'F_max', 'IoU')} == pytest.approx(
        {key: scored[key] for key in ('S', 'wF', 'MAE', 'E_max', 'F_max', 'IoU')}, abs=1e-12)
    tool('camouflage/predict.py', config, run / 'iter_4.pth', scenes / 'test/images', '--out', tmp_path / 'predicted',
         *options)
    for path in written:  # the same network on the same images
        predicted = cv2.imread(str(tmp_path / 'predicted' / path.name), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(predicted, cv2.imread(str(path), cv2.IMREAD_UNCHANGED))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_three_scales_learn_nine_photographs(tool, shared_data, tmp_path):
    photographs = shared_data / 'camouflage'
    if not (photographs / 'masks').is_dir():
        pytest.skip('no camouflage photographs in ../shared/data')
    tool('train.py', CONFIGS / 'pvtv2-tiny_ms-absi_scenes-128.py', '--work-dir', tmp_path, '--cfg-options',
         f'data_root={photographs}', 'layout=plain', 'train_split=all', 'val_split=all', 'batch_size=9',
         'rotation_prob=0.0', 'train_pipeline.4.prob=0.0', 'scale_epochs=100',
         'optim_wrapper.optimizer.lr=2e-3', *SMALL,
         'train_cfg.max_iters=100', 'train_cfg.val_interval=100', 'warmup_iters=10')
    scores = json.loads((tmp_path / 'evaluation/val/camouflage.json').read_text())['groups'][0]
    assert scores['S'] > 0.9
