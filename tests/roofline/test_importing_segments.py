"""Roof segments of RID and RID2: projected, snapped in pixels, split at T-junctions, typed, on images or in frames."""

import json

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image
from rasterio.crs import CRS
from rasterio.warp import transform as warp

from projects.engine.errors import UserError
from projects.roofline.graph import LINE_TYPES
from projects.roofline.importing.ground import Georeference, applied, ground_of_pixels, in_area_of_use, utm_zone
from projects.roofline.importing.images import ImageFolder
from projects.roofline.importing.segments import SegmentOptions, read_segments
from projects.roofline.importing.tolerance import Tolerance

UTM = CRS.from_epsg(32632)
ORIGIN = np.array([700_000.0, 5_360_000.0])  # of the drawing, metres
# A gable roof of 20 x 10 m with its ridge along x, and a flat annexe whose corner lies on the middle of its east gable.
# Metres east and north of ORIGIN; the ridge's ends differ by a few centimetres between the two planes.
SOUTH = [(0, 0), (20, 0), (20.05, 5.04), (0.03, 4.97)]
NORTH = [(0, 5), (20, 5), (20, 10), (0, 10)]
ANNEXE = [(20, 2.5), (28, 2.5), (28, 10), (20, 10)]
DRAWN = [(SOUTH, 0.0, 35.0), (NORTH, 180.0, 35.0), (ANNEXE, None, 0.0)]


def degrees(points, swap=False):
    x, y = (np.array(points, float) + ORIGIN).T
    longitude, latitude = warp(UTM, 'EPSG:4326', x.tolist(), y.tolist())
    return [list(pair)[::-1] if swap else list(pair) for pair in zip(longitude, latitude, strict=True)]


def source(folder, drawn=DRAWN, image='7', swap=False, **more):
    features = []
    for ring, azimuth, slope in drawn:
        properties = dict(azimuth=azimuth, slope=slope) | ({} if image is None else dict(image=image))
        features.append(dict(type='Feature', properties=properties, geometry=dict(
            type='Polygon', coordinates=[degrees([*ring, ring[0]], swap)])))
    path = folder / 'segments.geojson'
    path.write_text(json.dumps(dict(type='FeatureCollection', features=features, **more)))
    return path


def picture(folder, crs, name='7.tif', west=-5.0, north=20.0, size=(600, 500), step=0.1):
    """Write an image (width, height) whose corner lies at west, north of ORIGIN, about `step` metres a pixel."""
    place = ORIGIN + (west, north)
    if crs == UTM:
        transform = Affine(step, 0, place[0], 0, -step, place[1])
    else:
        far = place + np.array([size[0], -size[1]]) * step
        x, y = warp(UTM, crs, [place[0], far[0]], [place[1], far[1]])
        transform = Affine((x[1] - x[0]) / size[0], 0, x[0], 0, (y[1] - y[0]) / size[1], y[0])
    with rasterio.open(folder / name, 'w', driver='GTiff', width=size[0], height=size[1], count=3, dtype='uint8',
                       crs=crs, transform=transform):
        pass
    return transform


def typed(graph, place_of=lambda xy: xy):
    """Return {type: sorted ends in metres of ORIGIN, rounded to 0.1}."""
    found = {}
    for line, kind in zip(graph.segments(), graph.types, strict=True):
        ends = sorted(tuple((np.round(place_of(end), 1) + 0.0).tolist()) for end in line)
        found.setdefault(LINE_TYPES[kind], []).append(tuple(ends))
    return {kind: sorted(lines) for kind, lines in found.items()}


