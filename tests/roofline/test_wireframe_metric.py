"""WireframeMetric: the spec's sensitivity tests, values by hand, files, and equality of one process and two."""

import csv
import json
import math
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.structures import BaseDataElement
from mmseg.registry import METRICS

from projects.engine.errors import UserError
from projects.evaluation.hooks import SegmentationReportHook
from projects.evaluation.score_table import read_score_tables
from projects.roofline.graph import RoofGraph
from projects.roofline.metrics.image_scores import score_image
from projects.roofline.metrics.matching import line_distances
from projects.roofline.metrics.metric import WireframeMetric
from projects.roofline.metrics.split_scores import split_scores
from projects.roofline.wireframe import Wireframe

SIZE = (512, 512)  # a cell is four pixels


def ladder(number=4):
    """Horizontal lines of 400 pixels, 10 cells apart for up to 12."""
    left = np.array([[40.0, 40 + index * min(40, 440 / number)] for index in range(number)])
    junctions = np.concatenate([left, left + [400, 0]])
    return RoofGraph.make(junctions, [[index, index + number] for index in range(number)])


def sample(graph, name='one', junctions=None, lines=None, scores=None, junction_scores=None, **more):
    """A sample whose prediction is the truth where nothing else is said."""
    junctions = graph.junctions if junctions is None else np.asarray(junctions, float).reshape(-1, 2)
    lines = graph.lines if lines is None else np.asarray(lines).reshape(-1, 2)
    scores = np.linspace(1, 0.6, len(lines)) if scores is None else scores
    junction_scores = np.linspace(1, 0.6, len(junctions)) if junction_scores is None else junction_scores
    return {'sample_id': name, 'img_path': f'images/{name}.png', 'graph': graph, 'ori_shape': SIZE,
            'pred_junctions': torch.tensor(junctions, dtype=torch.float32),
            'pred_junction_scores': torch.tensor(junction_scores, dtype=torch.float32),
            'pred_lines': torch.as_tensor(lines), 'pred_line_scores': torch.tensor(scores, dtype=torch.float32), **more}


def evaluate(samples, size=None, threshold=0.5, **options):
    metric = WireframeMetric(threshold, **options)
    evaluator = Evaluator([metric])
    evaluator.dataset_meta = {'classes': ('background', 'roof line')}
    evaluator.process(samples)
    return evaluator.evaluate(len(samples) if size is None else size), metric


def structural(metrics):
    return [round(metrics[f'sAP{threshold}'], 6) for threshold in (1, 5, 10, 15)]


def nothing(name='empty'):
    return sample(RoofGraph.make([], []), name)


def test_the_truth_scores_100():
    metrics, _ = evaluate([sample(ladder(), 'a'), sample(ladder(7), 'b')])
    assert metrics == {**dict.fromkeys((
        'sAP10', 'sAP5', 'sAP15', 'msAP', 'sAP1', 'mAPJ', 'APH', 'FH', 'F10', 'precision', 'recall'), 100),
        'F10_score': pytest.approx(0.6), 'endpoint_error_px': 0}


