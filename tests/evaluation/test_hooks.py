"""The hooks in a real runner: the files of validation and test, pictures, masks."""

import csv
import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from PIL import Image
from torch.utils.data import Dataset

import projects.evaluation.register  # noqa: F401
from projects.evaluation import folder as folder_module
from projects.evaluation.folder import read_evaluation
from projects.evaluation.gallery import RIGHT, WRONG
from projects.evaluation.hooks import PredictionGalleryHook, SegmentationReportHook

PALETTE = [[10, 20, 30], [200, 100, 0]]
FILES = {'confusion_matrix.png', 'per_class.csv', 'per_class.md', 'per_class.json', 'reliability.png', 'scores.json',
         'samples.json'}


class Halves(Dataset):
    """Three images, left half class 1; sample i is labelled 'ignore' in its first i rows."""

    metainfo = {'classes': ('ground', 'tree'), 'palette': PALETTE, 'background': 0, 'taxonomy_hash': 'abc'}

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return 3

    def __getitem__(self, index):
        truth = torch.zeros(1, 8, 8, dtype=torch.long)
        truth[..., :4] = 1
        truth[:, :index] = 255
        sample = SegDataSample(metainfo={'sample_id': f'set/tile_{index}' if index == 2 else f'tile_{index}',
                                         'img_path': str(self.images[index])})
        sample.gt_sem_seg = PixelData(data=truth)
        return {'inputs': torch.zeros(3, 8, 8), 'data_samples': sample}


