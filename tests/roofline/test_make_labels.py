"""Whole folders between the graph layout and the seed's, by the tool."""

import runpy
import sys

import numpy as np
import pytest
from PIL import Image

from projects.engine.errors import UserError
from projects.roofline.annotations import Annotation, read_annotations, write_annotations
from projects.roofline.graph import RoofGraph
from projects.roofline.label_folder import write_label_folder
from projects.roofline.npz_labels import read_npz

ROOF = RoofGraph.make([[10, 20], [110, 20], [110, 70], [10, 80]], [[0, 1], [1, 2], [2, 3], [3, 0]],
                      types=['eave', 'verge', 'eave', 'verge'], faces=[(0, 1, 2, 3)], junction_types=[0, 1, 0, 1])


@pytest.fixture
def graph_folder(tmp_path):
    """Three images: 120 x 90, 64 x 128 without lines, and one in a subfolder, of the test split."""
    root = tmp_path / 'graphs'
    annotations = [Annotation('a.jpg', 120, 90, 'train', ROOF),
                   Annotation('b.png', 64, 128, 'val', RoofGraph.make([], [])),
                   Annotation('sheet/a.png', 120, 90, 'test', ROOF)]
    (root / 'images/sheet').mkdir(parents=True)
    for annotation in annotations:
        pixels = np.full((annotation.height, annotation.width, 3), 200, np.uint8)
        pixels[:, :annotation.width // 2] = (10, 20, 30)
        Image.fromarray(pixels).save(root / 'images' / annotation.file)
    write_annotations(root, annotations)
    return root


@pytest.fixture
def tool(repository, monkeypatch, capsys):
    def call(*arguments) -> str:
        path = repository / 'tools/roofline/make_labels.py'
        monkeypatch.setattr(sys, 'argv', [str(path), *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(path), run_name='__main__')
        told = capsys.readouterr()
        if stop.value.code:
            assert stop.value.code == 2 and told.err.count('\n') == 1 and told.err.startswith('error: ')
            return told.err.strip()
        return told.out.strip()
    return call


def test_there(graph_folder, tool, tmp_path):
    out = tmp_path / 'seed'
    assert tool(graph_folder, '--out', out) == f'{out}: 1 train, 1 valid, 1 test images with labels'
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob('*') if path.is_file())
    assert files == ['test/sheet_a.png', 'test/sheet_a_label.npz', 'train/a.png', 'train/a_label.npz', 'valid/b.png',
                     'valid/b_label.npz']
    assert not list(tmp_path.glob('.*'))  # nothing temporary is left

    pixels = np.asarray(Image.open(out / 'test/sheet_a.png'))
    assert pixels.shape == (512, 512, 3)
    assert pixels[256, 100].tolist() == [10, 20, 30] and pixels[256, 400].tolist() == [200, 200, 200]
    assert len(np.unique(pixels[:64].reshape(-1, 3), axis=0)) == 1  # 512 x 384 in the middle: 64 rows of frame
    assert pixels[64, 100].tolist() == [10, 20, 30]
    graph = read_npz(out / 'test/sheet_a_label.npz', (512, 512))
    np.testing.assert_allclose(graph.junctions, ROOF.junctions * 512 / 120 + [0, 64], atol=1e-3)
    with np.load(out / 'test/sheet_a_label.npz') as arrays:
        assert arrays['lmap'].shape == (128, 128) and arrays['Lneg'].shape == (2, 2)
        assert arrays['junc'][:, 2].tolist() == [0, 0, 0, 0]
    assert read_npz(out / 'valid/b_label.npz', (512, 512)).empty


def test_and_back(graph_folder, tool, tmp_path):
    tool(graph_folder, '--out', tmp_path / 'seed', '--image-size', 256, '--map-size', 32, '--types', 2,
         '--negatives', 1)
    with np.load(tmp_path / 'seed/train/a_label.npz') as arrays:
        assert arrays['jmap'].shape == (2, 32, 32) and arrays['Lneg'].shape == (1, 2)
    assert tool(tmp_path / 'seed', '--to-graph', '--out', tmp_path / 'back') == f'{tmp_path / "back"}: 3 images with ' \
                                                                               '8 lines'
    back = {annotation.split: annotation for annotation in read_annotations(tmp_path / 'back')}
    assert [back[split].file for split in ('train', 'val', 'test')] == ['a.png', 'b.png', 'sheet_a.png']
    assert (back['train'].width, back['train'].height) == (256, 256)
    graph = back['train'].graph
    np.testing.assert_allclose(graph.junctions, ROOF.junctions * 256 / 120 + [0, 32], atol=1e-3)
    assert graph.lines.tolist() == ROOF.lines.tolist() and graph.types.tolist() == ROOF.types.tolist()
    assert graph.faces == ROOF.faces and graph.junction_types.tolist() == [0, 1, 0, 1]
    assert back['val'].graph.empty

    tool(tmp_path / 'back', '--out', tmp_path / 'again', '--image-size', 256, '--map-size', 32, '--types', 2)
    for name in ('train/a', 'valid/b', 'test/sheet_a'):
        first, second = (np.load(tmp_path / folder / f'{name}_label.npz') for folder in ('seed', 'again'))
        with first, second:
            for key in ('jmap', 'joff', 'lmap', 'junc', 'Lpos'):
                np.testing.assert_allclose(first[key], second[key], atol=1e-5)
        np.testing.assert_array_equal(*(np.asarray(Image.open(tmp_path / folder / f'{name}.png'))
                                        for folder in ('seed', 'again')))


def test_bad_input_is_one_line_and_writes_nothing(graph_folder, tool, tmp_path):
    out = tmp_path / 'seed'
    before = sorted(tmp_path.iterdir())
    assert 'annotations.json: no such file' in tool(tmp_path, '--out', out)
    assert 'expected the folders train and valid' in tool(graph_folder, '--out', out, '--to-graph')
    assert '--image-size: expected 1 or more, found 0' in tool(graph_folder, '--out', out, '--image-size', 0)
    assert '--map-size: expected at most --image-size 64' in tool(graph_folder, '--out', out, '--image-size', 64)
    assert '--types: expected without --to-graph' in tool(graph_folder, '--out', out, '--to-graph', '--types', 2)
    assert 'expected a new or empty folder' in tool(graph_folder, '--out', graph_folder)
    assert 'expected a new or empty folder' in tool(graph_folder, '--out', graph_folder, '--to-graph')
    (graph_folder / 'images/b.png').rename(tmp_path / 'b.png')
    assert f'{graph_folder}/images/b.png: no such file' in tool(graph_folder, '--out', out)
    (tmp_path / 'b.png').rename(graph_folder / 'images/b.png')
    Image.new('RGB', (128, 64)).save(graph_folder / 'images/b.png')
    assert 'expected 64x128 px, as its annotation says, found 128x64 px' in tool(graph_folder, '--out', out)
    (graph_folder / 'images/b.png').write_bytes(b'no image')
    assert 'images/b.png' in tool(graph_folder, '--out', out)
    assert sorted(tmp_path.iterdir()) == before


def test_classes_of_junctions_that_are_too_many(graph_folder, tmp_path):
    roof = RoofGraph.make(ROOF.junctions, ROOF.lines, junction_types=[0, 1, 2, 0])
    write_annotations(graph_folder, [Annotation('a.jpg', 120, 90, 'train', roof)])
    with pytest.raises(UserError, match='a.jpg: junction_types: expected classes below --types 2, found 2'):
        write_label_folder(graph_folder, tmp_path / 'seed', n_types=2)


def test_two_images_that_would_have_one_name(graph_folder, tmp_path):
    (graph_folder / 'images/a.png').write_bytes((graph_folder / 'images/sheet/a.png').read_bytes())
    write_annotations(graph_folder, [Annotation('a.jpg', 120, 90, 'train', ROOF),
                                     Annotation('a.png', 120, 90, 'train', ROOF)])
    with pytest.raises(UserError, match='found a.jpg and a.png, which would both be train/a.png'):
        write_label_folder(graph_folder, tmp_path / 'seed')


def test_an_existing_empty_folder_is_taken(graph_folder, tmp_path):
    (tmp_path / 'seed').mkdir()
    assert write_label_folder(graph_folder, tmp_path / 'seed', 64, 16) == dict(train=1, valid=1, test=1)
    assert (tmp_path / 'seed/valid/b_label.npz').is_file()
