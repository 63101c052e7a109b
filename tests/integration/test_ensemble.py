"""Ensembles through the tools: fit, test, predict, export, and what a user can get wrong."""

import json

import numpy as np
import pytest
import rasterio
import torch
from mmengine.model import revert_sync_batchnorm
from PIL import Image

from projects.engine.config import load_config
from projects.engine.consistency import config_metainfo
from projects.engine.errors import UserError
from projects.geo.raster import read_mask
from projects.multiscale.ensemble_options import EnsembleOptions, resolve_ensemble

pytestmark = pytest.mark.slow


def save_network(config, path, seed, options=None, **meta):
    from mmseg.registry import MODELS

    cfg = load_config(config, options)
    torch.manual_seed(seed)
    model = revert_sync_batchnorm(MODELS.build(cfg.model)).eval()
    with torch.no_grad():
        head = model.decode_head
        torch.nn.init.normal_(head.conv_seg.weight, std=3)
        head.conv_seg.weight -= head.conv_seg.weight.mean(1, keepdim=True)  # no class is ahead everywhere
    torch.save({'state_dict': model.state_dict(), 'meta': {'dataset_meta': config_metainfo(cfg) | meta}}, path)
    return path


@pytest.fixture(scope='module')
def members(config, tmp_path_factory):
    """Two networks of the tiny config, another one of half its width, and that one's config."""
    folder = tmp_path_factory.mktemp('members')
    narrow = folder / 'narrow.py'
    narrow.write_text(f'_base_ = {str(config)!r}\nmodel = dict(decode_head=dict(channels=32))\n')
    return (save_network(config, folder / 'a.pth', 0), save_network(config, folder / 'b.pth', 1),
            save_network(narrow, folder / 'c.pth', 2), narrow)


@pytest.fixture(scope='module')
def fitted(config, members, prepared, tmp_path_factory):
    """An ensemble.json of the first two networks."""
    from projects.multiscale.fit import fit_ensemble

    path = tmp_path_factory.mktemp('fit') / 'ensemble.json'
    options = EnsembleOptions(also=(str(members[1]),), scales=(1.0, 0.75), flips=('none',), merge='logit')
    fit = fit_ensemble(config, members[0], path, options=options, split='val', pixels=3000, device='cpu',
                       cfg_options={'data_root': str(prepared), 'num_workers': 0})
    return path, fit


def scores_of(folder):
    return json.loads((folder / 'evaluation/test/scores.json').read_text())


def test_fitting_lowers_what_it_fits(fitted):
    path, fit = fitted
    content = json.loads(path.read_text())
    assert content['version'] == 1 and content['merge'] == 'logit' and content['scales'] == [1.0, 0.75]
    assert [member['file'] for member in content['members']] == ['a.pth', 'b.pth']
    assert sum(member['weight'] for member in content['members']) == pytest.approx(1)
    assert fit.fitted.nll_after < fit.fitted.nll_before
    rose = fit.held_out.ece_after >= fit.held_out.ece_before  # the networks are random, and one image is held out
    assert rose == any('did not fall' in note for note in fit.notes) and content['held_out']['images'] == 1
    assert fit.held_out.images == 1 and fit.fitted.images == 2


def test_test_in_one_and_two_processes_with_a_fitted_ensemble(tool, config, members, fitted, tmp_path):
    asked = ['--also', members[1], '--ensemble', fitted[0], '--work-dir']
    one = tool('test.py', config, members[0], *asked, tmp_path / 'one', '--out', tmp_path / 'masks',
               '--show-dir', tmp_path / 'shown', options=[])
    two = tool('dist_test.sh', config, members[0], 2, *asked, tmp_path / 'two', options=[])
    scores = [scores_of(tmp_path / name) for name in ('one', 'two')]
    assert scores[0]['confusion'] == scores[1]['confusion'] and np.sum(scores[0]['confusion']) == 3 * 64 * 64
    assert scores[0]['scores'] == pytest.approx(scores[1]['scores'], nan_ok=True)
    assert np.isfinite(scores[0]['scores']['ECE']) and 0 <= scores[0]['scores']['mIoU'] <= 1
    assert 'the members agree in' in one and 'the members agree in' in two
    assert len(list((tmp_path / 'masks').iterdir())) == 3 and len(list((tmp_path / 'shown').iterdir())) == 3


