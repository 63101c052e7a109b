"""Every config under configs/ is strict, builds, and says its difference only."""

from pathlib import Path

import pytest
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from mmseg.registry import HOOKS, METRICS, MODELS, TRANSFORMS

from projects.engine.config import load_config
from projects.multistage.chain.definition import read_chain
from projects.multistage.chain.stages import TrainStage
from projects.multistage.warmup import _find

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
FILES = sorted(path for path in CONFIGS.rglob('*.py') if '_base_' not in path.parts)
CHAINS = [path for path in FILES if path.stem.split('_')[0] == 'chain']
RUNNABLE = [path for path in FILES if path not in CHAINS]


NETWORKS = {}  # by their config: the full one takes seconds, and most stages share it


def network(key, config):
    if key not in NETWORKS:
        NETWORKS.clear()
        NETWORKS[key] = MODELS.build(config.model)
    return NETWORKS[key]


def name(path):
    return str(path.relative_to(CONFIGS))


@pytest.mark.parametrize('path', RUNNABLE, ids=name)
def test_it_builds(path):
    config = load_config(path)
    model = network(repr(config.model), config)
    if config.get('num_classes'):  # a network of lines has none
        heads = [part.decode_head for part in getattr(model, 'experts', {0: model}).values()]
        assert {head.num_classes for head in heads} == {config.num_classes}
    wrapper = build_optim_wrapper(model, config.optim_wrapper)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]  # a first stage may rest some
    assert sum(len(g['params']) for g in wrapper.optimizer.param_groups) == len(trained) > 0
    for scheduler in config.param_scheduler:
        length = {'epoch_length': 10} if scheduler.get('convert_to_iter_based') else {}
        PARAM_SCHEDULERS.build(dict(scheduler, optimizer=wrapper.optimizer, **length))
    for pipeline in (config.train_pipeline, config.test_pipeline):
        for transform in pipeline:
            TRANSFORMS.build(transform)
    for hook in config.default_hooks.values():
        HOOKS.build(hook)
    for key in ('loss_schedule', 'difficulty', 'tracking', 'scale_policy', 'scale_maps', 'mask_writer', 'gallery'):
        if config.get(key):
            arguments = {'mask_writer': {'out_dir': '.'}, 'gallery': {'show_dir': '.'}}.get(key, {})
            HOOKS.build({**config[key], **arguments})
    evaluator = config.test_evaluator
    for metric in evaluator if isinstance(evaluator, list) else [evaluator]:
        METRICS.build(metric)
    if config.get('tta_model'):
        assert len(MODELS.build(dict(config.tta_model, module=model)).flips) == len(config.tta_model.flips)
    if config.get('loss_schedule') and not config.get('distil'):
        for path_of_a_weight in HOOKS.build(config.loss_schedule).points:
            _find(model, path_of_a_weight)


@pytest.mark.parametrize('path', [path for path in RUNNABLE if path.parent.name == 'ablations'], ids=name)
def test_an_ablation_says_one_change_in_ten_lines(path):
    assert len(path.read_text().splitlines()) <= 10


@pytest.mark.parametrize('path', CHAINS, ids=name)
def test_every_stage_of_a_chain_is_a_config_that_takes_its_options(path):
    trainings = [stage for stage in read_chain(path).stages if isinstance(stage, TrainStage)]
    assert len(trainings) >= 2
    for stage in trainings:
        parents = dict.fromkeys(stage.parents, 'some.pth')
        config = load_config(path.parent / stage.config, {**stage.options, **parents})
        starts = [(config.get(key) or {}).get(name)
                  for key, name in (('initialise', 'checkpoint'), ('distil', 'teacher_checkpoint'))]
        assert [start for start in starts if start] == ['some.pth'] * len(parents), stage.name


@pytest.mark.parametrize('base', ['ema', 'early_stopping', 'scale_maps'])
def test_one_line_bases(base, tmp_path):
    path = tmp_path / 'child.py'
    parent = CONFIGS / 'landcover' / 'ftunetformer-tiny_s0-baseline_village-256.py'
    path.write_text(f"_base_ = [{str(parent)!r}, {str(CONFIGS / '_base_' / f'{base}.py')!r}]\n")
    config = load_config(path)
    HOOKS.build(config[base])
