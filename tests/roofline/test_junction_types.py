"""A network of several types of junctions: from its maps to scores and files; one of a single type tells none."""

import json
from pathlib import Path

import numpy as np
import pyogrio.raw
import pytest
import shapely
import torch
from affine import Affine
from mmseg.structures import SegDataSample
from roof_networks import house, sample, small_roofmapnet

from projects.engine.errors import UserError
from projects.roofline.decoding import decode_maps
from projects.roofline.geometry.place import Place
from projects.roofline.graph import RoofGraph
from projects.roofline.hooks import WireframeWriterHook, wireframe_record
from projects.roofline.labels import cells_of, draw_maps
from projects.roofline.metrics.metric import WireframeMetric
from projects.roofline.samples import wireframe_of
from projects.roofline.vectorizing.geopackage import write_geopackage
from projects.roofline.vectorizing.merging import Tile, merge_tiles
from projects.roofline.vectorizing.oracle import write_position_raster
from projects.roofline.vectorizing.roof_plan import RoofPlan
from projects.roofline.vectorizing.tiles import Tiling
from projects.roofline.vectorizing.vectorize import VectorOptions, vectorize
from projects.roofline.wireframe import Wireframe

GRAPH = RoofGraph.make([[20, 20], [100, 20], [100, 60], [20, 60]], [[0, 1], [1, 2], [2, 3], [3, 0]],
                       junction_types=[0, 1, 1, 0])


def output(types=None, graph=GRAPH, name='a'):
    """The truth, with types of the junctions or none."""
    found = SegDataSample(metainfo=dict(sample_id=name, graph=graph, ori_shape=(80, 120)))
    found.pred_junctions = torch.tensor(graph.junctions)
    found.pred_junction_scores = torch.tensor([0.9, 0.8, 0.7, 0.6])
    found.pred_lines = torch.tensor(graph.lines)
    found.pred_line_scores = torch.tensor([0.9, 0.8, 0.7, 0.6])
    if types is not None:
        found.pred_junction_types = torch.tensor(types)
    return found


def scores(*samples):
    metric = WireframeMetric(heat_map=False)
    metric.process(None, [one.to_dict() for one in samples])
    return metric.compute_metrics(metric.results)


@pytest.mark.parametrize(('types', 'expected'), [
    (None, 100), ([0, 1, 1, 0], 100), ([1, 0, 0, 1], 0), ([2, 2, 2, 2], 0),
    ([0, 1, 0, 1], 50)])  # the two best of four
def test_only_junctions_of_one_type_match(types, expected):
    found = scores(output(types))
    assert found.pop('mAPJ') == expected
    without = scores(output())
    without.pop('mAPJ')
    assert found == without  # lines have no part in it


def test_a_junction_of_another_type_does_not_stand_in_the_way():
    graph = RoofGraph.make(GRAPH.junctions, GRAPH.lines, junction_types=[0, 0, 0, 0])
    assert scores(output([0, 0, 0, 0], graph))['mAPJ'] == 100 and scores(output([1, 1, 1, 1], graph))['mAPJ'] == 0
    near = RoofGraph.make([[20, 20], [21, 20], [100, 60], [20, 60]], GRAPH.lines, junction_types=[0, 1, 1, 0])
    swapped = output([1, 0, 1, 0], near)  # each is a pixel from the one of its type, and on the other one
    swapped.set_metainfo(dict(ori_shape=(128, 128)))
    metric = WireframeMetric(heat_map=False)
    metric.process(None, [swapped.to_dict()])
    assert metric.results[0].image.junction_hits.tolist() == [[False, False, True, True]] * 2 + [[True] * 4]


def test_files_of_a_test_tell_types_where_there_are_several(tmp_path: Path):
    WireframeWriterHook(str(tmp_path)).after_test_iter(None, 0, None, [output([0, 1, 1, 0], name='a'),
                                                                       output(name='b')])
    several, one = (json.loads((tmp_path / f'{name}.json').read_text()) for name in 'ab')
    assert several.pop('junction_types') == [0, 1, 1, 0]
    assert {**several, 'sample_id': 'b'} == one and 'junction_types' not in one


def test_bad_types_are_refused():
    one = output().to_dict()
    with pytest.raises(UserError, match='sample a: pred_junction_types: expected 4 types, found 3'):
        wireframe_of({**one, 'sample_id': 'a', 'pred_junction_types': torch.tensor([0, 1, 1])})


