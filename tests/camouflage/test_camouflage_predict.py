"""Maps of photographs: the network's probabilities at each photograph's own size, overlays, and what is refused."""

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from mmseg.registry import MODELS
from PIL import ExifTags, Image

from projects.camouflage.datasets import CamouflageDataset
from projects.camouflage.predict import TINT, predict
from projects.engine import startup
from projects.engine.config import load_config
from projects.engine.errors import UserError


@pytest.fixture(scope='module')
def trained(tmp_path_factory, repository):
    """A config that sees 32 x 32 pixels, and weights whose probabilities differ from place to place."""
    startup.start()
    folder = tmp_path_factory.mktemp('trained')
    config = folder / 'small.py'
    config.write_text(f"_base_ = {str(repository / 'configs/camouflage/pvtv2-tiny_single_scenes-128.py')!r}\n"
                      "image_size = (32, 32)\n")
    torch.manual_seed(0)
    model = MODELS.build(load_config(config).model).eval()
    with torch.no_grad():
        logits = model.encode_decode(torch.randn(1, 3, 32, 32), [dict(img_shape=(32, 32))])
        last = model.decode_head.conv_seg
        last.bias.sub_(logits.mean()).div_(logits.std() / 2)
        last.weight.div_(logits.std() / 2)
    torch.save({'state_dict': model.state_dict(), 'meta': {'dataset_meta': CamouflageDataset.METAINFO}},
               folder / 'small.pth')
    return config, folder / 'small.pth'


@pytest.fixture
def photographs(tmp_path):
    """Two sizes; the second is grey, of noise, and lies on its side."""
    folder = tmp_path / 'photographs'
    folder.mkdir()
    rng = np.random.default_rng(0)
    ramp = np.stack([*np.mgrid[:160:4, :224:4], np.full((40, 56), 30)], axis=-1).astype(np.uint8)
    ramp[10:30, 15:40] = 255 - ramp[10:30, 15:40]
    Image.fromarray(ramp).save(folder / 'a.png')
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(rng.integers(0, 256, (30, 50)).astype(np.uint8)).save(folder / 'b.jpg', exif=exif)
    return [folder / 'a.png', folder / 'b.jpg']


def read(path):
    with Image.open(path) as picture:
        return picture.mode, np.asarray(picture)


def test_maps_are_the_networks_probabilities(trained, photographs, tmp_path):
    out = tmp_path / 'out'
    first, second = predict(*trained, photographs, out, device='cpu')
    assert [first.map, second.map] == [out / 'a.png', out / 'b.png'] == sorted(out.iterdir())
    mode, levels = read(first.map)
    assert mode == 'L' and levels.shape == (40, 56) and read(second.map)[1].shape == (50, 30)  # upright
    assert first.share == (levels >= 128).mean() and first.error is None
    model = MODELS.build(load_config(trained[0]).model).eval()
    model.load_state_dict(torch.load(trained[1])['state_dict'])
    # From 40 x 56 to 32 x 32 both sides shrink: areas are averaged.
    small = cv2.resize(read(photographs[0])[1], (32, 32), interpolation=cv2.INTER_AREA)
    mean, std = (np.array(model.data_preprocessor.get_buffer(name).flatten()) for name in ('mean', 'std'))
    inputs = torch.from_numpy((small - mean) / std).float().permute(2, 0, 1)[None]
    with torch.no_grad():
        logits = model.encode_decode(inputs, [dict(img_shape=(32, 32))])
    probability = torch.nn.functional.interpolate(logits, (40, 56), mode='bilinear').sigmoid()[0, 0].numpy()
    assert np.abs(levels - 255 * probability).max() <= 0.51
    assert np.ptp(levels) > 50  # that it could be wrong


def test_overlay_is_the_photograph_under_its_map(trained, photographs, tmp_path):
    [result] = predict(*trained, photographs[:1], tmp_path / 'out', overlay=True, device='cpu')
    share = read(result.map)[1][..., None] / 255 * 0.6
    expected = read(photographs[0])[1] * (1 - share) + TINT * share
    found = read(tmp_path / 'out/a_overlay.jpg')[1].astype(float)
    assert np.abs(found - expected).mean() < 4  # of JPEG
    assert np.abs(read(photographs[0])[1] - expected).mean() > 20


def test_one_that_fails_does_not_stop_the_others(trained, photographs, tmp_path):
    content = photographs[0].read_bytes()
    photographs[0].write_bytes(content[:len(content) // 2])
    first, second = predict(*trained, photographs, tmp_path / 'out', overlay=True, device='cpu')
    assert str(photographs[0]) in first.error and 'truncated' in first.error and first.share is None
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['b.png', 'b_overlay.jpg']
    assert second.error is None


def refused(trained, sources, out, message, **options):
    with pytest.raises(UserError, match=message):
        next(predict(*trained, sources, out, **options))


def test_what_would_destroy_something_is_refused(trained, photographs, tmp_path):
    a, b = photographs
    out = tmp_path / 'out'
    twin = a.with_suffix('.jpg')
    twin.write_bytes(b.read_bytes())
    refused(trained, [a, twin], out, f'a.png: would be written for both {a} and {twin}')
    refused(trained, [a], a.parent, 'a.png: is an input and would be replaced', overwrite=True)
    overlay = b.rename(b.with_name('a_overlay.jpg'))
    refused(trained, [twin, overlay], a.parent, 'a_overlay.jpg: is an input', overlay=True, overwrite=True)
    refused(trained, [a], a, 'a.png: expected a folder for the outputs, found a file')
    refused(trained, [a], a / 'in', f'expected a folder for the outputs, found a file: {a}')
    assert not out.exists()
    out.mkdir()
    (out / 'a_overlay.jpg').write_text('mine')
    refused(trained, [a], out, 'a_overlay.jpg: exists already', overlay=True)
    assert (out / 'a_overlay.jpg').read_text() == 'mine'
    [result] = predict(*trained, [a], out, overlay=True, overwrite=True, device='cpu')
    assert result.error is None and read(out / 'a_overlay.jpg')[1].shape == (40, 56, 3)


def test_a_config_of_another_task_is_refused(trained, photographs, tmp_path):
    refused(trained, photographs, tmp_path / 'out', 'expected a test_pipeline that begins with LoadPhotograph',
            cfg_options={'test_pipeline.0.type': 'LoadRasterImage'}, device='cpu')
    assert not (tmp_path / 'out').exists()


def test_a_config_of_photographs_is_refused_by_land_cover(trained):
    from projects.landcover.predict import reader_of

    with pytest.raises(UserError, match=r'small.py: expected a test_pipeline with LoadRasterImage, found LoadPhotogr'):
        reader_of(load_config(trained[0]))


def test_tool(trained, photographs, tmp_path, repository):
    content = photographs[0].read_bytes()
    photographs[0].write_bytes(content[:len(content) // 2])
    done = subprocess.run(
        [sys.executable, repository / 'tools/camouflage/predict.py', *trained, photographs[0].parent, '--out', 'out'],
        capture_output=True, text=True, timeout=120, cwd=tmp_path, env=dict(os.environ, OMP_NUM_THREADS='1'))
    [error] = done.stderr.splitlines()
    [line] = done.stdout.splitlines()
    assert done.returncode == 2 and error.startswith(f'error: {photographs[0]}: expected a whole image')
    assert line.startswith(f'{photographs[1]} -> out/b.png (object on ')
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['b.png']
