"""From a raster to files and back: corners in their CRS, layers, attributes, bad input, the tool itself."""

import json
import re
import subprocess
import sys
from pathlib import Path

import laspy
import numpy as np
import pyogrio.raw
import pytest
import rasterio.warp
import shapely
import torch
from affine import Affine
from mmseg.registry import MODELS
from PIL import Image
from rasterio.crs import CRS
from scipy.spatial import cKDTree

from projects.engine.config import load_config
from projects.engine.errors import UserError
from projects.geo.point_clouds import write_points
from projects.roofline.graph import RoofGraph
from projects.roofline.scenes.village import VillageRoofs
from projects.roofline.vectorizing import vectorize as module
from projects.roofline.vectorizing.oracle import Oracle, corner_errors, write_position_raster
from projects.roofline.vectorizing.tiles import Tiling
from projects.roofline.vectorizing.vectorize import VectorOptions, vectorize, vectorize_checkpoint
from projects.roofline.wireframe import Wireframe
from projects.scenes.scene import make_scene

SIZE, RESOLUTION = 1200, 0.2
WEST, NORTH = 800_000.0, 6_600_000.0
SMALL = Tiling(64, 16)
# A hip roof of 40 x 24 px
HIP = np.array([[10, 10], [50, 10], [50, 34], [10, 34], [22, 22], [38, 22]], float)
HIP_LINES = np.array([[0, 1], [1, 2], [2, 3], [3, 0], [0, 4], [3, 4], [1, 5], [2, 5], [4, 5]])


@pytest.fixture(scope='module')
def village(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RoofGraph]:
    """A raster of 1,200² pixels that says where it is, and the roofs of a village on it."""
    scene = make_scene(0, 600)
    left, bottom = np.median([building.footprint.mean(axis=0) for building in scene.buildings], axis=0) // 1 - 120
    graph = VillageRoofs(scene, RESOLUTION, weld=6.0).graph((left, bottom, left + 240, bottom + 240))
    path = tmp_path_factory.mktemp('village') / 'village.tif'
    write_position_raster(path, (SIZE, SIZE), Affine(RESOLUTION, 0, WEST, 0, -RESOLUTION, NORTH), 'EPSG:2154')
    return path, graph


def hip(path: Path, size: int = 64, crs: str | None = 'EPSG:2154', transform: Affine | None = None) -> Oracle:
    """Write a small raster, and return a network that finds one hip roof in it."""
    write_position_raster(path, (size, size), transform or Affine(0.5, 0, WEST, 0, -0.5, NORTH), crs)
    return Oracle(RoofGraph.make(HIP, HIP_LINES), (size, size))


def read(path: Path, layer: str) -> tuple[dict, np.ndarray, dict[str, np.ndarray]]:
    meta, _, geometry, fields = pyogrio.raw.read(path, layer=layer)
    return meta, shapely.from_wkb(geometry), dict(zip(meta['fields'], fields, strict=True))


@pytest.mark.parametrize('maps', [False, True])
def test_every_corner_of_every_roof_is_within_a_pixel(village, tmp_path: Path, maps: bool):
    path, graph = village
    assert len(graph.junctions) > 150
    result, = vectorize(Oracle(graph, (SIZE, SIZE), maps), path, tmp_path / 'a.gpkg')
    assert result.tiles == 9
    meta, lines, fields = read(tmp_path / 'a.gpkg', 'lines')
    assert meta['crs'] == 'EPSG:2154' and meta['geometry_type'] == 'LineString'
    assert set(fields['image']) == {'village.tif'}
    pixels = (shapely.get_coordinates(lines) - [WEST, NORTH]) / [RESOLUTION, -RESOLUTION]
    junctions, ends = np.unique(np.round(pixels, 6), axis=0, return_inverse=True)
    errors = corner_errors(graph, Wireframe.make(junctions, ends.reshape(-1, 2)))
    if not maps:
        assert errors.distances.max() < 1e-3 and errors.lines_found == 1 and errors.extra == 0
        assert result.faces == len(graph.faces) and result.lines == len(graph.lines)
        return
    inner = (np.abs(graph.junctions - SIZE / 2) < SIZE / 2 - 8).all(axis=1)  # cut ends at the border share cells
    assert errors.distances[inner].max() < 1.0
    assert errors.lines_found > 0.97