@pytest.mark.parametrize(('cells', 'expected', 'junctions'), [
    ((0.5, 0.5), [0, 100, 100, 100], 200 / 3),  # 2 · 0.5 = 1 is not below 1; the distance 0.71 is beyond 0.5
    ((0.5, 0), [100, 100, 100, 100], 200 / 3),  # 2 · 0.25; the distance 0.5 is not below 0.5
    ((0.4, 0), [100, 100, 100, 100], 100),
    ((1, 0), [0, 100, 100, 100], 100 / 3),  # 2 · 1 = 2
    ((1, 1), [0, 100, 100, 100], 100 / 3),  # 2 · 2 = 4
    ((0, 1.5), [0, 100, 100, 100], 100 / 3),  # 2 · 2.25 = 4.5
    ((1.5, 1.5), [0, 0, 100, 100], 0),  # 2 · 4.5 = 9; the distance 2.12 is beyond 2
    ((2.5, 0), [0, 0, 0, 100], 0),  # 2 · 6.25 = 12.5
    ((0, 3), [0, 0, 0, 0], 0),  # 2 · 9 = 18
])
def test_a_shifted_copy(cells, expected, junctions):
    graph = ladder()
    metrics, _ = evaluate([sample(graph, junctions=graph.junctions + np.array(cells) * 4)])
    assert structural(metrics) == expected
    assert metrics['msAP'] == pytest.approx(np.mean(expected[1:])) and metrics['mAPJ'] == pytest.approx(junctions)
    hit = expected[2] == 100
    assert metrics['precision'] == metrics['recall'] == 100 * hit
    assert metrics['endpoint_error_px'] == pytest.approx(
        4 * math.hypot(*cells) if hit else math.nan, nan_ok=True, abs=1e-4)


@pytest.mark.parametrize('order', ['copies behind each other', 'all lines, then all again'])
@pytest.mark.parametrize('equal', [False, True])
def test_each_line_twice(order, equal):
    """The i-th line is found at rank 2i - 1, with the precision i / (2i - 1), which falls, so nothing is interpolated:
    AP = mean of i / (2i - 1) = 1/2 + 1/(2N) · sum of 1 / (2i - 1), 0.5164 for a hundred lines."""
    number = 100
    graph = ladder(number)
    scores = np.full(number, 0.8) if equal else np.linspace(0.9, 0.6, number)
    if order == 'all lines, then all again':
        lines, scores = np.concatenate([graph.lines] * 2), np.concatenate([scores] * 2)
    else:
        lines, scores = graph.lines.repeat(2, axis=0), scores.repeat(2)
    metrics, _ = evaluate([sample(graph, lines=lines, scores=scores)], heat_map=False)
    expected = 50 + 100 / (2 * number) * sum(1 / (2 * i - 1) for i in range(1, number + 1))
    assert metrics['sAP10'] == pytest.approx(expected) and round(metrics['sAP10'], 1) == 51.6
    assert (metrics['precision'], metrics['recall']) == (50, 100)


def test_tiny_case_by_hand():
    graph = ladder(4)
    junctions = [*graph.junctions, (100, 300), (300, 480)]
    lines = [[0, 4], [8, 9], [1, 5], [2, 6]]  # hit, false, hit, hit; the fourth true line is missed
    metrics, _ = evaluate([sample(graph, junctions=junctions, lines=lines, scores=[0.9, 0.8, 0.7, 0.3])])
    # precision 1, 1/2, 2/3, 3/4, interpolated at the hits 1, 3/4, 3/4
    assert structural(metrics) == [62.5] * 4
    assert metrics['precision'] == pytest.approx(200 / 3) and metrics['recall'] == 50  # of the three above 0.5
    # F of the first so many lines: 2/5, 2/6, 4/7, 6/8
    assert (metrics['F10'], metrics['F10_score']) == (75, pytest.approx(0.3))
    # where the last two are equal: they count together
    metrics, _ = evaluate([sample(graph, junctions=junctions, lines=[lines[0], lines[2], lines[1]],
                                  scores=[0.9, 0.7, 0.7])], heat_map=False)
    assert (metrics['F10'], metrics['F10_score']) == (pytest.approx(400 / 7), pytest.approx(0.7))


def test_junction_map_by_hand():
    graph = ladder(2)
    junctions = graph.junctions + np.array([[0, 0], [0, 3], [6, 0], [0, 9]])  # 0, 0.75, 1.5 and 2.25 cells off
    metrics, _ = evaluate([sample(graph, junctions=junctions, junction_scores=[0.2, 0.9, 0.8, 0.7])])
    # ranked: 0.75, 1.5, 2.25, 0 cells. Within 0.5: rank 4 only: 1/4 · 1/4. Within 1: ranks 1 and 4: (1 + 1/2) / 4.
    # Within 2: ranks 1, 2, 4: (1 + 1 + 3/4) / 4.
    assert metrics['mAPJ'] == pytest.approx(100 * (1 / 16 + 3 / 8 + 11 / 16) / 3)


