"""Scores of points, against counting by hand."""

import json
import math

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from projects.engine.errors import UserError
from projects.evaluation.folder import read_evaluation, write_evaluation
from projects.evaluation.score_table import read_score_tables, write_score_table
from projects.lidar.classes import BUILDING, COARSE, IGNORE, LOD3
from projects.lidar.datasets import LidarPatchDataset
from projects.lidar.metrics.building_groups import area_nearby
from projects.lidar.metrics.metric import PointMetric
from projects.lidar.metrics.point_scores import LEVELS, count_points, group_scores, point_groups

WALL, GABLE, HIP, GROUND, HIGH, OTHER = (
    LOD3.index(name) for name in ('wall_plain', 'roof_gable', 'roof_hip', 'ground', 'vegetation_high', 'other'))


def sample(labels, prediction, sample_id='a/50/0', area=None, border=None, kind='synthetic', scale='50', logits=None):
    data = SegDataSample(metainfo=dict(sample_id=sample_id, kind=kind, scale=scale))
    data.gt_sem_seg = PixelData(data=torch.tensor(labels, dtype=torch.uint8)[None, None])
    data.pred_sem_seg = PixelData(data=torch.tensor(prediction)[None, None])
    if logits is not None:
        data.seg_logits = PixelData(data=torch.as_tensor(logits, dtype=torch.float32)[:, None])
    n = len(labels)
    data.set_field(torch.tensor(area if area is not None else [0.0] * n), 'building_area')
    data.set_field(torch.tensor(border if border is not None else [20.0] * n), 'border')
    return data.to_dict()


def scored(*samples, level='lod3', **arguments):
    metric = PointMetric(level=level, calibration=arguments.pop('calibration', False), **arguments)
    metric.dataset_meta = LidarPatchDataset.METAINFO
    for one in samples:
        metric.process({}, [one])
    return metric.evaluate(len(samples)), metric


def test_means_are_over_the_classes_of_the_truth():
    labels = [WALL, WALL, GABLE, GABLE, GROUND, GROUND, GROUND, GROUND]
    found = [WALL, HIP, GABLE, GABLE, GROUND, GROUND, GROUND, WALL]
    scores, metric = scored(sample(labels, found))
    ious = {WALL: 1 / 3, GABLE: 1.0, GROUND: 3 / 4}  # one wall called hip, one ground called wall
    assert scores['mIoU'] == pytest.approx(np.mean(list(ious.values())))
    assert scores['mPrecision'] == pytest.approx(np.mean([1 / 2, 1, 1]))
    assert scores['mRecall'] == pytest.approx(np.mean([1 / 2, 1, 3 / 4])) == pytest.approx(scores['mAcc'])
    assert scores['OA'] == pytest.approx(6 / 8)
    assert scores['IoU/wall_plain'] == pytest.approx(1 / 3) and 'IoU/roof_hip' not in scores
    assert scores['building_IoU'] == pytest.approx(4 / 5) and scores['building_recall'] == 1.0
    assert not [name for name, value in scores.items() if name.startswith(('IoU/', 'F1/')) and math.isnan(value)]
    assert metric.last.scores.mean_iou == scores['mIoU'] == metric.score_table.groups[0]['mIoU']
    assert metric.last.pixels == 8  # the one called hip counts, as missed


def test_a_class_that_is_never_predicted_has_no_precision():
    scores, _ = scored(sample([WALL, GROUND], [GROUND, GROUND]))
    assert scores['mPrecision'] == pytest.approx((0 + 1 / 2) / 2)


def test_partly_known_points_count_at_the_coarse_level_only():
    labels = [BUILDING, BUILDING, WALL, GROUND, IGNORE]
    found = [WALL, GROUND, GABLE, GROUND, GROUND]
    fine, _ = scored(sample(labels, found))
    assert fine['IoU/wall_plain'] == 0 and fine['IoU/ground'] == 1 and fine['mIoU'] == 0.5
    coarse, metric = scored(sample(labels, found), level='coarse')
    assert metric.prefix == 'coarse' and metric.dataset_meta['classes'] == COARSE
    assert coarse['coarse/IoU/building'] == pytest.approx(2 / 3) == pytest.approx(coarse['coarse/building_IoU'])
    assert coarse['coarse/IoU/ground'] == pytest.approx(1 / 2) and coarse['coarse/OA'] == pytest.approx(3 / 4)