def test_layers_and_attributes(tmp_path: Path):
    network = hip(tmp_path / 'a.tif')
    vectorize(network, tmp_path / 'a.tif', tmp_path / 'a.gpkg', VectorOptions(SMALL))
    assert pyogrio.list_layers(tmp_path / 'a.gpkg').tolist() == [
        ['lines', 'LineString'], ['faces', 'Polygon'], ['junctions', 'Point']]
    _, lines, fields = read(tmp_path / 'a.gpkg', 'lines')
    assert sorted(fields['type']) == ['inner'] * 5 + ['outline'] * 4
    assert fields['length_px'].sum() == pytest.approx(2 * (40 + 24) + 16 + 4 * 12 * 2**0.5, abs=0.01)
    np.testing.assert_allclose(fields['length_m'], fields['length_px'] / 2, atol=0.002)
    np.testing.assert_allclose(shapely.length(lines), fields['length_m'], atol=0.001)
    outline = fields['type'] == 'outline'
    assert np.isnan(fields['face_2'][outline]).all() and not np.isnan(fields['face_2'][~outline]).any()
    _, faces, fields = read(tmp_path / 'a.gpkg', 'faces')
    assert sorted(fields['face']) == [0, 1, 2, 3] and set(fields['building']) == {0} and (fields['score'] == 1).all()
    np.testing.assert_allclose(fields['area_m2'], shapely.area(faces), atol=1e-3)
    assert fields['area_px'].sum() == pytest.approx(40 * 24)
    _, points, fields = read(tmp_path / 'a.gpkg', 'junctions')
    truth = np.array([WEST, NORTH]) + HIP * [0.5, -0.5]
    assert cKDTree(shapely.get_coordinates(points)).query(truth)[0].max() < 1e-6
    assert sorted(fields['degree']) == [3] * 6


def test_geojson_is_longitude_and_latitude(tmp_path: Path):
    network = hip(tmp_path / 'a.tif')
    vectorize(network, tmp_path / 'a.tif', tmp_path / 'a.geojson', VectorOptions(SMALL))
    content = json.loads((tmp_path / 'a.geojson').read_text())
    assert content['type'] == 'FeatureCollection' and 'crs' not in content
    found = {layer: [f for f in content['features'] if f['properties']['layer'] == layer]
             for layer in ('lines', 'faces')}
    assert len(found['lines']) == 9 and len(found['faces']) == 4
    ends = np.array([f['geometry']['coordinates'] for f in found['lines']]).reshape(-1, 2)
    x, y = rasterio.warp.transform(CRS.from_epsg(4326), CRS.from_epsg(2154), *ends.T)
    pixels = (np.column_stack([x, y]) - [WEST, NORTH]) / [0.5, -0.5]
    assert cKDTree(pixels).query(HIP)[0].max() < 0.01
    for face in found['faces']:
        ring, = face['geometry']['coordinates']
        assert ring[0] == ring[-1] and shapely.LinearRing(ring).is_ccw
    assert pyogrio.read_info(tmp_path / 'a.geojson')['crs'] == 'EPSG:4326'
    assert {f['properties']['face_2'] for f in found['lines'] if f['properties']['type'] == 'outline'} == {None}


