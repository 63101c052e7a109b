"""Roof graphs: text files of the RoofGraphDataset, JSON, .npz, this room's own layout, and the seed's folders."""

import json
import shutil

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.crs import CRS

from projects.engine.errors import UserError
from projects.roofline.annotations import Annotation, read_annotations, write_annotations
from projects.roofline.graph import LINE_TYPES, RoofGraph
from projects.roofline.importing.images import ImageFolder, image_size
from projects.roofline.importing.roof_graphs import read_roof_graphs
from projects.roofline.importing.seed_folder import read_seed_folder
from projects.roofline.npz_labels import write_npz

VERTS = [[10.5, 5], [90, 5], [90, 35], [10.5, 35.25], [30, 20], [70, 20]]
FACES = [[0, 1, 5, 4], [1, 2, 5], [2, 3, 4, 5], [3, 0, 4]]
LINES = [[0, 1], [0, 3], [0, 4], [1, 2], [1, 5], [2, 3], [2, 5], [3, 4], [4, 5]]


def write_roof(folder, form='text', name='roof', verts=VERTS, faces=FACES):
    Image.new('RGB', (100, 40)).save(folder / f'{name}.png')
    if form == 'text':
        (folder / f'{name}.verts').write_text(''.join(','.join(f'{value:g}' for value in row) + '\n' for row in verts))
        (folder / f'{name}.faces').write_text(''.join(','.join(map(str, [*face, face[0]])) + '\n' for face in faces))
    elif form == 'json':
        (folder / f'{name}.json').write_text(json.dumps(dict(verts=verts, faces=faces)))
    else:
        longest = max(map(len, faces))
        np.savez(folder / f'{name}.npz', verts=np.array(verts),
                 faces=np.array([[*face, *[-1] * (longest - len(face))] for face in faces]))


def read(folder, **options):
    return read_roof_graphs(folder, ImageFolder(folder), **options)


@pytest.mark.parametrize('form', ['text', 'json', 'npz'])
def test_forms(tmp_path, form):
    write_roof(tmp_path, form)
    (image,) = read(tmp_path).images
    graph = image.annotation.graph
    assert graph.junctions.tolist() == VERTS
    assert graph.lines.tolist() == LINES
    assert graph.faces == tuple(map(tuple, FACES))
    assert [LINE_TYPES[kind] for kind in graph.types] == [
        'outline', 'outline', 'inner', 'outline', 'inner', 'outline', 'inner', 'inner', 'inner']
    assert (image.annotation.file, image.annotation.width, image.annotation.height) == ('roof.png', 100, 40)


def test_heights_give_types(tmp_path):
    write_roof(tmp_path, verts=[[*corner, height] for corner, height in zip(VERTS, [0, 0, 0, 0, 12, 12], strict=True)])
    graph = read(tmp_path, resolution=1.0).images[0].annotation.graph
    assert graph.heights.tolist() == [0, 0, 0, 0, 12, 12]
    assert LINE_TYPES[graph.types[graph.lines.tolist().index([4, 5])]] == 'ridge'
    assert [LINE_TYPES[kind] for kind in graph.types].count('hip') == 4


# A gable of 35 degrees at 0.05 m a pixel: 4 m deep (80 pixels), the ridge 1.4 m above the eaves.
GABLE = [[10, 10, 5], [90, 10, 5], [90, 50, 6.4], [10, 50, 6.4], [90, 90, 5], [10, 90, 5]]
GABLE_FACES = [[0, 1, 2, 3], [3, 2, 4, 5]]


def write_gable(folder, suffix='png', crs=None, step=0.05, verts=GABLE):
    write_roof(folder, verts=verts, faces=GABLE_FACES)
    (folder / 'roof.png').unlink()
    if crs is None:
        Image.new('RGB', (100, 100)).save(folder / f'roof.{suffix}')
        return
    with rasterio.open(folder / 'roof.tif', 'w', width=100, height=100, count=1, dtype='uint8', crs=crs,
                       transform=rasterio.Affine(step, 0, 7e5, 0, -step, 5.36e6)) as image:
        image.write(np.zeros((1, 100, 100), np.uint8))


