"""Streaming a tile through patches: known answers of fake networks come back at the right points, without seams."""

from pathlib import Path

import numpy as np
import pytest
from small_store import small_store

from projects.lidar.prediction import streaming, strips
from projects.lidar.prediction.answers import gated_answers, mean_answers
from projects.lidar.prediction.gate import Gate
from projects.lidar.prediction.interpolation import spread
from projects.lidar.prediction.streaming import TileStream
from projects.lidar.prediction.strips import StripAccumulator
from projects.lidar.prediction.unreached import nearest_reached
from projects.lidar.prediction.window import centre_weights
from projects.lidar.store import Tile

CLASSES = 30
POINTS = {'50': 256, '100': 256, '150': 512}


@pytest.fixture(scope='module')
def tile(tmp_path_factory: pytest.TempPathFactory) -> Tile:
    """A 200 m tile in one block, 4,000 points."""
    store = small_store(tmp_path_factory.mktemp('store'), tiles=1, block_size=1000.0, split=False)
    return store.tiles['tile_00']


def by_height(patches):
    """A network that tells roofs, trees and ground by absolute z (the tile's ground lies at 100 m)."""
    answers = []
    for patch in patches:
        z = patch.xyz[:, 2] + patch.centre[2] - 100.0
        answer = np.zeros((len(z), CLASSES), np.float32)
        answer[np.arange(len(z)), np.where(z < 0.3, 23, np.where(z < 6.5, 4, 25))] = 1
        answers.append(answer)
    return answers


def same_everywhere(patches):
    """A network that gives class 3 a probability of 0.5 and class 7 the other half."""
    answer = np.zeros(CLASSES, np.float32)
    answer[[3, 7]] = 0.5 + 1e-4, 0.5 - 1e-4
    return [np.tile(answer, (len(patch.xyz), 1)) for patch in patches]


@pytest.mark.parametrize('scales', [('50',), ('150', '50'), ('50', '100', '150')])
def test_a_network_that_sees_all_points_has_every_answer_returned(tile: Tile, scales: tuple[str, ...]) -> None:
    every = dict.fromkeys(scales, tile.points)
    answers = mean_answers(TileStream(tile, scales, by_height, CLASSES, every, batch=3))
    z = tile.array('xyz')[:, 2] * tile.quantum
    expected = np.where(z < 0.3, 23, np.where(z < 6.5, 4, 25))
    clear = (np.abs(z - 0.3) > 1e-3) & (np.abs(z - 6.5) > 1e-3)
    assert answers.reached.all()
    np.testing.assert_array_equal(answers.classes[clear], expected[clear])
    assert answers.confidence[clear].min() == 1 and answers.entropy[clear].max() == 0
    assert answers.disagreement[clear].max() == 0


def test_answers_at_the_head_of_a_patch_reach_its_other_points(tile: Tile) -> None:
    answers = mean_answers(TileStream(tile, ('50', '150'), by_height, CLASSES, POINTS, batch=2))
    z = tile.array('xyz')[:, 2] * tile.quantum
    expected = np.where(z < 0.3, 23, np.where(z < 6.5, 4, 25))
    assert (answers.classes == expected).mean() > 0.8  # the nearest points seen lie metres away in so thin a tile
    assert answers.confidence.max() <= 1 and answers.entropy.max() <= 1


def test_a_constant_network_gives_the_same_confidence_everywhere(tile: Tile) -> None:
    answers = mean_answers(TileStream(tile, ('50', '100', '150'), same_everywhere, CLASSES, POINTS))
    assert set(answers.classes) == {3}
    assert np.ptp(answers.confidence) == 0 and answers.confidence[0] == pytest.approx(0.5, abs=1e-3)
    assert np.ptp(answers.entropy) == 0
    assert answers.entropy[0] == pytest.approx(np.log(2) / np.log(CLASSES), abs=1e-3)
    assert answers.disagreement.max() == 0


def test_neighbouring_patches_of_different_opinion_blend_without_a_seam(tile: Tile) -> None:
    def by_place(patches):
        """Half of the patches, in a chequered pattern, say class 1, the others class 2."""
        answers = []
        for patch in patches:
            says = 1 + (round(float(patch.box[0] + patch.box[1]) / 37.5) % 2)
            answer = np.zeros((len(patch.xyz), CLASSES), np.float32)
            answer[:, says] = 1
            answers.append(answer)
        return answers

    stream = TileStream(tile, ('50',), by_place, CLASSES, POINTS)
    share = np.empty(tile.points)
    for strip in stream:
        share[stream.order[strip.start:strip.stop]] = strip.probabilities[0, :, 1]
    assert share.min() < 0.01 and share.max() > 0.99
    xy = tile.array('xyz')[:, :2] * tile.quantum
    from scipy.spatial import cKDTree

    pairs = cKDTree(xy).query_pairs(0.25, output_type='ndarray')
    assert len(pairs) > 20
    assert np.abs(share[pairs[:, 0]] - share[pairs[:, 1]]).max() < 0.15  # 7.5 m to go from 0 to 1


