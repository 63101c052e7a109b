"""Wireframe JSON: both forms of lines, the order of coordinates, and everything that can be wrong with them."""

import json

import numpy as np
import pytest
from PIL import Image

from projects.engine.errors import UserError
from projects.roofline.importing.images import ImageFolder
from projects.roofline.importing.tolerance import Tolerance, read_tolerance
from projects.roofline.importing.wireframe_json import WireframeOptions, read_wireframes

# Two roof planes of 100 x 40: a rectangle with a ridge.
LINES = [[10, 5, 90, 5], [90, 5, 90, 35], [90, 35, 10, 35], [10, 35, 10, 5], [10, 20, 90, 20]]


def source(folder, records, sizes=None, name='train.json'):
    """Write records and images of their sizes; return the file."""
    for record in records:
        size = (sizes or {}).get(record['filename'], (100, 40))
        if size is not None:
            Image.new('RGB', size).save(folder / record['filename'])
    (folder / name).write_text(json.dumps(records))
    return folder / name


def record(name='a.png', lines=LINES, **more):
    return dict(filename=name, width=100, height=40, lines=lines, **more)


def read(path, **options):
    return read_wireframes(path, ImageFolder(path.parent), WireframeOptions(**options))


def ends(graph):
    return sorted(sorted(map(tuple, line)) for line in graph.segments().tolist())


@pytest.mark.parametrize('form', ['flat', 'pairs', 'junc', 'hawp'])
def test_the_forms_of_lines_give_one_graph(tmp_path, form):
    corners = [[10, 5], [90, 5], [90, 35], [10, 35], [10, 20], [90, 20]]
    pairs = [[0, 1], [1, 2], [2, 3], [3, 0], [4, 5]]
    entry = record()
    if form == 'pairs':
        entry['lines'] = [[line[:2], line[2:]] for line in LINES]
    elif form == 'junc':
        entry |= dict(junc=[[*corner, 0] for corner in corners], lines=pairs)
    elif form == 'hawp':
        del entry['lines']
        entry |= dict(junctions=corners, edges_positive=pairs, edges_negative=[[0, 2]])
    (image,) = read(source(tmp_path, [entry])).images
    graph = image.annotation.graph
    assert ends(graph) == sorted(sorted([tuple(map(float, line[:2])), tuple(map(float, line[2:]))]) for line in LINES)
    assert len(graph.junctions) == 6
    assert (image.annotation.split, image.annotation.file, image.image) == ('train', 'a.png', tmp_path / 'a.png')


def test_the_order_yx_is_turned_round(tmp_path):
    swapped = [[y1, x1, y2, x2] for x1, y1, x2, y2 in LINES]
    (image,) = read(source(tmp_path, [record(lines=swapped)]), order='yx').images
    assert ends(image.annotation.graph)[0] == [(10.0, 5.0), (10.0, 35.0)]


def test_a_swapped_order_is_named(tmp_path):
    swapped = [[y1, x1, y2, x2] for x1, y1, x2, y2 in LINES]
    path = source(tmp_path, [record('a.png', []), record('b.png', swapped)])
    with pytest.raises(UserError, match=r'b.png: coordinates look like \(y, x\), not \(x, y\): up to \(35, 90\) in an '
                                        r'image of width 100 and height 40; --order yx fits all 2 images'):
        read(path)
    with pytest.raises(UserError, match=r'look like \(x, y\), not \(y, x\).*--order xy fits'):
        read(source(tmp_path, [record()]), order='yx')
    with pytest.raises(UserError, match='so do 1 of 2 images'):
        read(source(tmp_path, [record('a.png'), record('b.png', swapped)]))
    with pytest.raises(UserError, match='--order: expected xy or yx'):
        read(path, order='zx')


def test_square_images_cannot_show_the_order(tmp_path):
    entry = record() | dict(width=100, height=100)
    reading = read(source(tmp_path, [entry], {'a.png': (100, 100)}))
    assert 'the order xy of coordinates cannot be checked' in reading.notes[0]


