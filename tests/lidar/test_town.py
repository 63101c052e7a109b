import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from shapely.geometry import Polygon

from projects.engine.errors import UserError
from projects.geo.point_clouds import read_header, read_points
from projects.geo.point_tiles import check_name
from projects.lidar.classes import IGNORE, LABEL_TO_COARSE, LOD3, labels_of_codes
from projects.lidar.town import built_up, make_town
from projects.scenes.scene import make_scene


@pytest.fixture(scope='module')
def village():
    return make_scene(3, 900.0)


@pytest.fixture(scope='module')
def town(village, tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('projects.lidar.town.make_scene', lambda seed, extent: {(3, 900.0): village}[seed, extent])
        return make_town(tmp_path_factory.mktemp('town'), 3, 140, 70, density=8.0)


def test_tiles_join_and_carry_labels(town):
    assert len(town.paths) == 4 and town.points > 4 * 70 * 70 * 7
    names = set()
    for path in town.paths:
        header = read_header(path)
        assert check_name(header) is None
        assert header.point_format == 8 and header.extra == ('object', 'part', 'lod3')
        assert header.has_colour and header.has_nir
        points = read_points(path)
        west, north = header.bounds[0] // 10 * 10, -(-header.bounds[4] // 10) * 10
        assert (points.xyz[:, :2] >= [west, north - 70]).all() and (points.xyz[:, :2] < [west + 70, north]).all()
        f = points.fields
        assert ((f['lod3'] < len(LOD3)) | (f['lod3'] == IGNORE)).all()
        assert (f['return_number'] >= 1).all() and (f['return_number'] <= f['number_of_returns']).all()
        names.update(zip(f['gps_time'].tolist(), f['return_number'].tolist()))
    assert len(names) == town.points == town.counts['lod3'].sum()


def test_asprs_codes_say_the_same_as_the_labels(town):
    fields = read_points(town.paths[0]).fields
    coarse = LABEL_TO_COARSE[labels_of_codes(fields['classification'], 'tile')]
    known = (coarse != IGNORE) & (fields['lod3'] != IGNORE)
    assert known.mean() > 0.97
    assert (coarse == LABEL_TO_COARSE[fields['lod3']])[known].all()


def test_a_town_has_small_and_large_buildings_and_most_classes(town, village):
    left, bottom, right, top = built_up(village, 140)
    inside = [b for b in village.buildings if left < b.footprint[:, 0].mean() < right
              and bottom < b.footprint[:, 1].mean() < top]
    areas = np.array([Polygon(b.footprint).area for b in inside])
    assert len(areas) >= 8 and areas.min() < 150 < areas.max()
    found = {LOD3[k] for k in np.flatnonzero(town.counts['lod3'][:len(LOD3)])}
    assert found >= {'wall_with_windows', 'wall_with_door', 'roof_gable', 'roof_hip', 'roof_edge', 'window',
                     'foundation', 'chimney', 'ground', 'vegetation_low', 'vegetation_high', 'vehicle'}


def test_the_most_built_up_square_is_found():
    scene = make_scene(0, 300)

    def under_roofs(box):
        return sum(Polygon(b.footprint).area for b in scene.buildings
                   if box[0] <= b.footprint[:, 0].mean() < box[2] and box[1] <= b.footprint[:, 1].mean() < box[3])

    best = built_up(scene, 100)
    assert best[2] - best[0] == best[3] - best[1] == 100
    assert under_roofs(best) >= max(under_roofs((x, y, x + 100, y + 100)) for x in range(0, 201, 20)
                                    for y in range(0, 201, 20)) - 1e-6
    assert built_up(scene, 300) == (0, 0, 300, 300)


@pytest.mark.parametrize(('arguments', 'key'), [
    ((0, 61), 'extent'), ((0, 20), 'extent'), ((0, 60, 33), 'tile'), ((0, 60, None, -1), 'density'),
    ((0, 60, None, 5, 5), 'format')])
def test_what_cannot_be_made_is_refused_before_anything_is_written(tmp_path: Path, arguments: tuple, key: str):
    with pytest.raises(UserError, match=key):
        make_town(tmp_path / 'town', *arguments)
    assert not (tmp_path / 'town').exists()
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match='expected a folder'):
        make_town(tmp_path / 'file', 0, 60)


def test_make_town_from_the_command_line(tmp_path: Path, repository: Path):
    def run(*words: str):
        return subprocess.run([sys.executable, 'tools/lidar/make_town.py', '--out', str(tmp_path), *words],
                              cwd=repository, capture_output=True, text=True, timeout=120, check=False)

    done = run('--extent', '60', '--density', '2', '--seed', '2', '--no-colour', '--las')
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('1 tiles, ')
    table = [line.split() for line in done.stdout.splitlines()[1:]]
    assert table[0] == ['class', 'points', 'share'] and {'roof_gable', 'ground'} <= {row[0] for row in table}
    assert sum(float(row[2]) for row in table[2:]) == pytest.approx(100, abs=0.5)
    tile, = tmp_path.glob('LHD_FXX_*_PTS_LA93_IGN69.las')
    points = read_points(tile)
    assert points.header.point_format == 8 and not {'red', 'nir'} & set(points.fields)  # all zero: missing
    bad = run('--density', 'nan')
    assert bad.returncode == 2 and '--density' in bad.stderr and bad.stderr.count('\n') == 1, bad.stderr


def test_scenes_and_labels_need_no_torch():
    code = ('import sys, projects.evaluation.tables, projects.lidar.town, projects.scenes.lidar_files; '
            'assert not {"torch", "mmengine"} & set(sys.modules)')
    subprocess.run([sys.executable, '-c', code], check=True, timeout=60)
