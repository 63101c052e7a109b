"""Prediction with a real (tiny, untrained) network: normalisation, precision, options, the tool."""

import subprocess
import sys

import numpy as np
import pytest
import rasterio
import torch
from mmengine.config import Config
from PIL import Image

from projects.engine.errors import UserError
from projects.engine.inference import load_model
from projects.geo.raster import read_mask
from projects.landcover.predict import WindowModel, palette_of, predict, reader_of, to_probabilities, window_of

CLASSES = ['water', 'field', 'forest', 'road']
PALETTE = [[0, 0, 255], [255, 255, 0], [0, 128, 0], [128, 128, 128]]
CONFIG = """
default_scope = 'mmseg'
custom_imports = dict(imports=['projects.landcover.datasets'], allow_failed_imports=False)
test_pipeline = [dict(type='LoadRasterImage', bands={bands}, value_range={value_range})]
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=False,
        pad_val=0, seg_pad_val=255, size=(64, 64), test_cfg=dict(size_divisor=4)),
    backbone=dict(type='SwinTransformer', embed_dims=16, depths=(1, 1), num_heads=(2, 2), strides=(4, 2),
                  out_indices=(0, 1), window_size=4),
    decode_head=dict(type='FCNHead', in_channels=32, in_index=1, channels=8, num_convs=1, num_classes=4,
                     norm_cfg=dict(type='BN')),
    test_cfg=dict(mode='slide', crop_size=(64, 64), stride=(48, 48)))
"""


@pytest.fixture
def network(tmp_path):
    """A config and a checkpoint with random weights and the classes in its meta."""
    return make_network(tmp_path)


def make_network(folder, bands=(1, 2, 3), value_range=None):
    from mmseg.registry import MODELS

    from projects.engine.startup import start
    start()
    config = folder / 'config.py'
    config.write_text(CONFIG.format(bands=bands, value_range=value_range))
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(config).model)
    torch.nn.init.normal_(model.decode_head.conv_seg.weight, std=3)  # so that classes differ from place to place
    torch.save({'state_dict': model.state_dict(),
                'meta': {'dataset_meta': {'classes': CLASSES, 'palette': PALETTE, 'taxonomy': 'small'}}},
               folder / 'weights.pth')
    return config, folder / 'weights.pth'


