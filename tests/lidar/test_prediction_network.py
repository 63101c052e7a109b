"""From config and checkpoint: the network sees what a test sees, experts are put together, a gate is fitted."""

import json
import subprocess
import sys
from pathlib import Path

import laspy
import numpy as np
import pytest
import torch
from mmseg.registry import MODELS
from small_store import small_store
from test_prediction_tiles import write_tile_file

from projects.engine.checkpoint_files import write_checkpoint
from projects.engine.checkpoints import read_checkpoint
from projects.engine.config import load_config
from projects.engine.consistency import config_metainfo
from projects.engine.errors import UserError
from projects.engine.inference import load_model
from projects.engine.lineage_record import read_lineage
from projects.lidar.classes import LOD3
from projects.lidar.datasets.collate import collate_points
from projects.lidar.datasets.patches import LidarPatchDataset
from projects.lidar.prediction.answers import mean_answers
from projects.lidar.prediction.classify import classify
from projects.lidar.prediction.experts import assemble_experts, read_pairs
from projects.lidar.prediction.gate import read_gate
from projects.lidar.prediction.gate_data import GatePoints, evaluate_gate, fit_gate_file
from projects.lidar.prediction.network import NetworkPatches, points_seen, scales_of
from projects.lidar.prediction.streaming import TileStream

CONFIG = """
custom_imports = dict(imports=['projects.lidar.datasets', 'projects.lidar.models', 'projects.lidar.losses'])
patch_scales = {
    '50': dict(size=50.0, overlap=0.15, points=400, neighbours=20, buffer=8.0, sor=None, ror=None),
    '100': dict(size=100.0, overlap=0.12, points=400, neighbours=25, buffer=12.0, sor=None, ror=None)}
network = dict(
    type='PointSegmentor', backbone=dict(type='HybridPointNet', in_channels=21, widths=(8, 16, 32, 32, 32)),
    decode_head=dict(type='LidarPointHead', num_classes=30, loss_decode=[dict(type='HierarchicalCrossEntropy')]))
model = MODEL
test_pipeline = [dict(type='SamplePoints', count=200), dict(type='PackPoints')]
test_dataloader = dict(
    batch_size=1, collate_fn=dict(type='collate_points'), sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='LidarPatchDataset', data_root='x', split='test', scales=('50',), pipeline=test_pipeline))
"""


def write_config(path: Path, model: str = 'network', change: tuple[str, str] = ('', '')) -> Path:
    path.write_text(CONFIG.replace('MODEL', model).replace(*change) if change[0] else CONFIG.replace('MODEL', model))
    return path


def write_weights(config: Path, path: Path, seed: int = 0) -> Path:
    cfg = load_config(config)
    torch.manual_seed(seed)
    model = MODELS.build(cfg.model)
    write_checkpoint({'meta': {'dataset_meta': config_metainfo(cfg), 'iter': 10 + seed},
                      'state_dict': model.state_dict()}, path)
    return path


