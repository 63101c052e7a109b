"""Splits that share no ground, folders that are whole or not there, and the tool over all of it."""

import json
import os
import runpy
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from projects.engine.errors import UserError
from projects.roofline.annotations import Annotation, read_annotations
from projects.roofline.graph import LINE_TYPES, RoofGraph
from projects.roofline.importing.reading import Imported, Reading
from projects.roofline.importing.splits import count_splits, draw_splits, group_names, join_overlaps
from projects.roofline.importing.writing import SplitOptions, split_images, write_import


def imported(folder, name, split='train', ground=None):
    folder.mkdir(exist_ok=True)
    Image.new('RGB', (20, 10), (len(name), 3, 5)).save(folder / name)
    graph = RoofGraph.make([[1, 1], [9, 1], [9, 9]], [[0, 1], [1, 2]])
    return Imported(Annotation(name, 20, 10, split, graph), folder / name, ground)


def test_shares_are_met_and_stable():
    names = [f'{number:04d}.png' for number in range(200)]
    splits = draw_splits(names, 0.2, 0.1)
    assert count_splits(splits) == '140 train, 40 val, 20 test'
    assert draw_splits(names[::-1], 0.2, 0.1)[::-1] == splits  # of the names, not of their order
    assert draw_splits(names, 0.2, 0.1, seed=1) != splits
    more = draw_splits([*names, 'new.png'], 0.2, 0.1)
    assert sum(one != other for one, other in zip(more, splits, strict=False)) <= 2


def test_sheets_stay_whole():
    names = [f'BK39_{sheet:03d}_{number}.jpg' for sheet in range(12) for number in range(1 + sheet % 5)]
    groups = group_names(names, r'^(.+)_\d+')
    assert set(groups) == {f'BK39_{sheet:03d}' for sheet in range(12)}
    splits = draw_splits(groups, 0.25, 0.25)
    for sheet in set(groups):
        assert len({split for group, split in zip(groups, splits, strict=True) if group == sheet}) == 1
    assert abs(splits.count('val') / len(splits) - 0.25) < 0.12
    assert {'train', 'val', 'test'} == set(splits)
    assert group_names(['a7.png'], r'\d') == ['7']
    with pytest.raises(UserError, match=r"--group: expected every name to match '\^B', found A.png"):
        group_names(['B.png', 'A.png'], '^B')
    with pytest.raises(UserError, match='--group: expected a regular expression'):
        group_names(['a'], '(')


def test_no_asked_split_stays_empty():
    assert sorted(draw_splits(['a', 'b', 'c'], 0.01, 0.01)) == ['test', 'train', 'val']
    assert set(draw_splits(['a', 'b'], 0.9, 0.0)) == {'train', 'val'}
    with pytest.raises(UserError, match='expected at least 3 groups of images that share no ground'):
        draw_splits(['a', 'b', 'a'], 0.2, 0.2)
    for val, test in ((-0.1, 0), (1, 0), (0.5, 0.5), (float('nan'), 0)):
        with pytest.raises(UserError, match='-share'):
            draw_splits(['a', 'b', 'c', 'd'], val, test)


def test_ground_is_never_shared(tmp_path):
    # Four images in a chain, one that only touches the last, one far away, one without a place.
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) @ [[0.9, 0.1], [-0.1, 0.9]]  # turned by some degrees
    step = square[1] - square[0]
    boxes = [square + k * step for k in (0.0, 0.8, 1.6, 2.4, 3.4)] + [square + 9.0, None]
    groups = join_overlaps(list('dcbaefg'), boxes)
    assert groups == ['a', 'a', 'a', 'a', 'e', 'f', 'g']
    images = [imported(tmp_path / 'in', f'{name}.png', ground=box)
              for name, box in zip('dcbaefg', boxes, strict=True)]
    reading = split_images(Reading(tuple(images)), SplitOptions(val_share=0.3, seed=2))
    assert len({image.annotation.split for image in reading.images[:4]}) == 1
    assert reading.notes[-1].startswith('splits: 4 groups of images that share no ground: ')