@pytest.mark.parametrize(('line', 'message'), [
    ([10, 5, 130, 5], r'a.png: junctions: expected \(x, y\) within 100 x 40 pixels'),
    ([20, 20, 20, 20], 'a.png: lines: expected two different ends'),
    ([90, 5, 10, 5], 'a.png: lines: expected each line once'),
    ([10, 5, float('nan'), 5], 'expected finite numbers'),
])
def test_bad_lines_are_refused(tmp_path, line, message):
    with pytest.raises(UserError, match=message):
        read(source(tmp_path, [record(lines=[*LINES, line])]))


def test_repair_cuts_and_drops(tmp_path):
    bad = [[10, 5, 130, 5], [20, 20, 20, 20], [35, 10, 10, 35], [10, 35, 35, 10]]
    reading = read(source(tmp_path, [record(lines=bad)]), repair=True)
    assert ends(reading.images[0].annotation.graph) == [[(10.0, 5.0), (100.0, 5.0)], [(10.0, 35.0), (35.0, 10.0)]]
    assert any('lines cut off at a border or dropped' in note for note in reading.notes)


def test_snapping_splits_where_a_line_ends_on_another(tmp_path):
    ragged = [*LINES[:4], [10.6, 20, 89.5, 20.3]]
    (image,) = read(source(tmp_path, [record(lines=ragged)]), snap=Tolerance(1.0, 'px')).images
    graph = image.annotation.graph
    assert len(graph.junctions) == 6
    assert len(graph.lines) == 7
    with pytest.raises(UserError, match='--snap: expected pixels'):
        read(source(tmp_path, [record(lines=ragged)]), snap=Tolerance(0.3, 'm'))


def test_lines_lost_by_snapping_are_told(tmp_path):
    lines = [[10, 5, 90, 5], [10, 5, 10, 35], [50, 30, 50.5, 30.5], [10, 5.4, 90, 5.4]]
    reading = read(source(tmp_path, [record(lines=lines)]), snap=Tolerance(1.0, 'px'))
    assert len(reading.images[0].annotation.graph.lines) == 2
    assert any('--snap: 2 of 4 lines lost' in note for note in reading.notes)
    assert not any('lost' in note for note in read(source(tmp_path, [record()]), snap=Tolerance(1.0, 'px')).notes)


def test_images_missing_left_over_or_of_another_size(tmp_path):
    Image.new('RGB', (10, 10)).save(tmp_path / 'spare.png')
    reading = read(source(tmp_path, [record()]))
    assert f'{tmp_path}: 1 images without annotation, spare.png' in reading.notes
    path = source(tmp_path, [record(), record('gone.png')], {'gone.png': None})
    with pytest.raises(UserError, match='expected an image for each annotation, found none for gone.png'):
        read(path)
    reading = read(path, labels_only=True)
    assert [image.image for image in reading.images] == [tmp_path / 'a.png', None]
    assert any('1 annotations without image, gone.png' in note for note in reading.notes)
    with pytest.raises(UserError, match='a.png: expected an image of 100 x 40 pixels as labelled, found 50 x 20'):
        read(source(tmp_path, [record()], {'a.png': (50, 20)}))


def test_splits_come_from_file_names_and_equal_names_are_told_apart(tmp_path):
    for split in ('train', 'valid'):
        (tmp_path / split).mkdir()
        source(tmp_path, [record() | dict(filename=f'{split}/a.png')], name=f'{split}.json')
    reading = read_wireframes(tmp_path, ImageFolder(tmp_path), WireframeOptions())
    assert [(image.annotation.file, image.annotation.split) for image in reading.images] == [
        ('train_a.png', 'train'), ('valid_a.png', 'val')]
    assert read(source(tmp_path, [record(split='test')], name='some.json')).images[0].annotation.split == 'test'
    with pytest.raises(UserError, match="split: expected one of train, .* found 'rest'"):
        read(source(tmp_path, [record(split='rest')], name='some.json'))
    source(tmp_path, [record(), record()], name='train.json')
    with pytest.raises(UserError, match='expected each image once, found a.png twice'):
        read(tmp_path / 'train.json')