def test_a_picture_with_a_world_file_and_one_without(tmp_path: Path):
    network = hip(tmp_path / 'a.tif')
    with rasterio.open(tmp_path / 'a.tif') as dataset:
        pixels = np.moveaxis(dataset.read(), 0, -1)
    Image.fromarray(pixels).save(tmp_path / 'b.png')
    with pytest.raises(UserError, match=r'b\.png: expected an image with a CRS.*--pixels'):
        vectorize(network, tmp_path / 'b.png', tmp_path / 'b.geojson', VectorOptions(SMALL))
    result, = vectorize(network, tmp_path / 'b.png', tmp_path / 'b.geojson', VectorOptions(SMALL, pixels=True))
    content = json.loads((tmp_path / 'b.geojson').read_text())
    assert content['coordinates'] == 'pixels'
    assert [10, 10] in [end for f in content['features'] if f['properties']['layer'] == 'lines'
                        for end in f['geometry']['coordinates']]
    result, = vectorize(network, tmp_path / 'b.png', tmp_path / 'b.gpkg', VectorOptions(SMALL))
    assert 'coordinates are pixels' in result.warnings[0]
    meta, lines, fields = read(tmp_path / 'b.gpkg', 'lines')
    assert meta['crs'] is None or 'ndefined' in meta['crs']
    assert cKDTree(shapely.get_coordinates(lines)).query(HIP)[0].max() < 1e-9
    assert np.isnan(fields['length_m']).all()
    (tmp_path / 'b.pgw').write_text(f'0.5\n0\n0\n-0.5\n{WEST + 0.25}\n{NORTH - 0.25}\n')
    options = VectorOptions(SMALL, crs='EPSG:2154', overwrite=True)
    vectorize(network, tmp_path / 'b.png', tmp_path / 'b.gpkg', options)
    meta, lines, _ = read(tmp_path / 'b.gpkg', 'lines')
    truth = np.array([WEST, NORTH]) + HIP * [0.5, -0.5]
    assert meta['crs'] == 'EPSG:2154' and cKDTree(shapely.get_coordinates(lines)).query(truth)[0].max() < 1e-6


def test_a_local_plane_is_written_as_it_is_and_has_no_degrees(tmp_path: Path):
    network = hip(tmp_path / 'a.tif', crs=CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]'))
    with pytest.raises(UserError, match=r'a\.tif: expected a CRS that leads to longitude and latitude.* found site'):
        vectorize(network, tmp_path / 'a.tif', tmp_path / 'a.geojson', VectorOptions(SMALL))
    vectorize(network, tmp_path / 'a.tif', tmp_path / 'a.gpkg', VectorOptions(SMALL))
    _, lines, fields = read(tmp_path / 'a.gpkg', 'lines')
    assert len(lines) == 9 and np.isnan(fields['length_m']).all()


def test_a_picture_across_the_rim_of_its_projection(tmp_path: Path):
    """Its first pixel has a longitude, others have none: told before anything is predicted, and never half-way."""
    rim = CRS.from_string('+proj=ortho +lat_0=0 +lon_0=0 +R=6378137 +units=m')
    network = hip(tmp_path / 'a.tif', crs=rim, transform=Affine(0.5, 0, 6_378_120, 0, -0.5, 16))
    with pytest.raises(UserError, match=r'a\.tif: expected a CRS that leads to longitude and latitude'):
        vectorize(network, tmp_path / 'a.tif', tmp_path / 'a.geojson', VectorOptions(SMALL))
    vectorize(network, tmp_path / 'a.tif', tmp_path / 'a.gpkg', VectorOptions(SMALL))


def test_two_images_in_one_file(tmp_path: Path):
    network = hip(tmp_path / 'a.tif')
    hip(tmp_path / 'b.tif', transform=Affine(0.5, 0, WEST + 500, 0, -0.5, NORTH))
    vectorize(network, [tmp_path / 'a.tif', tmp_path / 'b.tif'], tmp_path / 'both.gpkg', VectorOptions(SMALL))
    _, _, fields = read(tmp_path / 'both.gpkg', 'faces')
    assert fields['face'].tolist() == list(range(8)) and fields['building'].tolist() == [0] * 4 + [1] * 4
    assert fields['image'].tolist() == ['a.tif'] * 4 + ['b.tif'] * 4
    _, _, fields = read(tmp_path / 'both.gpkg', 'lines')
    assert np.nanmin(fields['face_1'][9:]) == 4
    hip(tmp_path / 'c.tif', crs='EPSG:32631')
    with pytest.raises(UserError, match=r'c\.tif: expected the CRS of .*a\.tif \(EPSG:2154\), found EPSG:32631'):
        vectorize(network, [tmp_path / 'a.tif', tmp_path / 'c.tif'], tmp_path / 'c.gpkg', VectorOptions(SMALL))


