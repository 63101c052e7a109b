"""What the configs of LiDAR say about scales fits together."""

from pathlib import Path

import pytest

from projects.engine.config import load_config

FOLDER = Path(__file__).resolve().parents[2] / 'configs/lidar'
CONFIGS = sorted(path for path in FOLDER.glob('*.py') if not path.stem.startswith('chain'))


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_scales_weights_and_blocks_fit(path):
    config = load_config(path)
    dataset = config.train_dataloader.dataset
    assert set(dataset.scales) <= set(config.patch_scales)
    assert dataset.weights is None or set(dataset.weights) == set(dataset.scales)
    assert max(scale.size + scale.buffer for scale in config.patch_scales.values()) <= config.block_size
    assert all(name == f'{scale.size:g}' for name, scale in config.patch_scales.items())


def test_stages_of_a_strategy_see_as_many_points():
    """A curriculum's stages together, and the experts together, have the iterations of mixed training."""
    budget = {path.stem: load_config(path).train_cfg for path in CONFIGS}
    tiny = {name.removeprefix('hybrid-tiny_').removesuffix('_town'): cfg.max_iters
            for name, cfg in budget.items() if name.endswith('_town')}
    assert tiny['mixed'] == tiny['single-150'] == tiny['s1-50'] + tiny['s2-100'] + tiny['s3-150']
    assert tiny['mixed'] == tiny['expert-50'] + tiny['expert-100'] + tiny['expert-150']
    epochs = [budget[f'hybrid_{name}_lod3'].max_epochs for name in ('s1-50_20e', 's2-100_30e', 's3-150_50e')]
    assert epochs == [20, 30, 50] and budget['hybrid_mixed_100e_lod3'].max_epochs == sum(epochs)
