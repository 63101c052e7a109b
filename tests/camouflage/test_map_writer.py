"""Maps of a test: their files, and that scoring them from disk gives the scores of the test."""

import json
import runpy
import sys

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from PIL import Image

from projects.camouflage.map_writer import CamouflageMapWriterHook
from projects.camouflage.maps import map_path
from projects.camouflage.metrics.folders import score_folders
from projects.camouflage.metrics.metric import CamouflageMetric
from projects.camouflage.metrics.scores import SCORES
from projects.engine.errors import UserError
from projects.evaluation.score_table import read_score_tables


def output(dataset, stem, seed, shape=(30, 41)):
    generator = torch.Generator().manual_seed(seed)
    sample = SegDataSample(metainfo={'sample_id': f'{dataset}/{stem}', 'dataset': dataset, 'ori_shape': shape,
                                     'img_path': f'somewhere/{stem}.jpg'})
    truth = torch.zeros(1, *shape, dtype=torch.long)
    truth[:, 8:8 + 2 * seed, 9:20] = 1
    sample.gt_sem_seg = PixelData(data=truth)
    logits = torch.randn(1, *shape, generator=generator) + 3.0 * truth - 1.5
    sample.seg_logits = PixelData(data=logits.sigmoid())
    return sample


@pytest.fixture
def written(tmp_path):
    """Maps and masks of two data sets, and the scores that the metric gave."""
    outputs = [output('CAMO', 'camourflage_00012', 1), output('CAMO', 'camourflage_00013', 4),
               output('NC4K', '1002', 6, (25, 64)), output('NC4K', '1003', 3, (17, 20))]
    hook, metric = CamouflageMapWriterHook(str(tmp_path / 'maps')), CamouflageMetric()
    evaluator = Evaluator([metric])
    evaluator.dataset_meta = {'classes': ('background', 'camouflaged object')}
    for start in (0, 2):
        hook.after_test_iter(None, 0, None, outputs[start:start + 2])
        evaluator.process(outputs[start:start + 2])
    for one in outputs:
        path = tmp_path / 'truth' / map_path(one.to_dict())
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((one.gt_sem_seg.data[0] * 255).byte().numpy()).save(path)
    return tmp_path, outputs, evaluator.evaluate(4), metric.score_table


def test_one_grey_map_an_image_in_a_folder_a_data_set(written):
    folder, outputs, _, _ = written
    assert sorted(str(path.relative_to(folder / 'maps')) for path in (folder / 'maps').rglob('*.*')) == [
        'CAMO/camourflage_00012.png', 'CAMO/camourflage_00013.png', 'NC4K/1002.png', 'NC4K/1003.png']
    with Image.open(folder / 'maps/NC4K/1002.png') as picture:
        assert picture.mode == 'L' and picture.size == (64, 25)
        values = np.asarray(picture)
    probability = outputs[2].seg_logits.data[0].double().numpy()
    assert np.abs(values / 255 - probability).max() <= 0.5 / 255 + 1e-7
    assert len(np.unique(values)) > 100  # not a mask


def test_scores_from_disk_are_those_of_the_test(written):
    folder, _, metrics, table = written
    found = score_folders(folder / 'maps', folder / 'truth')
    assert found.groups == table.groups  # to the bit
    assert {name: found.groups[0][name] for name in SCORES} == {name: metrics[name] for name in SCORES}
    flat = score_folders(folder / 'maps' / 'CAMO', folder / 'truth' / 'CAMO')
    assert {**flat.groups[0], 'group': 'CAMO'} == table.groups[1]


def test_masks_in_the_folders_of_the_published_layouts(written):
    folder, _, _, table = written
    (folder / 'truth/CAMO').rename(folder / 'GT')
    (folder / 'truth/CAMO').mkdir()
    (folder / 'GT').rename(folder / 'truth/CAMO/GT')
    assert score_folders(folder / 'maps', folder / 'truth').groups == table.groups


def test_without_a_truth_the_map_has_the_size_of_the_image(tmp_path):
    one = output('CAMO', 'a', 2)
    del one.gt_sem_seg
    one.seg_logits = PixelData(data=one.seg_logits.data[:, :16, :20])
    CamouflageMapWriterHook(str(tmp_path)).after_test_iter(None, 0, None, [one])
    with Image.open(tmp_path / 'CAMO' / 'a.png') as picture:
        assert picture.size == (41, 30)


@pytest.mark.parametrize(('sample', 'path'), [
    (dict(sample_id='COD10K/COD10K-CAM-1', dataset='COD10K'), 'COD10K/COD10K-CAM-1.png'),
    (dict(sample_id='COD10K/fish', img_path='x/y.jpg'), 'COD10K/fish.png'),
    (dict(sample_id='fish 1'), 'fish 1.png'),
    (dict(img_path='x/y.jpg', dataset='CAMO'), 'CAMO/y.png'),
])
def test_names(sample, path):
    assert str(map_path(sample)) == path


