"""CamouflageMetric: what it reads, its groups, its files, and equality between one process and two."""

import csv
import json
import math

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmseg.registry import METRICS

from projects.camouflage.metrics import camouflage_scores
from projects.camouflage.metrics.evaluation import size_of
from projects.camouflage.metrics.metric import CamouflageMetric
from projects.camouflage.metrics.scores import SCORES
from projects.engine import startup
from projects.engine.errors import UserError
from projects.evaluation.hooks import SegmentationReportHook
from projects.evaluation.metric import SegmentationMetric
from projects.evaluation.report import write_report
from projects.evaluation.score_table import read_score_tables, write_score_table

META = {'classes': ('background', 'camouflaged object'), 'palette': [[0, 0, 0], [255, 255, 255]]}


def truth_of(side):
    """A square object of side² of 400 pixels."""
    truth = torch.zeros(1, 20, 20, dtype=torch.long)
    truth[:, 4:4 + side, 5:5 + side] = 1
    return truth


def sample(name='one', truth=None, seed=0, **more):
    truth = truth_of(6) if truth is None else truth
    noise = torch.rand(truth.shape, generator=torch.Generator().manual_seed(seed))
    probability = (0.5 * noise + 0.45 * (truth == 1)).clamp(0, 1)
    return {'sample_id': name, 'img_path': f'{name}.jpg', 'gt_sem_seg': {'data': truth},
            'pred_sem_seg': {'data': (probability > 0.5).float()}, 'seg_logits': {'data': probability}, **more}


def evaluate(samples, beside=(), size=None, **options):
    metric = CamouflageMetric(**options)
    evaluator = Evaluator([metric, *beside])
    evaluator.dataset_meta = META
    evaluator.process(samples)
    return evaluator.evaluate(len(samples) if size is None else size), metric


def expected_of(probability, truth):
    return camouflage_scores((probability[0] * 255).round().byte().numpy(), (truth[0] * 255).byte().numpy())


def test_one_channel_is_a_probability_already():
    one = sample()
    metrics, metric = evaluate([one])
    expected = expected_of(one['seg_logits']['data'], one['gt_sem_seg']['data'])
    assert {name: metrics[name] for name in SCORES} == expected
    assert metrics['medium/S'] == expected['S'] and 'small/S' not in metrics and 'large/S' not in metrics
    assert all(type(value) is float for value in metrics.values())
    row = metric.score_table.images[0]
    assert row['sample_id'] == 'one' and row['share'] == 36 / 400 and row['S'] == expected['S']


def test_two_channels_and_merged_views():
    one = sample()
    probability = one['seg_logits']['data']
    expected, _ = evaluate([one])
    two = {**one, 'seg_logits': {'data': torch.cat([(1 - probability).log(), probability.log()])}}
    assert evaluate([two])[0] == pytest.approx(expected, abs=2e-3)  # a pixel may round to its neighbour
    probs = {**one, 'seg_logits': {'data': torch.full((2, 20, 20), math.nan)},
             'seg_probs': {'data': torch.cat([1 - probability, probability])}}
    assert evaluate([probs])[0] == expected  # probabilities win over logits


def test_the_map_is_resized_to_the_truth_before_it_is_rounded():
    small = torch.full((1, 10, 10), 0.25)
    small[:, 2:5, 2:5] = 0.75
    one = sample(seg_logits={'data': small})
    metrics, _ = evaluate([one])
    large = torch.nn.functional.interpolate(small[None], (20, 20), mode='bilinear')[0]
    assert {name: metrics[name] for name in SCORES} == expected_of(large, one['gt_sem_seg']['data'])
    assert len(np.unique((large * 255).round())) > 4  # not the two values of a map that was rounded first


def test_half_precision_has_more_than_its_own_steps():
    one = sample()
    half = {**one, 'seg_logits': {'data': one['seg_logits']['data'].bfloat16()}}
    assert evaluate([half])[0]['S'] == pytest.approx(evaluate([one])[0]['S'], abs=5e-3)