def test_an_image_without_roofs(tmp_path: Path):
    hip(tmp_path / 'a.tif')
    network = Oracle(RoofGraph.make(np.zeros((0, 2)), np.zeros((0, 2), int)), (64, 64))
    for name in ('a.gpkg', 'a.geojson'):
        result, = vectorize(network, tmp_path / 'a.tif', tmp_path / name, VectorOptions(SMALL))
        assert (result.lines, result.faces, result.junctions) == (0, 0, 0)
    assert json.loads((tmp_path / 'a.geojson').read_text())['features'] == []
    for layer in ('lines', 'faces', 'junctions'):
        assert len(read(tmp_path / 'a.gpkg', layer)[1]) == 0


def test_with_lidar_in_three_dimensions(tmp_path: Path):
    network = hip(tmp_path / 'a.tif')
    generator = np.random.default_rng(0)
    xy = generator.uniform([5, -17], [25, -5], (4000, 2))  # the roof on the ground: 20 x 12 m
    z = 100 + np.minimum(np.minimum(xy[:, 0] - 5, 25 - xy[:, 0]), np.minimum(xy[:, 1] + 17, -5 - xy[:, 1]))
    xyz = np.column_stack([xy + [WEST, NORTH], z + generator.normal(0, 0.03, 4000)])
    write_points(tmp_path / 'a.laz', xyz, {'classification': np.full(4000, 6, np.uint8)}, point_format=6)
    options = VectorOptions(SMALL, lidar=(tmp_path / 'a.laz',), obj=tmp_path / 'a.obj')
    result, = vectorize(network, tmp_path / 'a.tif', tmp_path / 'a.gpkg', options)
    assert result.heights == {'none': 0, 'planes': 6, 'interpolated': 0}
    meta, lines, fields = read(tmp_path / 'a.gpkg', 'lines')
    assert meta['geometry_type'] == 'LineString Z'
    assert sorted(fields['type']) == ['eave'] * 4 + ['hip'] * 4 + ['ridge']
    ridge = shapely.get_coordinates(lines[fields['type'] == 'ridge'], include_z=True)
    np.testing.assert_allclose(ridge[:, 2], 106, atol=0.05)
    np.testing.assert_allclose(fields['length_3d_m'][fields['type'] == 'hip'], 6 * 3**0.5, atol=0.05)
    _, faces, fields = read(tmp_path / 'a.gpkg', 'faces')
    np.testing.assert_allclose(fields['slope_deg'], 45, atol=0.5)
    azimuth = np.sort((fields['azimuth_deg'] + 45) % 360)
    np.testing.assert_allclose(azimuth, [45, 135, 225, 315], atol=1)
    np.testing.assert_allclose(fields['area_3d_m2'], fields['area_m2'] * 2**0.5, rtol=0.01)
    _, points, fields = read(tmp_path / 'a.gpkg', 'junctions')
    assert set(fields['height_from']) == {'planes'}
    np.testing.assert_allclose(shapely.get_z(points), fields['height_m'], atol=1e-3)
    vertices = [line.split()[1:] for line in (tmp_path / 'a.obj').read_text().splitlines() if line[:2] == 'v ']
    assert len(vertices) == 6
    vectorize(network, tmp_path / 'a.tif', tmp_path / 'a.geojson',
              VectorOptions(SMALL, lidar=(tmp_path / 'a.laz',)))
    content = json.loads((tmp_path / 'a.geojson').read_text())
    assert all(len(end) == 3 for f in content['features'] if f['properties']['layer'] == 'lines'
               for end in f['geometry']['coordinates'])