def gable_types(graph):
    names = {tuple(line): LINE_TYPES[kind] for line, kind in zip(graph.lines.tolist(), graph.types, strict=True)}
    return [names[line] for line in ((0, 1), (1, 2), (2, 3), (2, 4), (4, 5), (3, 5), (0, 3))]


TOLD = ['eave', 'verge', 'ridge', 'verge', 'eave', 'verge', 'verge']
UNTOLD = ['outline', 'outline', 'inner', 'outline', 'outline', 'outline', 'outline']


@pytest.mark.parametrize(('crs', 'resolution'), [(None, 0.05), ('EPSG:25832', None), ('EPSG:25832', 3.0)])
def test_types_are_told_from_metres_and_not_from_pixels(tmp_path, crs, resolution):
    write_gable(tmp_path, crs=crs)
    reading = read(tmp_path, resolution=resolution)
    annotation = reading.images[0].annotation
    assert gable_types(annotation.graph) == TOLD
    assert annotation.resolution == pytest.approx(0.05, rel=1e-3)  # a georeference goes before what is given
    if crs is None:
        assert annotation.crs is annotation.transform is reading.images[0].ground is None
    else:  # windows over the same ground then come into the same split
        assert annotation.crs == crs and annotation.transform == pytest.approx((0.05, 0, 7e5, 0, -0.05, 5.36e6))
        assert reading.images[0].ground.shape == (4, 2)
    assert reading.notes == ((f'{tmp_path}: --resolution: not for 1 images that are georeferenced',)
                             if crs and resolution else ())


@pytest.mark.parametrize('crs', [None, CRS.from_wkt('LOCAL_CS["plan",UNIT["metre",1]]')])
def test_heights_without_metres_a_pixel_tell_no_types_and_it_is_said(tmp_path, crs):
    write_gable(tmp_path, crs=crs)
    reading = read(tmp_path)
    annotation = reading.images[0].annotation
    assert gable_types(annotation.graph) == UNTOLD
    assert annotation.graph.heights.tolist() == [row[2] for row in GABLE]
    assert annotation.resolution is None
    assert reading.notes == (f'{tmp_path}: 1 of 1 roofs with heights have no metres a pixel: their lines stay outline '
                             'and inner; --resolution METRES tells',)
    assert gable_types(read(tmp_path, resolution=0.05).images[0].annotation.graph) == TOLD


def test_roofs_without_heights_need_no_metres(tmp_path):
    write_gable(tmp_path, verts=[row[:2] for row in GABLE])
    assert read(tmp_path).notes == ()


@pytest.mark.parametrize(('verts', 'faces', 'message'), [
    ([*VERTS[:5], [170, 20]], FACES, r'roof.verts: junctions: expected \(x, y\) within 100 x 40'),
    (VERTS, [[0, 1, 9]], 'roof.verts: faces: expected vertices 0 to 5, found 9'),
    (VERTS, [[0, 1]], 'faces: expected rings of three vertices or more'),
    ([*VERTS[:5], VERTS[4]], FACES, 'lines: expected two different ends'),
    ([[1, 2], [3, 4, 5]], [], 'verts: expected rows of x, y or x, y, height'),
])
def test_bad_roofs_are_refused(tmp_path, verts, faces, message):
    write_roof(tmp_path, verts=verts, faces=faces)
    with pytest.raises(UserError, match=message):
        read(tmp_path)


