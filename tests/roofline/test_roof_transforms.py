"""Image and graph move together: seen in painted lines, in drawn maps, and in coordinates that come back."""

import cv2
import numpy as np
import pytest
import torch
from mmseg.registry import TRANSFORMS
from PIL import Image
from scipy.ndimage import map_coordinates

from projects.engine.errors import UserError
from projects.engine.random_state import random_state, seed_cpu, set_random_state
from projects.roofline.datasets.affine import after_letterbox, quarter_turns, rotation, scaling
from projects.roofline.datasets.transforms import (
    LetterboxRoof,
    LoadRoofImage,
    PackRoofline,
    RandomQuarterTurn,
    RandomRoofCrop,
    RandomRoofFlip,
    RandomRoofRotation,
)
from projects.roofline.graph import RoofGraph
from projects.roofline.labels import cells_of, draw_maps

SIZE = (180, 240)  # height, width
TRIANGLE = [[31.3, 22.7], [201.9, 60.2], [90.4, 151.6]]


def painted(graph, size=SIZE, width=4.0):
    """An image with a white line of `width` px where each line of the graph is, on black."""
    y, x = np.mgrid[:size[0], :size[1]] + 0.5
    level = np.zeros(size)
    for first, second in graph.segments():
        step = second - first
        share = np.clip(((x - first[0]) * step[0] + (y - first[1]) * step[1]) / (step @ step), 0, 1)
        distance = np.hypot(x - first[0] - share * step[0], y - first[1] - share * step[1])
        level = np.maximum(level, np.clip(width / 2 + 0.5 - distance, 0, 1))
    return np.repeat(np.rint(255 * level).astype(np.uint8)[..., None], 3, axis=2)


def off_the_line(image, segment, reach=5.0):
    """How far the paint lies beside a line, px: mean and largest over places in its middle part, by centre of mass."""
    step = (segment[1] - segment[0]) / np.linalg.norm(segment[1] - segment[0])
    across = np.linspace(-reach, reach, 201)
    found = []
    for share in np.linspace(0.25, 0.75, 15):
        middle = segment[0] + share * (segment[1] - segment[0])
        points = middle + across[:, None] * np.array([-step[1], step[0]])
        values = map_coordinates(image[..., 0].astype(float), points[:, ::-1].T - 0.5, order=1)
        assert values.max() > 200
        found.append((values * across).sum() / values.sum())
    return abs(np.mean(found)), np.abs(found).max()


def sample(graph=None, size=SIZE):
    graph = RoofGraph.make(TRIANGLE, [[0, 1], [1, 2], [2, 0]], heights=[2.0, 3.0, 4.0]) if graph is None else graph
    return dict(img=painted(graph, size), graph=graph, img_shape=size, ori_shape=size, letterbox=(1.0, 0.0, 0.0),
                source_graph=graph, sample_id='triangle')


@pytest.mark.parametrize('transform', [
    dict(type='RandomRoofFlip', prob=1.0, directions=('horizontal',)),
    dict(type='RandomRoofFlip', prob=1.0, directions=('vertical',)),
    dict(type='RandomRoofFlip', prob=1.0),
    dict(type='RandomQuarterTurn', prob=1.0),
    dict(type='RandomRoofRotation', limit=40, prob=1.0),
    dict(type='RandomRoofCrop', size=(150, 200), scale=(0.7, 0.9)),
    dict(type='RandomRoofCrop', size=256, scale=(1.1, 1.4)),
    dict(type='RandomRoofCrop', size=400, scale=(0.5, 1.5)),
    dict(type='LetterboxRoof', size=128),
    dict(type='LetterboxRoof', size=(200, 333)),
])
def test_painted_lines_lie_on_the_moved_graph(transform):
    seed_cpu(3)
    transform = TRANSFORMS.build(transform)
    for _ in range(4):
        results = transform(sample())
        assert results['img'].shape[:2] == results['img_shape'] and results['img'].dtype == np.uint8
        results['graph'].check(results['img_shape'], 'moved')
        counted = 0
        for segment in results['graph'].segments():
            if np.linalg.norm(segment[1] - segment[0]) > 40:
                mean, largest = off_the_line(np.where(results['img'] == (124, 116, 104), 0, results['img']), segment)
                assert mean < 0.06 and largest < 0.35  # of one place: the paint itself has steps
                counted += 1
        assert counted >= 1