def test_an_image_in_a_compound_crs_with_a_tile_of_its_plane_and_an_empty_one(tmp_path: Path):
    network = hip(tmp_path / 'a.tif', crs='EPSG:5698')
    with rasterio.open(tmp_path / 'a.tif') as dataset:
        assert dataset.crs.to_wkt().startswith('COMPD_CS')
    tiles = tmp_path / 'empty.laz', tmp_path / 'a.laz'
    laspy.LasData(laspy.LasHeader(point_format=6, version='1.4')).write(str(tiles[0]))
    with pytest.raises(UserError, match=r'empty\.laz: --lidar: expected points, found none$'):
        vectorize(lambda: 1 / 0, tmp_path / 'a.tif', tmp_path / 'a.gpkg', VectorOptions(SMALL, lidar=tiles[:1]),
                  lazy=True)
    xy = np.random.default_rng(0).uniform([5, -17], [25, -5], (4000, 2))
    write_points(tiles[1], np.column_stack([xy + [WEST, NORTH], np.full(4000, 9.0)]),
                 {'classification': np.full(4000, 6, np.uint8)}, point_format=6)
    result, = vectorize(network, tmp_path / 'a.tif', tmp_path / 'a.gpkg', VectorOptions(SMALL, lidar=tiles))
    assert result.heights == {'none': 0, 'planes': 6, 'interpolated': 0}
    assert result.warnings == (f'{tiles[0]}: --lidar: has no points: left out',)


@pytest.mark.parametrize('trained, crs, side, told', [
    (0.4, 'EPSG:2154', 0.5, None),  # a factor of 1.25 is in order
    (0.39, 'EPSG:2154', 0.5, 'about 0.39 m, .* found 0.5 m: .* gdalwarp -tr 0.39 0.39 -r cubic$'),
    (0.15, 'EPSG:2154', 0.5, 'about 0.15 m, .* found 0.5 m: .* gdalwarp -tr 0.15 0.15 -r cubic$'),
    (0.8, 'EPSG:2154', 0.5, 'about 0.8 m, .* found 0.5 m: .* gdalwarp -tr 0.8 0.8 -r cubic$'),
    (0.3, 'EPSG:2263', 1.0, None),  # a foot
    (0.15, 'EPSG:2263', 1.0, r'found 0.305 m: .* gdalwarp -tr 0.492\d+ 0.492\d+ -r cubic$'),
    (0.15, 'EPSG:4326', 5e-6, r'found 0.464 m: .* gdalwarp -tr 1.936\d+e-06 1.349\d+e-06 -r cubic$'),
    (0.15, None, 0.5, None),  # nobody knows
    (None, 'EPSG:2154', 0.5, None)])
def test_an_image_of_another_resolution_than_the_training_is_warned_about(
        tmp_path: Path, trained: float | None, crs: str | None, side: float, told: str | None):
    place = (3, 46) if crs == 'EPSG:4326' else (WEST, NORTH)
    network = hip(tmp_path / 'a.tif', crs=crs, transform=Affine(side, 0, place[0], 0, -side, place[1]))
    network.resolution = trained
    result, = vectorize(network, tmp_path / 'a.tif', tmp_path / 'a.gpkg', VectorOptions(SMALL))
    found = [warning for warning in result.warnings if 'trained' in warning]
    assert len(found) == (told is not None) and '\n' not in ''.join(found)
    assert not found or re.search(rf'^{re.escape(str(tmp_path))}/a\.tif: expected pixels of .*{told}', found[0])