@pytest.mark.parametrize('types', [1, 2])
def test_a_network_tells_types_where_it_has_several(types):
    torch.manual_seed(0)
    model = small_roofmapnet(types=types, detection=dict(junctions=20, line_limit=50)).eval()
    with torch.no_grad():
        answer = model(torch.randn(2, 3, 64, 64), [sample(house(), types=types) for _ in 'ab'], mode='predict')[0]
    frame = wireframe_of(answer)
    assert ('pred_junction_types' in answer) == ('junction_types' in wireframe_record(answer)) == (types == 2)
    if types == 1:
        assert frame.junction_types is None
    else:
        types = answer.pred_junction_types.tolist()  # told also where this image has only one of them
        assert len(types) > 2 and frame.junction_types.tolist() == types


@pytest.mark.parametrize('types', [1, 2])
def test_maps_of_labels_give_back_the_types(types):
    maps = draw_maps(cells_of(GRAPH, 4), GRAPH.lines, (20, 30), GRAPH.junction_types, types)
    frame = decode_maps(maps.jmap, maps.joff, maps.lmap)
    if types == 1:
        assert frame.junction_types is None
    else:
        at = np.linalg.norm(frame.junctions[:, None] - GRAPH.junctions, axis=2).argmin(axis=1)
        assert len(frame.junctions) == 4 and frame.junction_types.tolist() == GRAPH.junction_types[at].tolist()


def test_types_follow_their_junctions():
    frame = Wireframe.make([[0, 0], [9, 0], [9, 9], [0, 9]], [[2, 3], [0, 1]], [0.9, 0.2], junction_types=[3, 2, 1, 0])
    assert frame.moved(1, 1).junction_types.tolist() == [3, 2, 1, 0]
    assert frame.above(0.5).junction_types.tolist() == [1, 0]
    assert Wireframe.make([[0, 0]]).above(0.5).junction_types is None


def test_merged_junctions_have_the_type_of_the_best_one():
    def tile(left, ends, scores, types):
        return Tile(left, 0, 100, 100, Wireframe.make(ends, [[0, 1]], None, scores, types))

    one = tile(0, [[85, 20], [95, 60]], [0.6, 0.9], [1, 1])
    other = tile(80, [[87, 20], [95, 60.5]], [0.7, 0.5], [2, 2])
    across = tile(0, [[20, 20], [60, 60]], [1, 1], [0, 0]), tile(0, [[60, 20], [20, 60]], [1, 1], [0, 0])
    for tiles in ([one, other, *across], [*across, other, one]):
        frame = merge_tiles(tiles, (100, 180), 3.0)
        found = {tuple(place): kind for place, kind in zip(frame.junctions.round().tolist(), frame.junction_types)}
        assert found[86, 20] == 2 and found[95, 60] == 1 and found[40, 40] == -1 and found[20, 20] == 0
    assert merge_tiles([], (100, 180), 3.0).junction_types is None


class Square:
    """A network that finds a square of two types of junctions in every tile, or tells no types."""

    def __init__(self, types):
        self.types = types

    def __call__(self, tiles):
        return [Wireframe.make([[10, 10], [40, 10], [40, 40], [10, 40]], [[0, 1], [1, 2], [2, 3], [3, 0]],
                               junction_types=self.types) for _ in tiles]


@pytest.mark.parametrize('types', [None, [1, 0, 2, 0]])
def test_a_geopackage_tells_types_where_there_are_several(tmp_path: Path, types):
    folder = tmp_path / 'images'
    folder.mkdir()
    write_position_raster(folder / 'b.tif', (64, 64), Affine(0.5, 0, 0, 0, -0.5, 0), 'EPSG:2154')
    vectorize(Square(types), folder, tmp_path / 'a.gpkg', VectorOptions(Tiling(64, 16)))
    meta, _, geometry, fields = pyogrio.raw.read(tmp_path / 'a.gpkg', layer='junctions')
    names = list(meta['fields'])
    assert names == ['image', 'score', 'degree', *([] if types is None else ['type'])]
    if types is not None:
        places = shapely.get_coordinates(shapely.from_wkb(geometry)).tolist()
        found = {tuple(place): kind for place, kind in zip(places, fields[names.index('type')].tolist())}
        assert found == {(5, -5): 1, (20, -5): 0, (20, -20): 2, (5, -20): 0}


def test_a_geopackage_of_an_image_without_anything_before_one_of_types(tmp_path: Path):
    place = Place()
    plans = [RoofPlan.of('empty.tif', Wireframe.make([]), place),
             RoofPlan.of('b.tif', Square([1, 0, 2, 0])(range(1))[0], place)]
    write_geopackage(tmp_path / 'a.gpkg', plans)
    meta, _, _, fields = pyogrio.raw.read(tmp_path / 'a.gpkg', layer='junctions')
    assert dict(zip(meta['fields'], fields))['type'].tolist() == [1, 0, 2, 0]