def test_strips_of_any_length_give_the_same(tile: Tile, monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> list[np.ndarray]:
        answers = mean_answers(TileStream(tile, ('50', '150'), by_height, CLASSES, POINTS))
        return [answers.classes, answers.confidence, answers.entropy, answers.disagreement]

    whole = run()
    monkeypatch.setattr(strips, 'CHUNK', 37)
    for one, other in zip(whole, run()):
        np.testing.assert_array_equal(one, other)


def test_memory_is_that_of_a_strip(tile: Tile, monkeypatch: pytest.MonkeyPatch) -> None:
    held = []

    class Watched(StripAccumulator):
        def add(self, *arguments) -> None:
            super().add(*arguments)
            held.append(self._weights.shape[1])

    monkeypatch.setattr(streaming, 'StripAccumulator', Watched)
    mean_answers(TileStream(tile, ('50',), same_everywhere, CLASSES, POINTS))
    assert 0 < max(held) < 0.4 * tile.points  # a row of 50 m patches of a 200 m tile, and a quarter to spare


def test_an_accumulator_refuses_a_place_that_is_finished() -> None:
    accumulator = StripAccumulator(1, 2)
    accumulator.add(0, np.array([0, 2]), np.ones((2, 2), np.float32), np.ones(2, np.float32))
    strip, = accumulator.take(2)
    assert (strip.start, strip.stop) == (0, 2)
    assert strip.covered.tolist() == [[True, False]]
    assert strip.probabilities.tolist() == [[[1, 1], [0, 0]]]
    with pytest.raises(ValueError, match='place 1 is finished already'):
        accumulator.add(0, np.array([1]), np.ones((1, 2), np.float32), np.ones(1, np.float32))
    accumulator.add(0, np.array([2]), np.full((1, 2), 4, np.float32), np.full(1, 2, np.float32))
    strip, = accumulator.take(3)
    assert strip.probabilities.tolist() == [[[3, 3]]]  # (1 * 1 + 2 * 4) / 3


def test_only_the_patches_that_are_wanted_are_predicted(tile: Tile) -> None:
    asked = []

    def note(patches):
        asked.extend(patch.number for patch in patches)
        return same_everywhere(patches)

    answers = mean_answers(TileStream(tile, ('50',), note, CLASSES, POINTS, wanted={'50': [7, 2]}))
    assert sorted(asked) == [2, 7]
    inside = np.zeros(tile.points, bool)
    inside[np.concatenate([tile.patch_rows('50', number) for number in (2, 7)])] = True
    np.testing.assert_array_equal(answers.reached, inside)


def test_points_of_no_patch_take_the_nearest_answer(tile: Tile) -> None:
    answers = mean_answers(TileStream(tile, ('50',), by_height, CLASSES, POINTS))
    order = np.argsort(tile.array('xyz')[:, 1], kind='stable')
    lost = np.arange(0, tile.points, 7)
    answers.reached[lost] = False
    answers.classes[lost] = 99
    assert answers.fill(tile, order) == len(lost)
    xyz = tile.array('xyz') * tile.quantum
    known = np.setdiff1d(np.arange(tile.points), lost)
    distance = np.linalg.norm(xyz[lost][:, None] - xyz[known][None], axis=2)
    np.testing.assert_array_equal(answers.classes[lost], answers.classes[known[distance.argmin(axis=1)]])


def test_the_nearest_answer_may_lie_beyond_the_margin() -> None:
    xyz = np.array([[0, 0, 0], [0, 90_000, 0], [0, 200_000, 0], [5, 90_010, 0]], np.int32)  # mm
    missing, found = nearest_reached(xyz, 0.001, np.array([0, 1, 3, 2]), np.array([True, False, True, False]))
    assert missing.tolist() == [1, 3] and found.tolist() == [0, 0]


def test_a_gate_chooses_the_scale(tile: Tile, tmp_path: Path) -> None:
    def by_scale(patches):
        answers = []
        for patch in patches:
            answer = np.zeros((len(patch.xyz), CLASSES), np.float32)
            answer[:, 23 if patch.scale == '50' else 25] = 1
            answers.append(answer)
        return answers

    height = tile.array('height').astype(np.float64)
    # the 50 m scale below 3 m, the 150 m scale above
    gate = Gate(('50', '150'), (0.0, 0.0, 3.0), (1.0, 1.0, 1.0), ((0.0, 0.0, -50.0), (0.0, 0.0, 50.0)), (0.0, 0.0))
    stream = TileStream(tile, ('50', '150'), by_scale, CLASSES, POINTS)
    answers = gated_answers(stream, gate, tmp_path)
    clear = np.abs(height - 3) > 0.2
    np.testing.assert_array_equal(answers.classes[clear], np.where(height < 3, 23, 25)[clear])
    assert answers.disagreement.min() == 1  # each scale is certain of its own
    assert not list(tmp_path.iterdir())  # the temporary file is gone
    averaged = mean_answers(TileStream(tile, ('50', '150'), by_scale, CLASSES, POINTS))
    assert set(averaged.confidence) == {0.5}


def test_spread_is_a_mean_of_the_three_nearest() -> None:
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [50, 0, 0]], np.float32)
    values = np.array([[1, 0], [0, 1], [0, 1], [1, 0]], np.float32)
    at = np.array([[0, 0, 0], [0.5, 0.5, 0]], np.float32)
    found = spread(points, values, at)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(found[0], [1, 0], atol=1e-3)
    np.testing.assert_allclose(found[1], [1 / 3, 2 / 3], atol=1e-6)
    np.testing.assert_array_equal(spread(points[:1], values[:1], at), [[1, 0], [1, 0]])
    assert spread(points, values, at[:0]).shape == (0, 2)


def test_the_window_is_full_at_the_centre_and_fades_to_every_side() -> None:
    box = np.array([10, 20, 60, 70])
    x, y = np.array([35, 35, 10, 60, 10, 22.5]), np.array([45, 20, 45, 45, 20, 45])
    np.testing.assert_allclose(centre_weights(x, y, box), [1, 1e-3, 1e-3, 1e-3, 1e-6, 0.5005], atol=1e-6)
    assert centre_weights(np.array([1.0]), np.array([5.0]), np.array([1, 0, 1, 10])).tolist() == [1]
