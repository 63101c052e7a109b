"""Data sets of made roofs: splits by village, same seed same bytes, rasters on their ground."""

import json
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio

from projects.engine.errors import UserError
from projects.geo.point_clouds import read_points
from projects.roofline.annotations import Annotation, read_annotations, write_annotations
from projects.roofline.graph import LINE_TYPES, RoofGraph
from projects.roofline.scenes import village_raster as rasters
from projects.roofline.scenes import windows
from projects.roofline.scenes.village_raster import village_raster
from projects.roofline.scenes.windows import RoofRecipe, VillageWindows, make_roofs, village_splits
from projects.scenes.files import draw

RECIPE = RoofRecipe(size=96, resolution=0.3, extent=200, trees=0.8)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob('*')) if path.is_file()}


@pytest.fixture(scope='module')
def roofs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('roofs')
    made = make_roofs(folder / 'a', 4, 10, 2, RECIPE, 0.25, 0.25)
    assert made.images == {'train': 5, 'val': 2, 'test': 3}
    return folder / 'a'


def test_what_is_written_reads_back(roofs: Path) -> None:
    annotations = read_annotations(roofs)
    assert len(annotations) == 10
    for annotation in annotations:
        image = cv2.imread(str(roofs / 'images' / annotation.file))
        assert image.shape == (96, 96, 3)
        assert not annotation.graph.empty and annotation.resolution == 0.3
        assert np.isfinite(annotation.graph.heights).all()
    # The first village of a split carries its seed in the name
    assert [a.file for a in annotations if a.split == 'val'] == ['val_0004_0000.png', 'val_0004_0001.png']
    hidden = np.concatenate([a.graph.occlusions for a in annotations])
    assert (hidden[:, 1] > hidden[:, 0]).any() and (hidden == 0).all(axis=1).any()


def test_the_same_seed_gives_the_same_bytes(roofs: Path, tmp_path: Path) -> None:
    make_roofs(tmp_path / 'b', 4, 10, 2, RECIPE, 0.25, 0.25)
    assert contents(tmp_path / 'b') == contents(roofs)


def test_windows_are_pieces_of_their_village(roofs: Path) -> None:
    village = VillageWindows(2, RECIPE)
    left, bottom, right, top = village.places(2)[0]
    image, _ = draw(village.renderer, (0.0, 0.0, 199.8, 199.8))
    column, row = round(left / 0.3), 666 - round(top / 0.3)
    written = cv2.imread(str(roofs / 'images' / 'train_0002_0000.png'))[..., ::-1]
    np.testing.assert_array_equal(written, image[row:row + 96, column:column + 96, :3])


def test_villages_differ_in_light() -> None:
    one, other = (VillageWindows(seed, RECIPE).renderer for seed in (2, 3))
    assert one.sun != other.sun and one.haze != other.haze


@pytest.mark.parametrize('villages, val, test, expected', [
    (10, 0.2, 0.1, (7, 2, 1)), (3, 0.2, 0.1, (1, 1, 1)), (2, 0.2, 0.0, (1, 1, 0)), (1, 0.0, 0.0, (1, 0, 0)),
])
def test_splits(villages: int, val: float, test: float, expected: tuple[int, ...]) -> None:
    splits = village_splits(villages, val, test)
    assert tuple(splits.count(name) for name in ('train', 'val', 'test')) == expected


@pytest.mark.parametrize('villages, images, words', [
    (2, 10, '--villages: expected more than the 1 of val and the 1 of test'),
    (4, 3, '--images: expected at least one for each of 4 villages, found 3'),
])
def test_too_few(tmp_path: Path, villages: int, images: int, words: str) -> None:
    with pytest.raises(UserError, match=words):
        make_roofs(tmp_path, villages, images, recipe=RECIPE)


