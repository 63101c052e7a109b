"""tools/score_masks.py and tools/report.py as a user runs them."""

import importlib.util
import json

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image

from projects.evaluation.folder import read_evaluation


def load(repository, name):
    specification = importlib.util.spec_from_file_location(name, repository / 'tools' / f'{name}.py')
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def call(repository, monkeypatch, capsys):
    """Run a tool as ``run(main)`` does; returns (status, output, error output)."""
    def call(name, *arguments):
        tool = load(repository, name)
        monkeypatch.setattr('sys.argv', [name, *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            tool.run(tool.main)
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err
    return call


def save(path, labels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(labels, np.uint8)).save(path)


@pytest.fixture
def folders(tmp_path):
    truth, prediction = tmp_path / 'truth', tmp_path / 'prediction'
    save(truth / 'one.png', [[0, 0, 0, 1], [1, 1, 2, 255]])
    save(prediction / 'one.tif', [[0, 0, 1, 1], [1, 0, 1, 7]])
    save(truth / 'two.png', [[2, 2]])
    save(prediction / 'two.png', [[2, 2]])
    save(prediction / 'spare.png', [[99]])
    return prediction, truth


def test_table_and_files(call, folders, tmp_path):
    out = tmp_path / 'out'
    status, text, _ = call('score_masks', '--pred-dir', folders[0], '--gt-dir', folders[1], '--classes', 'a,b,c',
                           '--background', 0, '--out', out)
    assert status == 0
    assert text.splitlines()[2].split() == ['a', '50.00', '66.67', '66.67', '66.67', '3']
    assert 'mIoU 52.22' in text and 'ECE' not in text
    value = json.loads((out / 'scores.json').read_text())
    assert value['confusion'] == [[2, 1, 0], [1, 2, 0], [0, 1, 2]]
    assert value['scores']['mIoU_foreground'] == pytest.approx((2 / 5 + 2 / 3) / 2)
    assert [row['sample_id'] for row in json.loads((out / 'samples.json').read_text())] == ['one', 'two']
    assert {path.name for path in out.iterdir()} == {
        'confusion_matrix.png', 'per_class.csv', 'per_class.md', 'per_class.json', 'scores.json', 'samples.json'}


def test_numbered_classes_and_another_ignored_label(call, folders):
    save(folders[1] / 'one.png', [[9, 9, 9, 1], [1, 1, 9, 9]])
    status, text, _ = call('score_masks', '--pred-dir', folders[0], '--gt-dir', folders[1], '--num-classes', 3,
                           '--ignore-index', 9)
    assert status == 0 and 'class 2' in text and 'OA 80.00' in text


def test_taxonomy_gives_names_and_background(call, folders):
    status, text, _ = call('score_masks', '--pred-dir', folders[0], '--gt-dir', folders[1], '--taxonomy', 'landcover6')
    assert status == 0 and 'Forest Land' in text
    assert 'mIoU_foreground 53.33' in text


def broken(folders, what):
    prediction, truth = folders
    if what == 'missing':
        (prediction / 'two.png').unlink()
    elif what == 'size':
        save(prediction / 'two.png', [[2, 2, 2]])
    elif what == 'label':
        save(prediction / 'two.png', [[2, 5]])
    elif what == 'truth':
        save(truth / 'two.png', [[2, 5]])
    elif what == 'cut':
        data = (truth / 'two.png').read_bytes()
        (truth / 'two.png').write_bytes(data[: len(data) // 2])
    elif what == 'twice':
        save(truth / 'two.tif', [[2, 2]])
    elif what == 'empty':
        for path in truth.iterdir():
            path.unlink()


@pytest.mark.parametrize(('what', 'parts'), [
    ('missing', ['truth/two.png', 'no prediction']),
    ('size', ['prediction/two.png', '3x1', '2x1']),
    ('label', ['prediction/two.png', 'the prediction holds labels outside 0..2: 5 (1 px)']),
    ('truth', ['truth/two.png', 'the truth holds labels outside 0..2: 5 (1 px)']),
    ('cut', ['truth/two.png']),
    ('twice', ['two.tif', 'same stem']),
    ('empty', ['truth', 'found none']),
])
def test_bad_masks_are_one_line_and_status_2(call, folders, what, parts):
    broken(folders, what)
    status, _, error = call('score_masks', '--pred-dir', folders[0], '--gt-dir', folders[1], '--num-classes', 3)
    assert status == 2
    assert error.startswith('error: ') and error.count('\n') == 1
    for part in parts:
        assert part in error


@pytest.mark.parametrize('arguments', [
    ['--classes', 'a,a'], ['--num-classes', 0], ['--taxonomy', 'landcover7'],
    ['--num-classes', 3, '--background', 3], ['--num-classes', 3, '--raw-truth'],
    ['--taxonomy', 'loveda', '--raw-truth', '--ignore-index', 9]])
def test_bad_options(call, folders, arguments):
    status, _, error = call('score_masks', '--pred-dir', folders[0], '--gt-dir', folders[1], *arguments)
    assert status == 2 and error.count('\n') == 1


def save_tiff(path, labels, crs='EPSG:2154', corner=(600_000, 6_800_000)):
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = np.array(labels, np.uint8)
    place = Affine(1, 0, corner[0], 0, -1, corner[1])
    with rasterio.open(path, 'w', 'GTiff', labels.shape[1], labels.shape[0], 1, crs, place, labels.dtype) as target:
        target.write(labels, 1)


@pytest.mark.parametrize(('place', 'difference'), [
    ({'crs': 'EPSG:2154'}, None),
    ({'crs': 'EPSG:32631'}, 'CRS EPSG:32631 instead of EPSG:2154'),
    ({'corner': (600_010, 6_800_000)}, 'upper-left corner off by x +10'),
])
def test_masks_of_another_place_are_refused(call, tmp_path, place, difference):
    save_tiff(tmp_path / 'truth' / 'a.tif', [[0, 1], [1, 1]])
    save_tiff(tmp_path / 'prediction' / 'a.tif', [[0, 1], [1, 1]], **place)
    status, text, error = call('score_masks', '--pred-dir', tmp_path / 'prediction', '--gt-dir', tmp_path / 'truth',
                               '--num-classes', 2)
    if difference is None:
        assert status == 0 and 'OA 100.00' in text
    else:
        assert status == 2 and difference in error and 'prediction/a.tif' in error and 'truth/a.tif' in error


@pytest.fixture
def gaps(tmp_path):
    """Nine labelled pixels, of which three (one of class 0, two of class 1) are not predicted."""
    save(tmp_path / 'truth' / 'a.png', [[0, 0, 0, 1, 1], [1, 1, 1, 2, 255]])
    save(tmp_path / 'prediction' / 'a.png', [[0, 1, 255, 255, 255], [1, 1, 1, 2, 255]])
    return '--pred-dir', tmp_path / 'prediction', '--gt-dir', tmp_path / 'truth', '--num-classes', 3


def test_unpredicted_pixels_are_an_error_that_names_the_option(call, gaps):
    status, _, error = call('score_masks', *gaps)
    assert status == 2 and error.count('\n') == 1
    assert 'prediction/a.png' in error and '3 labelled pixels are not predicted (255)' in error
    assert '--unpredicted miss' in error and '--unpredicted skip' in error


@pytest.mark.parametrize(('rule', 'accuracy', 'iou', 'truth_pixels', 'missed'), [
    ('miss', 5 / 9, [1 / 3, 3 / 6, 1], [3, 5, 1], [1, 2, 0]),
    ('skip', 5 / 6, [1 / 2, 3 / 4, 1], [2, 3, 1], None),
])
def test_unpredicted_pixels_as_misses_or_left_out(call, gaps, tmp_path, rule, accuracy, iou, truth_pixels, missed):
    status, text, _ = call('score_masks', *gaps, '--unpredicted', rule, '--out', tmp_path / 'out')
    assert status == 0 and 'not predicted: 3, ' in text
    value = json.loads((tmp_path / 'out' / 'scores.json').read_text())
    assert value['confusion'] == [[1, 1, 0], [0, 3, 0], [0, 0, 1]]
    assert value['missed'] == missed
    assert value['scores']['OA'] == pytest.approx(accuracy)
    assert [row['IoU'] for row in value['per_class']] == pytest.approx(iou)
    assert [row['truth_pixels'] for row in value['per_class']] == truth_pixels
    assert [row['predicted_pixels'] for row in value['per_class']] == [1, 4, 1]
    assert value['pixels'] == sum(truth_pixels)
    assert (value['unpredicted'], value['unpredicted_pixels']) == (rule, 3)
    evaluation, facts = read_evaluation(tmp_path / 'out')
    assert evaluation.summary()['OA'] == pytest.approx(accuracy) and facts['unpredicted'] == rule


def test_unpredicted_pixels_do_not_hide_a_foreign_true_label(call, gaps, tmp_path):
    save(tmp_path / 'truth' / 'a.png', [[0, 0, 9, 1, 1], [1, 1, 1, 2, 255]])
    status, _, error = call('score_masks', *gaps, '--unpredicted', 'skip')
    assert status == 2 and 'the truth holds labels outside 0..2: 9 (1 px)' in error


def test_raw_truth_is_read_by_the_taxonomy(call, tmp_path):
    folders = '--pred-dir', tmp_path / 'prediction', '--gt-dir', tmp_path / 'truth'
    save(tmp_path / 'truth' / 'a.png', [[0, 1, 2, 7]])  # LoveDA: 0 is no label, 7 is agriculture
    save(tmp_path / 'prediction' / 'a.png', [[3, 0, 1, 6]])
    status, text, _ = call('score_masks', *folders, '--taxonomy', 'loveda', '--raw-truth')
    assert status == 0 and 'OA 100.00' in text
    status, _, error = call('score_masks', *folders, '--taxonomy', 'loveda')
    assert status == 2 and 'the truth holds labels outside 0..6: 7 (1 px)' in error
    save(tmp_path / 'truth' / 'a.png', [[0, 1, 2, 8]])
    status, _, error = call('score_masks', *folders, '--taxonomy', 'loveda', '--raw-truth')
    assert status == 2 and 'truth/a.png' in error and '8 (1 px)' in error


def test_missing_folder(call, tmp_path):
    status, _, error = call('score_masks', '--pred-dir', tmp_path / 'x', '--gt-dir', tmp_path / 'y', '--num-classes', 2)
    assert status == 2 and 'no such folder' in error


def test_report_tool(call, folders, tmp_path):
    work_dir = tmp_path / 'work'
    call('score_masks', '--pred-dir', folders[0], '--gt-dir', folders[1], '--num-classes', 3, '--out',
         work_dir / 'evaluation' / 'test')
    status, text, _ = call('report', work_dir, '--figure', f'Confusion={work_dir}/evaluation/test/confusion_matrix.png')
    assert status == 0 and text.strip() == str(work_dir / 'report.html')
    assert 'Test scores' in (work_dir / 'report.html').read_text()
    status, _, error = call('report', work_dir, '--figure', 'nothing')
    assert status == 2 and 'TITLE=FILE' in error


def test_several_work_directories_make_a_comparison(call, make_run):
    folders = make_run('a', [50] * 4), make_run('b', [60] * 4, stage='finetune')
    status, text, _ = call('report', *folders)
    assert status == 0 and text.strip() == str(folders[1] / 'comparison.html')
    assert 'is best: mean IoU' in (folders[1] / 'comparison.html').read_text()
    status, text, _ = call('report', folders[0])
    assert status == 0 and text.strip() == str(folders[0] / 'report.html')
    status, _, error = call('report', folders[0], folders[0])
    assert status == 2 and error == 'error: work directories: one of them was given twice\n'
    (folders[1] / 'empty').mkdir()
    status, _, error = call('report', folders[0], folders[1] / 'empty')
    assert status == 2 and 'empty: expected a run' in error and error.count('\n') == 1