def test_splits_of_the_source_stay_unless_they_tear_a_sheet(tmp_path):
    images = (imported(tmp_path / 'in', 's1_a.png', 'val'), imported(tmp_path / 'in', 's1_b.png', 'train'))
    kept = split_images(Reading(images), SplitOptions())
    assert [image.annotation.split for image in kept.images] == ['val', 'train']
    with pytest.raises(UserError, match=r's1_a.png \(val\) and s1_b.png \(train\) share ground'):
        split_images(Reading(images), SplitOptions(group='^(.+)_'))


def test_a_written_import_is_read_again(tmp_path):
    images = [imported(tmp_path / 'in', 'a.png', 'val'), imported(tmp_path / 'in', 'b.png')]
    write_import(tmp_path / 'out', images)
    assert [(one.file, one.split) for one in read_annotations(tmp_path / 'out')] == [('a.png', 'val'),
                                                                                     ('b.png', 'train')]
    for name in ('a.png', 'b.png'):
        assert (tmp_path / 'out/images' / name).read_bytes() == (tmp_path / 'in' / name).read_bytes()
    assert (tmp_path / 'out').stat().st_mode & 0o777 == (tmp_path / 'in').stat().st_mode & 0o777
    with pytest.raises(UserError, match='expected an empty folder'):
        write_import(tmp_path / 'out', images)
    write_import(tmp_path / 'out', images[:1], link=True, overwrite=True)
    assert (tmp_path / 'out/images/a.png').is_symlink()
    assert sorted(os.listdir(tmp_path / 'out/images')) == ['a.png']
    inside = [replace(images[0], image=tmp_path / 'out/images/b.png')]
    write_import(tmp_path / 'out', images, overwrite=True)
    with pytest.raises(UserError, match='--link: expected images outside of'):
        write_import(tmp_path / 'out', inside, link=True, overwrite=True)


def test_nothing_half_written_and_nothing_lost(tmp_path):
    images = [imported(tmp_path / 'in', 'a.png'), imported(tmp_path / 'in', 'b.png')]
    (tmp_path / 'in/b.png').unlink()
    with pytest.raises(UserError, match='b.png: not copied: No such file'):
        write_import(tmp_path / 'out', images)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['in']
    write_import(tmp_path / 'out', images[:1])
    with pytest.raises(UserError, match='not copied'):
        write_import(tmp_path / 'out', images, overwrite=True)
    assert [one.file for one in read_annotations(tmp_path / 'out')] == ['a.png']
    assert sorted(path.name for path in tmp_path.iterdir()) == ['in', 'out']
    (tmp_path / 'out/notes.txt').write_text('mine')
    with pytest.raises(UserError, match='expected only an import to overwrite, found notes.txt'):
        write_import(tmp_path / 'out', images[:1], overwrite=True)
    with pytest.raises(UserError, match='expected an import to overwrite, found no annotations.json'):
        write_import(tmp_path / 'in', images[:1], overwrite=True)


