"""Pictures and pages of points: the right colours at the right places, and a page that needs nobody."""

import base64
import json
import re
import runpy
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_store import small_store

from projects.engine.errors import UserError
from projects.geo.point_clouds import copy_with, write_points
from projects.lidar.classes import BUILDING, IGNORE, LOD3
from projects.lidar.palette import BUILDING_COLOUR, LOD3_PALETTE
from projects.lidar.view.cloud import Cloud, cloud_of_file, cloud_of_patch, cloud_of_tile, thinned, with_prediction
from projects.lidar.view.colouring import ERRORS, choices, colour_by, errors
from projects.lidar.view.page import page_of, write_page
from projects.lidar.view.picture import bar_length, share, write_picture
from projects.lidar.view.raster import OBLIQUE, TOP, Camera, draw_points

GROUND, ROOF, WALL, WATER = (LOD3.index(name) for name in ('ground', 'roof_gable', 'wall_plain', 'water'))


@pytest.fixture(scope='module')
def store(tmp_path_factory):
    return small_store(tmp_path_factory.mktemp('store') / 's', tiles=1, points=1500)


@pytest.fixture
def cloud():
    """100 m x 50 m: water on the west half at 0 m, a roof on the east half at 8 m."""
    x, y = np.meshgrid(np.arange(0, 100, 0.5), np.arange(0, 50, 0.5))
    east = x.ravel() >= 50
    xyz = np.stack([x.ravel(), y.ravel(), np.where(east, 8.0, 0.0)], axis=1).astype(np.float32)
    return Cloud('a <b> & c', xyz, np.array([770_000.0, 6_277_000.0, 100.0]),
                 np.where(east, ROOF, WATER).astype(np.uint8), {'height': xyz[:, 2]},
                 predicted=np.full(len(xyz), ROOF, np.uint8), total=len(xyz))


@pytest.mark.parametrize('label, predicted, expected', [
    (GROUND, GROUND, 'right'), (BUILDING, WALL, 'right'), (BUILDING, GROUND, 'building missed'),
    (WALL, ROOF, 'another part of a building'), (ROOF, WATER, 'building missed'), (WATER, ROOF, 'building invented'),
    (WATER, GROUND, 'wrong'), (IGNORE, ROOF, 'no truth'), (GROUND, IGNORE, 'wrong'), (WALL, IGNORE, 'building missed')])
def test_what_became_of_a_point(label, predicted, expected):
    code = errors(np.array([label], np.uint8), np.array([predicted], np.uint8))
    assert ERRORS[code[0]][0] == expected


def test_colours_by_class_error_and_value(cloud):
    by_class = colour_by(cloud, 'class')
    assert by_class.legend == ((ROOF, 'roof_gable', 10_000), (WATER, 'water', 10_000))
    np.testing.assert_array_equal(np.unique(by_class.colours()[cloud.label == WATER], axis=0), [LOD3_PALETTE[WATER]])
    assert colour_by(cloud, 'error').legend == ((0, 'right', 10_000), (3, 'building invented', 10_000))
    height = colour_by(cloud, 'height')
    assert (height.low, height.high, height.unit) == (0.0, 8.0, 'm') and set(height.code) == {0, 255}
    assert choices(cloud) == ['class', 'predicted', 'error', 'height']
    with pytest.raises(UserError, match="--by: expected one of class, height, found 'error' .it needs --prediction"):
        colour_by(replace(cloud, predicted=None), 'error')


def test_a_picture_shows_the_points_where_they_are(cloud):
    picture, pixel = draw_points(cloud.xyz, colour_by(cloud, 'class').colours(), TOP, 200, shading=0)
    assert picture.shape[1] == 200 and 99 < pixel * 200 < 103 and 98 < picture.shape[0] < 106
    assert tuple(picture[50, 50]) == LOD3_PALETTE[WATER] and tuple(picture[50, 150]) == LOD3_PALETTE[ROOF]
    turned, _ = draw_points(cloud.xyz, colour_by(cloud, 'class').colours(), Camera(180, 90), 200, shading=0)
    assert tuple(turned[50, 50]) == LOD3_PALETTE[ROOF]  # seen from the north, east is left


def test_what_is_nearer_hides_what_is_behind(cloud):
    below = replace(cloud, xyz=np.concatenate([cloud.xyz, cloud.xyz - [0, 0, 20]]).astype(np.float32))
    colours = np.concatenate([np.full((20_000, 3), 200), np.zeros((20_000, 3))]).astype(np.uint8)
    for order in (np.arange(40_000), np.arange(40_000)[::-1]):
        picture, _ = draw_points(below.xyz[order], colours[order], TOP, 200, shading=0)
        assert (picture[10:90, 10:190] == 200).all()


def test_shadows_lie_at_the_foot_of_a_step_and_not_on_flat_ground(cloud):
    white = np.full((len(cloud), 3), 255, np.uint8)
    picture, pixel = draw_points(cloud.xyz, white, TOP, 400)
    step = int((50.0 + 1) / pixel)
    assert picture[100, step - 3:step + 1].min() < 200 and (picture[60:140, 40:150] == 255).all()