@pytest.mark.parametrize('options, words', [
    (dict(size=8), '--size: expected 32 to 4096 pixels, found 8'),
    (dict(form='jpg'), "--format: expected png or tif, found 'jpg'"),
    (dict(size=1024, extent=200), '--size x --resolution: expected windows of at most half a village'),
    (dict(resolution=float('nan')), '--resolution: expected 0.05 to 5, found nan'),
    (dict(min_visible=2), '--min-visible: expected 0 to 1, found 2'),
    (dict(weld=0), '--weld: expected 0.001 to 256, found 0'),
    (dict(season='winter'), '--season: expected one of summer, autumn, spring'),
])
def test_recipes_out_of_range(options: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        RoofRecipe(**options)


def test_a_folder_with_files_is_not_touched(roofs: Path, tmp_path: Path) -> None:
    (tmp_path / 'mine.txt').write_text('mine')
    for overwrite, words in ((False, 'expected an empty folder'), (True, 'found no annotations.json')):
        with pytest.raises(UserError, match=words):
            make_roofs(tmp_path, 3, 3, recipe=RECIPE, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ['mine.txt']


SMALL = RoofRecipe(size=32, resolution=0.5, extent=100)


def test_overwriting_replaces_the_old_images(tmp_path: Path) -> None:
    make_roofs(tmp_path, 1, 3, 2, SMALL, 0, 0)
    make_roofs(tmp_path, 1, 1, 2, SMALL, 0, 0, overwrite=True)
    assert sorted(path.name for path in (tmp_path / 'images').iterdir()) == ['train_0002_0000.png']
    assert len(json.loads((tmp_path / 'annotations.json').read_text())['images']) == 1


def test_overwriting_keeps_what_was_not_made(tmp_path: Path) -> None:
    make_roofs(tmp_path / 'a', 1, 1, 2, SMALL, 0, 0)
    (tmp_path / 'a/images/other.png').write_bytes(b'')
    old = contents(tmp_path)
    with pytest.raises(UserError, match='found images/other.png, which is none of them'):
        make_roofs(tmp_path / 'a', 1, 1, 2, SMALL, 0, 0, overwrite=True)
    assert contents(tmp_path) == old


@pytest.mark.parametrize('raster', [False, True])
def test_annotations_of_another_data_set_are_never_replaced(tmp_path: Path, raster: bool) -> None:
    write_annotations(tmp_path, [Annotation('mine.png', 64, 64, 'train', RoofGraph.make([[1, 1], [9, 9]], [[0, 1]]))])
    old = contents(tmp_path)
    for overwrite, words in ((False, 'expected an empty folder'), (True, 'found annotations of mine.png')):
        with pytest.raises(UserError, match=words):
            if raster:
                village_raster(1, 60, 1.0, tmp_path, overwrite=overwrite)
            else:
                make_roofs(tmp_path, 1, 1, 2, SMALL, 0, 0, overwrite)
    assert contents(tmp_path) == old


def test_a_raster_replaces_made_roofs_only_when_told(tmp_path: Path) -> None:
    village_raster(1, 60, 1.0, tmp_path / 'a', lidar=1.0)
    with pytest.raises(UserError, match='expected an empty folder'):
        village_raster(1, 60, 1.0, tmp_path / 'a')
    made = village_raster(1, 50, 1.0, tmp_path / 'a', overwrite=True)
    assert sorted(contents(tmp_path)) == ['a/annotations.json', 'a/images/village.tif'] and made.lidar is None
    assert read_annotations(tmp_path / 'a')[0].width == 50 and made.raster == tmp_path / 'a/images/village.tif'
    make_roofs(tmp_path / 'a', 1, 1, 2, SMALL, 0, 0, overwrite=True)
    assert sorted(contents(tmp_path)) == ['a/annotations.json', 'a/images/train_0002_0000.png']


def test_an_interrupt_leaves_the_folder_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    make_roofs(tmp_path / 'a', 1, 2, 2, SMALL, 0, 0)
    old = contents(tmp_path)
    monkeypatch.setattr(windows, 'write_annotations', interrupt)
    monkeypatch.setattr(rasters, 'write_annotations', interrupt)
    for folder in ('a', 'b'):
        with pytest.raises(KeyboardInterrupt):
            make_roofs(tmp_path / folder, 1, 1, 3, SMALL, 0, 0, overwrite=True)
        with pytest.raises(KeyboardInterrupt):
            village_raster(1, 60, 1.0, tmp_path / folder, overwrite=True)
        assert contents(tmp_path) == old and [path.name for path in tmp_path.iterdir()] == ['a']


def test_a_folder_that_cannot_be_swapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match='--out .: expected a folder that can be replaced'):
        make_roofs('.', 1, 1, 2, SMALL, 0, 0)


@pytest.mark.parametrize('flags, told', [
    (['--raster', '--villages', '10'], '--villages: expected no --raster'),
    (['--raster', '--images', '5'], '--images: expected no --raster'),
    (['--raster', '--size', '64'], '--size: expected no --raster'),
    (['--raster', '--val-share', '0'], '--val-share: expected no --raster'),
    (['--raster', '--test-share', '0'], '--test-share: expected no --raster'),
    (['--raster', '--format', 'png'], '--format: expected no --raster'),
    (['--lidar', '5'], '--lidar: expected --raster'),
    (['--raster', '--lidar', '-1'], '--lidar: expected 0.1 to 200 pulses per square metre, found -1'),
    (['--raster', '--weld', '0'], '--weld: expected 0.001 to 4000, found 0'),
    (['--raster', '--trees', '2'], '--trees: expected 0 to 1, found 2'),
    (['--raster', '--seed', '-1'], '--seed: expected 0 or more, found -1'),
    (['--raster', '--min-visible', 'nan'], '--min-visible: expected 0 to 1, found nan'),
])
def test_the_tool_names_the_flag(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str],
                                 told: str) -> None:
    monkeypatch.setattr(sys, 'argv', ['make_roofs.py', '--out', str(tmp_path / 'a'), *flags])
    with pytest.raises(UserError) as caught:
        runpy.run_path(str(repository / 'tools/roofline/make_roofs.py'))['main']()
    assert str(caught.value).startswith(told) and '\n' not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_windows_as_geotiff_lie_on_their_ground(tmp_path: Path) -> None:
    recipe = RoofRecipe(size=64, resolution=0.3, extent=200, form='tif')
    make_roofs(tmp_path, 1, 2, 2, recipe, 0, 0)
    annotation = read_annotations(tmp_path)[0]
    village = VillageWindows(2, recipe)
    left, _, _, top = village.places(2)[0]
    east, north = village.scene.origin
    with rasterio.open(tmp_path / 'images' / annotation.file) as dataset:
        assert dataset.crs.to_epsg() == 2154 and dataset.count == 3
        assert tuple(dataset.transform)[:6] == pytest.approx(annotation.transform)
        assert dataset.bounds[::3] == pytest.approx((east + left, north + top))