@pytest.fixture(scope='module')
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A config and random weights."""
    folder = tmp_path_factory.mktemp('network')
    config = write_config(folder / 'net.py')
    return config, write_weights(config, folder / 'net.pth')


@pytest.fixture(scope='module')
def store(tmp_path_factory: pytest.TempPathFactory):
    return small_store(tmp_path_factory.mktemp('store'), tiles=2, points=3000)


def test_a_patch_is_answered_as_the_test_would_see_it(small: tuple[Path, Path], store) -> None:
    model, cfg = load_model(*small, device='cpu')
    network = NetworkPatches(model, cfg)
    patches = [store.read(ref, 400) for ref in store.patches('100')[:3]]
    together = network(patches)
    for patch, probabilities in zip(patches, together):
        assert probabilities.shape == (200, len(LOD3))  # SamplePoints keeps the head
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(network([patch])[0], probabilities, atol=2e-5)  # padding changes nothing
    dataset = LidarPatchDataset(str(store.root), scales=('100',), pipeline=[
        dict(type='SamplePoints', count=200), dict(type='PackPoints')])
    with torch.no_grad():
        sample = model.test_step(collate_points([dataset[0]]))[0]
    logits = sample.seg_logits.data[:, 0].T.softmax(dim=1).numpy()
    first = next(answer for patch, answer in zip(patches, together)
                 if f'{patch.tile}/{patch.scale}/{patch.number}' == sample.sample_id)
    np.testing.assert_allclose(first, logits, atol=2e-5)


def test_amp_stays_near(small: tuple[Path, Path], store) -> None:
    model, cfg = load_model(*small, device='cpu')
    patch = store.read(store.patches('50')[0], 400)
    np.testing.assert_allclose(NetworkPatches(model, cfg, amp=True)([patch])[0],
                               NetworkPatches(model, cfg)([patch])[0], atol=0.03)


def test_scales_and_points_are_those_of_the_test_data(small: tuple[Path, Path]) -> None:
    cfg = load_config(small[0])
    assert list(scales_of(cfg)) == ['50'] and list(scales_of(cfg, ['100', '50'])) == ['100', '50']
    assert points_seen(cfg, scales_of(cfg, ['100'])) == {'100': 200}  # what SamplePoints keeps
    cfg.test_dataloader.dataset.points = {'50': 64}
    assert points_seen(cfg, scales_of(cfg, ['50', '100'])) == {'50': 64, '100': 200}
    cfg.test_pipeline[0].count = 500
    assert points_seen(cfg, scales_of(cfg, ['50', '100'])) == {'50': 64, '100': 400}
    cfg.test_pipeline = cfg.test_pipeline[1:]
    assert points_seen(cfg, scales_of(cfg, ['100'])) == {'100': 400}
    with pytest.raises(UserError, match='scales: expected some of 50, 100, each once, found 150'):
        scales_of(cfg, ['150'])


def test_points_that_the_network_does_not_see_change_nothing(small: tuple[Path, Path], store) -> None:
    model, cfg = load_model(*small, device='cpu')
    scales, network, asked = ('50', '100'), NetworkPatches(model, cfg), set()

    def watched(patches):
        asked.update(len(patch.xyz) for patch in patches)
        return network(patches)

    tile, seen = store.tiles['tile_00'], points_seen(cfg, scales_of(cfg, scales))
    few = mean_answers(TileStream(tile, scales, watched, len(LOD3), seen))
    assert max(asked) == 200
    many = mean_answers(TileStream(tile, scales, watched, len(LOD3), {'50': 400, '100': 400}))
    assert max(asked) > 200
    for name in ('classes', 'confidence', 'entropy', 'disagreement'):
        np.testing.assert_array_equal(getattr(few, name), getattr(many, name), err_msg=name)


def test_a_config_of_another_kind_is_refused(small: tuple[Path, Path], tmp_path: Path, store) -> None:
    model, cfg = load_model(*small, device='cpu')
    model.dataset_meta = {'classes': ('cat', 'dog')}
    with pytest.raises(UserError, match='expected a network with the 30 LOD3 classes'):
        NetworkPatches(model, cfg)
    model.dataset_meta = {'classes': LOD3}
    cfg.test_pipeline = [dict(type='RotateAboutZ'), *cfg.test_pipeline]
    with pytest.raises(UserError, match='expected the first points of a patch as they stand'):
        NetworkPatches(model, cfg)([store.read(store.patches('50')[0], 400)])
    cfg.test_pipeline = cfg.test_pipeline[:-1]
    with pytest.raises(UserError, match='ends with PackPoints'):
        NetworkPatches(model, cfg)


def test_weights_that_diverged_are_told_not_written(small: tuple[Path, Path], store) -> None:
    model, cfg = load_model(*small, device='cpu')
    with torch.no_grad():
        next(model.decode_head.parameters()).fill_(float('nan'))
    with pytest.raises(UserError, match='tile_00/50/0: expected probabilities of the network, found values that'):
        NetworkPatches(model, cfg)([store.read(store.patches('50')[0], 256)])


def test_the_tool_classifies_and_reruns(small: tuple[Path, Path], tmp_path: Path, repository: Path) -> None:
    source, bad, out = tmp_path / 'tile.laz', tmp_path / 'bad.laz', tmp_path / 'out'
    write_tile_file(source, points=2000)
    bad.write_bytes(b'LASF')
    command = [sys.executable, str(repository / 'tools/lidar/classify.py'), *map(str, small), str(source), str(bad),
               '--out', str(out), '--scales', '50', '100', '--device', 'cpu']
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert f'{source} -> {out / "tile.laz"} (2,000 points' in done.stdout
    lines = done.stderr.splitlines()
    assert len(lines) == 2 and lines[0].startswith(f'error: {bad}: ') and lines[1] == 'error: 1 of 2 tiles failed'
    copy = laspy.read(out / 'tile.laz')
    np.testing.assert_array_equal(copy.z, laspy.read(source).z)
    assert copy['terrace_confidence'].min() > 0 and copy['terrace_entropy'].max() <= 1
    assert 0 < copy['terrace_disagreement'].max() <= 1  # two scales of random weights
    again, = classify(*small, [source], out, scales=['50', '100'], device='cpu')
    assert again.already
    other, = classify(*small, [source], out, scales=['50'], device='cpu')
    assert 'exists already' in other.error
    other, = classify(*small, [source], out, scales=['50'], device='cpu', overwrite=True)
    assert not other.already and other.error is None


def test_options_that_do_not_belong_together_are_refused(small: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match='--merge: expected mean, or gate with --gate FILE, found gate'):
        next(classify(*small, [tmp_path / 'a.laz'], tmp_path / 'out', merge='gate'))
    with pytest.raises(UserError, match='--batch: expected at least 1, found 0'):
        next(classify(*small, [tmp_path / 'a.laz'], tmp_path / 'out', batch=0))


def test_a_gate_of_the_networks_own_scales_is_fitted_written_and_used(small: tuple[Path, Path], store,
                                                                      tmp_path: Path) -> None:
    fit = fit_gate_file(*small, store.root, tmp_path / 'gate.json', scales=['50', '100'], split='val', device='cpu')
    assert read_gate(tmp_path / 'gate.json') == fit.gate and fit.gate.scales == ('50', '100')
    assert fit.gated[0] <= fit.mean[0] + 1e-6  # on what it was fitted on it is no worse
    said = json.loads((tmp_path / 'gate.json').read_text())
    assert said['split'] == 'val' and said['points'] == list(fit.points) and min(fit.points) > 100
    source = tmp_path / 'tile.laz'
    write_tile_file(source, points=1500)
    result, = classify(*small, [source], tmp_path / 'out', scales=['50', '100'], merge='gate',
                       gate=tmp_path / 'gate.json', device='cpu')
    assert result.error is None
    with pytest.raises(UserError, match='scales: expected 50, those that are predicted, found 50, 100'):
        next(classify(*small, [source], tmp_path / 'out', merge='gate', gate=tmp_path / 'gate.json', device='cpu'))
    for options, told in ((dict(), 'expected two or more, found 50'), (dict(batch=0), '--batch: expected at least 1'),
                          (dict(points=0), '--points: expected at least 1, found 0'),
                          (dict(split='all'), "--split: expected one of train, val, test, found 'all'"),
                          (dict(scales=['50', '150']), 'scales: expected some of 50, 100, each once, found 50, 150')):
        with pytest.raises(UserError, match=told):
            fit_gate_file(*small, store.root, tmp_path / 'gate.json', device='cpu', **options)


def test_a_gate_is_scored_on_blocks_it_has_not_seen() -> None:
    rng = np.random.default_rng(0)
    area = rng.uniform(0, 6, 6000)
    likelihood = np.stack([np.where(area < 3, 0.9, 0.2), np.where(area < 3, 0.2, 0.9)]).astype(np.float32)
    features = np.stack([area, rng.normal(size=6000), rng.normal(size=6000)], axis=1)
    fit = evaluate_gate(GatePoints(features, likelihood, np.arange(6000) // 500), ('50', '150'), points=2000)
    assert fit.points == (2000, 2000)
    assert fit.gated[1] < fit.mean[1] - 0.2 and fit.mean[1] == pytest.approx(-np.log(0.55), abs=1e-6)
    assert min(fit.single[1]) > fit.mean[1]
    alone = evaluate_gate(GatePoints(features, likelihood, np.zeros(6000, np.int64)), ('50', '150'))
    assert sum(alone.points) == 6000 and min(alone.points) > 2500


def test_experts_become_one_checkpoint_that_answers_as_they_do(small: tuple[Path, Path], store, tmp_path: Path) -> None:
    config = write_config(tmp_path / 'experts.py',
                          "dict(type='ScaleExperts', dispatch='patch_size', experts={'50': network, '100': network})")
    weights = {size: write_weights(small[0], tmp_path / f'{size}.pth', seed) for seed, size in ((1, '50'), (2, '100'))}
    out = assemble_experts(config, weights, tmp_path / 'all/experts.pth')
    model, cfg = load_model(config, out, device='cpu')
    assert model.dataset_meta['classes'] == LOD3
    together = NetworkPatches(model, cfg)
    for size, path in weights.items():
        alone = NetworkPatches(*load_model(small[0], path, device='cpu'))
        patch = store.read(store.patches(size)[0], 400)
        np.testing.assert_array_equal(together([patch])[0], alone([patch])[0])
    meta = read_checkpoint(out)['meta']
    assert meta['iter'] == 12 and meta['experts']['50']['file'] == '50.pth'
    lineage = read_lineage(out.parent)
    assert [parent['role'] for parent in lineage['parents']] == ['expert 50', 'expert 100']
    assert lineage['checkpoints']['experts.pth']['step'] == 12 and lineage['run_id'] == meta['lineage']['run_id']
    from projects.multistage.publish import publish

    published = publish(out, tmp_path / 'published')
    assert (published / 'MODEL_CARD.md').is_file()
    assert load_model(config, published / 'model.safetensors', device='cpu')[0].dataset_meta['classes'] == LOD3
    assemble_experts(config, weights, out)  # again: its own file is replaced


@pytest.mark.parametrize(('pairs', 'told'), [
    (['50=a.pth', '50=b.pth'], '50: expected one checkpoint'), (['50'], "expected SIZE=CHECKPOINT, found '50'"),
    (['50=missing.pth'], 'checkpoint missing.pth: no such file')])
def test_experts_are_named_by_size(pairs: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        read_pairs(pairs)


def test_experts_that_do_not_belong_are_refused(small: tuple[Path, Path], tmp_path: Path) -> None:
    config, weights = small
    with pytest.raises(UserError, match='model.type: expected ScaleExperts, found PointSegmentor'):
        assemble_experts(config, {'50': weights}, tmp_path / 'out/experts.pth')
    two = write_config(tmp_path / 'experts.py',
                       "dict(type='ScaleExperts', dispatch='patch_size', experts={'50': network, '100': network})")
    with pytest.raises(UserError, match='expected a checkpoint for each of 50, 100, found 50'):
        assemble_experts(two, {'50': weights}, tmp_path / 'out/experts.pth')
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out/experts.pth').write_bytes(b'mine')
    with pytest.raises(UserError, match='exists already, and was not made by this tool'):
        assemble_experts(two, {'50': weights, '100': weights}, tmp_path / 'out/experts.pth')
    wider = write_config(tmp_path / 'wider.py', change=('(8, 16, 32, 32, 32)', '(8, 16, 32, 32, 64)'))
    other = write_weights(wider, tmp_path / 'wider.pth')
    with pytest.raises(UserError, match='wider.pth: it does not fit this network'):
        assemble_experts(two, {'50': weights, '100': other}, tmp_path / 'new/experts.pth')
    assert not (tmp_path / 'new/experts.pth').exists()