@pytest.mark.parametrize('width, length', [(150, 20), (1000, 200), (50, 10), (26, 5), (10, 2), (0.7, 0.1)])
def test_scale_bars_are_round(width, length):
    assert bar_length(width) == pytest.approx(length)


def test_shares():
    assert [share(*pair) for pair in ((1, 2), (1, 100_000), (0, 5), (5, 5))] == ['50.0 %', '<0.1 %', '0.0 %', '100.0 %']


def test_a_png_is_written(cloud, tmp_path):
    write_picture(tmp_path / 'a.png', cloud, ['class', 'height', 'error'], pixels=120, dpi=40)
    write_picture(tmp_path / 'b.png', cloud, ['predicted'], OBLIQUE, pixels=120, dpi=40)
    a, b = (np.asarray(Image.open(tmp_path / name).convert('RGB')) for name in ('a.png', 'b.png'))
    assert a.shape[1] > 2.5 * b.shape[1]
    assert (np.abs(a.reshape(-1, 3).astype(int) - LOD3_PALETTE[WATER]).sum(1) < 6).sum() > 1000


def test_patches_and_tiles_of_a_store(store):
    tile = store.tiles['tile_00']
    ref = store.patches('50')[3]
    patch = cloud_of_patch(tile, store.read(ref))
    assert patch.title == 'tile_00, 50 m patch 3' and len(patch) == ref.points
    np.testing.assert_allclose(patch.values['height'], np.clip(tile.array('height')[store.read(ref).rows], -10, 30),
                               atol=1e-2)
    assert {'linearity', 'ndvi', 'intensity'} <= set(patch.values) and patch.rgb is not None
    whole = cloud_of_tile(tile, '100')
    assert len(whole) == tile.points == whole.total
    np.testing.assert_allclose(whole.xyz + whole.origin, tile.positions(), atol=1e-3)
    with pytest.raises(UserError, match='scale: expected one of 50, 100, 150, found'):
        cloud_of_tile(tile, '70')


def test_missing_channels_are_no_colouring(tmp_path):
    plain = small_store(tmp_path / 's', tiles=1, points=500, scales=('50',), colour=False)
    cloud = cloud_of_tile(plain.tiles['tile_00'], '50')
    assert cloud.rgb is None and not {'ndvi', 'nir', 'colour'} & set(choices(cloud))


def laz(path, n=400):
    rng = np.random.default_rng(0)
    xyz = np.stack([770_000 + rng.uniform(0, 40, n), 6_277_000 + rng.uniform(0, 40, n), 150 + rng.uniform(0, 9, n)], 1)
    write_points(path, xyz, {'classification': rng.choice([2, 6, 208], n).astype(np.uint8),
                             'intensity': rng.integers(0, 900, n).astype(np.uint16)}, point_format=6)
    return xyz


def test_a_file_and_its_prediction(tmp_path):
    xyz = laz(tmp_path / 'a.laz')
    cloud = cloud_of_file(tmp_path / 'a.laz')
    assert set(cloud.label) == {GROUND, BUILDING, IGNORE} and 'intensity' in cloud.values
    np.testing.assert_allclose(cloud.xyz + cloud.origin, xyz, atol=6e-3)
    assert cloud.values['height'].min() >= 0 and cloud.values['height'].max() < 9.1
    guess = np.where(cloud.label == BUILDING, ROOF, WATER).astype(np.uint8)
    copy_with(tmp_path / 'a.laz', tmp_path / 'p.laz', {'terrace_class': ('u1', ''), 'terrace_entropy': ('f4', '')},
              {'terrace_class': guess, 'terrace_entropy': np.linspace(0, 1, 400, dtype=np.float32)})
    told = with_prediction(thinned(cloud, 100, seed=1), tmp_path / 'p.laz')
    np.testing.assert_array_equal(told.predicted, guess[told.rows])
    names = [name for _, name, _ in colour_by(told, 'error').legend]
    assert names == ['right', 'wrong', 'no truth'] and choices(told)[:3] == ['class', 'predicted', 'error']
    assert told.values['entropy'][0] == pytest.approx(told.rows[0] / 399)
    assert cloud_of_file(tmp_path / 'p.laz').predicted is not None
    with pytest.raises(UserError, match='terrace_class: expected the classes of tools/lidar/classify.py'):
        with_prediction(cloud, tmp_path / 'a.laz')
    moved = replace(cloud, origin=cloud.origin + 5)
    with pytest.raises(UserError, match='found points 5.00 m away from it'):
        with_prediction(moved, tmp_path / 'p.laz')
    with pytest.raises(UserError, match='expected points within'):
        cloud_of_file(tmp_path / 'a.laz', (0, 0, 1, 1))


