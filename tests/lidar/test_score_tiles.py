"""Classified tiles against what they hold, through the tool."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

from projects.engine.errors import UserError
from projects.geo.point_clouds import write_points
from projects.lidar.classes import LOD3
from projects.lidar.metrics.tiles import score_tiles, tiles_in

WALL, GABLE, GROUND, HIGH = (LOD3.index(name) for name in ('wall_plain', 'roof_gable', 'ground', 'vegetation_high'))


def town():
    """Ground every 0.5 m with a house of 8 x 8 m and one of 20 x 20 m; the small one's roof is seen as a tree, and a
    strip of ground beside the large one as its wall."""
    x, y = (axis.ravel() + 0.25 for axis in np.meshgrid(np.arange(0, 60, 0.5), np.arange(0, 40, 0.5)))
    small = (abs(x - 10) < 4) & (abs(y - 20) < 4)
    large = (abs(x - 40) < 10) & (abs(y - 20) < 10)
    beside = (x > 50) & (x < 51) & (abs(y - 20) < 10)
    labels = np.where(small | large, GABLE, GROUND).astype(np.uint8)
    classes = np.where(small, HIGH, np.where(beside, WALL, labels)).astype(np.uint8)
    xyz = np.stack([x + 770_000, y + 6_277_000, np.where(labels == GABLE, 106.0, 100.0)], axis=1)
    return xyz, labels, classes, small.sum(), large.sum(), beside.sum()


def write(path, xyz, classes=None, lod3=None, codes=None):
    extra = {name: ('u1', name) for name, value in (('terrace_class', classes), ('lod3', lod3)) if value is not None}
    fields = {name: value for name, value in (('terrace_class', classes), ('lod3', lod3), ('classification', codes))
              if value is not None}
    write_points(path, xyz, fields, point_format=6, extra=extra)


def test_each_point_counts_once_by_class_and_size_of_building(tmp_path):
    xyz, labels, classes, small, large, beside = town()
    write(tmp_path / 'a.laz', xyz, classes, labels)
    table, evaluation = score_tiles([tmp_path / 'a.laz'])['lod3']
    rows = {row['group']: row for row in table.groups}
    assert rows['all']['points'] == len(xyz) == evaluation.pixels and rows['all']['images'] == 1
    assert evaluation.scores.iou[GABLE] == pytest.approx(large / (small + large))
    assert rows['all']['mIoU'] == pytest.approx(evaluation.scores.mean_iou)
    assert (rows['small buildings']['points'], rows['large buildings']['points']) == (small, large)
    assert rows['small buildings']['building_IoU'] == 0.0
    assert rows['large buildings']['building_IoU'] == pytest.approx(large / (large + beside))
    assert rows['large buildings']['mIoU'] == 1.0  # of its classes: no gable was missed or made up
    assert 'synthetic' in table.title and table.images[0]['sample_id'] == 'a'
    assert {row['group'] for row in score_tiles([tmp_path / 'a.laz'], building_area=50)['lod3'][0].groups
            if row['points']} == {'all', 'large buildings'}


def test_codes_are_scored_at_the_coarse_level(tmp_path):
    xyz, labels, classes, small, large, beside = town()
    codes = np.where(labels == GABLE, 6, 2).astype(np.uint8)
    codes[:7] = 1  # unclassified: no label
    write(tmp_path / 'pred' / 'a.laz', xyz, classes)
    write(tmp_path / 'truth' / 'a.las', xyz, codes=codes)
    table, evaluation = score_tiles([tmp_path / 'pred' / 'a.laz'], tmp_path / 'truth')['coarse']
    assert evaluation.scores.iou[0] == pytest.approx(large / (small + large + beside))
    assert table.groups[0]['points'] == len(xyz) - 7 and 'real' in table.title
    write(tmp_path / 'truth' / 'a.las', xyz[::-1], codes=codes)
    with pytest.raises(UserError, match=r'a\.las: expected the points of .*a\.laz .* in their order'):
        score_tiles([tmp_path / 'pred' / 'a.laz'], tmp_path / 'truth')


def test_mistakes_are_told(tmp_path):
    xyz, labels, classes, *_ = town()
    write(tmp_path / 'a.laz', xyz, lod3=labels)
    with pytest.raises(UserError, match='expected the dimension terrace_class'):
        score_tiles([tmp_path / 'a.laz'])
    write(tmp_path / 'b.laz', xyz, classes + 30, labels)
    with pytest.raises(UserError, match='terrace_class: expected 0 to 29, found 55'):
        score_tiles([tmp_path / 'b.laz'])
    write(tmp_path / 'c.laz', xyz, classes, labels + 30)
    with pytest.raises(UserError, match='lod3: expected labels 0 to 30 or 255, found'):
        score_tiles([tmp_path / 'c.laz'])
    write(tmp_path / 'd.laz', xyz, classes, np.full_like(labels, 255))
    with pytest.raises(UserError, match='expected points with a label'):
        score_tiles([tmp_path / 'd.laz'])
    with pytest.raises(UserError, match='different names'):
        score_tiles([tmp_path / 'a.laz', tmp_path / 'a.las'])
    assert [path.name for path in tiles_in([tmp_path])] == ['a.laz', 'b.laz', 'c.laz', 'd.laz']
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UserError, match='expected LAS or LAZ files'):
        tiles_in([tmp_path / 'empty'])


def test_the_tool_prints_and_writes_tables(tmp_path, repository):
    xyz, labels, classes, *_ = town()
    write(tmp_path / 'pred' / 'a.laz', xyz, classes, labels)
    done = subprocess.run(
        [sys.executable, str(repository / 'tools/lidar/score.py'), str(tmp_path / 'pred'), '--out',
         str(tmp_path / 'out'), '--json', str(tmp_path / 'scores.json')],
        cwd=tmp_path, text=True, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert 'roof_gable' in done.stdout and 'small buildings' in done.stdout
    assert 'pixels' not in done.stdout and re.search(r'^group +tiles +mIoU', done.stdout, re.MULTILINE)
    levels = json.loads((tmp_path / 'scores.json').read_text())['levels']
    assert levels['lod3']['groups'][0]['mIoU'] == pytest.approx(
        score_tiles([tmp_path / 'pred' / 'a.laz'])['lod3'][0].groups[0]['mIoU'])
    assert (tmp_path / 'out' / 'coarse' / 'points.csv').is_file()
    assert (tmp_path / 'out' / 'lod3' / 'per_class.csv').is_file()


def test_counting_needs_no_torch():
    code = ('import sys; import projects.lidar.metrics.point_scores, projects.lidar.metrics.building_groups; '
            'assert not {"torch", "mmengine"} & set(sys.modules)')
    assert subprocess.run([sys.executable, '-c', code], timeout=60).returncode == 0