def test_groups_by_data_set_and_size():
    samples = [sample('CAMO/a', truth_of(1), 1, dataset='CAMO'), sample('CAMO/b', truth_of(6), 2, dataset='CAMO'),
               sample('NC4K/a', truth_of(12), 3, dataset='NC4K'), sample('NC4K/b', truth_of(0), 4, dataset='NC4K')]
    metrics, metric = evaluate(samples)
    single = {one['sample_id']: evaluate([one])[0] for one in samples}
    assert metrics['CAMO/S'] == pytest.approx((single['CAMO/a']['S'] + single['CAMO/b']['S']) / 2)
    assert metrics['S'] == pytest.approx(sum(one['S'] for one in single.values()) / 4)
    assert metrics['small/MAE'] == single['CAMO/a']['MAE'] and metrics['large/MAE'] == single['NC4K/a']['MAE']
    assert metrics['medium/wF'] == single['CAMO/b']['wF']
    assert [(row['group'], row['images']) for row in metric.score_table.groups] == [
        ('all', 4), ('CAMO', 2), ('NC4K', 2), ('small', 1), ('medium', 1), ('large', 1)]  # no object: of no size
    assert metric.score_table.text().splitlines()[0].split() == ['group', 'images', *SCORES]
    wide, _ = evaluate(samples[1:3], size_bounds=(0.2, 0.9))
    assert wide['small/S'] == single['CAMO/b']['S'] and wide['medium/S'] == single['NC4K/a']['S']
    alone, _ = evaluate(samples[:2])
    assert 'CAMO/S' not in alone  # one data set is what all are


def test_golden_values_of_a_data_set(shared):
    """Of two data sets in one test, each has PySODMetrics' scores; theirs are the maxima of its own mean curve."""
    with np.load(shared / 'parity' / 'cod_metrics.npz') as pack:
        rows, expected = json.loads(str(pack['per_image'])), json.loads(str(pack['dataset']))
        samples = [{'sample_id': f'CAMO/{row["id"]}', 'dataset': 'CAMO',
                    'gt_sem_seg': {'data': torch.from_numpy((pack[f'gt_{row["id"]}'] > 128).astype(np.int64))[None]},
                    'seg_logits': {'data': torch.from_numpy(pack[f'pred_{row["id"]}'] / np.float32(255))[None]}}
                   for row in rows]
    metrics, metric = evaluate([*samples, sample('NC4K/a', dataset='NC4K')])
    assert {name: metrics[f'CAMO/{name}'] for name in expected} == pytest.approx(expected, abs=1e-6, rel=0)
    assert metrics['CAMO/F_max'] < np.mean([row['F_max'] for row in rows]) - 1e-3
    assert metrics['F_max'] != pytest.approx(metrics['CAMO/F_max'], abs=1e-6)
    by_name = {row['sample_id']: row for row in metric.score_table.images}
    for row in rows:
        found = by_name[f'CAMO/{row["id"]}']
        assert {name: found[name] for name in expected} == pytest.approx(
            {name: row[name] for name in expected}, abs=1e-6, rel=0)
    sizes = [row for row in metric.score_table.groups if row['group'] in ('small', 'medium', 'large')]
    with_object = [row for row in metric.score_table.images if row['share']]
    assert sum(row['images'] for row in sizes) == len(with_object)


def test_real_photographs(shared_data):
    """Nine real pairs through data set and metric: the truth itself as prediction, and the grey of the photograph."""
    startup.start()
    from projects.camouflage.datasets import CamouflageDataset

    dataset = CamouflageDataset(str(shared_data / 'camouflage'), 'all', pipeline=[
        dict(type='LoadPhotograph'), dict(type='ResizeImage', size=(64, 64)), dict(type='LoadCamouflageMask'),
        dict(type='PackSegInputs', meta_keys=('sample_id', 'dataset', 'img_path', 'ori_shape'))])
    perfect, grey = [], []
    for packed in dataset:
        one = packed['data_samples'].to_dict()
        perfect.append({**one, 'seg_logits': {'data': one['gt_sem_seg']['data'].float()}})
        grey.append({**one, 'seg_logits': {'data': packed['inputs'].float().mean(0, keepdim=True) / 255}})
    metrics, metric = evaluate(perfect)
    assert metrics['MAE'] == 0 and metrics['IoU'] == 1
    assert all(metrics[name] == pytest.approx(1, abs=1e-4) for name in ('S', 'wF', 'F_adp', 'F_max', 'E_max'))
    assert metric.score_table.groups[0]['images'] == 9
    metrics, _ = evaluate(grey)
    assert 0.2 < metrics['S'] < 0.6 and metrics['wF'] < 0.4  # these objects are camouflaged