def test_one_prediction_serves_one_truth():
    graph = RoofGraph.make([[100, 100], [300, 100], [100, 104], [300, 104]], [[0, 1], [2, 3]])  # a cell apart
    metrics, _ = evaluate([sample(graph, lines=graph.lines[:1], scores=[0.9])])
    assert structural(metrics) == [50] * 4


def test_a_line_stands_for_the_nearest_truth_only():
    graph = RoofGraph.make([[100, 100], [300, 100], [100, 108], [300, 108]], [[0, 1], [2, 3]])  # two cells apart
    near_first = [[100, 100], [300, 100], [100, 103], [300, 103]]  # both are nearest to the first line
    metrics, _ = evaluate([sample(graph, junctions=near_first, scores=[0.9, 0.8])])
    assert metrics['sAP10'] == 50 and metrics['precision'] == 50


def test_an_empty_image_and_an_image_without_true_lines():
    full, empty = sample(ladder(4), 'full'), nothing()
    assert evaluate([full, empty])[0]['sAP10'] == 100
    # two false lines, one ranked before all, one behind: precision 1/2, 2/3, 3/4, 4/5, interpolated 4/5 throughout
    false = {**sample(ladder(2), 'false', scores=[1.0, 0.1]), 'graph': RoofGraph.make([], [])}
    full = sample(ladder(4), 'full', scores=[0.9, 0.8, 0.7, 0.6])
    metrics, metric = evaluate([full, false])
    assert structural(metrics) == [80] * 4
    assert (metrics['precision'], metrics['recall']) == (80, 100) and metrics['FH'] < 100
    rows = {row['sample_id']: row for row in metric.score_table.images}
    assert math.isnan(rows['false']['sAP10']) and rows['false']['predicted'] == 1
    assert [(row['group'], row['images'], row['lines']) for row in metric.score_table.groups] == [
        ('all', 2, 4), ('no lines', 1, 0), ('1-10 lines', 1, 4)]
    missed = {**nothing('missed'), 'graph': ladder(4)}  # nothing predicted
    metrics, _ = evaluate([sample(ladder(4), 'full'), missed])
    assert structural(metrics) == [50] * 4 and metrics['recall'] == 50 and metrics['precision'] == 100
    assert metrics['FH'] == pytest.approx(200 / 3) and metrics['mAPJ'] == 50
    metrics, _ = evaluate([missed])
    assert structural(metrics) == [0] * 4
    assert metrics['mAPJ'] == metrics['FH'] == metrics['F10'] == metrics['precision'] == 0
    assert math.isnan(metrics['F10_score'])


def test_no_true_line_at_all_is_not_defined():
    metrics, _ = evaluate([nothing('a'), {**nothing('b'), 'pred_junctions': torch.zeros(3, 2),
                                          'pred_junction_scores': torch.ones(3)}])
    assert all(math.isnan(metrics[name]) for name in ('sAP10', 'msAP', 'mAPJ', 'recall', 'endpoint_error_px'))


def noisy(seed, name, steps=3, number=12):
    """A prediction with false lines whose scores take few values, so that many are equal."""
    rng = np.random.default_rng(seed)
    graph = ladder(4 + seed)
    junctions = np.concatenate([graph.junctions + rng.normal(0, 5, graph.junctions.shape),
                                rng.uniform(0, 512, (number, 2))])
    extra = [pair for pair in rng.integers(0, len(junctions), (3 * number, 2)) if pair[0] != pair[1]]
    lines = np.concatenate([graph.lines, extra])
    return sample(graph, name, junctions, lines, rng.integers(1, steps + 1, len(lines)) / steps,
                  rng.integers(1, steps + 1, len(junctions)) / steps,
                  pred_unverified_lines=torch.as_tensor(lines[::-1].copy()),
                  pred_unverified_scores=torch.tensor(rng.integers(1, 4, len(lines)) / 4))


