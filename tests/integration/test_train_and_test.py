"""Train, resume, test and predict through the tools, in one process and in two."""

import json
import shutil

import numpy as np
import pytest
import torch

from projects.engine.checkpoints import read_checkpoint

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """The work directory that the first test fills."""
    return tmp_path_factory.mktemp('runs') / 'whole'


def weights(path):
    return read_checkpoint(path)['state_dict']


def test_a_run_trains_and_leaves_its_scores(tool, config, trained):
    tool('train.py', config, '--work-dir', trained, options=[])
    assert {'iter_2.pth', 'iter_4.pth', 'last_checkpoint', 'evaluation'} <= {p.name for p in trained.iterdir()}
    meta = read_checkpoint(trained / 'iter_4.pth')['meta']
    assert meta['dataset_meta']['classes'][1] == 'Forest Land' and len(meta['dataset_meta']['taxonomy_hash']) == 64
    scores = json.loads((trained / 'evaluation/val/scores.json').read_text())
    assert 0.0 < scores['scores']['mIoU'] <= 1.0 and scores['step'] == 'iter_4'


def test_a_finished_directory_is_not_overwritten(tool, config, trained):
    assert 'holds a run already' in tool('train.py', config, '--work-dir', trained, options=[], refused=True)


def test_resume_continues_with_optimizer_and_slow_weights(tool, config, trained, tmp_path):
    moved = tmp_path / 'moved'
    moved.mkdir()
    shutil.copy(trained / 'iter_2.pth', moved)
    (moved / 'last_checkpoint').write_text('/nowhere/iter_2.pth')
    assert 'resumed epoch: 0, iter: 2' in tool('train.py', config, '--work-dir', moved, '--resume', options=[])
    state = read_checkpoint(moved / 'iter_4.pth')['optimizer']
    assert all('slow' in entry for entry in state['state'].values())
    assert state['param_groups'][0]['lookahead_step'] == 4


def test_score_show_and_write_masks(tool, config, trained, tmp_path):
    tool('test.py', config, trained / 'iter_4.pth', '--work-dir', tmp_path, '--out', tmp_path / 'masks', '--show-dir',
         tmp_path / 'show', options=[])
    scores = json.loads((tmp_path / 'evaluation/test/scores.json').read_text())
    names = [f'site{index:02d}_a.png' for index in (9, 10, 11)]
    assert sorted(p.name for p in (tmp_path / 'masks').iterdir()) == names
    assert sorted(p.name for p in (tmp_path / 'show').iterdir()) == names
    tool('test.py', config, trained / 'iter_4.pth', '--work-dir', tmp_path / 'tta', '--tta', options=[])
    averaged = json.loads((tmp_path / 'tta/evaluation/test/scores.json').read_text())
    assert np.isfinite(averaged['scores']['ECE']) and averaged['scores']['ECE'] != scores['scores']['ECE']


def test_two_processes_agree_and_score_like_one(tool, config, trained, tmp_path):
    (tmp_path / 'rank_state.py').write_text("""
import torch
from mmengine.hooks import Hook
from mmseg.registry import HOOKS

@HOOKS.register_module()
class RankStateHook(Hook):
    priority = 'LOWEST'
    def __init__(self, out):
        self.out = out
    def after_train(self, runner):
        torch.save(runner.model.module.state_dict(), f'{self.out}/rank{runner.rank}.pt')
""")
    child = tmp_path / 'two.py'
    child.write_text(f"""
_base_ = {str(config)!r}
custom_imports = dict(imports=['projects.engine.register', 'projects.multiscale.register',
                               'projects.evaluation.register', 'projects.landcover.register', 'rank_state'])
custom_hooks = [dict(type='RankStateHook', out={str(tmp_path)!r})]
""")
    tool('dist_train.sh', child, 2, '--work-dir', tmp_path / 'run', options=[], PYTHONPATH=str(tmp_path))
    first, second = (torch.load(tmp_path / f'rank{rank}.pt') for rank in (0, 1))
    saved = weights(tmp_path / 'run/iter_4.pth')
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert all(torch.equal(first[key], saved[key]) for key in first)
    assert any('running_mean' in key and value.abs().sum() > 0 for key, value in first.items())
    tool('test.py', config, trained / 'iter_4.pth', '--work-dir', tmp_path / 'one', options=[])
    tool('dist_test.sh', config, trained / 'iter_4.pth', 2, '--work-dir', tmp_path / 'two', options=[])
    one, two = (json.loads((tmp_path / name / 'evaluation/test/scores.json').read_text()) for name in ('one', 'two'))
    assert one['confusion'] == two['confusion'] and one['scores'] == two['scores']


def test_an_ablation_trains(tool, repository, tmp_path):
    path = repository / 'configs/landcover/ablations/window-4.py'
    tool('train.py', path, '--work-dir', tmp_path / 'run', options=['train_cfg.max_iters=2'])
    saved = weights(tmp_path / 'run/iter_2.pth')
    assert saved['decode_head.b4.attn.relative_position_bias_table'].shape[0] == 7 * 7