def test_bounds_of_sizes():
    assert [size_of(share) for share in (0, 1e-9, 0.01, 0.0101, 0.1, 0.11, 1)] == [
        None, 'small', 'small', 'medium', 'medium', 'large', 'large']


def test_registered_prefixed_and_repeated():
    startup.start()
    import projects.camouflage.metrics.metric  # noqa: F401
    assert METRICS.build(dict(type='CamouflageMetric', size_bounds=[0.02, 0.2])).size_bounds == (0.02, 0.2)
    metric = CamouflageMetric(prefix='night')
    for _ in range(2):
        metric.process(None, [sample()])
        assert 'night/S' in metric.evaluate(1)
        assert len(metric.score_table.images) == 1


@pytest.mark.parametrize('bounds', [(0.1, 0.01), (0.1,), (0, 0.1), (0.1, 1.0)])
def test_bad_bounds(bounds):
    with pytest.raises(UserError, match='size_bounds: expected two increasing shares'):
        CamouflageMetric(size_bounds=bounds)


def without(key, one):
    return {name: value for name, value in one.items() if name != key}


@pytest.mark.parametrize(('one', 'message'), [
    (without('gt_sem_seg', sample()), 'sample one: no truth to score against'),
    (sample(truth=truth_of(3) * 255), 'sample one: expected labels 0 and 1, found 0, 255'),
    (without('seg_logits', sample()), 'sample one: expected seg_probs or seg_logits, found neither'),
    (sample(seg_logits={'data': torch.zeros(3, 20, 20)}), r'expected seg_logits of 1 or 2 channels .* \(3, 20, 20\)'),
    (sample(seg_logits={'data': torch.full((1, 20, 20), 4.0)}), 'expected probabilities 0..1 in seg_logits, found 4'),
    (sample(seg_logits={'data': torch.full((1, 20, 20), math.nan)}), 'sample one: expected probabilities'),
    (without('sample_id', without('img_path', sample())), 'meta_keys'),
    (sample(dataset='small'), "a data set is called 'small'"),
])
def test_bad_samples_are_named(one, message):
    with pytest.raises(UserError, match=message):
        evaluate([one])


def test_equal_ids_are_an_error_not_a_silent_loss():
    with pytest.raises(UserError, match="'one' is one that repeats"):
        evaluate([sample('two'), sample(), sample()])


def test_nothing_scored():
    with pytest.raises(UserError, match='no sample was scored'):
        evaluate([], size=2)


def test_beside_the_segmentation_metric():
    samples = [sample('a', seed=1), sample('b', seed=2)]
    metrics, metric = evaluate(samples, [segmentation := SegmentationMetric()])
    assert metrics['S'] == metric.score_table.groups[0]['S']
    assert 0 < metrics['mIoU'] < 1 and 'IoU/camouflaged object' in metrics
    # the channel is no logit: another sigmoid would bring all confidences to 0.5..0.73
    confidence = torch.cat([torch.maximum(one['seg_logits']['data'], 1 - one['seg_logits']['data'])
                            for one in samples]).double()
    assert segmentation.last.calibration.confidence.sum() == pytest.approx(float(confidence.sum()), rel=1e-5)


class FinishedRun:
    """What the report hook asks of a runner."""

    def __init__(self, work_dir, evaluator):
        self.work_dir, self.test_evaluator, self.timestamp, self._load_from = work_dir, evaluator, 't', 'w/best.pth'