EXPECTED = {
    'ridge': [((0.0, 5.0), (20.0, 5.0))],
    'eave': [((0.0, 0.0), (20.0, 0.0)), ((0.0, 10.0), (20.0, 10.0))],
    'verge': [((0.0, 0.0), (0.0, 5.0)), ((0.0, 5.0), (0.0, 10.0)), ((20.0, 0.0), (20.0, 2.5))],
    # The annexe is flat, and the gable planes run along its wall: neither a ridge nor a valley.
    'inner': [((20.0, 2.5), (20.0, 5.0)), ((20.0, 5.0), (20.0, 10.0))],
    'outline': [((20.0, 2.5), (28.0, 2.5)), ((20.0, 10.0), (28.0, 10.0)), ((28.0, 2.5), (28.0, 10.0))],
}


def test_labels_alone_get_a_frame_in_metres(tmp_path):
    reading = read_segments(source(tmp_path), None, SegmentOptions(resolution=0.1))
    (image,) = reading.images
    annotation = image.annotation
    assert annotation.crs == 'EPSG:32632'
    assert annotation.resolution == pytest.approx(0.1, rel=1e-3)
    assert (annotation.file, image.image) == ('7.tif', None)
    assert (annotation.width, annotation.height) == (280 + 32, 100 + 32)
    graph = annotation.graph
    assert typed(graph, lambda xy: applied(Affine(*annotation.transform), xy[None])[0] - ORIGIN) == EXPECTED
    assert len(graph.junctions) == 9  # four of the ridge's ends are two; (20, 2.5), (20, 10) are shared
    assert sorted(map(len, graph.faces)) == [4, 5, 5]
    assert ('cannot be checked without images or --crs: found longitude 11.7 to 11.7, latitude 48.36 to 48.36'
            in reading.notes[0])
    assert 'labels only: 1 annotations without image' in reading.notes[1]
    assert reading.notes[-1] == 'line types: 3 outline, 2 inner, 1 ridge, 2 eave, 3 verge'


@pytest.mark.parametrize('code', [32632, 3857, 4326])
def test_images_of_any_crs_place_the_corners(tmp_path, code):
    images = tmp_path / 'images'
    images.mkdir()
    transform = picture(images, CRS.from_epsg(code))
    (image,) = read_segments(source(tmp_path), ImageFolder(images), SegmentOptions()).images
    annotation = image.annotation
    assert annotation.crs == f'EPSG:{code}'
    assert annotation.transform == pytest.approx(tuple(transform)[:6])
    assert annotation.resolution == pytest.approx(0.1, rel=0.01)
    x, y = applied(Affine(*annotation.transform), annotation.graph.junctions).T
    x, y = warp(CRS.from_epsg(code), UTM, x.tolist(), y.tolist())
    metres = dict(zip(map(tuple, annotation.graph.junctions.tolist()), np.stack([x, y], axis=1) - ORIGIN, strict=True))
    assert typed(annotation.graph, lambda xy: metres[tuple(xy.tolist())]) == EXPECTED
    exact = [tuple(metres[tuple(junction)].round(3)) for junction in annotation.graph.junctions.tolist()]
    assert (28.0, 10.0) in exact


def test_snapping_is_in_pixels_and_may_be_off(tmp_path):
    path = source(tmp_path)
    (image,) = read_segments(path, None, SegmentOptions(Tolerance(3.0, 'px'), resolution=0.1)).images
    assert len(image.annotation.graph.junctions) == 9
    (image,) = read_segments(path, None, SegmentOptions(Tolerance(0.0, 'px'), resolution=0.1)).images
    assert len(image.annotation.graph.junctions) > 9  # the ridges of the two planes stay apart


def test_azimuths_from_north_say_so(tmp_path):
    drawn = []
    for row in range(10):
        shift = (40.0 * row, 0.0)
        drawn += [([(x + shift[0], y) for x, y in ring], azimuth, 35.0)
                  for ring, azimuth in ((SOUTH, 180.0), (NORTH, 0.0))]  # a compass: the south plane looks to 180
    reading = read_segments(source(tmp_path, drawn), None, SegmentOptions(resolution=0.2))
    assert any('10 valleys and 0 ridges: the azimuths look counted from north, --azimuth north' in note
               for note in reading.notes)
    reading = read_segments(source(tmp_path, drawn), None, SegmentOptions(resolution=0.2, azimuth_zero='north'))
    assert '10 ridge' in reading.notes[-1]
    assert 'valley' not in reading.notes[-1]