def test_a_raster_and_its_lidar_tile_show_the_same_roofs(tmp_path: Path) -> None:
    made = village_raster(1, 60, 0.25, tmp_path, lidar=4.0)
    [annotation] = read_annotations(tmp_path)
    graph = annotation.graph
    assert annotation.crs == 'EPSG:2154' and annotation.split == 'test'
    with rasterio.open(made.raster) as dataset:
        assert dataset.crs.to_epsg() == 2154 and dataset.shape == (240, 240)
        a, b, c, d, e, f = tuple(dataset.transform)[:6]
        ground = graph.junctions @ np.array([[a, d], [b, e]]) + [c, f]
    # Corners of roofs, by way of the file and its CRS
    corners = np.concatenate([b.roof.vertices[:, :2] for b in made.scene.buildings]) + made.scene.origin
    apart = np.linalg.norm(ground[:, None] - corners[None], axis=-1).min(axis=1)
    inside = ((graph.junctions > 0) & (graph.junctions < 240)).all(axis=1)
    assert inside.sum() > 30 and (apart[inside] < 1e-3).mean() > 0.8
    # Laser points of roofs near a ridge, at the ridge's height
    points = read_points(made.lidar)
    assert made.lidar.name.startswith('LHD_FXX_') and (points.xyz[:, :2].min(axis=0) <= ground.min(axis=0)).all()
    roof = points.xyz[points.fields['classification'] == 6]
    errors = []
    for i, j in graph.lines[graph.types == LINE_TYPES.index('ridge')]:
        start, step = ground[i], ground[j] - ground[i]
        share = np.clip((roof[:, :2] - start) @ step / (step @ step), 0.2, 0.8)
        near = np.linalg.norm(roof[:, :2] - start - share[:, None] * step, axis=1) < 0.15
        if near.sum() > 4:
            level = graph.heights[i] + share[near] * (graph.heights[j] - graph.heights[i])
            errors.append(np.median(roof[near, 2] - level))
    assert len(errors) > 5 and np.abs(np.median(errors)) < 0.12 and np.max(np.abs(errors)) < 0.4


def test_a_raster_out_of_range(tmp_path: Path) -> None:
    for options, words in ((dict(resolution=9.0), '--resolution: expected 0.05 to 5 metres, found 9'),
                           (dict(extent=2.0), '--extent: expected 10 to 12000 metres, found 2')):
        with pytest.raises(UserError, match=words):
            village_raster(**{**dict(scene_seed=1, extent=60.0, resolution=0.25, folder=tmp_path), **options})
    assert not list(tmp_path.iterdir())