def finished(folder, beside=True, seed=0):
    metrics = [CamouflageMetric(), *([SegmentationMetric()] if beside else [])]
    evaluator = Evaluator(metrics)
    evaluator.dataset_meta = META
    evaluator.process([sample('CAMO/a', seed=seed, dataset='CAMO'), sample('NC4K/b', seed=seed + 7, dataset='NC4K')])
    evaluator.evaluate(2)
    SegmentationReportHook().after_test_epoch(FinishedRun(folder, evaluator))
    return metrics[0].score_table


def test_files_and_report(tmp_path):
    table = finished(tmp_path / 'run')
    folder = tmp_path / 'run' / 'evaluation' / 'test'
    assert {path.name for path in folder.iterdir()} >= {
        'scores.json', 'camouflage.json', 'camouflage.csv', 'camouflage_images.csv'}
    with open(folder / 'camouflage.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert [row['group'] for row in rows] == ['all', 'CAMO', 'NC4K', 'medium']
    assert float(rows[1]['MAE']) == table.groups[1]['MAE']
    with open(folder / 'camouflage_images.csv', newline='') as file:
        assert [row['sample_id'] for row in csv.DictReader(file)] == ['CAMO/a', 'NC4K/b']
    [(read, facts)] = read_score_tables(folder)
    assert read == table and facts == {'split': 'test', 'step': None, 'timestamp': 't', 'checkpoint': 'best.pth'}
    write_report(tmp_path / 'run', tmp_path / 'report.html')
    page = (tmp_path / 'report.html').read_text()
    assert 'Camouflaged objects' in page and 'MAE ↓' in page and 'S ↑' in page
    assert f'<th scope="row">NC4K</th><td>1</td><td>{table.groups[2]["S"]:.3f}</td>' in page
    assert 'Mean IoU' in page
    # The task's own scores come first, and the checkpoint is called what its file is.
    assert f'Camouflaged objects: S (structure measure) is <b>{table.groups[0]["S"]:.3f}</b>' in page
    assert page.index('id="camouflage-test"') < page.index('<h2>Classes')
    assert 'test · best.pth' in page


def test_report_without_the_segmentation_metric(tmp_path):
    table = finished(tmp_path / 'run', beside=False)
    write_report(tmp_path / 'run', tmp_path / 'report.html')
    page = (tmp_path / 'report.html').read_text()
    assert f'S (structure measure) is <b>{table.groups[0]["S"]:.3f}</b> on 2 test images' in page
    assert 'Not evaluated yet' not in page


def test_runs_beside_each_other_mark_the_smaller_error(tmp_path):
    tables = [finished(tmp_path / name, seed=seed) for name, seed in (('first', 0), ('second', 100))]
    tables[1].groups[0]['MAE'] = tables[0].groups[0]['MAE'] / 2
    write_score_table(tables[1], tmp_path / 'second' / 'evaluation' / 'test')
    write_report([tmp_path / 'first', tmp_path / 'second'], tmp_path / 'both.html')
    page = (tmp_path / 'both.html').read_text()
    section = page[page.index('id="camouflage-compared"'):]
    error = f'{tables[1].groups[0]["MAE"]:.3f}'
    assert f'<td class="best"><span class="score">{error}</span>' in section
    assert f'<td><span class="score">{tables[0].groups[0]["MAE"]:.3f}</span>' in section


def numbered(index):
    """One of two data sets, the first without an object."""
    truth = torch.zeros(1, 20, 24, dtype=torch.long)
    truth[:, 5:5 + index, 6:8 + index] = 1
    dataset = ('CAMO', 'COD10K')[index % 2]
    return sample(f'{dataset}/image_{index}', truth, index, dataset=dataset)


def score_numbered(indices, length):
    metrics, metric = evaluate([numbered(index) for index in indices], size=length)
    return {'metrics': metrics, 'table': metric.score_table.to_dict()}


def test_two_processes_equal_one(scored_by_two):
    metrics = scored_by_two(7)['metrics']
    assert metrics['CAMO/S'] != metrics['COD10K/S']