def scene_of(page):
    return json.loads(re.search(r'id="scene">(.*?)</script>', page, re.DOTALL)[1])


def test_a_page_holds_the_points_and_asks_nobody(cloud):
    page = page_of(cloud)
    assert not re.search(r'(?:src|href)="|@import|url\(|https?:|fetch\(|XMLHttp', page)
    assert "default-src 'none'" in page and '<title>a &lt;b&gt; &amp; c</title>' in page
    scene = scene_of(page)
    assert [mode['by'] for mode in scene['modes']] == ['class', 'predicted', 'error', 'height']
    place = np.frombuffer(base64.b64decode(scene['data']['xyz']), '<u2').reshape(-1, 3) / 65535
    low, high = np.array(scene['low']), np.array(scene['high'])
    np.testing.assert_allclose(low + place * (high - low), cloud.xyz, atol=1e-3)
    codes = np.frombuffer(base64.b64decode(scene['data']['class']), np.uint8)
    np.testing.assert_array_equal(codes, cloud.label)
    assert scene['origin'] == cloud.origin.tolist() and scene['spacing'] == pytest.approx(0.5, rel=0.02)
    assert scene['modes'][0]['legend'] == [[ROOF, 'roof gable', 10_000], [WATER, 'water', 10_000]]


def test_a_large_cloud_is_thinned_and_says_so(cloud):
    page = page_of(cloud, ['height'], limit=500)
    scene = scene_of(page)
    assert scene['count'] == 500 and '500 of 20,000 points' in page
    assert [mode['by'] for mode in scene['modes']] == ['height', 'class']  # its legend hides classes


def test_a_title_cannot_leave_its_place(cloud):
    page = page_of(replace(cloud, title='</script><script>alert(1)</script>'))
    assert '<script>alert' not in page


TOOL = Path(__file__).resolve().parents[2] / 'tools/lidar/view.py'


def run_tool(*args):
    return subprocess.run([sys.executable, str(TOOL), *map(str, args)], capture_output=True, text=True, timeout=120)


def test_the_tool(store, tmp_path, monkeypatch):
    made = run_tool(store.root, '--patch', '50/2', '--out', tmp_path / 'a.html')
    assert made.returncode == 0 and (tmp_path / 'a.html').stat().st_size > 20_000, made.stderr
    assert 'tile_00, 50 m patch 2' in (tmp_path / 'a.html').read_text()
    laz(tmp_path / 'a.laz')
    made = run_tool(tmp_path / 'a.laz', '--out', tmp_path / 'a.png', '--by', 'class', '--pixels', 200)
    assert made.returncode == 0 and Image.open(tmp_path / 'a.png').width > 500, made.stderr
    for args, told in (([store.root, '--patch', '50/999', '--out', tmp_path / 'x.png'], 'in tile_00, found 999'),
                       ([tmp_path / 'a.laz', '--out', tmp_path / 'x.jpg'], 'expected a .png or .html file'),
                       ([tmp_path / 'a.laz', '--out', tmp_path / 'a.png'], 'exists; --overwrite replaces it'),
                       ([store.root, '--bounds', 0, 0, 1, 1, '--out', tmp_path / 'x.png'], '--bounds: expected a file'),
                       ([tmp_path / 'no.laz', '--out', tmp_path / 'x.png'], 'no.laz')):
        monkeypatch.setattr(sys, 'argv', ['view.py', *map(str, args)])
        with pytest.raises(UserError) as refused:
            runpy.run_path(str(TOOL))['main']()
        assert told in str(refused.value)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which('chromium') is None, reason='needs chromium')
def test_a_browser_draws_the_page(cloud, tmp_path):
    write_page(tmp_path / 'a.html', cloud)
    picture = tmp_path / 'a.png'
    subprocess.run(
        ['chromium', '--headless', '--no-sandbox', '--use-gl=angle', '--use-angle=swiftshader', '--disable-quic',
         '--enable-unsafe-swiftshader', '--no-first-run', '--disable-background-networking',
         f'--user-data-dir={tmp_path / "profile"}', '--window-size=800,600', '--virtual-time-budget=3000',
         f'--screenshot={picture}', f'file://{tmp_path / "a.html"}#view=top&theme=light'],
        check=True, capture_output=True, timeout=120)
    shown = np.asarray(Image.open(picture).convert('RGB')).astype(int)[:, 330:]
    for label in (WATER, ROOF):
        assert (np.abs(shown - LOD3_PALETTE[label]).sum(axis=2) < 30).mean() > 0.03
    assert BUILDING_COLOUR not in {tuple(colour) for colour in shown.reshape(-1, 3)}


def test_data_tools_do_without_torch():
    code = ("import sys\nsys.path.insert(0, 'tools/lidar')\nimport export, merge, view\n"
            'import projects.lidar.view.page, projects.lidar.view.picture\n'
            "assert not {'torch', 'mmengine', 'distributed'} & set(sys.modules)")
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, '-c', code], cwd=root, check=True, timeout=60)