@pytest.mark.parametrize('sample', [dict(sample_id='../../evil'), dict(sample_id='a/../b', dataset='a'),
                                    dict(sample_id='x', dataset='..'), dict(sample_id='/etc/x')])
def test_no_name_leads_out_of_the_folder(sample):
    path = map_path(sample)
    assert not path.is_absolute() and '..' not in path.parts and len(path.parts) <= 2


def spoil(folder, what):
    path, truth = folder / 'maps/NC4K/1002.png', folder / 'truth/NC4K/1002.png'
    if what == 'missing':
        path.unlink()
    elif what == 'size':
        Image.new('L', (5, 4)).save(path)
    elif what == 'colours':
        Image.new('RGB', (64, 25), (1, 2, 3)).save(path)
    elif what == 'depth':
        Image.fromarray(np.full((25, 64), 300, np.uint16)).save(path)
    elif what == 'truncated':
        path.write_bytes(path.read_bytes()[:60])
    elif what == 'ones':
        with Image.open(truth) as picture:
            ones = np.asarray(picture) // 255
        Image.fromarray(ones).save(truth)
    elif what == 'twice':
        Image.new('L', (64, 25)).save(truth.with_suffix('.jpg'))
    elif what == 'folder':
        for file in path.parent.iterdir():
            file.unlink()
        path.parent.rmdir()


@pytest.mark.parametrize(('what', 'message'), [
    ('missing', r'truth/NC4K/1002.png: no prediction named 1002.png in \S+/maps/NC4K'),
    ('size', r'maps/NC4K/1002.png against \S+1002.png: prediction and truth: expected one size, found 5x4 and 64x25'),
    ('colours', 'maps/NC4K/1002.png: expected a grey map, found colours'),
    ('depth', 'maps/NC4K/1002.png: expected a grey map of 8 bits, found a picture of mode I;16'),
    ('truncated', 'maps/NC4K/1002.png: damaged, truncated or no picture'),
    ('ones', 'truth: expected 0 and 255, found 0 and 1'),
    ('twice', '1002.png: 1002.jpg has the same stem'),
    ('folder', 'maps/NC4K: no such folder; expected the maps of the data set NC4K'),
])
def test_bad_files_are_named(written, what, message):
    folder = written[0]
    spoil(folder, what)
    with pytest.raises(UserError, match=message):
        score_folders(folder / 'maps', folder / 'truth')


def test_empty_and_missing_folders(tmp_path):
    with pytest.raises(UserError, match='none: no such folder'):
        score_folders(tmp_path, tmp_path / 'none')
    with pytest.raises(UserError, match='expected masks .* found none'):
        score_folders(tmp_path, tmp_path)


def test_tool(written, repository, monkeypatch, capsys):
    folder, _, _, table = written
    monkeypatch.chdir(folder)

    def tool(*arguments):
        path = str(repository / 'tools/camouflage/score_maps.py')
        monkeypatch.setattr(sys, 'argv', [path, *arguments])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(path, run_name='__main__')
        return end.value.code, *capsys.readouterr()

    status, printed, _ = tool('--pred-dir', 'maps', '--gt-dir', 'truth', '--out', 'out')
    assert status == 0 and table.text() in printed
    [(read, facts)] = read_score_tables(folder / 'out')
    assert read.groups == table.groups and facts == {'predictions': 'maps', 'truth': 'truth'}
    assert json.loads((folder / 'out/camouflage.json').read_text())['kind'] == 'score table'
    assert tool('--pred-dir', 'nowhere', '--gt-dir', 'truth') == (2, '', 'error: nowhere: no such folder\n')
    # a data set's folder instead of its masks; then the maps of all data sets instead of its own
    (folder / 'test').mkdir()
    (folder / 'truth/CAMO').rename(folder / 'test/masks')
    (folder / 'test/images').mkdir()
    Image.new('RGB', (41, 30)).save(folder / 'test/images/camourflage_00012.png')
    status, _, _ = tool('--pred-dir', 'maps/CAMO', '--gt-dir', 'test', '--out', 'flat')
    [(read, _)] = read_score_tables(folder / 'flat')
    assert status == 0 and {**read.groups[0], 'group': 'CAMO'} == table.groups[1]
    assert tool('--pred-dir', 'maps', '--gt-dir', 'test') == (2, '', (
        'error: test/masks/camourflage_00012.png: no prediction named camourflage_00012.png in maps (and 1 more); '
        'there are folders in it: CAMO, NC4K\n'))
