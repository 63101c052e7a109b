"""Roof lines end to end: four real roofs by heart; villages, two stages, scores, vectors."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pyogrio import raw

from projects.engine.checkpoints import read_checkpoint

ROOT = Path(__file__).resolve().parents[2]
ROOFS = ROOT.parent / 'shared/data/roofline/roofgraph'
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # several processes, one after another
SMALL = """
_base_ = {config!r}
data_root = {data!r}
image_size = 128
train_size = 128
batch_size = 2
num_workers = 0
warmup_iters = 1
train_cfg = dict(max_iters={iterations}, val_interval={iterations})
default_hooks = dict(logger=dict(interval=1))
model = dict(backbone=dict(channels=16), line_head=dict(channels=16, hidden=32))
test_split = 'test'
"""


def scores_of(work_dir):
    """Return the last scores that a run logged."""
    lines = [json.loads(line) for path in Path(work_dir).rglob('scalars.json')
             for line in path.read_text().splitlines()]
    return [line for line in lines if 'sAP10' in line][-1]


@pytest.mark.skipif(not ROOFS.is_dir(), reason='shared/data/roofline/roofgraph is not beside this checkout')
def test_the_small_network_learns_four_real_roofs_by_heart(tool, tmp_path):
    tool('train.py', ROOT / 'configs/roofline/roofmapnet-tiny_fit-256.py', '--work-dir', tmp_path / 'fit',
         '--cfg-options', f'data_root={ROOFS}')
    scores = scores_of(tmp_path / 'fit')
    assert scores['sAP10'] > 90, scores


@pytest.fixture(scope='module')
def villages(tool, tmp_path_factory):
    """Windows of three small villages, and a config of the small network for them."""
    folder = tmp_path_factory.mktemp('roofs')
    tool('roofline/make_roofs.py', '--out', folder / 'data', '--villages', 3, '--images', 9, '--size', 128,
         '--resolution', 0.3, '--seed', 5, '--val-share', 0.34, '--test-share', 0.34)
    for name, config in (('maps', 'roofmapnet-tiny_s1-maps_roofgraph-256'),
                         ('lines', 'roofmapnet-tiny_s2-lines_roofgraph-256')):
        (folder / f'{name}.py').write_text(SMALL.format(
            config=str(ROOT / f'configs/roofline/{config}.py'), data=str(folder / 'data'), iterations=4))
    return folder


def test_two_stages_test_pictures_and_vectors(tool, villages):
    tool('train.py', villages / 'maps.py', '--work-dir', villages / 'w1')
    first = villages / 'w1/iter_4.pth'
    tool('train.py', villages / 'lines.py', '--work-dir', villages / 'w2', '--cfg-options',
         f'initialise.checkpoint={first}')
    before, after = (read_checkpoint(path)['state_dict'] for path in (first, villages / 'w2/iter_4.pth'))
    assert before.keys() == after.keys()
    assert not torch.equal(before['line_head.fc2.0.weight'], after['line_head.fc2.0.weight'])
    printed = tool('test.py', villages / 'lines.py', villages / 'w2/iter_4.pth', '--work-dir', villages / 't',
                   '--show-dir', villages / 'show', '--out', villages / 'out')
    assert 'sAP10' in printed and 'unverified/sAP10' in printed and 'APH' in printed
    wanted = [image for image in json.loads((villages / 'data/annotations.json').read_text())['images']
              if image['split'] == 'test']
    assert len(list((villages / 'show').glob('*.png'))) == len(list((villages / 'out').glob('*.json'))) == len(wanted)
    table = json.loads(next((villages / 't').rglob('wireframe.json')).read_text())
    assert len(table['images']) == len(wanted) and table['groups'][0]['group'] == 'all'

    tool('roofline/make_roofs.py', '--raster', '--out', villages / 'raster', '--extent', 120, '--resolution', 0.3,
         '--seed', 9)
    image = villages / 'raster/images/village.tif'
    tool('roofline/vectorize.py', villages / 'lines.py', villages / 'w2/iter_4.pth', image, '--out',
         villages / 'roofs.gpkg', '--threshold', 0.0, '--window', 128, '--overlap', 64)
    meta, _, _, fields = raw.read(villages / 'roofs.gpkg', layer='lines')
    assert meta['crs'] == 'EPSG:2154' and {'score', 'type'} <= set(meta['fields'])
    assert np.isfinite(fields[list(meta['fields']).index('score')]).all()


def test_wrong_input_is_told_in_one_line(tool, villages):
    checkpoint = villages / 'none.pth'
    assert 'no such file' in tool('test.py', villages / 'lines.py', checkpoint, refused=True)
    document = json.loads((villages / 'data/annotations.json').read_text())
    for change, told in (
            (lambda image: image.update(junctions=[[x + 1e4, y] for x, y in image['junctions']]), 'junction'),
            (lambda image: image.update(lines=[*image['lines'], image['lines'][0]],
                                        line_type=[*image['line_type'], image['line_type'][0]],
                                        occlusions=[*image['occlusions'], None]), 'twice'),
            (lambda image: image.update(file='missing.png'), 'missing.png')):
        broken = villages / 'broken'
        broken.mkdir(exist_ok=True)
        images = [dict(image) for image in document['images']]
        change(next(image for image in images if image['split'] == 'train' and image['lines']))
        (broken / 'annotations.json').write_text(json.dumps({'images': images}))
        if not (broken / 'images').exists():
            (broken / 'images').symlink_to(villages / 'data/images')
        line = tool('train.py', villages / 'maps.py', '--work-dir', villages / 'w3', '--cfg-options',
                    f'data_root={broken}', refused=True)
        assert told in line and str(broken) in line
