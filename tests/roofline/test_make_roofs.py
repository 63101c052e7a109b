"""Data sets of made roofs: splits by village, same seed same bytes, rasters on their ground."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio

from projects.engine.errors import UserError
from projects.geo.point_clouds import read_points
from projects.roofline.annotations import read_annotations
from projects.roofline.graph import LINE_TYPES
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


def test_overwriting_replaces_the_old_images(tmp_path: Path) -> None:
    small = RoofRecipe(size=32, resolution=0.5, extent=100)
    make_roofs(tmp_path, 1, 3, 2, small, 0, 0)
    (tmp_path / 'images' / 'other.png').write_bytes(b'')
    make_roofs(tmp_path, 1, 1, 2, small, 0, 0, overwrite=True)
    assert sorted(path.name for path in (tmp_path / 'images').iterdir()) == ['other.png', 'train_0002_0000.png']
    assert len(json.loads((tmp_path / 'annotations.json').read_text())['images']) == 1


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