@pytest.mark.parametrize(('content', 'message'), [
    ('[1', 'expected JSON'), ('3', 'expected a list of records'), ('[3]', 'record 0: expected an object'),
    ('[{"lines": []}]', 'filename: expected the name of an image'), ('[]', 'expected wireframe records, found none'),
    ('[{"filename": "a.png", "polygons": []}]', 'expected lines, or junc and edges; the record has filename, polygons'),
    ('[{"filename": "a.png", "lines": [[1, 2, 3]]}]', r'expected \[x1, y1, x2, y2\]'),
    ('[{"filename": "a.png", "lines": [[1, 2], [3]]}]', 'all of one length'),
    ('[{"filename": "a.png", "junc": [[1, 2]], "lines": [[0, 7]]}]', 'expected junctions 0 to 0, found 7'),
    ('[{"filename": "a.png", "lines": null}]', 'a.png: lines: expected rows of numbers, found None'),
    ('[{"filename": "a.png", "lines": 5}]', 'a.png: lines: expected rows of numbers, found 5'),
    ('[{"filename": "a.png", "lines": [[1' + '0' * 400 + ', 1, 2, 3]]}]', 'a.png: lines: expected rows of numbers'),
    ('[{"filename": "a.png", "junc": null, "lines": [[0, 1]]}]', 'a.png: junc: expected rows of numbers, found None'),
    ('[{"filename": "a.png", "junc": [1, 2], "lines": [[0, 1]]}]',
     r'a.png: junc: expected rows of two coordinates, found numbers of shape \(2,\)'),
    ('[{"filename": "a.png", "junc": [[1, 2]], "lines": [[0, 1e300]]}]',
     'expected junctions 0 to 0, found 1e\\+300 at row 0'),
    ('[{"filename": "a.png", "junc": [[1, 2]], "lines": [[0, Infinity]]}]', 'expected junctions 0 to 0, found inf'),
    ('[{"filename": "a.png", "junc": [[1, 2]], "lines": [[0, NaN]]}]', 'expected junctions 0 to 0, found nan'),
    ('[{"filename": "a.png", "junc": [[1, 2], [3, 4]], "lines": [[0, 0.5]]}]', 'found 0.5 at row 0'),
    ('[{"filename": "a.png", "junc": [[1, 2]], "lines": [[0, -1]]}]', 'expected junctions 0 to 0, found -1'),
    ('[{"filename": "a.png", "width": "a", "height": 3, "lines": []}]', 'width, height: expected whole numbers'),
])
def test_other_files_are_refused(tmp_path, content, message):
    Image.new('RGB', (100, 40)).save(tmp_path / 'a.png')
    (tmp_path / 'x.json').write_text(content)
    with pytest.raises(UserError, match=message):
        read(tmp_path / 'x.json')


def test_an_image_without_lines_is_one(tmp_path):
    (image,) = read(source(tmp_path, [record(lines=[])])).images
    assert image.annotation.graph.empty
    assert (image.annotation.width, image.annotation.height) == (100, 40)


def test_tolerances():
    assert read_tolerance('2px') == Tolerance(2.0, 'px')
    assert read_tolerance('0.3m').pixels(0.1) == pytest.approx(3.0)
    assert read_tolerance('0px').pixels(None) == 0
    with pytest.raises(UserError, match="--snap: expected a unit, 2px or 2m, found '2'"):
        read_tolerance('2')
    assert read_tolerance('100px').pixels(None) == 100
    with pytest.raises(UserError, match='--snap: expected at most 100px, found 101px$'):
        read_tolerance('101px').pixels(None)
    for text in ('1e-5', '0.00001m', '1e-4px'):
        with pytest.raises(UserError, match='which looks like degrees'):
            read_tolerance(text)
    for text in ('-1', '2cm', 'nan', '', '1e-5deg'):
        with pytest.raises(UserError, match='--snap: expected a distance in pixels or metres'):
            read_tolerance(text)
    assert np.isclose(read_tolerance('1e-3m').value, 1e-3)
