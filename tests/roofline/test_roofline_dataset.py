"""The data set: both layouts, several roots, refusals that name the file, batches, pictures of a network's view."""

import json
import pickle

import numpy as np
import pytest
import rasterio
import torch
from mmengine.dataset import pseudo_collate
from mmseg.registry import DATASETS
from PIL import Image

from projects.engine.errors import UserError
from projects.engine.random_state import seed_cpu
from projects.evaluation.browsing import browse
from projects.roofline.annotations import Annotation, write_annotations
from projects.roofline.datasets import RooflineDataset
from projects.roofline.datasets.browse import draw_samples, seen, sheet
from projects.roofline.graph import LINE_TYPES, RoofGraph
from projects.roofline.npz_labels import write_npz

TRAIN = [dict(type='LoadRoofImage'), dict(type='PasteOccluders'), dict(type='LetterboxRoof', size=96),
         dict(type='RandomRoofFlip'), dict(type='RandomQuarterTurn'), dict(type='RandomRoofRotation'),
         dict(type='RandomRoofCrop', size=64, scale=(0.5, 0.89)), dict(type='PhotoMetricDistortion'),
         dict(type='PackRoofline')]
TEST = [dict(type='LoadRoofImage'), dict(type='LetterboxRoof', size=64), dict(type='PackRoofline', maps=False)]
GABLE = RoofGraph.make([[12, 10], [70, 10], [70, 50], [12, 50], [12, 30], [70, 30]],
                       [[0, 1], [1, 5], [5, 2], [2, 3], [3, 4], [4, 0], [4, 5]],
                       faces=[[0, 1, 5, 4], [4, 5, 2, 3]])
NONE = RoofGraph.make([], [])