def test_predict_png_and_geotiff_with_uncertainty(tool, config, members, tmp_path):
    first, second, third, narrow = members
    blocks = np.random.default_rng(0).integers(1, 256, (12, 18, 3), dtype=np.uint8)
    image = np.kron(blocks, np.ones((8, 8, 1), np.uint8))
    folder = tmp_path / 'in'
    folder.mkdir()
    Image.fromarray(image).save(folder / 'a.png')
    holes = image.copy()
    holes[:20, :30] = 0
    with rasterio.open(folder / 'b.tif', 'w', driver='GTiff', dtype='uint8', count=3, height=96, width=144, nodata=0,
                       crs='EPSG:2154', transform=rasterio.Affine(1, 0, 652000, 0, -1, 6862000)) as dataset:
        dataset.write(holes.transpose(2, 0, 1))
    tool('predict.py', config, first, folder, '--out', tmp_path / 'out', '--also', second, f'{narrow}:{third}',
         '--scales', 0.75, 1, '--flips', 'none', 'vertical', '--merge', 'prob', '--uncertainty', '--probabilities',
         '--window', 64, '--device', 'cpu')
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == [
        f'{stem}{end}' for stem, ends in (('a', ('.png', '_probabilities.tif', '_uncertainty.tif')),
                                          ('b', ('.tif', '_probabilities.tif', '_uncertainty.tif'))) for end in ends]
    assert read_mask(tmp_path / 'out/a.png').shape == (96, 144)
    with rasterio.open(tmp_path / 'out/b_uncertainty.tif') as dataset:
        assert dataset.dtypes == ('float32', 'float32') and dataset.descriptions == ('entropy', 'disagreement')
        assert dataset.crs == 'EPSG:2154' and np.isnan(dataset.nodata)
        entropy, disagreement = dataset.read()
    assert np.isnan(entropy[:20, :30]).all() and np.isfinite(entropy[20:]).all()
    with rasterio.open(tmp_path / 'out/b_probabilities.tif') as dataset:
        probabilities = dataset.read()[:, 20:] / 254
    by_hand = -(probabilities * np.log(np.maximum(probabilities, 1e-9))).sum(0) / np.log(6)
    np.testing.assert_allclose(entropy[20:], by_hand, atol=0.03)
    assert np.nanmin(disagreement) >= 0 and np.nanmax(disagreement) > 1e-4
    assert (disagreement[20:] <= entropy[20:] + 1e-5).all()


def test_equal_members_are_warned_about(config, members, tmp_path):
    from projects.landcover.predict import predict

    blocks = np.random.default_rng(0).integers(1, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(blocks).save(tmp_path / 'a.png')
    twice = EnsembleOptions(also=(str(members[0]),), scales=(1.0,), flips=('none',))
    [result] = predict(config, members[0], tmp_path / 'a.png', tmp_path / 'out', ensemble=twice, window=64,
                       device='cpu')
    assert 'it counts twice' in result.warnings[0]
    assert result.warnings[-1] == 'the 2 checkpoints agree in 100.0 % of the pixels: the ensemble can gain little'


def test_what_a_user_can_get_wrong(config, members, fitted, tmp_path):
    first, second, third, narrow = map(str, members)
    cfg = load_config(config)

    def refused(message, **options):
        with pytest.raises(UserError, match=message):
            ensemble = resolve_ensemble(EnsembleOptions(**options), cfg, first)
            MODELS.build(dict(ensemble.settings, module=cfg.model, members=list(ensemble.members)))

    from mmseg.registry import MODELS
    refused('none.pth: no such file', also=('none.pth',))
    refused('it does not fit this network', also=(third,))
    refused('^ensemble.scales: expected one or more numbers above 0', scales=(0.0,))
    refused('name it with --also', file=fitted[0])
    refused('were not fitted', file=fitted[0], also=(second, f'{narrow}:{third}'))
    (tmp_path / 'broken.json').write_text('{"version": 2}')
    refused('version: expected 1, found 2', file=tmp_path / 'broken.json')
    other = tmp_path / 'other.py'
    other.write_text(f'_base_ = {str(config)!r}\nbands = (3, 2, 1)\n')
    refused('bands: expected .1, 2, 3., as the first network, found .3, 2, 1.', also=(f'{other}:{second}',))
    shuffled = save_network(config, tmp_path / 'shuffled.pth', 3, classes=config_metainfo(cfg)['classes'][::-1])
    refused('the same classes in another order', also=(str(shuffled),))
    twice = resolve_ensemble(EnsembleOptions(also=(first,)), cfg, first)
    assert 'it counts twice' in twice.notes[0]


def test_export_of_the_tiny_network(tool, config, members, tmp_path):
    printed = tool('export.py', config, members[0], tmp_path / 'net.onnx')
    assert printed.count('differs from torch by') == 6 and (tmp_path / 'net.onnx').is_file()