def test_neither_the_order_of_files_nor_of_lines_nor_of_ends_matters():
    samples = [noisy(seed, f'image_{seed}') for seed in range(5)]
    expected, metric = evaluate(samples)
    assert 5 < expected['sAP10'] < 95
    rng = np.random.default_rng(1)
    for _ in range(3):
        shuffled = []
        for index in rng.permutation(5):
            one = dict(samples[index])
            order = torch.as_tensor(rng.permutation(len(one['pred_lines'])))
            ends = torch.as_tensor(rng.permutation(2))
            one['pred_lines'] = one['pred_lines'][order][:, ends]
            one['pred_line_scores'] = one['pred_line_scores'][order]
            graph = one['graph']
            one['graph'] = RoofGraph.make(graph.junctions, graph.lines[:, rng.permutation(2)])
            shuffled.append(one)
        metrics, other = evaluate(shuffled)
        assert metrics == pytest.approx(expected, nan_ok=True, abs=1e-9)
        assert [row['sample_id'] for row in other.score_table.images] == [f'image_{seed}' for seed in range(5)]
    assert evaluate(samples[::-1])[0] == expected  # to the bit


def test_the_better_pairing_of_ends():
    one, other = np.array([[[0, 0], [10, 0]]], float), np.array([[[10, 1], [0, 2]], [[3, 0], [10, 4]]], float)
    assert line_distances(one, other).tolist() == [[1 + 4, 9 + 16]]
    assert line_distances(other, one[:, ::-1]).tolist() == [[5], [25]]


def test_the_longer_side_is_128_cells():
    graph = ladder()
    moved = sample(graph, junctions=graph.junctions + [6, 0])  # 1.5 cells of 512 pixels: 4.5; of 1024: 1.125
    assert structural(evaluate([moved])[0]) == [0, 100, 100, 100]
    assert structural(evaluate([{**moved, 'ori_shape': (500, 1024)}])[0]) == [0, 100, 100, 100]
    assert structural(evaluate([{**moved, 'ori_shape': (1280, 512)}])[0]) == [100] * 4  # 0.6 cells: 0.72


def test_verified_against_unverified():
    graph = ladder(4)
    junctions = [*graph.junctions, (100, 300), (300, 480)]
    both = [[8, 9], *graph.lines.tolist()]
    one = sample(graph, junctions=junctions, lines=both, scores=[0.1, 0.9, 0.8, 0.7, 0.6],
                 pred_unverified_lines=torch.tensor(both), pred_unverified_scores=torch.tensor([0.9, .8, .7, .6, .5]))
    metrics, _ = evaluate([one])
    assert metrics['sAP10'] == 100 and metrics['unverified/sAP10'] == pytest.approx(80)
    assert 'unverified/sAP10' not in evaluate([sample(graph)])[0]


def test_metres_where_the_resolution_is_known():
    graph = ladder()
    moved = graph.junctions + [3.0, 4.0]  # 5 pixels
    samples = [sample(graph, 'a', moved, resolution=0.2), sample(graph, 'b', graph.junctions + [4, 0], resolution=0.1),
               sample(graph, 'c', resolution=None)]
    metrics, _ = evaluate(samples)
    assert metrics['endpoint_error_px'] == pytest.approx(3)  # (5 + 4 + 0) / 3
    assert metrics['endpoint_error_m'] == pytest.approx((1.0 + 0.4) / 2)
    assert 'endpoint_error_m' not in evaluate(samples[2:])[0]


