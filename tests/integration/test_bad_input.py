"""What a user gets wrong: each one line, a non-zero exit, and nothing half-written."""

import pickle
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
import torch
from mmseg.registry import MODELS

from projects.camouflage.scenes.scene import SceneOptions
from projects.camouflage.scenes.write import write_scenes
from projects.engine.checkpoints import read_checkpoint
from projects.engine.config import load_config

pytestmark = pytest.mark.slow
CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory, config, prepared):
    """Untrained weights of the tiny network with the meta that a run saves."""
    model = MODELS.build(load_config(config).model)
    from projects.landcover.taxonomy import get_taxonomy
    path = tmp_path_factory.mktemp('weights') / 'tiny.pth'
    torch.save({'state_dict': model.state_dict(), 'meta': {'dataset_meta': get_taxonomy('landcover6').metainfo}}, path)
    return path


@pytest.fixture
def source(tmp_path):
    """A folder of two good pairs."""
    for name in ('a', 'b'):
        for folder, array in (('images', np.full((32, 32, 3), 90, np.uint8)), ('masks', np.ones((32, 32), np.uint8))):
            (tmp_path / 'source' / folder).mkdir(parents=True, exist_ok=True)
            array = array + np.uint8(ord(name) - ord('a'))
            cv2.imwrite(str(tmp_path / 'source' / folder / f'{name}.png'), array)
    return tmp_path / 'source'


def prepare(tool, source, *arguments):
    out = source.parent / 'out'
    line = tool('landcover/prepare.py', source, '--layout', 'folder', '--out', out, '--split-by', 'groups', *arguments,
                refused=True)
    assert not out.exists()
    return line


def test_prepare_names_a_truncated_image(tool, source):
    path = source / 'images/a.png'
    path.write_bytes(path.read_bytes()[:60])
    assert 'a.png' in prepare(tool, source)


def test_prepare_names_a_mask_of_another_size(tool, source):
    cv2.imwrite(str(source / 'masks/b.png'), np.ones((31, 32), np.uint8))
    line = prepare(tool, source)
    assert 'b.png' in line and '32x31' in line


def test_prepare_names_a_foreign_label(tool, source):
    cv2.imwrite(str(source / 'masks/b.png'), np.full((32, 32), 9, np.uint8))
    line = prepare(tool, source)
    assert 'b.png' in line and '9' in line


def test_prepare_refuses_an_empty_folder(tool, source):
    shutil.rmtree(source / 'images')
    (source / 'images').mkdir()
    assert str(source) in prepare(tool, source)


@pytest.mark.parametrize('arguments, hint', [
    (['nothing.py'], 'no such file'),
    (['CONFIG', '--cfg-options', 'optim_wraper.x=1'], 'did you mean optim_wrapper?'),
    (['CONFIG', '--cfg-options', 'load_from=/nothing.pth'], 'no such file'),
    (['CONFIG', '--resume', '/nothing.pth'], 'no such file'),
    (['CONFIG', '--cfg-options', 'data_root=/nothing'], '/nothing'),
    (['CONFIG', '--cfg-options', 'num_classes=7'], 'num_classes: expected 6'),
])
def test_train_refuses(tool, config, tmp_path, arguments, hint):
    arguments = [str(config) if argument == 'CONFIG' else argument for argument in arguments]
    assert hint in tool('train.py', *arguments, '--work-dir', tmp_path / 'run', refused=True)


def test_train_refuses_an_unknown_type(tool, config, tmp_path):
    child = tmp_path / 'child.py'
    child.write_text(f"_base_ = {str(config)!r}\nmodel = dict(decode_head=dict(type='FTUNetFormerHed'))\n")
    line = tool('train.py', child, '--work-dir', tmp_path / 'run', refused=True)
    assert 'did you mean FTUNetFormerHead?' in line and not (tmp_path / 'run').exists()


def test_train_refuses_a_scale_of_zero(tool, config, tmp_path):
    line = tool('train.py', config.parent / 'ablations/three-scales.py', '--work-dir', tmp_path / 'run',
                '--cfg-options', 'model.backbone.scales=(0,1.0)', refused=True)
    assert line == 'error: MultiScaleBackbone.scales: expected factors above 0, found 0'


def altered(checkpoint, path, change):
    value = read_checkpoint(checkpoint)
    change(value)
    torch.save(value, path)
    return path


class Bomb:
    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return (open, (self.mark, 'w'))