def test_bad_files_are_refused(tmp_path):
    with pytest.raises(UserError, match='expected NAME.verts and NAME.faces'):
        read(tmp_path)
    write_roof(tmp_path)
    (tmp_path / 'roof.faces').write_text('0,1,x\n')
    with pytest.raises(UserError, match='roof.faces: line 1: expected numbers'):
        read(tmp_path)
    (tmp_path / 'roof.faces').write_text('0,1,nan\n')
    with pytest.raises(UserError, match='roof.faces: line 1: expected whole numbers'):
        read(tmp_path)
    (tmp_path / 'roof.faces').unlink()
    with pytest.raises(UserError, match='roof.faces: expected the faces of roof.verts, found no file'):
        read(tmp_path)
    (tmp_path / 'roof.verts').unlink()
    np.savez(tmp_path / 'roof.npz', verts=np.array([object()]), faces=np.zeros((0, 3), int))
    with pytest.raises(UserError, match='expected an .npz of plain arrays'):
        read(tmp_path)
    (tmp_path / 'roof.npz').unlink()
    (tmp_path / 'roof.json').write_text('{"verts": []}')
    with pytest.raises(UserError, match='faces: expected verts and faces, found verts'):
        read(tmp_path)
    write_roof(tmp_path, 'json')
    write_roof(tmp_path, 'text')
    with pytest.raises(UserError, match='expected one file for each roof, found roof.json and roof.verts'):
        read(tmp_path)


def test_roofs_without_image_and_images_without_roof(tmp_path):
    write_roof(tmp_path)
    Image.new('RGB', (4, 4)).save(tmp_path / 'spare.png')
    assert read(tmp_path).notes == (f'{tmp_path}: 1 images without annotation, spare.png',)
    (tmp_path / 'roof.png').unlink()
    with pytest.raises(UserError, match='expected an image for each roof, found none for roof'):
        read(tmp_path)


def test_the_own_layout_comes_through_whole(tmp_path):
    (tmp_path / 'images').mkdir()
    Image.new('RGB', (100, 40)).save(tmp_path / 'images/a.png')
    graph = RoofGraph.make(VERTS, LINES, ['eave'] * 9, FACES, heights=[0, 0, 0, 0, 3, 3])
    write_annotations(tmp_path, [Annotation('a.png', 100, 40, 'val', graph, 0.5, 'EPSG:32632',
                                            (0.5, 0, 7e5, 0, -0.5, 5.36e6))])
    (image,) = read(tmp_path).images
    assert (image.annotation.split, image.annotation.resolution) == ('val', 0.5)
    assert image.annotation.graph.heights.tolist() == [0, 0, 0, 0, 3, 3]
    longitude, latitude = image.ground.T
    assert longitude == pytest.approx([11.7] * 4, abs=0.01)  # 700 km east in zone 32
    assert (latitude[0] - latitude[3]) * 111_200 == pytest.approx(20, rel=0.01)
    with pytest.raises(UserError, match='--resolution: expected with NAME.verts, .*, found .*annotations.json'):
        read(tmp_path, resolution=0.5)
    Image.new('RGB', (50, 20)).save(tmp_path / 'images/a.png')
    with pytest.raises(UserError, match='a.png: expected an image of 100 x 40 pixels as labelled, found 50 x 20'):
        read(tmp_path)
    (tmp_path / 'images/a.png').unlink()
    with pytest.raises(UserError, match='expected an image for each annotation, found none for a.png'):
        read(tmp_path)
    assert read(tmp_path, labels_only=True).images[0].image is None


def test_a_crs_that_is_none_is_told_with_its_file(tmp_path):
    (tmp_path / 'images').mkdir()
    Image.new('RGB', (100, 40)).save(tmp_path / 'images/a.png')
    write_annotations(tmp_path, [Annotation('a.png', 100, 40, 'val', RoofGraph.make(VERTS, LINES), 0.5, 'EPSG:x',
                                            (0.5, 0, 7e5, 0, -0.5, 5.36e6))])
    with pytest.raises(UserError, match="annotations.json: a.png: crs: expected a CRS .*, found 'EPSG:x'"):
        read(tmp_path)


