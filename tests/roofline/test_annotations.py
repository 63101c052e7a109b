"""annotations.json: read strictly, written so that it reads back, every refusal in one line that names the place."""

import json

import numpy as np
import pytest

from projects.engine.errors import UserError
from projects.roofline.annotations import Annotation, read_annotations, write_annotations
from projects.roofline.graph import RoofGraph


def entry(**changes):
    """A ridge between two faces in an image of 100 x 60 px."""
    one = dict(file='a.png', width=100, height=60, split='train',
               junctions=[[10.25, 20], [90, 20], [90, 50], [10, 50], [10, 35], [90, 35]],
               lines=[[0, 1], [1, 5], [5, 2], [2, 3], [3, 4], [4, 0], [4, 5]], line_type=[0, 0, 0, 0, 0, 0, 1],
               faces=[[0, 1, 5, 4], [4, 5, 2, 3]])
    return {**one, **changes}


def written(folder, *entries, **changes):
    (folder / 'annotations.json').write_text(json.dumps({'images': list(entries) or [entry(**changes)]}))
    return folder


def test_the_values_are_those_of_the_file(tmp_path):
    [one] = read_annotations(written(tmp_path, resolution=0.2, crs='EPSG:2154',
                                     transform=[0.2, 0, 650000, 0, -0.2, 6860000],
                                     occlusions=[[0.25, 0.5], *[None] * 6], heights=[2, 2, 2, 2, 5, 5.5],
                                     junction_types=[0, 0, 0, 0, 1, 1]))
    assert (one.file, one.width, one.height, one.split) == ('a.png', 100, 60, 'train')
    assert one.graph.junctions[0].tolist() == [10.25, 20]
    assert one.graph.lines[6].tolist() == [4, 5] and one.graph.types.tolist() == [0] * 6 + [1]
    assert one.graph.faces == ((0, 1, 5, 4), (4, 5, 2, 3))
    assert one.graph.occlusions[0].tolist() == [0.25, 0.5] and np.isnan(one.graph.occlusions[1:]).all()
    assert one.graph.heights.tolist() == [2, 2, 2, 2, 5, 5.5] and one.graph.junction_types.tolist() == [0] * 4 + [1] * 2
    assert (one.resolution, one.crs) == (0.2, 'EPSG:2154')
    assert one.transform == (0.2, 0, 650000, 0, -0.2, 6860000)


def test_line_types_may_be_names_and_may_come_from_the_faces(tmp_path):
    names = ['eave', 'verge', 'verge', 'eave', 'verge', 'verge', 'ridge']
    [named] = read_annotations(written(tmp_path, line_type=names))
    assert named.graph.types.tolist() == [5, 6, 6, 5, 6, 6, 2]
    without = entry()
    del without['line_type']
    [derived] = read_annotations(written(tmp_path, without))
    assert derived.graph.types.tolist() == [0] * 6 + [1]


def test_an_image_without_lines_is_in_order(tmp_path):
    [one] = read_annotations(written(tmp_path, junctions=[], lines=[], line_type=[], faces=[]))
    assert one.graph.empty and one.graph.junctions.shape == (0, 2)


def test_what_is_written_reads_back_exactly(tmp_path):
    first = read_annotations(written(tmp_path, entry(
        heights=[0.1, 0.2, 0.3, 0.4, 1 / 3, 2], occlusions=[None, [0, 0], [1 / 3, 0.5], *[None] * 4],
        junction_types=[0, 1, 0, 0, 0, 0], resolution=0.1, crs='EPSG:25832', transform=[1, 0, 2, 0, -1, 3]),
        entry(file='sub/ä.tif', split='test', junctions=[], lines=[], line_type=[], faces=[])))
    write_annotations(tmp_path / 'again', first)
    second = read_annotations(tmp_path / 'again')
    for one, two in zip(first, second, strict=True):
        for key in ('file', 'width', 'height', 'split', 'resolution', 'crs', 'transform'):
            assert getattr(one, key) == getattr(two, key)
        for key in ('junctions', 'lines', 'types', 'junction_types', 'occlusions'):
            np.testing.assert_array_equal(getattr(one.graph, key), getattr(two.graph, key))
        assert one.graph.faces == two.graph.faces
    assert second[0].graph.heights.tolist() == first[0].graph.heights.tolist() and second[1].graph.heights is None
    assert len((tmp_path / 'again' / 'annotations.json').read_text().splitlines()) == 4  # one image a line


def test_nothing_is_written_that_would_not_be_read(tmp_path):
    good = Annotation('a.png', 100, 60, 'train', RoofGraph.make([[1, 2], [3, 4]], [[0, 1]]))
    write_annotations(tmp_path, [good])
    before = (tmp_path / 'annotations.json').read_bytes()
    for bad in ([good, good], [Annotation('b.png', 3, 3, 'train', good.graph)],
                [Annotation('b.png', 100, 60, 'training', good.graph)]):
        with pytest.raises(UserError):
            write_annotations(tmp_path, bad)
    assert (tmp_path / 'annotations.json').read_bytes() == before