def test_checkpoints_that_do_not_belong(tool, config, checkpoint, tmp_path):
    def other_network(value):
        value['state_dict'] = {f'other.{key}': tensor for key, tensor in value['state_dict'].items()}

    def other_width(value):
        value['state_dict']['decode_head.conv_seg.weight'] = torch.zeros(9, 64, 1, 1)

    def other_order(value):
        value['meta']['dataset_meta']['classes'].reverse()

    def malicious(value):
        value['meta']['note'] = Bomb(tmp_path / 'executed')

    cases = [('zero', other_network, 'no key matches'), ('width', other_width, 'does not fit this network'),
             ('order', other_order, 'the same classes in another order'), ('evil', malicious, 'refused')]
    for name, change, hint in cases:
        path = altered(checkpoint, tmp_path / f'{name}.pth', change)
        assert hint in tool('test.py', config, path, '--work-dir', tmp_path / 'run', options=[], refused=True)
    path = tmp_path / 'evil.pth'
    image = tmp_path / 'image.png'
    cv2.imwrite(str(image), np.zeros((32, 32, 3), np.uint8))
    tool('predict.py', config, path, image, '--out', tmp_path / 'predicted', refused=True)
    tool('train.py', config, '--work-dir', tmp_path / 'run2', '--resume', path, options=[], refused=True)
    (tmp_path / 'plain.pth').write_bytes(pickle.dumps(Bomb(tmp_path / 'executed')))
    tool('landcover/convert_checkpoint.py', tmp_path / 'plain.pth', tmp_path / 'out.pth', refused=True)
    assert not (tmp_path / 'executed').exists() and not (tmp_path / 'out.pth').exists()


def test_predict_refuses_and_warns(tool, config, checkpoint, tmp_path):
    out = tmp_path / 'out'
    assert 'no such file' in tool('predict.py', config, checkpoint, tmp_path / 'none.tif', '--out', out, refused=True)
    (tmp_path / 'empty').mkdir()
    assert 'empty' in tool('predict.py', config, checkpoint, tmp_path / 'empty', '--out', out, refused=True)
    path = tmp_path / 'bare.tif'
    with rasterio.open(path, 'w', driver='GTiff', width=40, height=40, count=3, dtype='uint8') as raster:
        raster.write(np.full((3, 40, 40), 100, np.uint8))
    printed = tool('predict.py', config, checkpoint, path, '--out', out, '--window', 64, '--overlap', 16)
    assert 'CRS' in printed and (out / 'bare.tif').exists()


def _all_foreground(data):
    for path in data.glob('*/masks/*.png'):
        cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED) // 255)
    cv2.imwrite(str(data / 'train/masks/00003.png'), np.full((64, 64), 255, np.uint8))


def _all_ones(data):
    cv2.imwrite(str(data / 'train/masks/00003.png'), np.ones((64, 64), np.uint8))


@pytest.mark.parametrize('spoil, hint', [
    (_all_foreground, 'train/masks/00003.png: expected a mask of 0 and 1, as the others of its data set, found 255'),
    (_all_ones, 'train/masks/00003.png: expected a mask of 0 and 255 (foreground above 128), as the others of its data '
                'set, found 1 everywhere'),
    (lambda data: (data / 'train/masks/00003.png').unlink(), 'train/images/00003.jpg: image without mask'),
])
def test_camouflage_names_the_file(tool, tmp_path, spoil, hint):
    data, run = tmp_path / 'scenes', tmp_path / 'run'
    write_scenes(data, dict(train=6, val=1), 0, SceneOptions(size=(64, 64)), image_format='jpg')
    spoil(data)
    config = CONFIGS / 'camouflage/pvtv2-tiny_single_scenes-128.py'
    line = tool('train.py', config, '--work-dir', run, '--cfg-options', f'data_root={data}', 'image_size=(32,32)',
                'batch_size=6', 'num_workers=0', 'warmup_iters=1', 'train_cfg.max_iters=3', refused=True)
    assert hint in line and not list(run.rglob('*.pth'))


def test_camouflage_configs_are_not_for_land_cover(tool, tmp_path):
    image, out = tmp_path / 'image.png', tmp_path / 'out'
    cv2.imwrite(str(image), np.zeros((32, 32, 3), np.uint8))
    config = CONFIGS / 'camouflage/pvtv2-tiny_single_scenes-128.py'
    torch.save({'state_dict': MODELS.build(load_config(config).model).state_dict(), 'meta': {}}, tmp_path / 'w.pth')
    line = tool('predict.py', config, tmp_path / 'w.pth', image, '--out', out, refused=True)
    assert 'expected a test_pipeline with LoadRasterImage, found LoadPhotograph' in line and not out.exists()
    line = tool('test.py', config, tmp_path / 'w.pth', '--work-dir', tmp_path / 'run', '--out', image, refused=True)
    assert line == f'error: {image}: expected a folder for the outputs, found a file'
    assert not (tmp_path / 'run').exists()