def run_tool(repository, monkeypatch, capsys, *arguments):
    """Run the tool in this process; return its status and what it said."""
    monkeypatch.setattr(sys, 'argv', ['import.py', *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(repository / 'tools/roofline/import.py'), run_name='__main__')
    told = capsys.readouterr()
    return stop.value.code, told.out, told.err


def test_the_tool(repository, tmp_path, monkeypatch, capsys):
    records = [dict(filename=f's{number // 2}_{number}.png', width=20, height=10, lines=[[1, 1, 19, 9], [1, 1, 1, 9]])
               for number in range(8)]
    for record in records:
        Image.new('RGB', (20, 10)).save(tmp_path / record['filename'])
    (tmp_path / 'train.json').write_text(json.dumps(records))
    said = (tmp_path / 'train.json', '--format', 'wireframe', '--out', tmp_path / 'out')
    shares = ('--val-share', 0.25, '--test-share', 0.25, '--group', '^(.+)_')
    status, out, _ = run_tool(repository, monkeypatch, capsys, *said, *shares, '--dry-run')
    assert status == 0
    assert not (tmp_path / 'out').exists()
    status, out, _ = run_tool(repository, monkeypatch, capsys, *said, *shares)
    assert status == 0
    assert f'{tmp_path / "out"}: 4 train, 2 val, 2 test images with 24 junctions, 16 lines, 0 faces' in out
    splits = {annotation.file: annotation.split for annotation in read_annotations(tmp_path / 'out')}
    assert all(splits[f's{sheet}_{2 * sheet}.png'] == splits[f's{sheet}_{2 * sheet + 1}.png'] for sheet in range(4))
    assert len(list((tmp_path / 'out/images').iterdir())) == 8
    for more, message in ((('--order', 'yx'), 'look like (x, y), not (y, x)'),
                          (('--snap', '1e-5'), 'which looks like degrees'),
                          (('--resolution', '0.1'), '--resolution: expected with --format rid or roofgraph only'),
                          (('--images', tmp_path / 'none'), 'expected a folder of images'),
                          (('--format', 'coco'), 'invalid choice')):
        status, out, err = run_tool(repository, monkeypatch, capsys, *said[:3], '--out', tmp_path / 'x', *more)
        assert (status, out, err.count('\n')) == (2, '', 1)
        assert message in err
        assert not (tmp_path / 'x').exists()
    status, _, err = run_tool(repository, monkeypatch, capsys, tmp_path / 'x.geojson', '--format', 'rid', '--out',
                              tmp_path / 'x', '--crs', 'EPSG:x')
    assert (status, err.count('\n')) == (2, 1)
    assert "--crs: expected a CRS like EPSG:2154, found 'EPSG:x'" in err
    # The own layout, split anew.
    status, out, _ = run_tool(repository, monkeypatch, capsys, tmp_path / 'out', '--format', 'roofgraph', '--out',
                              tmp_path / 'again', '--val-share', 0.5, '--link')
    assert (status, out.splitlines()[-1]) == (
        0, f'{tmp_path / "again"}: 4 train, 4 val images with 24 junctions, 16 lines, 0 faces')
    np.testing.assert_array_equal(read_annotations(tmp_path / 'again')[0].graph.junctions,
                                  read_annotations(tmp_path / 'out')[0].graph.junctions)


def test_the_tool_takes_the_resolution_of_roof_graphs(repository, tmp_path, monkeypatch, capsys):
    source = tmp_path / 'roofs'
    source.mkdir()
    Image.new('RGB', (100, 100)).save(source / 'roof.png')
    verts = [[10, 10, 5], [90, 10, 5], [90, 50, 6.4], [10, 50, 6.4], [90, 90, 5], [10, 90, 5]]
    (source / 'roof.json').write_text(json.dumps(dict(verts=verts, faces=[[0, 1, 2, 3], [3, 2, 4, 5]])))
    said = (source, '--format', 'roofgraph', '--out', tmp_path / 'out')
    status, out, _ = run_tool(repository, monkeypatch, capsys, *said, '--dry-run')
    assert status == 0
    assert '1 of 1 roofs with heights have no metres a pixel' in out
    status, out, err = run_tool(repository, monkeypatch, capsys, *said, '--resolution', 50)
    assert (status, out) == (2, '')
    assert '--resolution: expected metres a pixel, 0.001 to 10, found 50' in err
    status, out, _ = run_tool(repository, monkeypatch, capsys, *said, '--resolution', 0.05)
    assert (status, out.count('\n')) == (0, 1)
    (annotation,) = read_annotations(tmp_path / 'out')
    assert annotation.resolution == 0.05
    assert 'ridge' in {LINE_TYPES[kind] for kind in annotation.graph.types}