def maps_of(graph, size):
    return draw_maps(cells_of(graph, 4), graph.lines, (size[0] // 4, size[1] // 4))


def test_drawing_a_flipped_graph_is_flipping_its_drawing():
    before = maps_of(sample()['graph'], SIZE)
    across = maps_of(RandomRoofFlip(1.0, ('horizontal',))(sample())['graph'], SIZE)
    np.testing.assert_allclose(across.lmap, before.lmap[:, ::-1], atol=1e-5)
    np.testing.assert_array_equal(across.jmap, before.jmap[..., ::-1])
    np.testing.assert_allclose(across.joff[:, 0], before.joff[:, 0, :, ::-1], atol=1e-5)
    np.testing.assert_allclose(across.joff[:, 1], -before.joff[:, 1, :, ::-1], atol=1e-5)
    down = maps_of(RandomRoofFlip(1.0, ('vertical',))(sample())['graph'], SIZE)
    np.testing.assert_allclose(down.lmap, before.lmap[::-1], atol=1e-5)
    np.testing.assert_allclose(down.joff[:, 0], -before.joff[:, 0, ::-1], atol=1e-5)


def test_a_flip_is_width_minus_x():
    flipped = RandomRoofFlip(1.0, ('horizontal',))(sample())
    np.testing.assert_allclose(flipped['graph'].junctions[0], [SIZE[1] - 31.3, 22.7])
    np.testing.assert_array_equal(flipped['img'], sample()['img'][:, ::-1])
    assert flipped['graph'].lines.tolist() == [[0, 1], [1, 2], [2, 0]]
    assert flipped['letterbox'] is None  # predictions on it cannot be put back by a scale and a shift


@pytest.mark.parametrize('turns', [1, 2, 3])
def test_drawing_a_turned_graph_is_turning_its_drawing(turns):
    graph = sample()['graph']
    size = SIZE if turns == 2 else SIZE[::-1]
    turned = maps_of(graph.moved(quarter_turns(turns, SIZE)), size)
    before = maps_of(graph, SIZE)
    np.testing.assert_allclose(turned.lmap, np.rot90(before.lmap, turns), atol=1e-5)
    np.testing.assert_array_equal(turned.jmap[0], np.rot90(before.jmap[0], turns))


def test_quarter_turns_come_in_all_kinds_and_are_those_of_numpy():
    seed_cpu(0)
    image = sample()['img']
    found = set()
    for _ in range(30):
        turned = RandomQuarterTurn(1.0)(sample())['img']
        found |= {turns for turns in range(4) if np.array_equal(turned, np.rot90(image, turns))}
    assert found == {1, 2, 3}


def test_drawing_a_cropped_graph_is_cropping_its_drawing():
    seed_cpu(5)
    graph = sample()['graph']
    before = maps_of(graph, SIZE)
    moved = graph.moved(scaling(1.0, -40, -20)).clipped((120, 160))
    inside = maps_of(moved, (120, 160)).lmap
    np.testing.assert_allclose(inside[1:-1, 1:-1], before.lmap[5:35, 10:50][1:-1, 1:-1], atol=1e-5)
    assert len(moved.junctions) > 3  # cut ends


def test_a_rotation_turns_against_the_clock_about_the_middle():
    np.testing.assert_allclose(rotation(90, (50, 40)) @ [60, 40, 1], [50, 30], atol=1e-12)  # from the right to the top
    np.testing.assert_allclose(rotation(33, (50, 40)) @ [50, 40, 1], [50, 40], atol=1e-12)


@pytest.mark.parametrize('shape', [(545, 502), (333, 212), (37, 91), (1000, 3)])
@pytest.mark.parametrize('size', [256, (128, 320)])
def test_letterbox_coordinates_come_back(shape, size):
    points = np.random.default_rng(0).uniform(0, 1, (20, 2)) * shape[::-1]
    graph = RoofGraph.make(points, [[i, i + 1] for i in range(19)])
    results = LetterboxRoof(size)(dict(img=np.zeros((*shape, 3), np.uint8), graph=graph, letterbox=(1.0, 0.0, 0.0)))
    height, width = (size, size) if isinstance(size, int) else size
    assert results['img'].shape == (height, width, 3)
    scale, dx, dy = results['letterbox']
    assert scale == min(height / shape[0], width / shape[1])  # one factor, of the tighter side, exactly
    np.testing.assert_allclose((results['graph'].junctions - (dx, dy)) / scale, points, atol=1e-9)
    centre = np.array([shape[1], shape[0]]) / 2 * scale + (dx, dy)
    assert np.abs(centre - (width / 2, height / 2)).max() <= 1
    outside = np.ones((height, width), bool)
    outside[round(dy):round(dy + shape[0] * scale) + 1, round(dx):round(dx + shape[1] * scale) + 1] = False
    assert (results['img'][outside] == (124, 116, 104)).all()


def test_letterboxes_and_crops_add_up():
    seed_cpu(1)
    results = RandomRoofCrop(96, (0.5, 0.9))(LetterboxRoof(150)(sample()))
    scale, dx, dy = results['letterbox']
    every = {tuple(np.round(point, 6)) for point in results['graph'].junctions}
    kept = [point for point in np.array(TRIANGLE) * scale + (dx, dy) if (point > 0).all() and (point < 96).all()]
    assert kept and all(tuple(np.round(point, 6)) in every for point in kept)
    assert after_letterbox((2.0, 5.0, 6.0), rotation(10, (0, 0))) is None


def test_crops_show_lines_where_there_are_any_and_cover_small_images():
    graph = RoofGraph.make([[5, 5], [30, 5]], [[0, 1]])
    seed_cpu(2)
    shown = {lines: np.mean([len(RandomRoofCrop(60, (1.0, 1.0), lines)(sample(graph, (90, 90)))['graph'].lines)
                             for _ in range(40)]) for lines in (0, 1)}
    assert shown[0] < 0.4 and shown[1] > 0.75  # a fifth of all windows shows it; ten draws find it
    without = RandomRoofCrop(60, (1.0, 1.0))(sample(RoofGraph.make([], []), (90, 90)))
    assert without['graph'].empty and without['img'].shape == (60, 60, 3)
    small = RandomRoofCrop(120, (1.0, 1.0))(sample(graph, (90, 80)))
    scale, dx, dy = small['letterbox']
    assert (scale, dx >= 0, dy >= 0) == (1.0, True, True)
    np.testing.assert_array_equal(small['img'][int(dy):int(dy) + 90, int(dx):int(dx) + 80], painted(graph, (90, 80)))


def test_crop_scales_are_drawn_evenly_on_a_logarithmic_scale():
    seed_cpu(0)
    factors = [RandomRoofCrop(64, (0.5, 2.0))(sample())['letterbox'][0] for _ in range(300)]
    assert 0.5 <= min(factors) < 0.55 and 1.8 < max(factors) <= 2.0 and abs(np.median(np.log(factors))) < 0.15


def test_the_same_seed_gives_the_same_view_also_in_the_middle_of_a_run():
    steps = [RandomRoofFlip(), RandomQuarterTurn(), RandomRoofRotation(), RandomRoofCrop(128)]

    def run():
        results = sample()
        for step in steps:
            results = step(results)
        return results

    seed_cpu(7)
    run()
    state = random_state()
    first, second = run(), run()
    set_random_state(state)
    again, later = run(), run()
    for one, two in ((first, again), (second, later)):
        np.testing.assert_array_equal(one['img'], two['img'])
        np.testing.assert_array_equal(one['graph'].junctions, two['graph'].junctions)
    assert not np.array_equal(first['img'], second['img'])


def test_without_truth_the_image_moves_alone():
    results = dict(sample(), graph=None, source_graph=None)
    for step in (RandomRoofFlip(1.0), RandomQuarterTurn(1.0), RandomRoofRotation(20, 1.0), RandomRoofCrop(96),
                 LetterboxRoof(64)):
        results = step(results)
    packed = PackRoofline()(results)
    assert packed['inputs'].shape == (3, 64, 64)
    assert packed['data_samples'].get('graph') is None and 'lmap' not in packed['data_samples']


def test_packing_draws_the_maps_of_the_moved_graph_and_keeps_the_file_s():
    results = LetterboxRoof(128)(sample())
    packed = PackRoofline(stride=4)(results)
    data = packed['data_samples']
    assert packed['inputs'].dtype == torch.uint8 and packed['inputs'].shape == (3, 128, 128)
    np.testing.assert_array_equal(packed['inputs'].numpy(), results['img'].transpose(2, 0, 1))
    maps = maps_of(results['graph'], (128, 128))
    np.testing.assert_array_equal(data.lmap.numpy(), maps.lmap)
    np.testing.assert_array_equal(data.joff.numpy(), maps.joff)
    scale, dx, dy = data.letterbox
    np.testing.assert_allclose(data.junctions[:, :2].numpy() * 4, (np.array(TRIANGLE) * scale + (dx, dy))[:, ::-1],
                               rtol=1e-5)
    assert data.junctions[:, 2].tolist() == [0, 0, 0] and data.lines.tolist() == [[0, 1], [1, 2], [2, 0]]
    assert data.lines.dtype == data.negatives.dtype == torch.int64 and data.negatives.shape == (0, 2)
    assert data.occlusions.dtype == torch.float32 and torch.isnan(data.occlusions).all()
    assert data.graph.junctions.tolist() == TRIANGLE and data.ori_shape == SIZE and data.img_shape == (128, 128)
    # decoded as the contract says: cell + offset + 1/2
    cells = np.argwhere(data.jmap[0].numpy() > 0)
    decoded = cells + data.joff[0].numpy()[:, cells[:, 0], cells[:, 1]].T + 0.5
    assert np.abs(np.sort(decoded, axis=0) - np.sort(data.junctions[:, :2].numpy(), axis=0)).max() < 1e-5


def test_types_of_junctions_and_hard_negatives():
    square = RoofGraph.make([[8, 8], [56, 8], [56, 56], [8, 56]], [[0, 1], [1, 2], [2, 3], [3, 0]],
                            junction_types=[0, 1, 0, 1])
    results = sample(square, (64, 64))
    data = PackRoofline(n_types=2)(dict(results))['data_samples']
    assert data.jmap.shape == (2, 16, 16) and data.jmap.sum(dim=(1, 2)).tolist() == [2, 2]
    assert sorted(map(tuple, data.negatives.tolist())) == [(0, 2), (1, 3)]  # the diagonals
    assert PackRoofline()(dict(results))['data_samples'].jmap.shape == (1, 16, 16)
    assert len(PackRoofline(negatives=1)(dict(results))['data_samples'].negatives) == 1
    with pytest.raises(UserError, match='n_types 2: found a junction of type 3'):
        PackRoofline(n_types=2)(sample(RoofGraph.make([[1, 1], [9, 9]], [[0, 1]], junction_types=[3, 0]), (64, 64)))


def test_an_image_without_lines_is_packed_with_empty_targets():
    data = PackRoofline()(sample(RoofGraph.make([], []), (64, 64)))['data_samples']
    assert data.junctions.shape == (0, 3) and data.lines.shape == (0, 2) and data.negatives.shape == (0, 2)
    assert data.occlusions.shape == (0, 2) and data.line_types.shape == (0,)
    assert data.lmap.sum() == 0 and data.jmap.shape == (1, 16, 16) and data.joff.abs().sum() == 0


def test_sides_that_are_no_multiples_of_the_stride_are_refused():
    with pytest.raises(UserError, match='multiples of stride 4, found 62x64 px'):
        PackRoofline()(sample(RoofGraph.make([[1, 1], [9, 9]], [[0, 1]]), (64, 62)))


def test_loading_checks_the_size_and_reads_what_was_written(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'a.png')
    graph = RoofGraph.make([[1, 1], [9, 9]], [[0, 1]])
    results = LoadRoofImage()(dict(img_path=str(tmp_path / 'a.png'), graph=graph, ori_shape=(20, 30)))
    np.testing.assert_array_equal(results['img'], pixels)
    assert results['letterbox'] == (1, 0, 0) and results['source_graph'] is graph and results['img_shape'] == (20, 30)
    with pytest.raises(UserError, match='a.png: expected 20x30 px, as its annotation says, found 30x20 px'):
        LoadRoofImage()(dict(img_path=str(tmp_path / 'a.png'), ori_shape=(30, 20)))
    deep = (pixels[..., 0].astype(np.uint16) * 16)
    cv2.imwrite(str(tmp_path / 'deep.png'), deep)
    read = LoadRoofImage(bands=(1, 1, 1), value_range=(0, 4080))(dict(img_path=str(tmp_path / 'deep.png')))
    assert read['img'].dtype == np.uint8 and read['graph'] is None
    np.testing.assert_array_equal(read['img'][..., 1], pixels[..., 0])


@pytest.mark.parametrize(('transform', 'message'), [
    (dict(type='RandomRoofFlip', prob=2), 'RandomRoofFlip: prob'),
    (dict(type='RandomRoofFlip', directions=('diagonal',)), 'RandomRoofFlip: directions'),
    (dict(type='RandomRoofRotation', limit=200), 'RandomRoofRotation: limit'),
    (dict(type='RandomRoofCrop', size=0), 'RandomRoofCrop: size'),
    (dict(type='RandomRoofCrop', size=64, scale=(2, 1)), 'RandomRoofCrop: scale'),
    (dict(type='LetterboxRoof', size=(1, 2, 3)), 'LetterboxRoof: size'),
    (dict(type='PackRoofline', stride=0), 'PackRoofline: stride'),
    (dict(type='PasteOccluders', number=(3, 1)), 'PasteOccluders: number'),
    (dict(type='PasteOccluders', number=(0.5, 1)), 'PasteOccluders: number'),
    (dict(type='LoadRoofImage', bands=(1, 2)), 'LoadRoofImage: bands'),
])
def test_wrong_arguments_are_named(transform, message):
    with pytest.raises(UserError, match=message):
        TRANSFORMS.build(transform)