def test_the_coarse_class_is_that_of_the_largest_sum_of_leaves():
    logits = np.full((30, 2), -20.0, np.float32)
    logits[:23, 0] = np.log(0.7 / 23)  # many leaves of a building share what is more than ground's
    logits[GROUND, 0] = np.log(0.3)
    logits[HIGH, 1] = 0.0
    one = sample([BUILDING, HIGH], logits.argmax(0), logits=logits)
    scores, metric = scored(one, level='coarse', calibration=True)
    assert scores['coarse/OA'] == 1.0
    assert metric.last.calibration.count.sum() == 2
    assert scores['coarse/ECE'] == pytest.approx((0.3 + 0.0) / 2, abs=1e-3)
    without = {key: value for key, value in one.items() if key != 'seg_logits'}
    assert scored(without, level='coarse')[0]['coarse/OA'] == 0.5


def test_groups_by_size_of_building_count_false_alarms_beside_it():
    labels = [WALL, GABLE, WALL, GABLE, GROUND, GROUND, GROUND]
    found = [WALL, GROUND, WALL, GABLE, WALL, GROUND, WALL]
    area = [100.0, 100, 150, 150, 100, 0, 0]  # the fifth point lies beside the small building, the last far from any
    scores, metric = scored(sample(labels, found, area=area))
    assert scores['small_buildings/building_IoU'] == pytest.approx(1 / 3)
    assert scores['small_buildings/mIoU'] == pytest.approx(np.mean([1 / 2, 0]))  # wall with a false alarm, gable
    assert scores['large_buildings/building_IoU'] == 1.0 and scores['large_buildings/mIoU'] == 1.0
    row = next(row for row in metric.score_table.groups if row['group'] == 'small buildings')
    assert (row['points'], row['classes'], row['OA'], row['building_recall']) == (2, 2, 0.5, 0.5)
    assert row['mPrecision'] == pytest.approx((1 / 2 + 0) / 2) and row['mRecall'] == pytest.approx(1 / 2)
    larger, _ = scored(sample(labels, found, area=area), building_area=200)
    assert math.isnan(larger['large_buildings/mIoU']) and larger['small_buildings/building_IoU'] == pytest.approx(3 / 5)


def test_groups_by_distance_to_the_border():
    border = [0.0, 1.9, 2.0, 4.9, 5.0, 9.9, 10.0, 80.0]
    scores, metric = scored(sample([GROUND] * 8, [OTHER, GROUND, OTHER, OTHER, GROUND, GROUND, GROUND, GROUND],
                                   border=border))
    rows = {row['group']: (row['points'], row['OA']) for row in metric.score_table.groups}
    assert rows == {'all': (8, 0.625), 'small buildings': (0, pytest.approx(math.nan, nan_ok=True)),
                    'large buildings': (0, pytest.approx(math.nan, nan_ok=True)), 'border 0-2 m': (2, 0.5),
                    'border 2-5 m': (2, 0.0), 'border 5-10 m': (2, 1.0), 'border over 10 m': (2, 1.0)}
    assert scores['border_2-5_m/mIoU'] == 0 and scores['border_over_10_m/mIoU'] == 1
    groups = point_groups(border=np.array(border), borders=(3.0,))
    assert {name: mask.sum() for name, mask in groups.items()} == {'border 0-3 m': 3, 'border over 3 m': 5}


def test_real_and_synthetic_and_scales_apart():
    scores, metric = scored(
        sample([GROUND] * 4, [GROUND] * 4, 'a', kind='synthetic', scale='50'),
        sample([GROUND] * 2, [OTHER] * 2, 'b', kind='real', scale='100', area=[100.0, 0]))
    assert (scores['mIoU'], scores['real/mIoU'], scores['synthetic/mIoU']) == (pytest.approx(4 / 6), 0.0, 1.0)
    assert (scores['scale_50/mIoU'], scores['scale_100/mIoU']) == (1.0, 0.0)
    names = [row['group'] for row in metric.score_table.groups]
    assert {'real', 'real, small buildings', 'synthetic, border 0-2 m', 'scale 50'} <= set(names)
    assert [(row['sample_id'], row['OA']) for row in metric.score_table.images] == [('a', 1.0), ('b', 0.0)]
    one, _ = scored(sample([GROUND], [GROUND]))
    assert not [name for name in one if name.startswith(('real', 'synthetic', 'scale'))]