def test_the_resolution_of_a_training_stands_in_its_config(tmp_path: Path, repository: Path):
    hip(tmp_path / 'a.tif')
    config = repository / 'configs/roofline/roofmapnet-tiny_villages-256.py'
    read_config = load_config(config)
    assert read_config.resolution == 0.15
    torch.save(dict(state_dict=MODELS.build(read_config.model).state_dict()), tmp_path / 'a.pth')
    for number, (value, told) in enumerate(((0.15, 1), (0.5, 0), (None, 0))):
        result, = vectorize_checkpoint(config, tmp_path / 'a.pth', [tmp_path / 'a.tif'], tmp_path / f'{number}.gpkg',
                                       VectorOptions(SMALL), 'cpu', cfg_options={'resolution': value})
        assert sum('trained at, found 0.5 m' in warning for warning in result.warnings) == told
    for value in (0, -1, 'fine', True, float('nan')):
        config = tmp_path / 'config.py'
        config.write_text(f"_base_ = '{repository}/configs/roofline/roofmapnet-tiny_villages-256.py'\n"
                          f"resolution = {f'float({str(value)!r})' if value != value else repr(value)}\n")
        with pytest.raises(UserError, match=r'resolution: expected metres a pixel above 0, found') as caught:
            vectorize_checkpoint(config, tmp_path / 'a.pth', [tmp_path / 'a.tif'], tmp_path / 'b.gpkg',
                                 VectorOptions(SMALL), 'cpu')
        assert '\n' not in str(caught.value) and not (tmp_path / 'b.gpkg').exists()


@pytest.mark.parametrize('out', ['a.gpkg', 'a.geojson'])
@pytest.mark.parametrize('fails', ['write_obj', '_write'])
def test_both_files_are_written_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str, out: str):
    network = hip(tmp_path / 'a.tif')
    write_points(tmp_path / 'a.las', np.array([[WEST + 1, NORTH - 1, 9.0]] * 9),
                 {'classification': np.full(9, 6, np.uint8)}, point_format=6)
    (tmp_path / 'a.obj').write_text('old')
    (tmp_path / out).write_text('old')

    def full(*arguments):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(module, fails, full)
    options = VectorOptions(SMALL, lidar=(tmp_path / 'a.las',), obj=tmp_path / 'a.obj', overwrite=True)
    with pytest.raises(OSError, match='No space left'):
        vectorize(network, tmp_path / 'a.tif', tmp_path / out, options)
    assert (tmp_path / 'a.obj').read_text() == (tmp_path / out).read_text() == 'old'
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(['a.tif', 'a.las', 'a.obj', out])


def test_lidar_over_an_image_in_feet_is_refused(tmp_path: Path):
    hip(tmp_path / 'a.tif', crs='EPSG:2263')
    write_points(tmp_path / 'a.las', np.array([[WEST + 1, NORTH - 1, 9.0]] * 9),
                 {'classification': np.full(9, 6, np.uint8)}, point_format=6)
    with pytest.raises(UserError, match=r'--lidar: expected an image on a plane in metres, found EPSG:2263, whose unit '
                       r'is 0\.304801 m$'):
        vectorize(lambda: 1 / 0, tmp_path / 'a.tif', tmp_path / 'a.gpkg',
                  VectorOptions(SMALL, lidar=(tmp_path / 'a.las',)), lazy=True)


def test_a_roof_beside_the_lidar_has_unknown_heights(tmp_path: Path):
    network = hip(tmp_path / 'a.tif')
    write_points(tmp_path / 'a.las', np.array([[WEST + 1, NORTH - 1, 9.0]] * 9),
                 {'classification': np.full(9, 6, np.uint8)}, point_format=6)
    options = VectorOptions(SMALL, lidar=(tmp_path / 'a.las',), obj=tmp_path / 'a.obj')
    result, = vectorize(network, tmp_path / 'a.tif', tmp_path / 'a.gpkg', options)
    assert result.heights == {'none': 6, 'planes': 0, 'interpolated': 0}
    assert '4 faces and lines are left out' in result.warnings[-1]
    _, points, fields = read(tmp_path / 'a.gpkg', 'junctions')
    assert np.isnan(shapely.get_z(points)).all() and np.isnan(fields['height_m']).all()
    vectorize(network, tmp_path / 'a.tif', tmp_path / 'a.geojson', VectorOptions(SMALL, lidar=(tmp_path / 'a.las',)))
    assert 'NaN' not in (tmp_path / 'a.geojson').read_text()