def test_segments_without_image_names_go_to_the_images_that_show_them(tmp_path):
    images = tmp_path / 'images'
    images.mkdir()
    picture(images, UTM, 'west.tif', west=-5, size=(150, 300))
    picture(images, UTM, 'east.tif', west=24, size=(100, 300))
    picture(images, UTM, 'far.tif', west=900, size=(100, 300))
    reading = read_segments(source(tmp_path, image=None), ImageFolder(images), SegmentOptions())
    east, west = (image.annotation for image in reading.images)
    assert (east.file, west.file) == ('east.tif', 'west.tif')
    assert len(east.graph.lines) == 3  # of the annexe, cut at x = 24 m
    assert sorted(np.unique(east.graph.junctions[:, 0].round(2)).tolist()) == [0.0, 40.0]
    assert west.graph.junctions[:, 0].max() == pytest.approx(150.0)
    assert len(west.graph.faces) == 0
    assert any('1 images without annotation, far.tif' in note for note in reading.notes)
    with pytest.raises(UserError, match='properties.image: expected the name of an image in every segment'):
        read_segments(tmp_path / 'segments.geojson', None, SegmentOptions(resolution=0.1))


def test_world_files_need_a_crs(tmp_path):
    images = tmp_path / 'images'
    images.mkdir()
    Image.new('RGB', (600, 500)).save(images / '7.png')
    with pytest.raises(UserError, match='expected a GeoTIFF or a world file'):
        read_segments(source(tmp_path), ImageFolder(images), SegmentOptions())
    # A world file names the centre of the first pixel.
    lines = [0.1, 0, 0, -0.1, ORIGIN[0] - 5 + 0.05, ORIGIN[1] + 20 - 0.05]
    (images / '7.pgw').write_text('\n'.join(f'{value:.6f}' for value in lines))
    with pytest.raises(UserError, match='expected a coordinate system, found none: name it, --crs'):
        read_segments(source(tmp_path), ImageFolder(images), SegmentOptions())
    (image,) = read_segments(source(tmp_path), ImageFolder(images), SegmentOptions(crs=UTM)).images
    assert image.annotation.transform == pytest.approx((0.1, 0, ORIGIN[0] - 5, 0, -0.1, ORIGIN[1] + 20))
    corner = image.annotation.graph.junctions[image.annotation.graph.junctions.sum(axis=1).argmin()]
    assert corner == pytest.approx([50.0, 100.0], abs=0.01)  # (0, 10) m


def test_what_is_wrong_is_told(tmp_path):
    path = source(tmp_path)
    with pytest.raises(UserError, match='--resolution: expected metres a pixel where there are no images'):
        read_segments(path, None, SegmentOptions())
    with pytest.raises(UserError, match='--crs: expected a projected coordinate system'):
        read_segments(path, None, SegmentOptions(resolution=0.1, crs=CRS.from_epsg(4326)))
    images = tmp_path / 'images'
    images.mkdir()
    with pytest.raises(UserError, match='expected an image for each annotation, found none for 7; without --images'):
        read_segments(path, ImageFolder(images), SegmentOptions())
    picture(images, UTM)
    with pytest.raises(UserError, match=r'all of them outside; coordinates look like \(latitude, longitude\)'):
        read_segments(source(tmp_path, swap=True), ImageFolder(images), SegmentOptions())
    with pytest.raises(UserError, match='image 7: expected segments within 30,000 pixels'):
        far = [(x + 9e4, y) for x, y in NORTH]
        read_segments(source(tmp_path, [*DRAWN, (far, 0.0, 10.0)]), None, SegmentOptions(resolution=0.1))