def test_the_endpoint_error_is_of_the_hits_above_the_threshold():
    graph = ladder(2)
    junctions = graph.junctions + np.array([[2, 0], [6, 0], [0, 0], [0, 0]])  # 2 and 0, 6 and 0 pixels
    one = sample(graph, junctions=junctions, scores=[0.9, 0.4])
    assert evaluate([one])[0]['endpoint_error_px'] == pytest.approx(1)
    assert evaluate([one], threshold=0.4)[0]['endpoint_error_px'] == pytest.approx(2)


def test_faces_of_the_graph_and_of_lines_alone():
    corners = np.array([[40, 40], [240, 40], [440, 40], [440, 240], [240, 240], [40, 240]], float)
    lines = [[0, 1], [1, 2], [2, 3], [3, 4], [4, 5], [5, 0], [1, 4]]
    graph = RoofGraph.make(corners, lines, faces=((0, 1, 4, 5), (1, 2, 3, 4)))
    assert evaluate([sample(graph)])[0]['face_F1'] == 100
    without_wall = sample(graph, scores=[0.9] * 6 + [0.4])
    # one face over both rooms, of which each is half: it matches one of them
    assert evaluate([without_wall])[0]['face_F1'] == pytest.approx(200 / 3)
    assert evaluate([without_wall], threshold=0.3)[0]['face_F1'] == 100
    assert evaluate([sample(RoofGraph.make(corners, lines))])[0]['face_F1'] == 100


def test_files_of_the_report_hook(tmp_path):
    samples = [noisy(seed, f'set/image_{seed}') for seed in range(3)] + [
        sample(ladder(30), 'set/large', resolution=0.1)]
    metrics, metric = evaluate(samples)
    runner = SimpleNamespace(work_dir=str(tmp_path), timestamp='t', _load_from='x/best.pth',
                             test_evaluator=SimpleNamespace(metrics=[metric]))
    SegmentationReportHook().after_test_epoch(runner)
    folder = tmp_path / 'evaluation' / 'test'
    assert {path.name for path in folder.iterdir()} == {'wireframe.json', 'wireframe.csv', 'wireframe_images.csv'}
    with open(folder / 'wireframe.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert [(row['group'], row['images'], row['lines']) for row in rows] == [
        ('all', '4', '45'), ('1-10 lines', '3', '15'), ('21+ lines', '1', '30')]
    assert float(rows[0]['sAP10']) == metrics['sAP10'] and float(rows[2]['sAP10']) == 100
    [(read, _)] = read_score_tables(folder)
    assert read.name == 'wireframe' and read.groups[0]['mAPJ'] == metrics['mAPJ']
    assert [row['sample_id'] for row in read.images] == [one['sample_id'] for one in samples]
    smaller = {score.name for score in read.scores if score.smaller_is_better}
    assert smaller == {'endpoint_error_px', 'endpoint_error_m'}


def test_options():
    metric = METRICS.build(dict(type='WireframeMetric', heat_map=False, line_bounds=[5], prefix='roofs'))
    metric.process(None, [sample(ladder(4), 'a'), sample(ladder(6), 'b')])
    metrics = metric.evaluate(2)
    assert metrics['roofs/sAP10'] == 100 and 'roofs/FH' not in metrics
    assert [row['group'] for row in metric.score_table.groups] == ['all', '1-5 lines', '6+ lines']


def test_a_data_element_is_read_as_its_dict_is():
    one = sample(ladder(), resolution=0.5)
    data = {name: one.pop(name) for name in tuple(one) if name.startswith('pred')}
    element = BaseDataElement(metainfo=one, **data)
    metrics, _ = evaluate([element])
    assert metrics['sAP10'] == 100 and metrics['endpoint_error_m'] == 0


