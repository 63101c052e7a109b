"""ONNX files: equal to torch at any size, described, and not kept when they are wrong."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config

import projects.engine.export as export
from projects.engine import startup
from projects.engine.errors import UserError
from projects.engine.files import sha256_of

ort = pytest.importorskip('onnxruntime')
onnx = pytest.importorskip('onnx')
pytestmark = pytest.mark.slow

SWIN = """
default_scope = 'mmseg'
custom_imports = dict(imports=['projects.landcover.register'], allow_failed_imports=False)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='BandDataPreProcessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
        test_cfg=dict(size_divisor=4)),
    backbone=dict(type='SwinTransformer', embed_dims=8, depths=(2, 1, 1, 1), num_heads=(1, 2, 2, 4), window_size=7),
    decode_head=dict(type='FTUNetFormerHead', in_channels=(8, 16, 32, 64), channels=16, num_heads=2, num_classes=5),
    test_cfg=dict(mode='whole'))
"""
CLASSES = ['water', 'field', 'forest', 'road', 'roof']


@pytest.fixture(scope='module')
def network(tmp_path_factory):
    """A config and a checkpoint of a small Swin with the global-local decoder."""
    from mmseg.registry import MODELS

    startup.start()
    folder = tmp_path_factory.mktemp('network')
    (folder / 'config.py').write_text(SWIN)
    torch.manual_seed(0)
    import projects.landcover.register  # noqa: F401
    model = MODELS.build(Config.fromfile(folder / 'config.py').model)
    torch.nn.init.normal_(model.decode_head.conv_seg.weight)
    meta = {'dataset_meta': {'classes': CLASSES, 'palette': [[i, 0, 0] for i in range(5)], 'taxonomy_hash': 'ab' * 32}}
    torch.save({'state_dict': model.state_dict(), 'meta': meta}, folder / 'weights.pth')
    return folder / 'config.py', folder / 'weights.pth'


@pytest.fixture(scope='module')
def exported(network, tmp_path_factory):
    """The same as an ONNX file."""
    return export.export_onnx(*network, tmp_path_factory.mktemp('onnx') / 'net.onnx')


def test_it_equals_torch_at_three_sizes_and_two_batches(exported):
    assert {shape[0] for shape, _ in exported.checks} == {1, 3}
    assert len({shape[1:] for shape, _ in exported.checks}) == 3
    assert max(difference for _, difference in exported.checks) <= 1e-4


def test_it_takes_what_predict_takes(network, exported):
    """An independent reference: mmseg's own prediction of the raw image, at a size that nobody has checked yet."""
    from mmseg.structures import SegDataSample

    from projects.engine.inference import load_model
    model, _ = load_model(*network, device='cpu')
    image = (np.random.default_rng(3).random((2, 3, 95, 143)) * 255).astype(np.float32)
    samples = [SegDataSample(metainfo=dict(ori_shape=(95, 143), img_shape=(95, 143))) for _ in image]
    with torch.no_grad():
        done = model(**model.data_preprocessor(
            dict(inputs=list(torch.from_numpy(image)), data_samples=samples), False), mode='predict')
    expected = torch.stack([sample.seg_logits.data for sample in done]).numpy()
    [found] = ort.InferenceSession(str(exported.path)).run(['logits'], {'image': image})
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    assert len(np.unique(found.argmax(1))) > 1


def test_the_file_says_what_it_is(network, exported):
    facts = {entry.key: entry.value for entry in onnx.load(str(exported.path)).metadata_props}
    assert json.loads(facts['classes']) == CLASSES and json.loads(facts['palette'])[4] == [4, 0, 0]
    assert json.loads(facts['mean']) == pytest.approx([123.675, 116.28, 103.53])
    assert facts['checkpoint_sha256'] == sha256_of(network[1]) and facts['taxonomy_hash'] == 'ab' * 32
    assert 'float32 0..255' in facts['input']


def test_probabilities_at_a_fixed_size(network, tmp_path):
    done = export.export_onnx(*network, tmp_path / 'p.onnx', probabilities=True, size=(64, 96))
    session = ort.InferenceSession(str(done.path))
    assert session.get_inputs()[0].shape[1:] == [3, 64, 96]
    [found] = session.run(['probabilities'], {'image': np.full((2, 3, 64, 96), 100, np.float32)})
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)


def test_a_file_that_differs_is_not_kept(network, exported, tmp_path, monkeypatch):
    def trace(wrapper, path, *arguments):
        shutil.copy(exported.path, path)
        wrapper.mean += 1  # now torch computes something else

    monkeypatch.setattr(export, '_trace', trace)
    with pytest.raises(UserError, match='not kept: .* differs from torch by'):
        export.export_onnx(*network, tmp_path / 'bad.onnx')
    assert list(tmp_path.iterdir()) == []


def test_bad_input(network, tmp_path, monkeypatch):
    (tmp_path / 'there.onnx').write_bytes(b'mine')
    for arguments, message in (
            (dict(out='a.pt'), 'ends in .onnx'), (dict(out='there.onnx'), 'exists already'),
            (dict(out='a.onnx', opset=7), 'opset: expected 16..20, found 7'),
            (dict(out='a.onnx', size=(0, 5)), 'size: expected height and width')):
        with pytest.raises(UserError, match=message):
            export.export_onnx(*network, tmp_path / arguments.pop('out'), **arguments)
    assert (tmp_path / 'there.onnx').read_bytes() == b'mine'
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(UserError, match='onnxruntime: pip install -r requirements/export.txt'):
        export.export_onnx(*network, tmp_path / 'a.onnx')