def test_scores_of_many_patches_are_those_of_all_their_points(monkeypatch):
    rng = np.random.default_rng(0)
    patches = []
    for _ in range(6):
        labels = rng.choice([WALL, GABLE, GROUND, HIGH, BUILDING, IGNORE], 400)
        found = np.where(rng.random(400) < 0.7, np.minimum(labels, 29), rng.integers(0, 30, 400))
        area = np.where(np.isin(labels, (WALL, GABLE, BUILDING)), rng.choice([90.0, 200.0], 400), 0)
        patches.append((labels, found, area.astype(np.float32), rng.uniform(0, 25, 400).astype(np.float32)))
    samples = [sample(*one[:2], sample_id=f's{number}', area=one[2], border=one[3])
               for number, one in enumerate(patches)]
    whole, _ = scored(sample(*(np.concatenate(part) for part in list(zip(*patches))[:2]),
                             area=np.concatenate([one[2] for one in patches]),
                             border=np.concatenate([one[3] for one in patches])))
    parts, metric = scored(*samples)
    assert parts.keys() == whole.keys()
    assert {name: value for name, value in parts.items() if not math.isnan(value)} == pytest.approx(
        {name: value for name, value in whole.items() if not math.isnan(value)})
    # Two ranks, of which the second repeats the first patch: each counts once.
    first, second = PointMetric(calibration=False), PointMetric(calibration=False)
    for one, of_rank in ((first, samples[:4]), (second, [*samples[4:], samples[0]])):
        one.dataset_meta = LidarPatchDataset.METAINFO
        one.process({}, of_rank)
    gathered = [list(first.results), list(second.results)]
    monkeypatch.setattr('projects.evaluation.gathering.all_gather_object', lambda own: gathered)
    monkeypatch.setattr('projects.evaluation.gathering.get_world_size', lambda: 2)
    assert second.evaluate(6) == pytest.approx(parts, nan_ok=True)
    assert second.score_table.to_dict()['groups'][0] == metric.score_table.to_dict()['groups'][0]


def test_files_say_the_same(tmp_path):
    scores, metric = scored(sample([WALL, GROUND, GROUND], [HIP, GROUND, OTHER]))
    write_evaluation(metric.last, tmp_path)
    write_score_table(metric.score_table, tmp_path)
    assert json.loads((tmp_path / 'scores.json').read_text())['scores']['mIoU'] == scores['mIoU'] == 0.25
    assert read_evaluation(tmp_path)[0].summary()['mIoU'] == scores['mIoU']
    (table, _), = read_score_tables(tmp_path)
    assert table.groups[0]['mIoU'] == scores['mIoU'] and 'points' in (tmp_path / 'points.csv').read_text()


def test_mistakes_are_told():
    with pytest.raises(UserError, match='level: expected one of lod3, coarse, found .lod4'):
        PointMetric(level='lod4')
    with pytest.raises(UserError, match='borders: expected increasing distances above 0'):
        PointMetric(borders=(5, 2))
    with pytest.raises(UserError, match='sample a/50/0: expected labels 0 to 30 or 255, found 31'):
        scored(sample([31], [0]))
    with pytest.raises(UserError, match='no truth to score against'):
        scored({key: value for key, value in sample([0], [0]).items() if key != 'gt_sem_seg'})
    with pytest.raises(UserError, match='no sample was scored'):
        PointMetric().compute_metrics([])


def test_the_building_beside_a_point():
    xy = np.array([[0, 0], [4, 0], [5.4, 0], [7.0, 0], [20, 0], [22.2, 0], [50, 50]], float)
    area = np.array([100, 100, 0, 0, 300, 0, 0], np.float32)
    near = area_nearby(xy, area, margin=2.0)
    assert near.tolist() == [100, 100, 100, 0, 300, 300, 0]
    assert area_nearby(xy, area, margin=0).tolist() == area.tolist()
    assert not area_nearby(xy, area * 0).any()
    assert area_nearby(xy + 7_000_000, area).tolist() == near.tolist()


def test_counts_keep_only_what_is_there():
    level = LEVELS['lod3']
    counts = count_points(np.array([WALL, WALL, IGNORE], np.uint8), np.array([WALL, HIP, HIP]), level,
                          {'left': np.array([True, False, True])})
    assert len(counts.cells) == 3
    matrices = counts.confusions()
    assert matrices['all'].sum() == 2 and matrices['all'][WALL, HIP] == 1 and matrices['left'].sum() == 1
    assert math.isnan(group_scores(np.zeros((30, 30), np.int64), level)['mIoU'])