def noise(height, width, channels=3):
    blocks = np.random.default_rng(0).integers(0, 256, (height // 8 + 1, width // 8 + 1, channels), dtype=np.uint8)
    return np.kron(blocks, np.ones((8, 8, 1), np.uint8))[:height, :width]


def reference(model, image):
    """Probabilities of one whole image (H, W, 3), normalised by hand."""
    mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
    inputs = torch.from_numpy(((image - mean) / std).transpose(2, 0, 1)[None]).float()
    with torch.no_grad():
        logits = model(inputs, mode='tensor')
    return torch.nn.functional.interpolate(logits, image.shape[:2], mode='bilinear').softmax(1)[0].numpy()


def test_window_model_normalises_and_gives_probabilities(network):
    model, _ = load_model(*network, device='cpu')
    image = noise(64, 64)
    found = WindowModel(model)(image.transpose(2, 0, 1)[None].astype(np.float32))
    np.testing.assert_allclose(found[0], reference(model, image), atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert len(np.unique(found.argmax(axis=1))) > 1


def test_window_that_the_preprocessor_pads_is_cut_back(network):
    """62 is not divisible by 4: the preprocessor pads, and the answer belongs to the window's own pixels."""
    model, _ = load_model(*network, device='cpu')
    image = noise(62, 62)
    found = WindowModel(model)(image.transpose(2, 0, 1)[None].astype(np.float32))
    assert found.shape == (1, 4, 62, 62)
    mean = np.array([123.675, 116.28, 103.53], np.float32)
    padded = np.concatenate([np.concatenate([image, np.broadcast_to(mean, (62, 2, 3))], 1),
                             np.broadcast_to(mean, (2, 64, 3))])
    np.testing.assert_allclose(found[0], reference(model, padded)[:, :62, :62], atol=1e-5)


def test_autocast_stays_close(network):
    model, _ = load_model(*network, device='cpu')
    windows = noise(64, 64).transpose(2, 0, 1)[None].astype(np.float32)
    exact, fast = WindowModel(model)(windows), WindowModel(model, amp=True)(windows)
    assert fast.dtype == np.float32
    assert 0 < np.abs(exact - fast).max() < 0.1


def test_predict_a_geotiff(network, tmp_path):
    image = noise(100, 150)
    with rasterio.open(tmp_path / 'a.tif', 'w', driver='GTiff', dtype='uint8', count=3, height=100, width=150,
                       crs='EPSG:2154', transform=rasterio.Affine(1, 0, 652000, 0, -1, 6862000)) as dataset:
        dataset.write(image.transpose(2, 0, 1))
    seen = []
    [result] = predict(*network, tmp_path / 'a.tif', tmp_path / 'out', device='cpu', areas=True, probabilities=True,
                       on_result=seen.append)
    assert seen == [result]
    assert sum(result.hectares) == pytest.approx(1.5)
    with rasterio.open(result.classes) as dataset:
        assert dataset.shape == (100, 150) and dataset.crs == 'EPSG:2154'
        assert dataset.tags()['CLASS_3'] == 'road' and dataset.tags()['TAXONOMY'] == 'small'
        assert dataset.colormap(1)[2][:3] == (0, 128, 0)
        classes = dataset.read(1)
    with rasterio.open(result.probabilities) as dataset:
        probabilities = dataset.read()
    best = np.take_along_axis(probabilities, classes[None].astype(int), axis=0)[0]
    assert (best == probabilities.max(axis=0)).all()  # equal after rounding
    model, _ = load_model(*network, device='cpu')
    corner = reference(model, image[:64, :64])[:, :48, :48].argmax(0)[:40, :40]  # seen by one window only
    assert (classes[:40, :40] == corner).mean() > 0.999


def test_bands_and_range_of_the_config_are_used(tmp_path):
    image = noise(64, 64, 5)
    with rasterio.open(tmp_path / 'a.tif', 'w', driver='GTiff', dtype='uint16', count=5, height=64,
                       width=64) as dataset:
        dataset.write(image.transpose(2, 0, 1).astype(np.uint16) * 10)
    network = make_network(tmp_path, bands=(5, 1, 3), value_range=(0, 2550))
    [result] = predict(*network, tmp_path / 'a.tif', tmp_path / 'out', device='cpu')
    model, _ = load_model(*network, device='cpu')
    expected = reference(model, image[..., [4, 0, 2]]).argmax(0)
    with rasterio.open(result.classes) as dataset:
        assert (dataset.read(1) == expected).mean() > 0.999
    assert 'no CRS' in result.warnings[0]


def test_mistakes_are_found_before_the_model_is_loaded(tmp_path):
    Image.fromarray(noise(20, 20)).save(tmp_path / 'a.png')
    with pytest.raises(UserError, match='a.png: is an input'):
        predict('none.py', 'none.pth', tmp_path / 'a.png', tmp_path)
    with pytest.raises(UserError, match='b.png: no such file'):
        predict('none.py', 'none.pth', tmp_path / 'b.png', tmp_path / 'out')


@pytest.mark.parametrize(('test_cfg', 'given', 'expected'), [
    (dict(mode='whole'), (None, None), (512, 128)),
    (dict(mode='whole'), (256, None), (256, 64)),
    (dict(mode='slide', crop_size=(768, 768), stride=(512, 512)), (None, None), (768, 256)),
    (dict(mode='slide', crop_size=(768, 768), stride=(512, 512)), (None, 32), (768, 32)),
    (dict(mode='slide', crop_size=(768, 768), stride=(512, 512)), (400, None), (400, 100)),
    (dict(mode='slide', crop_size=(768, 768), stride=(512, 512)), (400, 0), (400, 0)),
])
def test_window_of(test_cfg, given, expected):
    assert window_of(Config(dict(model=dict(test_cfg=test_cfg))), *given) == expected


def test_window_must_be_square():
    cfg = Config(dict(model=dict(test_cfg=dict(mode='slide', crop_size=(64, 32), stride=(32, 32)))))
    with pytest.raises(UserError, match='square'):
        window_of(cfg)


def test_config_without_a_reader_and_meta_without_a_palette():
    assert reader_of(Config(dict())) == {'bands': (1, 2, 3), 'value_range': None}
    assert palette_of({'classes': CLASSES}, 4) == [(0, 0, 0), (84, 84, 84), (169, 169, 169), (254, 254, 254)]


def test_binary_head_becomes_two_classes():
    found = to_probabilities(torch.tensor([[[[0.0, np.log(3)]]]]))
    np.testing.assert_allclose(found.numpy(), [[[[0.5, 0.25]], [[0.5, 0.75]]]], atol=1e-6)


def test_tool_names_the_bad_image_and_finishes_the_others(network, tmp_path, repository):
    folder = tmp_path / 'in'
    folder.mkdir()
    for name in ('a', 'b', 'c'):
        Image.fromarray(noise(70, 70)).save(folder / f'{name}.png')
    whole = (folder / 'b.png').read_bytes()
    (folder / 'b.png').write_bytes(whole[:len(whole) // 2])
    command = [sys.executable, repository / 'tools/predict.py', *network, folder, '--out', tmp_path / 'out', '--areas',
               '--device', 'cpu']
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert 'b.png: damaged' in done.stderr and '1 of 3 inputs failed' in done.stderr
    assert 'Traceback' not in done.stderr
    assert 'forest' in done.stdout
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == [
        'a.png', 'a_areas.csv', 'c.png', 'c_areas.csv']
    assert read_mask(tmp_path / 'out/a.png').shape == (70, 70)