@pytest.mark.parametrize(('west', 'north', 'on'), [
    (200.0, 20.0, False),  # beside the roof: its rows are the roof's, none of its columns is
    (-5.0, -200.0, False),  # below it
    (-500.0, 500.0, False),
    (-15.0, 20.0, True)])  # one corner
def test_segments_beside_their_image_are_refused(tmp_path, west, north, on):
    images = tmp_path / 'images'
    images.mkdir()
    picture(images, UTM, west=west, north=north, size=(300, 300))
    path = source(tmp_path)
    if on:
        (image,) = read_segments(path, ImageFolder(images), SegmentOptions()).images
        assert not image.annotation.graph.empty
        return
    with pytest.raises(UserError, match='image 7.tif: expected segments on the image, found all of them outside$'):
        read_segments(path, ImageFolder(images), SegmentOptions())


def test_a_segment_may_be_larger_than_its_image(tmp_path):
    """No number of its corners lies within the image's range of columns or rows, and yet it covers the image."""
    images = tmp_path / 'images'
    images.mkdir()
    picture(images, UTM, west=5.0, north=7.0, size=(20, 20))
    hall = [(0, 0), (20, 0), (20, 10), (0, 10)]
    (image,) = read_segments(source(tmp_path, [(hall, None, 0.0)]), ImageFolder(images), SegmentOptions()).images
    assert image.annotation.graph.empty


@pytest.mark.parametrize(('crs', 'transform', 'message'), [
    (UTM.to_wkt(), '7e5, 0, 0, 5.36e6, 0, -0.1', 'geotransform: expected an invertible transform, found 0 0 700000 0'),
    ('LOCAL_CS["site",UNIT["metre",1]]', '0, 0.1, 0, 0, 0, -0.1', 'CRS: expected a way from site to EPSG:4326, found')])
def test_images_that_lie_nowhere(tmp_path, crs, transform, message):
    images = tmp_path / 'images'
    images.mkdir()
    (images / '7.vrt').write_text(
        f'<VRTDataset rasterXSize="9" rasterYSize="9"><SRS>{crs.replace(chr(34), "&quot;")}</SRS><GeoTransform>'
        f'{transform}</GeoTransform><VRTRasterBand dataType="Byte" band="1"/></VRTDataset>')
    with pytest.raises(UserError, match=rf'7\.vrt: {message}'):
        read_segments(source(tmp_path), ImageFolder(images), SegmentOptions())


def test_a_swapped_order_is_named_without_image_names(tmp_path):
    images = tmp_path / 'images'
    images.mkdir()
    picture(images, UTM)
    with pytest.raises(UserError, match=r'found none on any; coordinates look like \(latitude, longitude\)'):
        read_segments(source(tmp_path, image=None, swap=True), ImageFolder(images), SegmentOptions())
    picture(images, UTM, west=5000.0)
    with pytest.raises(UserError, match='found none on any$'):
        read_segments(source(tmp_path, image=None), ImageFolder(images), SegmentOptions())


def test_a_crs_shows_the_order_where_there_are_no_images(tmp_path):
    options = SegmentOptions(resolution=0.1, crs=UTM)
    with pytest.raises(UserError, match=r'area of use of --crs EPSG:32632, found longitude 48.36 to 48.36, latitude '
                                        r'11.7 to 11.7; coordinates look like \(latitude, longitude\)'):
        read_segments(source(tmp_path, swap=True), None, options)
    assert not any('order of' in note or 'area of use' in note
                   for note in read_segments(source(tmp_path), None, options).notes)
    notes = read_segments(source(tmp_path), None, SegmentOptions(resolution=0.1, crs=CRS.from_epsg(2154))).notes
    assert '15 of 15 corners lie outside the area of use of --crs EPSG:2154' in notes[0]
    notes = read_segments(source(tmp_path, swap=True), None, SegmentOptions(resolution=0.1)).notes
    assert 'without images or --crs: found longitude 48.36 to 48.36, latitude 11.7 to 11.7' in notes[0]