@pytest.mark.parametrize(('options', 'out', 'message'), [
    (VectorOptions(SMALL), 'a.shp', r'expected a file \.geojson or \.gpkg'),
    (VectorOptions(SMALL), 'a.tif', r'expected a file \.geojson or \.gpkg'),
    (VectorOptions(SMALL), 'there.gpkg', 'exists already'),
    (VectorOptions(SMALL, snap='0.00001'), 'a.gpkg', 'looks like degrees'),
    (VectorOptions(SMALL, obj='a.obj'), 'a.gpkg', '--obj a.obj: expected --lidar'),
    (VectorOptions(SMALL, pixels=True), 'a.gpkg', '--pixels'),
    (VectorOptions(SMALL, crs='EPSG:x'), 'a.gpkg', '--crs'),
    (VectorOptions(SMALL, crs='EPSG:32631'), 'a.gpkg', '--crs: expected EPSG:2154'),
    (VectorOptions(SMALL, lidar=('gone.laz',)), 'a.gpkg', 'gone.laz'),
    (VectorOptions(SMALL, bands=(1, 2)), 'a.gpkg', '--bands'),
    (VectorOptions(SMALL, bands=(1, 2, 4)), 'a.gpkg', 'bands'),
    (VectorOptions(Tiling(64, 64)), 'a.gpkg', 'overlap')])
def test_bad_options_are_told_before_the_network_is_loaded(tmp_path: Path, options: VectorOptions, out: str,
                                                            message: str):
    hip(tmp_path / 'a.tif')
    (tmp_path / 'there.gpkg').write_text('mine')

    def load():
        raise AssertionError('loaded')

    with pytest.raises(UserError, match=message) as caught:
        vectorize(load, tmp_path / 'a.tif', tmp_path / out, options, lazy=True)
    assert '\n' not in str(caught.value)
    assert (tmp_path / 'there.gpkg').read_text() == 'mine'
    assert sorted(file.name for file in tmp_path.iterdir()) == ['a.tif', 'there.gpkg']


def test_a_raster_in_degrees(tmp_path: Path):
    network = hip(tmp_path / 'a.tif', crs='EPSG:4326', transform=Affine(5e-6, 0, 3, 0, -5e-6, 46))
    with pytest.raises(UserError, match='--snap 0.5: expected pixels'):
        vectorize(network, tmp_path / 'a.tif', tmp_path / 'a.gpkg', VectorOptions(SMALL, snap='0.5'))
    vectorize(network, tmp_path / 'a.tif', tmp_path / 'a.gpkg', VectorOptions(SMALL))
    meta, lines, fields = read(tmp_path / 'a.gpkg', 'lines')
    assert meta['crs'] == 'EPSG:4326'
    assert cKDTree(shapely.get_coordinates(lines)).query([3, 46] + HIP * [5e-6, -5e-6])[0].max() < 1e-10
    west_east = np.isclose(fields['length_px'], 40)
    np.testing.assert_allclose(fields['length_m'][west_east], 40 * 5e-6 * 77_465, rtol=1e-3)  # a degree at 46 north


def test_the_tool_says_what_is_wrong_in_one_line(tmp_path: Path, repository: Path):
    hip(tmp_path / 'a.tif')
    done = subprocess.run(
        [sys.executable, repository / 'tools/roofline/vectorize.py', 'config.py', 'none.pth', tmp_path / 'a.tif',
         '--out', tmp_path / 'a.gpkg', '--snap', '1e-5'], capture_output=True, text=True, cwd=repository)
    assert done.returncode == 2 and done.stdout == ''
    assert done.stderr.count('\n') == 1 and 'looks like degrees' in done.stderr