def test_the_seeds_folders(tmp_path):
    graph = RoofGraph.make(VERTS, LINES)
    for folder, name in (('train', 'a'), ('train', 'b'), ('valid', 'a')):
        (tmp_path / folder).mkdir(exist_ok=True)
        Image.new('RGB', (100, 40)).save(tmp_path / folder / f'{name}.png')
        write_npz(tmp_path / folder / f'{name}_label.npz', graph, (40, 100), (10, 25))
    reading = read_seed_folder(tmp_path)
    assert [(image.annotation.file, image.annotation.split) for image in reading.images] == [
        ('train_a.png', 'train'), ('b.png', 'train'), ('valid_a.png', 'val')]
    for image in reading.images:
        assert image.annotation.graph.junctions == pytest.approx(np.array(VERTS), abs=1e-3)
        assert image.annotation.graph.lines.tolist() == LINES
    Image.new('RGB', (100, 40)).save(tmp_path / 'train/c.png')
    assert read_seed_folder(tmp_path).notes == (f'{tmp_path}: 1 images without annotation, train/c.png',)
    shutil.copy(tmp_path / 'train/c.png', tmp_path / 'train/c.jpg')
    with pytest.raises(UserError, match='expected one image c, found c.jpg and c.png'):
        read_seed_folder(tmp_path)
    (tmp_path / 'train/c.jpg').unlink()
    (tmp_path / 'train/a.png').unlink()
    with pytest.raises(UserError, match='expected an image for each label, found none for train/a_label.npz'):
        read_seed_folder(tmp_path)
    shutil.rmtree(tmp_path / 'train')
    shutil.rmtree(tmp_path / 'valid')
    with pytest.raises(UserError, match='expected the folders train and valid'):
        read_seed_folder(tmp_path)


def test_images_are_found_by_path_name_or_stem(tmp_path):
    for name in ('a.png', 'sub/a.png', 'sub/b.jpg', 'one/c.png', 'two/c.png'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new('RGB', (3, 2)).save(tmp_path / name)
    images = ImageFolder(tmp_path)
    assert images.find('a.png') == tmp_path / 'a.png'
    assert images.find('sub/a.png') == images.find('sub\\a.png') == tmp_path / 'sub/a.png'
    assert images.find('elsewhere/b.png') == images.find('b') == tmp_path / 'sub/b.jpg'
    assert images.find('d.png') is None
    with pytest.raises(UserError, match='expected one image c.png, found one/c.png and two/c.png'):
        images.find('c.png')
    assert images.note_unused() == [f'{tmp_path}: 2 images without annotation, one/c.png and 1 more']
    with pytest.raises(UserError, match='expected a folder of images'):
        ImageFolder(tmp_path / 'none')
    (tmp_path / 'x.png').write_bytes(b'no image')
    with pytest.raises(UserError, match='damaged or no image'):
        image_size(tmp_path / 'x.png')


def test_the_real_roofs_as_text_files(shared_data, tmp_path):
    """The shared annotations were made of these text files: written as such and read again, they are the same."""
    root = shared_data / 'roofline/roofgraph'
    if not (root / 'annotations.json').is_file():
        pytest.skip('no roof graphs: real data are not distributed')
    kept = read_annotations(root)[:20]
    for annotation in kept:
        stem = annotation.file.rsplit('.', 1)[0]
        np.savetxt(tmp_path / f'{stem}.verts', annotation.graph.junctions, delimiter=',', fmt='%.17g')
        (tmp_path / f'{stem}.faces').write_text(
            ''.join(','.join(map(str, [*face, face[0]])) + '\n' for face in annotation.graph.faces))
    found = {image.annotation.file: image.annotation
             for image in read_roof_graphs(tmp_path, ImageFolder(root / 'images')).images}
    for annotation in kept:
        again = found[annotation.file].graph
        assert np.array_equal(again.junctions, annotation.graph.junctions)
        assert {tuple(sorted(line)): int(kind) for line, kind in zip(again.lines.tolist(), again.types)} == {
            tuple(sorted(line)): int(kind)
            for line, kind in zip(annotation.graph.lines.tolist(), annotation.graph.types)}
