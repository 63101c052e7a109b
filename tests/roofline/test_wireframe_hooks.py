"""Pictures and files of a test, and the table of a validation."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmseg.registry import HOOKS
from mmseg.structures import SegDataSample
from PIL import Image

import projects.evaluation.tracking as tracking
from projects.engine.errors import UserError
from projects.roofline.drawing import FALSE, MATCHED
from projects.roofline.graph import RoofGraph
from projects.roofline.hooks import WireframeGalleryHook, WireframeTrackingHook, WireframeWriterHook

GRAPH = RoofGraph.make([[20, 20], [100, 20], [100, 60], [20, 60]], [[0, 1], [1, 2], [2, 3], [3, 0]])


def output(name='a', path=None, graph=GRAPH, **more):
    """Three of four lines, a false one, and one below one half; in no order."""
    sample = SegDataSample(metainfo=dict(sample_id=name, img_path=path, graph=graph, ori_shape=(80, 120), **more))
    sample.pred_junctions = torch.tensor([[20, 20], [100, 21.5], [100, 60], [20, 60], [60, 5.0004]])
    sample.pred_junction_scores = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5])
    sample.pred_lines = torch.tensor([[2, 3], [0, 1], [1, 2], [4, 0], [0, 2]])
    sample.pred_line_scores = torch.tensor([0.6, 0.9, 0.8, 0.7, 0.25])
    return sample


@pytest.fixture
def image(tmp_path):
    path = tmp_path / 'image.png'
    Image.new('RGB', (120, 80), (90, 100, 110)).save(path)
    return str(path)


def colours_of(picture):
    return {tuple(int(v) for v in colour) for colour in np.asarray(picture)[:-60].reshape(-1, 3)}  # without the legend


def test_gallery(tmp_path, image):
    hook = HOOKS.build(dict(
        type='WireframeGalleryHook', threshold=0.5, show_dir=str(tmp_path / 'show'), number=2, side=300))
    hook.before_test_epoch(None)
    hook.after_test_iter(None, 0, None, [output('a', image), output('set/b', image, graph=None)])
    hook.after_test_iter(None, 1, None, [output('c', image)])
    [first, second] = sorted((tmp_path / 'show').iterdir())
    assert first.name == 'a.png' and second.name.startswith('set__b-')
    with Image.open(first) as picture:
        assert picture.width > 4 * 300 and {MATCHED, FALSE, (90, 100, 110)} <= colours_of(picture)
    with Image.open(second) as picture:  # without a truth
        assert picture.width < 3 * 400 and MATCHED not in colours_of(picture)


def test_gallery_without_its_image(tmp_path):
    hook = WireframeGalleryHook(str(tmp_path / 'show'), threshold=0.5)
    hook.after_test_iter(None, 0, None, [output('a', str(tmp_path / 'none.png'))])
    with Image.open(tmp_path / 'show' / 'a.png') as picture:
        assert MATCHED in colours_of(picture) and picture.width < 4 * 640


def test_writer(tmp_path):
    hook = HOOKS.build(dict(type='WireframeWriterHook', out_dir=str(tmp_path / 'out')))
    hook.after_test_iter(None, 0, None, [output('a', 'x/y.tif', resolution=0.2, crs='EPSG:2154',
                                                transform=(0.2, 0, 5, 0, -0.2, 7))])
    value = json.loads((tmp_path / 'out' / 'a.json').read_text())
    assert value == {
        'sample_id': 'a', 'file': 'y.tif', 'width': 120, 'height': 80,
        'junctions': [[20, 20], [100, 21.5], [100, 60], [20, 60], [60, 5]],
        'junction_scores': [0.9, 0.8, 0.7, 0.6, 0.5], 'lines': [[0, 1], [1, 2], [4, 0], [2, 3], [0, 2]],
        'scores': [0.9, 0.8, 0.7, 0.6, 0.25], 'resolution': 0.2, 'crs': 'EPSG:2154',
        'transform': [0.2, 0, 5, 0, -0.2, 7]}
    WireframeWriterHook(str(tmp_path / 'best'), threshold=0.65).after_test_iter(None, 0, None, [output('a')])
    value = json.loads((tmp_path / 'best' / 'a.json').read_text())
    assert value['scores'] == [0.9, 0.8, 0.7] and value['crs'] is value['file'] is value['transform'] is None


def test_a_sample_without_a_name(tmp_path):
    with pytest.raises(UserError, match='neither sample_id nor img_path'):
        WireframeWriterHook(str(tmp_path)).after_test_iter(None, 0, None, [output(None)])


class Backend:
    """What the hook asks of the backend for W&B."""

    iteration, epoch = 0, None

    def __init__(self):
        self.session = SimpleNamespace(scrub=SimpleNamespace(text=str.upper))
        self.attached = []

    def wants_validation(self, iteration, epoch):
        return True

    def attach(self, extras):
        self.attached.append(extras)


@pytest.fixture
def backend(monkeypatch):
    one = Backend()
    monkeypatch.setattr(tracking, 'backend_of', lambda runner: one)
    monkeypatch.setattr('projects.engine.tracking.hook.backend_of', lambda runner: one)
    monkeypatch.setattr(WireframeTrackingHook, 'locate', lambda self, runner, backend: None)
    return one


class Loader(list):
    dataset = SimpleNamespace(metainfo={})


def test_tracking_sends_the_same_samples_each_time(backend):
    hook = HOOKS.build(dict(type='WireframeTrackingHook', threshold=0.5, predictions=2, side=240))
    runner = SimpleNamespace(val_dataloader=Loader(range(5)), val_evaluator=SimpleNamespace(metrics=[]))
    for _ in range(2):
        hook.before_val_epoch(runner)
        for index in range(5):
            batch = {'inputs': [torch.full((3, 64, 64), 90, dtype=torch.uint8)]}
            hook.after_val_iter(runner, index, batch, [output(f'roof {index}', letterbox=(0.5, 2.0, 12.0))])
        hook.after_val_epoch(runner)
    tables = [extras['val/predictions'] for extras in backend.attached if extras]
    assert len(tables) == 2
    for table in tables:
        assert [row[0] for row in table.data] == ['ROOF 0', 'ROOF 4']  # what is sent is scrubbed
        assert table.columns[-3:] == ['matched', 'false', 'missed'] and table.data[0][-3:] == [3, 1, 1]


def test_tracked_pictures_are_in_the_networks_pixels():
    hook = WireframeTrackingHook(side=256, threshold=0.5)
    batch = {'inputs': torch.full((1, 3, 64, 64), 90, dtype=torch.uint8)}
    name, image, truth, prediction, errors, *_ = hook._row(batch, output(letterbox=(0.5, 2.0, 12.0)), {})
    assert name == 'a' and image.shape == truth.shape == prediction.shape == errors.shape == (256, 256, 3)
    # (60, 60), on the lower line, is (32, 42) for the network and (128, 168) in the picture
    assert tuple(errors[168, 100]) == MATCHED and tuple(truth[168, 100]) == (255, 210, 0)
    assert (truth[250] == 90).all()
    row = hook._row(batch, output(graph=None, letterbox=(0.5, 2.0, 12.0)), {})
    assert len(row) == 8 and row[2] is row[4] is row[5] is None
    assert len(hook._row({}, output(), {})) == 8  # without inputs: in the image's own pixels