class LeftThree(BaseModel):
    """Calls the left three columns class 1: one of four true columns is missed."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        if mode == 'loss':
            return {'loss': self.weight.square().sum()}
        logits = torch.zeros(2, 8, 8)
        logits[1, :, :3], logits[0, :, 3:] = 4, 4
        for sample in data_samples:
            sample.seg_logits = PixelData(data=logits)
            sample.pred_sem_seg = PixelData(data=logits.argmax(0, keepdim=True))
        return data_samples


@pytest.fixture
def images(tmp_path):
    paths = [tmp_path / f'image_{i}.png' for i in range(3)]
    for path in paths:
        Image.new('RGB', (8, 8), (50, 60, 70)).save(path)
    return paths


def run(tmp_path, images, name, hooks=(), train=True):
    loader = dict(batch_size=2, num_workers=0, dataset=Halves(images),
                  sampler=dict(type='DefaultSampler', shuffle=False),
                  collate_fn=dict(type='pseudo_collate'))
    metric = dict(type='SegmentationMetric')
    options = dict(
        model=LeftThree(), work_dir=str(tmp_path / 'work'), default_scope='mmseg', experiment_name=name,
        test_dataloader=loader, test_cfg=dict(type='TestLoop'), test_evaluator=metric,
        default_hooks=dict(checkpoint=None), log_level='WARNING',
        custom_hooks=[dict(type='SegmentationReportHook'), *hooks])
    if train:
        options.update(
            train_dataloader=dict(loader, sampler=dict(type='InfiniteSampler')), val_dataloader=loader,
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=2, val_interval=2), val_cfg=dict(type='ValLoop'),
            val_evaluator=metric, optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)))
    init_default_scope('mmseg')
    runner = Runner(**options, cfg=Config())
    if train:
        runner.train()
    return runner, runner.test()


def test_a_run_leaves_its_evaluations(tmp_path, images):
    runner, metrics = run(tmp_path, images, 'leaves')
    root = tmp_path / 'work' / 'evaluation'
    assert {path.name for path in root.iterdir()} == {'val', 'test'}
    for split in ('val', 'test'):
        assert {path.name for path in (root / split).iterdir()} == FILES
    value = json.loads((root / 'val' / 'scores.json').read_text())
    assert value['step'] == 'iter_2' and value['split'] == 'val' and value['taxonomy_hash'] == 'abc'
    assert value['scores']['mIoU'] == metrics['mIoU']
    # of 8 + 7 + 6 labelled rows: 4 columns of ground and 3 of 4 of tree are right
    assert value['confusion'] == [[84, 0], [21, 63]]
    assert metrics['IoU/tree'] == 0.75 and metrics['IoU/ground'] == 0.8
    samples = json.loads((root / 'test' / 'samples.json').read_text())
    assert sorted(row['sample_id'] for row in samples) == ['set/tile_2', 'tile_0', 'tile_1']
    assert all(row['mIoU'] == pytest.approx(0.775) for row in samples)
    rows = list(csv.DictReader((root / 'test' / 'per_class.csv').open()))
    assert [row['class'] for row in rows] == ['ground', 'tree']
    assert float(rows[1]['recall']) == 0.75 and int(rows[1]['truth_pixels']) == 84
    assert '| tree | 0.7500 |' in (root / 'test' / 'per_class.md').read_text()
    evaluation, facts = read_evaluation(root / 'test')
    assert evaluation.summary() == {key: metrics[key] for key in evaluation.summary()}
    assert facts['split'] == 'test' and facts['step'] is None
    for name in ('confusion_matrix.png', 'reliability.png'):
        Image.open(root / 'test' / name).verify()


def test_pictures_and_masks_of_a_test(tmp_path, images):
    images[1] = tmp_path / 'gone.png'
    hooks = [dict(type='PredictionGalleryHook', show_dir=str(tmp_path / 'show'), side=64),
             dict(type='MaskWriterHook', out_dir=str(tmp_path / 'out'))]
    run(tmp_path, images, 'pictures', hooks, train=False)
    shown = sorted(path.name for path in (tmp_path / 'show').iterdir())
    assert len(shown) == 3 and shown[1:] == ['tile_0.png', 'tile_1.png'] and shown[0].startswith('set__tile_2-')
    picture = np.asarray(Image.open(tmp_path / 'show' / 'tile_0.png').convert('RGB'))
    row, step = 14 + 26 + 26 + 2, 64 + 10
    assert picture[row, 14 + 2].tolist() == [50, 60, 70]
    assert picture[row, 14 + step + 3 * 8 + 2].tolist() == PALETTE[1]  # the fourth column: truth tree,
    assert picture[row, 14 + 2 * step + 3 * 8 + 2].tolist() == PALETTE[0]  # predicted ground,
    assert picture[row, 14 + 3 * step + 3 * 8 + 2].tolist() == list(WRONG)  # hence wrong
    assert picture[row, 14 + 3 * step + 2].tolist() == list(RIGHT)
    without = Image.open(tmp_path / 'show' / 'tile_1.png')
    assert without.width == 2 * 14 + 3 * 64 + 2 * 10  # its image is gone: three panels
    mask = Image.open(tmp_path / 'out' / 'tile_0.png')
    assert mask.mode == 'P'
    assert np.asarray(mask).tolist() == [[1, 1, 1, 0, 0, 0, 0, 0]] * 8


def test_number_of_pictures_is_limited(tmp_path, images):
    run(tmp_path, images, 'limited', [dict(type='PredictionGalleryHook', show_dir=str(tmp_path / 'show'), number=1)],
        train=False)
    assert [path.name for path in (tmp_path / 'show').iterdir()] == ['tile_0.png']


def test_a_failed_drawing_is_logged_and_ends_nothing(tmp_path, images, monkeypatch, caplog):
    def broken(*_, **__):
        raise OSError('No space left on device')

    monkeypatch.setattr(folder_module, 'plot_confusion', broken)
    told = []
    monkeypatch.setattr('projects.evaluation.hooks.print_log', lambda text, *_: told.append(text))
    _, metrics = run(tmp_path, images, 'broken', train=False)
    assert metrics['IoU/tree'] == 0.75
    assert len(told) == 1 and 'No space left on device' in told[0] and 'evaluation' in told[0]
    assert (tmp_path / 'work' / 'evaluation' / 'test' / 'scores.json').is_file()  # numbers come before pictures


def test_hooks_are_registered():
    from mmseg.registry import HOOKS

    assert HOOKS.get('SegmentationReportHook') is SegmentationReportHook
    assert HOOKS.get('PredictionGalleryHook') is PredictionGalleryHook
    assert HOOKS.get('MaskWriterHook') is not None