def test_swapped_coordinates_are_named(tmp_path):
    swapped = [[y, x] for x, y in entry()['junctions']]
    with pytest.raises(UserError, match=r'a\.png: junctions: .*look like \(y, x\)'):
        read_annotations(written(tmp_path, junctions=swapped))


@pytest.mark.parametrize(('changes', 'message'), [
    (dict(junctions=[[10, 20], [101, 20], [90, 50], [10, 50], [10, 35], [90, 35]]), r'junctions: .*\(101, 20\)'),
    (dict(junctions=[[10, 20], [-1, 20], [90, 50], [10, 50], [10, 35], [90, 35]]), r'junctions: .*\(-1, 20\)'),
    (dict(junctions=[[10, 20], [float('nan'), 20], [90, 50], [10, 50], [10, 35], [90, 35]]), 'junctions: .*finite'),
    (dict(junctions=[[10, 20, 3]]), r'junctions\[0\]: expected a pair of numbers'),
    (dict(junctions='none'), "junctions: expected a list of pairs, found 'none'"),
    (dict(lines=[[0, 0]], line_type=[0]), 'lines: .*length zero'),
    (dict(junctions=[[10, 20], [10, 20]], lines=[[0, 1]], line_type=[0], faces=[]), 'lines: .*length zero'),
    (dict(lines=[[0, 1], [1, 0]], line_type=[0, 0]), 'lines: .*twice'),
    (dict(lines=[[0, 6]], line_type=[0]), 'lines: .*found 6'),
    (dict(lines=[[0, 1.5]], line_type=[0]), r'lines\[0\]: expected a pair of indices'),
    (dict(line_type=[0]), 'line_type: expected 7 types, one a line, found a list of 1'),
    (dict(line_type=[0, 0, 0, 0, 0, 0, 'gutter']), r"line_type\[6\]: .*found 'gutter'"),
    (dict(line_type=[0, 0, 0, 0, 0, 0, 8]), r'line_type\[6\]: .*found 8'),
    (dict(faces=[[0, 1, 9]]), 'faces: .*found 9'),
    (dict(faces=[3]), 'faces: expected lists'),
    (dict(occlusions=[[0.5, 0.2], *[None] * 6]), r'occlusions\[0\]: .*found \[0.5, 0.2\]'),
    (dict(occlusions=[None]), 'occlusions: expected 7'),
    (dict(heights=[1, 2]), 'heights: expected 6 numbers'),
    (dict(junction_types=[0, 0, 0, 0, 0, 300]), 'junction_types: .*300'),
    (dict(split='training'), "split: expected one of train, val, test, found 'training'"),
    (dict(width=0), 'width: .*found 0'),
    (dict(resolution=-0.2), 'resolution: .*found -0.2'),
    (dict(transform=[1, 2]), 'transform: expected six numbers'),
    (dict(crs=2154), 'crs: .*found 2154'),
    (dict(file='../a.png'), r"file: expected a path below images/, found '../a.png'"),
    (dict(linetype=[0]), 'linetype: no such key'),
])
def test_what_is_wrong_is_named_in_one_line(tmp_path, changes, message):
    with pytest.raises(UserError, match=message) as caught:
        read_annotations(written(tmp_path, **changes))
    text = str(caught.value)
    assert '\n' not in text and 'annotations.json' in text and str(changes.get('file', 'a.png')) in text


def test_missing_keys_broken_files_and_images_named_twice(tmp_path):
    with pytest.raises(UserError, match='no such file'):
        read_annotations(tmp_path)
    (tmp_path / 'annotations.json').write_text('{"images": [')
    with pytest.raises(UserError, match='not readable as JSON'):
        read_annotations(tmp_path)
    (tmp_path / 'annotations.json').write_text('{"annotations": []}')
    with pytest.raises(UserError, match='images: expected a list'):
        read_annotations(tmp_path)
    without = entry()
    del without['lines']
    with pytest.raises(UserError, match='a.png: lines: missing'):
        read_annotations(written(tmp_path, without))
    with pytest.raises(UserError, match='a.png twice'):
        read_annotations(written(tmp_path, entry(), entry()))
    with pytest.raises(UserError, match=r'images\[1\]: expected an object'):
        read_annotations(written(tmp_path, entry(), 7))


def test_real_roofs_read(shared_data):
    folder = shared_data / 'roofline' / 'roofgraph'
    if not folder.is_dir():
        pytest.skip('no real roofs in ../shared/data/roofline/roofgraph')
    annotations = read_annotations(folder)
    assert [sum(one.split == split for one in annotations) for split in ('train', 'val', 'test')] == [240, 60, 0]
    assert {int(kind) for one in annotations for kind in one.graph.types} == {0, 1}
