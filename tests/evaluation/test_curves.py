"""Curves: joined over resumes, epochs turned into iterations, broken lines skipped."""

import json

import pytest

from projects.evaluation.curves import Curves, read_curves
from projects.evaluation.plots import DARK, curve_figures, png_bytes


def write(work_dir, stamp, lines, tail=''):
    path = work_dir / stamp / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text(''.join(json.dumps(line) + '\n' for line in lines) + tail)


def train(step, loss, **more):
    return {'loss': loss, 'lr': 0.1, 'iter': step, 'step': step, **more}


def test_a_resumed_run_is_joined(tmp_path):
    # Killed at 40 after the checkpoint of 20: the second start logs 30 and 40 again, with other values.
    write(tmp_path, '20250101_000000',
          [train(10, 1.0), train(20, 0.9), {'mIoU': 0.2, 'step': 20}, train(30, 0.8), train(40, 0.7),
           {'mIoU': 0.3, 'step': 40}], tail='{"loss": 0.6, "ite')
    write(tmp_path, '20250101_010000', [train(30, 0.5), train(40, 0.4), {'mIoU': 0.5, 'step': 40}, train(50, 0.3)])
    write(tmp_path, '20250101_020000', [])  # a start that logged nothing, as a test does
    (tmp_path / 'evaluation').mkdir()
    curves = read_curves(tmp_path)
    assert curves.train['loss'] == [(10, 1.0), (20, 0.9), (30, 0.5), (40, 0.4), (50, 0.3)]
    assert curves.validation['mIoU'] == [(20, 0.2), (40, 0.5)]
    assert curves.starts == [30]
    assert 'iter' not in curves.train and 'step' not in curves.train


def test_a_new_start_from_zero_replaces_everything(tmp_path):
    write(tmp_path, '20250101_000000', [train(10, 1.0), train(20, 0.9)])
    write(tmp_path, '20250101_010000', [train(10, 3.0)])
    assert read_curves(tmp_path).train['loss'] == [(10, 3.0)]


def test_validations_of_a_run_that_counts_epochs_lie_at_their_iterations(tmp_path):
    """Three iterations an epoch; at iteration 3 the epochs of the training lines have come to 3 as well."""
    write(tmp_path, '20250101_000000', [
        row for epoch in (1, 2) for row in (*(train(3 * epoch - back, 1.0, epoch=epoch) for back in (2, 1, 0)),
                                            {'mIoU': epoch / 10, 'step': 3 * epoch})])
    write(tmp_path, '20250101_010000', [
        row for epoch in (3, 4) for row in (*(train(3 * epoch - back, 1.0, epoch=epoch) for back in (2, 1, 0)),
                                            {'mIoU': epoch / 10, 'step': 3 * epoch})])
    curves = read_curves(tmp_path)
    assert curves.validation['mIoU'] == [(3, 0.1), (6, 0.2), (9, 0.3), (12, 0.4)]
    assert curves.train['epoch'][-1] == (12, 4.0) and curves.starts == [7]


def test_nan_scores_are_read_and_not_drawn(tmp_path):
    write(tmp_path, '20250101_000000', [train(10, 1.0), {'mIoU': float('nan'), 'OA': 0.5, 'step': 10}])
    curves = read_curves(tmp_path)
    assert len(curves.validation['mIoU']) == 1
    figures = curve_figures([(0, curves)])
    assert list(figures) == ['loss', 'validation scores', 'learning rate']
    assert [line.get_label() for line in figures['validation scores'].axes[0].lines] == ['OA']
    assert png_bytes(figures['loss']).startswith(b'\x89PNG')


@pytest.mark.parametrize('best', [0, 1, 2])
def test_the_label_of_the_best_score_lies_inside_the_axes(best):
    points = [(step, 0.164 if step == 10 * (best + 1) else 0.05) for step in (10, 20, 30)]
    figure = curve_figures([(0, Curves(validation={'mIoU': points}))])['validation scores']
    png_bytes(figure)
    axes = figure.axes[0]
    label, = [text for text in axes.texts if text.get_text() == 'best 0.164']
    box, frame = label.get_window_extent(), axes.get_window_extent()
    assert frame.x0 < box.x0 and box.x1 < frame.x1


def test_several_runs_are_drawn_together_a_colour_each():
    one = Curves(train={'loss': [(10, 2.0), (20, 1.0)], 'loss_a': [(10, 1.0)], 'loss_b': [(10, 1.0)]},
                 validation={'mIoU': [(20, 0.5)]}, starts=[20])
    other = Curves(train={'loss': [(10, 1.5), (20, 0.5)], 'loss_a': [(10, 0.7)], 'lr': [(10, 0.1)]},
                   validation={'mIoU': [(20, 0.6)]})
    figures = curve_figures([(0, one), (1, other)], DARK)
    assert list(figures) == ['validation mIoU', 'loss', 'loss_a', 'learning rate']  # loss_b is of one run only
    lines = figures['loss'].axes[0].lines
    assert [list(line.get_ydata()) for line in lines] == [[2.0, 1.0], [0, 1], [1.5, 0.5]]
    assert [line.get_color() for line in lines] == [DARK.series[0], DARK.series[0], DARK.series[1]]
    assert list(lines[1].get_xdata()) == [20, 20]  # the mark of the resume


def test_the_seventh_run_is_dashed():
    curves = Curves(train={'loss': [(10, 2.0), (20, 1.0)]})
    lines = curve_figures([(number, curves) for number in (0, 6)])['loss'].axes[0].lines
    assert lines[0].get_color() == lines[1].get_color()
    assert (lines[0].get_linestyle(), lines[1].get_linestyle()) == ('-', '--')


def test_without_scalars_there_are_no_curves(tmp_path):
    curves = read_curves(tmp_path)
    assert not curves
    assert curve_figures([(0, curves)]) == {}


def test_scores_of_a_task_are_drawn_before_the_others():
    curves = Curves(validation={name: [(5, value), (10, value + 0.1)] for name, value in
                                (('mIoU', 0.3), ('S', 0.6), ('wF', 0.4), ('E_max', 0.7))})
    figures = curve_figures([(0, curves)], task_scores=('S', 'wF', 'MAE'))
    assert list(figures) == ['validation: S, wF', 'validation scores']
    assert [line.get_label() for line in figures['validation: S, wF'].axes[0].lines] == ['S', 'wF']
    assert 'best 0.700' in [text.get_text() for text in figures['validation: S, wF'].axes[0].texts]
    several = curve_figures([(0, curves), (1, curves)], task_scores=('S', 'wF'))
    assert list(several)[:2] == ['validation S', 'validation mIoU']


@pytest.mark.filterwarnings('error')  # a legend of thirty lines leaves no room for the axes
def test_scores_of_many_groups_are_left_to_their_table():
    names = ['mIoU', 'OA', *(f'{prefix}group_{k}/mIoU' for prefix in ('', 'coarse/') for k in range(14))]
    figure = curve_figures([(0, Curves(validation={name: [(10, 0.2), (20, 0.5)] for name in names}))])[
        'validation scores']
    assert [line.get_label() for line in figure.axes[0].lines] == ['mIoU', 'OA']
    assert png_bytes(figure)[:4] == b'\x89PNG'
    alone = curve_figures([(0, Curves(validation={name: [(10, 0.2)] for name in names[2:]}))])['validation scores']
    assert len(alone.axes[0].lines) == 10
