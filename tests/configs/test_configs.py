"""Every config under configs/ is strict, builds, and says its difference only."""

from pathlib import Path

import pytest
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from mmseg.registry import HOOKS, METRICS, MODELS, TRANSFORMS

from projects.engine.config import load_config

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
RUNNABLE = sorted(path for path in CONFIGS.rglob('*.py') if '_base_' not in path.parts)


def name(path):
    return str(path.relative_to(CONFIGS))


@pytest.mark.parametrize('path', RUNNABLE, ids=name)
def test_it_builds(path):
    config = load_config(path)
    model = MODELS.build(config.model)
    assert model.decode_head.num_classes == config.num_classes
    wrapper = build_optim_wrapper(model, config.optim_wrapper)
    assert sum(len(g['params']) for g in wrapper.optimizer.param_groups) == len(list(model.parameters()))
    for scheduler in config.param_scheduler:
        PARAM_SCHEDULERS.build(dict(scheduler, optimizer=wrapper.optimizer))
    for pipeline in (config.train_pipeline, config.test_pipeline, config.tta_pipeline):
        for transform in pipeline:
            TRANSFORMS.build(transform)
    for hook in config.default_hooks.values():
        HOOKS.build(hook)
    METRICS.build(config.test_evaluator)


@pytest.mark.parametrize('path', [path for path in RUNNABLE if path.parent.name == 'ablations'], ids=name)
def test_an_ablation_says_one_change_in_ten_lines(path):
    assert len(path.read_text().splitlines()) <= 10


@pytest.mark.parametrize('base', ['ema', 'early_stopping'])
def test_one_line_bases(base, tmp_path):
    path = tmp_path / 'child.py'
    parent = CONFIGS / 'landcover' / 'ftunetformer-tiny_s0-baseline_village-256.py'
    path.write_text(f"_base_ = [{str(parent)!r}, {str(CONFIGS / '_base_' / f'{base}.py')!r}]\n")
    config = load_config(path)
    HOOKS.build(config[base])