def picture(path, size=(60, 80), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(60, 200, (*size, 3), np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    """Three roofs, one of them without lines, of two splits."""
    root = tmp_path / 'roofs'
    for name in ('a.png', 'b.png', 'sub/c.png'):
        picture(root / 'images' / name)
    write_annotations(root, [Annotation('b.png', 80, 60, 'train', GABLE, 0.25),
                             Annotation('a.png', 80, 60, 'train', NONE),
                             Annotation('sub/c.png', 80, 60, 'val', GABLE)])
    return root


def changed(folder, number, **changes):
    path = folder / 'annotations.json'
    content = json.loads(path.read_text())
    content['images'][number].update(changes)
    path.write_text(json.dumps(content))


def test_infos_are_those_of_the_file_in_its_order(folder):
    data = RooflineDataset(folder, 'train')
    assert [data.get_data_info(i)['sample_id'] for i in range(len(data))] == ['b', 'a']
    info = data.get_data_info(0)
    assert info['img_path'] == str(folder / 'images' / 'b.png') and info['ori_shape'] == (60, 80)
    assert info['resolution'] == 0.25 and info['crs'] is None and info['transform'] is None and info['split'] == 'train'
    np.testing.assert_array_equal(info['graph'].junctions, GABLE.junctions)
    assert info['graph'].types.tolist() == [0] * 6 + [1] and data.get_data_info(1)['graph'].empty
    assert RooflineDataset(folder, 'val').get_data_info(0)['sample_id'] == 'sub/c'
    assert len(RooflineDataset(folder, 'all')) == 3 and len(RooflineDataset(folder, 'train', limit=1)) == 1
    assert data.metainfo['line_types'] == LINE_TYPES and data.metainfo['classes'] == ('background', 'roof line')
    assert RooflineDataset.metainfo_of(data_root='/nowhere') == RooflineDataset.METAINFO


def test_a_split_that_is_not_there_is_never_replaced(folder):
    with pytest.raises(UserError, match="expected images of 'test', found train 2, val 1"):
        RooflineDataset(folder, 'test')


def test_several_roots_keep_their_ids_apart(folder, tmp_path):
    other = tmp_path / 'more'
    picture(other / 'images' / 'a.png')
    write_annotations(other, [Annotation('a.png', 80, 60, 'train', GABLE)])
    data = RooflineDataset([str(folder), str(other)], 'train')
    assert [data.get_data_info(i)['sample_id'] for i in range(3)] == ['roofs/b', 'roofs/a', 'more/a']
    assert len(RooflineDataset([folder, other], 'train', limit=2)) == 2
    with pytest.raises(UserError, match='expected one image of each name, found several of roofs/b'):
        RooflineDataset([folder, folder], 'train')


def test_the_seed_s_layout(tmp_path):
    for split, names in (('train', 'ba'), ('valid', 'c')):
        for name in names:
            picture(tmp_path / split / f'{name}.png', (64, 96))
            write_npz(tmp_path / split / f'{name}_label.npz', GABLE if name != 'a' else NONE, (64, 96), (16, 24))
    data = RooflineDataset(tmp_path, 'train')
    assert [data.get_data_info(i)['sample_id'] for i in range(2)] == ['a', 'b']
    np.testing.assert_allclose(data.get_data_info(1)['graph'].junctions, GABLE.junctions, atol=1e-3)
    assert data.get_data_info(0)['graph'].empty and data.get_data_info(1)['ori_shape'] == (64, 96)
    assert RooflineDataset(tmp_path, 'val', layout='seed').get_data_info(0)['sample_id'] == 'c'
    every = RooflineDataset(tmp_path, 'all')
    assert {every.get_data_info(i)['sample_id'] for i in range(3)} == {'train/a', 'train/b', 'valid/c'}
    with pytest.raises(UserError, match="expected images of 'test', found train 2, val 1"):
        RooflineDataset(tmp_path, 'test')
    picture(tmp_path / 'train' / 'spare' / 'a.png', (10, 10))  # of another folder: neither it nor its labels count
    data = RooflineDataset(tmp_path, 'train')
    assert [data.get_data_info(i)['img_path'] for i in range(2)] == [
        str(tmp_path / 'train' / name) for name in ('a.png', 'b.png')]
    picture(tmp_path / 'train' / 'a.jpg', (64, 96))
    with pytest.raises(UserError, match=r'train/a_label.npz: expected one image for it, found a.jpg and a.png$'):
        RooflineDataset(tmp_path, 'train')
    assert len(RooflineDataset(tmp_path, 'val')) == 1
    (tmp_path / 'train' / 'a.jpg').unlink()
    (tmp_path / 'train' / 'a_label.npz').unlink()
    with pytest.raises(UserError, match=r'a.png: image without annotation \(a_label.npz\)'):
        RooflineDataset(tmp_path, 'train')
    (tmp_path / 'valid' / 'c.png').unlink()
    with pytest.raises(UserError, match='c_label.npz: annotation without image'):
        RooflineDataset(tmp_path, 'val')


def test_what_does_not_fit_is_refused_and_named(folder):
    picture(folder / 'images' / 'd.png')
    with pytest.raises(UserError, match=r'images/d.png: image without annotation'):
        RooflineDataset(folder, 'train')
    (folder / 'images' / 'd.png').unlink()
    (folder / 'images' / 'b.png').unlink()
    with pytest.raises(UserError, match=r'annotations.json: .*b.png: annotation without image'):
        RooflineDataset(folder, 'train')
    picture(folder / 'images' / 'b.png', (80, 60))
    with pytest.raises(UserError, match='b.png: width, height: expected 60 and 80, as the image has it, found 80 and '
                                        '60'):
        RooflineDataset(folder, 'train')


@pytest.mark.parametrize(('changes', 'message'), [
    (dict(junctions=[[y, x] for x, y in GABLE.junctions.tolist()]), r'look like \(y, x\)'),
    (dict(junctions=[[12, 10], [82, 10], *GABLE.junctions[2:].tolist()]), r'\(82, 10\)'),
    (dict(lines=[[0, 0]], line_type=[0]), 'length zero'),
    (dict(lines=[[0, 1], [1, 0]], line_type=[0, 0]), 'twice'),
])
def test_wrong_graphs_are_refused_in_one_line(folder, changes, message):
    changed(folder, 0, **changes)
    with pytest.raises(UserError, match=message) as caught:
        RooflineDataset(folder, 'val')  # whatever the split: the file is wrong
    assert 'b.png' in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize(('arguments', 'message'), [
    (dict(split='training'), 'split: expected one of train, val, test, all'),
    (dict(layout='coco'), 'layout: expected one of auto, graph, seed'),
    (dict(limit=0), 'limit'),
    (dict(data_root=[]), 'data_root'),
    (dict(data_root='/nowhere'), '/nowhere: no such folder'),
    (dict(data_root='images'), 'expected annotations.json'),
])
def test_wrong_arguments_are_named(folder, arguments, message):
    if arguments.get('data_root') == 'images':
        arguments = dict(data_root=folder / 'images')
    with pytest.raises(UserError, match=message):
        RooflineDataset(**{**dict(data_root=folder, split='train'), **arguments})


def test_geotiffs_with_their_place_in_the_world(tmp_path):
    (tmp_path / 'images').mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (3, 60, 80), np.uint8)
    place = (0.2, 0.0, 650000.0, 0.0, -0.2, 6860000.0)
    with rasterio.open(tmp_path / 'images' / 'a.tif', 'w', driver='GTiff', width=80, height=60, count=3, dtype='uint8',
                       crs='EPSG:2154', transform=rasterio.Affine(*place)) as file:
        file.write(pixels)
    write_annotations(tmp_path, [Annotation('a.tif', 80, 60, 'test', GABLE, 0.2, 'EPSG:2154', place)])
    data = RooflineDataset(tmp_path, 'test', pipeline=TEST[:1] + TEST[2:])
    packed = data[0]
    np.testing.assert_array_equal(packed['inputs'].numpy(), pixels)
    sample = packed['data_samples']
    assert (sample.crs, sample.resolution, sample.transform) == ('EPSG:2154', 0.2, place)


def test_batches_of_training_and_test(folder):
    seed_cpu(0)
    data = DATASETS.build(dict(type='RooflineDataset', data_root=str(folder), split='train', pipeline=TRAIN))
    batch = pseudo_collate([data[0], data[1]])
    with_lines, without = batch['data_samples']
    assert [tuple(one.shape) for one in batch['inputs']] == [(3, 64, 64)] * 2
    assert with_lines.sample_id == 'b' and with_lines.jmap.shape == (1, 16, 16) and with_lines.lmap.max() > 0.5
    assert len(with_lines.lines) >= 1 and with_lines.lines.max() < len(with_lines.junctions)
    assert without.lmap.sum() == 0 and without.lines.shape == (0, 2) and without.graph.empty
    again = pickle.loads(pickle.dumps(batch))['data_samples'][0]  # a worker process sends it
    assert torch.equal(again.lmap, with_lines.lmap)
    np.testing.assert_array_equal(again.graph.junctions, GABLE.junctions)
    test = RooflineDataset(folder, 'val', pipeline=TEST, test_mode=True)[0]['data_samples']
    assert 'lmap' not in test and test.letterbox == (0.8, 0.0, 8.0) and test.ori_shape == (60, 80)
    np.testing.assert_array_equal(test.graph.junctions, GABLE.junctions)


def test_a_seed_fixes_every_view(folder):
    data = RooflineDataset(folder, 'train', pipeline=TRAIN)
    views = []
    for _ in range(2):
        seed_cpu(4)
        views.append([data[0] for _ in range(3)])
    for one, two in zip(*views, strict=True):
        assert torch.equal(one['inputs'], two['inputs'])
        assert torch.equal(one['data_samples'].lmap, two['data_samples'].lmap)
    assert not torch.equal(views[0][0]['inputs'], views[0][1]['inputs'])


def test_pictures_of_what_the_network_sees(folder, tmp_path):
    cfg = dict(model=dict(data_preprocessor=dict(type='SegDataPreProcessor', mean=[123.675, 116.28, 103.53],
                                                 std=[58.395, 57.12, 57.375], size=(64, 64))),
               train_dataloader=dict(dataset=dict(type='RooflineDataset', data_root=str(folder), split='train',
                                                  pipeline=TRAIN)),
               val_dataloader=dict(dataset=dict(type='RooflineDataset', data_root=str(folder), split='val',
                                                pipeline=TEST)))
    paths = list(browse(draw_samples, cfg, tmp_path / 'out', 'train', 2, views=2))
    assert [path.name for path in paths] == ['train_b.png', 'train_a.png']
    width, height = Image.open(paths[0]).size
    assert width > 3 * 512 and height > 2 * 512  # image, graph and maps; two views
    [one] = browse(draw_samples, cfg, tmp_path / 'out', 'val', 3)
    assert one.name.startswith('val_sub__c-')


def test_a_view_is_the_network_s_own_input_and_graph(folder):
    from mmseg.models import SegDataPreProcessor

    preprocessor = SegDataPreProcessor(mean=[100.0] * 3, std=[50.0] * 3, size=(64, 64))
    test = RooflineDataset(folder, 'val', pipeline=TEST)[0]
    view = seen(test, preprocessor, training=False)
    np.testing.assert_allclose(view.image, test['inputs'].permute(1, 2, 0).numpy(), atol=1e-3)
    np.testing.assert_allclose(view.graph.junctions, GABLE.junctions * 0.8 + (0, 8))
    drawn = RooflineDataset(folder, 'val', pipeline=[*TEST[:2], dict(type='PackRoofline')])[0]
    view = seen(drawn, preprocessor, training=True)
    np.testing.assert_allclose(view.graph.junctions, GABLE.junctions * 0.8 + (0, 8), atol=1e-4)
    assert view.lmap.shape == (16, 16) and view.negatives == 6 * 5 // 2 - 7
    # A junction is drawn where it is: pixel i of the view, enlarged 8 times, covers [8 i, 8 i + 8).
    panel = np.asarray(sheet('one', [view], side=512)).astype(int)
    left, top = 12 + 512 + 8, 12 + 20 + 6
    for x, y in view.graph.junctions * 8:
        assert panel[top + round(y - 0.5), left + round(x - 0.5)].min() > 240


def test_real_roofs_train(shared_data):
    root = shared_data / 'roofline' / 'roofgraph'
    if not root.is_dir():
        pytest.skip('no real roofs in ../shared/data/roofline/roofgraph')
    pipeline = [dict(step, size=384) if step['type'] == 'LetterboxRoof' else
                dict(step, size=256) if step['type'] == 'RandomRoofCrop' else step for step in TRAIN]
    data = RooflineDataset(root, 'train', pipeline=pipeline)
    assert len(data) == 240 and len(RooflineDataset(root, 'val', layout='graph')) == 60
    seed_cpu(0)
    for index in range(0, 240, 12):
        sample = data[index]['data_samples']
        assert len(sample.lines) >= 1 and sample.jmap.sum() >= 2 and 0.9 < sample.lmap.max() <= 1
        assert torch.isfinite(sample.joff).all() and sample.joff.abs().max() <= 0.5
