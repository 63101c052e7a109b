"""EMA, early stopping, epochs and accumulation: one line each, through training, resume and test."""

import pytest

from projects.engine.checkpoints import read_checkpoint

pytestmark = pytest.mark.slow


def test_ema_trains_resumes_and_is_what_is_tested(tool, config, repository, tmp_path):
    child = tmp_path / 'ema.py'
    child.write_text(f"_base_ = [{str(config)!r}, {str(repository / 'configs/_base_/ema.py')!r}]\n")
    tool('train.py', child, '--work-dir', tmp_path / 'run', options=[])
    (tmp_path / 'run/iter_4.pth').unlink()
    (tmp_path / 'run/last_checkpoint').write_text('iter_2.pth')
    before = read_checkpoint(tmp_path / 'run/iter_2.pth')
    tool('train.py', child, '--work-dir', tmp_path / 'run', '--resume', options=['num_workers=1'])
    after = read_checkpoint(tmp_path / 'run/iter_4.pth')
    key = 'decode_head.conv_seg.weight'
    averaged, raw = after['state_dict'][key], after['ema_state_dict'][f'module.{key}']
    start = before['state_dict'][key]
    # The average has gone on from the average (a rate of 0.002 moves it little), the weights from the weights.
    assert 0 < (averaged - start).abs().max() < 0.1 * (raw - start).abs().max()
    tool('test.py', child, tmp_path / 'run/iter_4.pth', '--work-dir', tmp_path / 'test', options=[])


def test_early_stopping_stops_and_a_new_rate_is_not_taken_in_silence(tool, config, repository, tmp_path):
    child = tmp_path / 'early.py'
    child.write_text(f"_base_ = [{str(config)!r}, {str(repository / 'configs/_base_/early_stopping.py')!r}]\n"
                     "early_stopping = dict(min_delta=1.0, patience=1)\n")
    tool('train.py', child, '--work-dir', tmp_path / 'run', options=['train_cfg.max_iters=8'])
    assert (tmp_path / 'run/iter_4.pth').exists() and not (tmp_path / 'run/iter_6.pth').exists()
    printed = tool('train.py', config, '--work-dir', tmp_path / 'run', '--resume', options=[
        'train_cfg.max_iters=6', 'optim_wrapper.optimizer.lr=0.5'])
    assert 'keeps its learning rate 0.002, not 0.5' in printed


def test_epochs_with_restarts_and_accumulation(tool, repository, tmp_path):
    tiny = repository / 'configs/landcover/_base_/model_ftunetformer_tiny.py'
    bases = [str(repository / 'configs' / name) for name in (
        '_base_/runtime.py', '_base_/tracking.py', '_base_/schedules/adamw_lookahead.py',
        '_base_/schedules/restarts_45_epochs.py', 'landcover/_base_/data_prepared.py')]
    child = tmp_path / 'epochs.py'
    child.write_text(f'_base_ = {[*bases, str(tiny)]!r}\n')
    printed = tool('train.py', child, '--work-dir', tmp_path / 'run', options=[
        'train_cfg.max_epochs=2', 'train_cfg.val_interval=1', 'param_scheduler.0.periods=[1,1]',
        'optim_wrapper.accumulative_counts=2'], epochs=True)
    assert 'Epoch(val) [2]' in printed
    assert read_checkpoint(tmp_path / 'run/iter_6.pth')['meta']['epoch'] == 2