def test_areas_of_use():
    points = np.array([[11.7, 48.0], [13.0, 48.0], [48.0, 11.7], [179.5, -18.0], [-179.5, -18.0]])
    assert in_area_of_use(points, UTM).tolist() == [True, False, False, False, False]
    fiji = CRS.from_epsg(3460)  # over the antimeridian
    assert in_area_of_use(points, fiji).tolist() == [False, False, False, True, True]
    assert in_area_of_use(points, CRS.from_string('+proj=tmerc +lon_0=11 +ellps=GRS80')) is None


def test_what_snapping_loses_and_what_has_no_area_is_told(tmp_path):
    notch = [(40, 0), (50, 0), (50, 5), (50, 5.2), (50, 10), (40, 10)]  # an edge of 0.2 m
    flat = [(60, 0), (70, 0), (65, 0)]
    point = [(80, 0), (80, 0), (80, 0)]
    path = source(tmp_path, [*DRAWN, (notch, None, 0.0), (flat, 0.0, 10.0), (point, 0.0, 10.0)])
    reading = read_segments(path, None, SegmentOptions(resolution=0.1))
    assert any('2 of 6 segments have no area, left out' in note for note in reading.notes)
    assert any('--snap: 1 of 18 edges of segments lost' in note for note in reading.notes)
    assert len(reading.images[0].annotation.graph.faces) == 4
    assert not any('lost' in note or 'no area' in note
                   for note in read_segments(source(tmp_path), None, SegmentOptions(resolution=0.1)).notes)
    with pytest.raises(UserError, match='expected segments with an area, found none in 1'):
        read_segments(source(tmp_path, [(flat, 0.0, 10.0)]), None, SegmentOptions(resolution=0.1))
    with pytest.raises(UserError, match=r'--snap: expected at most 100px, found 20m \(200.* of 0.1 m\)'):
        read_segments(source(tmp_path), None, SegmentOptions(Tolerance(20.0, 'm'), resolution=0.1))


def test_no_lines_have_no_types(tmp_path):
    images = tmp_path / 'images'
    images.mkdir()
    diamond = [(0, 0), (10, -10), (20, 0), (10, 10)]
    picture(images, UTM, west=9.0, north=1.0, size=(20, 20))  # inside of a plane: none of its edges is seen
    reading = read_segments(source(tmp_path, [(diamond, 0.0, 35.0)]), ImageFolder(images), SegmentOptions())
    assert not any(note.startswith('line types') for note in reading.notes)


@pytest.mark.parametrize(('content', 'message'), [
    ('{"features": [5]}', 'feature 0: expected an object, found 5'),
    ('{"features": [{"properties": [1]}]}', r'feature 0: properties: expected an object, found \[1\]'),
    ('{"features": [{"geometry": 5}]}', 'feature 0: geometry: expected an object, found 5'),
    ('{"features": [{"geometry": {"type": "Polygon", "coordinates": 5}}]}',
     'feature 0: coordinates: expected a list of rings, found 5'),
    ('{"features": [{"geometry": {"type": "MultiPolygon", "coordinates": [5]}}]}',
     'feature 0: coordinates: expected a list of rings, found 5'),
    ('{"features": [{"geometry": {"type": "Polygon", "coordinates": [[[1], [2], [3], [1]]]}}]}',
     'feature 0: coordinates: expected rings of coordinate pairs'),
    ('{', 'expected GeoJSON'), ('{"features": []}', 'expected a FeatureCollection'),
    ('{"features": [{"geometry": {"type": "Point", "coordinates": [1, 2]}}]}', 'feature 0: expected a Polygon'),
    ('{"features": [{"properties": {"slope": "x"}, "geometry": {"type": "Polygon", "coordinates": []}}]}',
     'feature 0: slope: expected degrees or null'),
    ('{"features": [{"geometry": {"type": "Polygon", "coordinates": [[[0, 1], [1, 1], [0, 1]]]}}]}',
     'expected rings of four points'),
    ('{"features": [{"geometry": {"type": "Polygon", "coordinates": [[[7e5, 5e6], [7.1e5, 5e6], [7e5, 5.1e6], '
     '[7e5, 5e6]]]}}]}', 'expected longitude and latitude, found .* metres need a crs member'),
    ('{"features": [{"geometry": {"type": "Polygon", "coordinates": [[[48, 111], [49, 111], [48, 112], [48, 111]]]}}]}',
     r'coordinates look like \(latitude, longitude\)'),
])
def test_other_files_are_refused(tmp_path, content, message):
    path = tmp_path / 'x.geojson'
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_segments(path, None, SegmentOptions(resolution=0.1))


