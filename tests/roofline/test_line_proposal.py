"""Proposed lines: every pair once, image by image, the best by the line map."""

import itertools

import torch

from projects.roofline.models.junctions import Junctions
from projects.roofline.models.line_proposal import propose_lines
from projects.roofline.models.line_sampling import sample_map


def junctions(numbers: list[int], places: int, size: int = 32) -> Junctions:
    """Random junctions: so many valid ones in each image, the rest nowhere."""
    yx = torch.rand(len(numbers), places, 2, generator=torch.Generator().manual_seed(0)) * size
    valid = torch.arange(places) < torch.tensor(numbers)[:, None]
    yx[~valid] = torch.nan
    return Junctions(yx, valid.float(), torch.zeros_like(valid, dtype=torch.long), valid)


def test_without_a_limit_all_pairs_are_those_of_each_images_valid_junctions():
    found = junctions([4, 0, 1, 3], 6)
    proposals = propose_lines(found, torch.rand(4, 32, 32), limit=None)
    expected = [(0, *pair) for pair in itertools.combinations(range(4), 2)]
    expected += [(3, *pair) for pair in itertools.combinations(range(3), 2)]
    assert [(int(image), *pair) for image, pair in zip(proposals.image_index, proposals.pairs.tolist())] == expected
    for image, (first, second), line in zip(proposals.image_index, proposals.pairs, proposals.lines_yx):
        assert torch.equal(line, torch.stack((found.yx[image, first], found.yx[image, second])))


def test_the_score_is_the_mean_of_the_map_along_the_line():
    lmap = torch.zeros(1, 8, 8)
    lmap[0, 2, :4] = 1.0  # a line of which the right half is missing
    yx = torch.tensor([[[2.5, 0.5], [2.5, 7.5], [6.5, 0.5]]])
    found = Junctions(yx, torch.ones(1, 3), torch.zeros(1, 3, dtype=torch.long), torch.ones(1, 3, dtype=torch.bool))
    proposals = propose_lines(found, lmap, points=8)  # at the centres of the cells
    assert proposals.pairs.tolist() == [[0, 1], [0, 2], [1, 2]]
    torch.testing.assert_close(proposals.map_score[:2], torch.tensor([0.5, (1 + 3 / 7) / 8]))


def test_pruning_keeps_the_best_of_every_image_best_first():
    found = junctions([20, 3, 15, 0], 20)
    lmap = torch.rand(4, 32, 32, generator=torch.Generator().manual_seed(1))
    every, best = propose_lines(found, lmap, limit=None), propose_lines(found, lmap, limit=50)
    assert torch.bincount(every.image_index, minlength=4).tolist() == [190, 3, 105, 0]
    assert torch.bincount(best.image_index, minlength=4).tolist() == [50, 3, 50, 0]
    for image in range(3):
        expected = every.map_score[every.image_index == image].sort(descending=True).values[:50]
        assert torch.equal(best.map_score[best.image_index == image], expected)
    torch.testing.assert_close(best.map_score, sample_map(lmap, best.lines_yx, best.image_index, 32).mean(1))


def test_lines_of_probable_junctions_go_first():
    lmap = torch.ones(1, 8, 8)
    lmap[0, 6] = 0.5
    yx = torch.tensor([[[2.5, 0.5], [2.5, 7.5], [2.5, 4.5], [6.5, 0.5], [6.5, 7.5]]])
    score = torch.tensor([[0.9, 0.9, 0.04, 0.5, 0.5]])
    found = Junctions(yx, score, torch.zeros(1, 5, dtype=torch.long), torch.ones(1, 5, dtype=torch.bool))
    best = propose_lines(found, lmap, limit=6)
    assert best.pairs[0].tolist() == [0, 1]
    assert [3, 4] in best.pairs.tolist()  # 0.5 * 0.5 beats the 1 * sqrt(0.9 * 0.04) of the lines to the weak junction
    assert not (best.pairs == 2).any()
    assert best.map_score[best.pairs.tolist().index([3, 4])] == 0.5  # the map's alone
    assert best.map_score[0] == 1


def test_a_batch_gives_each_image_what_it_gets_alone():
    found = junctions([20, 12], 20)
    lmap = torch.rand(2, 32, 32, generator=torch.Generator().manual_seed(1))
    both = propose_lines(found, lmap, limit=50)
    for image in range(2):
        one = propose_lines(Junctions(*(values[image:image + 1] for values in found)), lmap[image:image + 1], limit=50)
        assert torch.equal(one.pairs, both.pairs[both.image_index == image])
        assert torch.equal(one.map_score, both.map_score[both.image_index == image])


def test_lines_below_the_floor_are_dropped():
    found = junctions([20], 20)
    lmap = torch.rand(1, 32, 32, generator=torch.Generator().manual_seed(1))
    every, high = propose_lines(found, lmap, limit=None), propose_lines(found, lmap, floor=0.5)
    assert 0 < len(high.pairs) < len(every.pairs)
    assert torch.equal(high.pairs, every.pairs[every.map_score >= 0.5])


def test_no_junctions_are_no_lines():
    for limit in (None, 2, 2500):
        proposals = propose_lines(junctions([0, 1], 5), torch.rand(2, 32, 32), limit)
        assert [tuple(values.shape) for values in proposals] == [(0, 2), (0,), (0, 2, 2), (0,)]