@pytest.mark.parametrize(('change', 'message'), [
    (dict(graph=None), 'sample one: graph: no truth to score against'),
    (dict(ori_shape=None), r'sample one: ori_shape: expected \(height, width\), found none'),
    (dict(pred_lines=None), 'sample one: pred_lines: expected a prediction, found none'),
    (dict(pred_line_scores=torch.ones(3)), 'sample one: pred_line_scores: expected 4 scores, found 3'),
    (dict(pred_lines=torch.full((4, 2), 8)), 'sample one: pred_lines: expected junctions 0 to 7, found 8 to 8'),
    (dict(pred_line_scores=torch.full((4,), math.nan)), 'pred_line_scores: expected finite numbers, found nan'),
])
def test_bad_samples(change, message):
    with pytest.raises(UserError, match=message):
        WireframeMetric().process(None, [{**sample(ladder()), **change}])


def test_bad_options_and_names():
    with pytest.raises(UserError, match='threshold: expected a score, 0 to 1, found 50'):
        WireframeMetric(threshold=50)
    with pytest.raises(UserError, match='line_bounds: expected increasing numbers'):
        WireframeMetric(line_bounds=(20, 10))
    with pytest.raises(UserError, match="'one' is one that repeats"):
        evaluate([sample(ladder())] * 2)
    with pytest.raises(UserError, match='no sample was scored'):
        evaluate([], size=1)


def numbered(index):
    """A gabled roof and false lines."""
    rng = np.random.default_rng(index)
    corners = np.array([[0, 0], [100, 0], [100, 60], [0, 60], [0, 30], [100, 30]]) * (1 + index)
    corners = corners + rng.uniform(20, 60, 2)
    graph = RoofGraph.make(
        corners, [[0, 1], [1, 5], [5, 2], [2, 3], [3, 4], [4, 0], [4, 5]], faces=((0, 1, 5, 4), (4, 5, 2, 3)))
    junctions = np.concatenate([corners + rng.normal(0, 4, corners.shape), rng.uniform(0, 512, (8, 2))])
    lines = np.concatenate([graph.lines, rng.permutation(14).reshape(7, 2)])
    return sample(graph, f'roofs/image_{index}', junctions, lines, junction_scores=rng.random(14),
                  scores=rng.integers(1, 5, 14) / 5, ori_shape=(512, 640), resolution=0.1)


def score_numbered(indices, length):
    metrics, metric = evaluate([numbered(index) for index in indices], size=length)
    return {'metrics': metrics, 'table': metric.score_table.to_dict()}


def test_two_processes_give_what_one_gives(scored_by_two):
    found = scored_by_two(5)
    assert 5 < found['metrics']['sAP10'] < 95


def test_real_roofs_against_themselves(shared_data):
    path = shared_data / 'roofline' / 'roofgraph' / 'annotations.json'
    if not path.is_file():
        pytest.skip('no roof graphs among the real data')
    samples = []
    for item in json.loads(path.read_text())['images'][:20]:
        graph = RoofGraph.make(item['junctions'], item['lines'], item['line_type'], item['faces'])
        samples.append({**sample(graph, item['file']), 'ori_shape': (item['height'], item['width'])})
    metrics, _ = evaluate(samples)
    in_percent = {name: value for name, value in metrics.items() if name not in ('F10_score', 'endpoint_error_px')}
    assert {name: round(value, 3) for name, value in in_percent.items()} == dict.fromkeys(in_percent, 100)
    assert metrics['endpoint_error_px'] < 1e-4  # float32


def test_sixty_images_of_2500_lines():
    rng = np.random.default_rng(0)
    images = []
    for _ in range(60):
        junctions = rng.uniform(0, 512, (300, 2))
        lines = rng.permuted(np.tile(np.arange(300), (2500, 1)), axis=1)[:, :2]
        moved = junctions + rng.normal(0, 2, (300, 2))
        wireframe = Wireframe.make(moved, lines, rng.random(2500) ** 4, rng.random(300))
        images.append((wireframe, RoofGraph.make(junctions, lines[:40])))
    start = time.process_time()
    scores = split_scores([score_image(wireframe, graph, SIZE, heat_map=False) for wireframe, graph in images])
    assert time.process_time() - start < 3  # half a second on an idle core
    assert 0 < scores['sAP10'] < 20