def test_multipolygons_holes_and_a_crs_member(tmp_path):
    """RID2's form: metres of a projected system."""
    rings = [np.array(ring) + ORIGIN for ring in ([(0, 0), (20, 0), (20, 10), (0, 10), (0, 0)],
                                                  [(5, 4), (8, 4), (8, 7), (5, 7), (5, 4)],
                                                  [(30, 0), (35, 0), (35, 5), (30, 0)])]
    roof, hole, other = (ring.tolist() for ring in rings)
    path = tmp_path / 'x.geojson'
    path.write_text(json.dumps(dict(
        crs=dict(type='name', properties=dict(name='urn:ogc:def:crs:EPSG::32632')), features=[dict(
            properties=dict(image='a'), geometry=dict(type='MultiPolygon', coordinates=[[roof, hole], [other]]))])))
    (image,) = read_segments(path, None, SegmentOptions(resolution=0.1)).images
    graph = image.annotation.graph
    assert (len(graph.junctions), len(graph.lines)) == (11, 11)
    assert sorted(map(len, graph.faces)) == [3, 4]  # the hole is none
    assert set(graph.types.tolist()) == {LINE_TYPES.index('outline')}


def test_metres_of_a_pixel_are_true_metres():
    """A degree of latitude at 48 degrees is 111.2 km, one of longitude 74.6 km; a metre of Web Mercator is 0.67 m."""
    size = (100, 100)
    frame = Georeference(Affine(1e-5, 0, 11.0, 0, -1e-5, 48.0), CRS.from_epsg(4326), size)
    assert ground_of_pixels(frame) == pytest.approx(np.array([[0.7463, 0.0], [0.0, -1.1119]]), abs=2e-3)
    x, y = warp('EPSG:4326', 'EPSG:3857', [11.0], [48.0])
    frame = Georeference(Affine(1, 0, x[0], 0, -1, y[0]), CRS.from_epsg(3857), size)
    assert ground_of_pixels(frame) == pytest.approx(np.array([[0.670, 0.0], [0.0, -0.668]]), abs=3e-3)
    assert utm_zone(11.0, 48.0).to_epsg() == 32632
    assert utm_zone(-179.9, -10.0).to_epsg() == 32701
    assert utm_zone(180.0, 10.0).to_epsg() == 32601


def test_the_real_segments(shared_data):
    path = shared_data / 'roofline/rid/segments.geojson'
    if not path.is_file():
        pytest.skip('no RID segments: real data are not distributed')
    reading = read_segments(path, None, SegmentOptions(resolution=0.1))
    content = json.loads(path.read_text())
    assert len(reading.images) == len({feature['properties']['image'] for feature in content['features']})
    faces = sum(len(image.annotation.graph.faces) for image in reading.images)
    assert 0.98 * len(content['features']) <= faces <= 1.02 * len(content['features'])
    kinds = np.concatenate([image.annotation.graph.types for image in reading.images])
    counts = dict(zip(LINE_TYPES, np.bincount(kinds, minlength=len(LINE_TYPES)).tolist(), strict=True))
    assert counts['ridge'] > 100
    assert counts['ridge'] + counts['hip'] > 3 * counts['valley']
    assert {image.annotation.crs for image in reading.images} <= {'EPSG:32632', 'EPSG:32633'}  # 12 degrees east
