"""The lines drawn have the labels, ends, intervals and numbers that they should; all images at once, or one by one."""

import math

import pytest
import torch
from mmseg.structures import SegDataSample

from projects.engine.errors import UserError
from projects.roofline.models.junctions import Junctions
from projects.roofline.models.line_samples import LineSampler, draw, match_junctions, pad_truth, turned

NAN = math.nan
STATIC_ONLY = dict(dynamic_positives=0, dynamic_negatives=0, dynamic_others=0)
DYNAMIC_ONLY = dict(static_positives=0, static_negatives=0)
ALL = dict(static_positives=10 ** 6, static_negatives=10 ** 6, dynamic_positives=10 ** 6, dynamic_negatives=10 ** 6,
           dynamic_others=10 ** 6)
SQUARE = [[10, 10], [10, 30], [30, 30], [30, 10]]


def sample(junctions, lines, negatives=(), occlusions=None):
    """A data sample as the pipeline packs it: junctions (y, x), pairs of them."""
    places = torch.tensor(junctions, dtype=torch.float32).reshape(-1, 2)
    lines = torch.tensor(lines).long().reshape(-1, 2)
    occlusions = torch.full((len(lines), 2), NAN) if occlusions is None else torch.tensor(occlusions).reshape(-1, 2)
    out = SegDataSample()
    for key, value in dict(junctions=torch.cat((places, torch.zeros(len(places), 1)), 1), lines=lines,
                           negatives=torch.tensor(negatives).long().reshape(-1, 2), occlusions=occlusions).items():
        setattr(out, key, value)
    return out


def found_junctions(*images, places=None):
    """Junctions of each image (y, x), padded with places that are not valid."""
    places = max(map(len, images)) if places is None else places
    yx, valid = torch.full((len(images), places, 2), 10.0), torch.zeros(len(images), places, dtype=torch.bool)
    for b, image in enumerate(images):
        yx[b, :len(image)] = torch.tensor(image, dtype=torch.float32).reshape(-1, 2)
        valid[b, :len(image)] = True
    score = torch.linspace(1, 0.1, places).expand(len(images), -1) * valid
    return Junctions(yx, score, torch.zeros(len(images), places, dtype=torch.long), valid)


def rows(samples, image=None):
    """Return samples as a sorted list of (image, y0, x0, y1, x1, label, s_f, s_b), NaN as None."""
    table = torch.cat((samples.image_index[:, None], samples.lines_yx.flatten(1), samples.labels[:, None],
                       samples.occlusions), 1).tolist()
    found = [tuple(None if math.isnan(v) else round(v, 4) for v in row) for row in table]
    return sorted((row for row in found if image is None or row[0] == image), key=str)


# The truth as one

def test_the_truth_is_padded():
    truth = pad_truth([sample(SQUARE, [[0, 1], [2, 1]], [[0, 2], [1, 3], [0, 3]], [[0.1, 0.2], [NAN, NAN]]),
                       sample([[5, 6]], []), sample([], [])])
    assert truth.junctions.shape == (3, 4, 2)
    assert truth.junction_valid.tolist() == [[True] * 4, [True, False, False, False], [False] * 4]
    assert truth.lines[0].tolist() == [[0, 1], [2, 1]] and truth.line_valid.sum(1).tolist() == [2, 0, 0]
    assert truth.negatives[0].tolist() == [[0, 2], [1, 3], [0, 3]] and truth.negative_valid.sum(1).tolist() == [3, 0, 0]
    assert truth.junctions[1, 0].tolist() == [5, 6]
    assert truth.occlusions[0, 0].tolist() == pytest.approx([0.1, 0.2]) and truth.occlusions[0, 1].isnan().all()
    nothing = pad_truth([sample([], [])])
    assert nothing.junctions.shape == (1, 1, 2) and nothing.lines.shape == nothing.negatives.shape == (1, 1, 2)
    assert not (nothing.junction_valid.any() or nothing.line_valid.any() or nothing.negative_valid.any())


# Static

def test_static_samples_are_the_lines_and_the_hard_negatives():
    truth = pad_truth([sample([[1, 2], [3, 4], [5, 6]], [[0, 1]], [[1, 2]], [[0.2, 0.5]])])
    seen = set()
    for seed in range(20):
        torch.manual_seed(seed)
        seen |= set(rows(LineSampler(**STATIC_ONLY)(found_junctions([]), truth)))
    assert seen == {(0, 1, 2, 3, 4, 1, 0.2, 0.5), (0, 3, 4, 1, 2, 1, 0.5, 0.8),  # either end first
                    (0, 3, 4, 5, 6, 0, None, None), (0, 5, 6, 3, 4, 0, None, None)}


def test_static_ends_come_in_either_order_as_often():
    truth = pad_truth([sample(torch.arange(400.0).reshape(200, 2).tolist(), [[i, i + 1] for i in range(199)])])
    torch.manual_seed(0)
    drawn = LineSampler(**STATIC_ONLY)(found_junctions([]), truth)
    forward = (drawn.lines_yx[:, 0, 0] < drawn.lines_yx[:, 1, 0]).float().mean().item()
    assert len(drawn.labels) == 199 and forward == pytest.approx(0.5, abs=0.1)


# Dynamic

def test_dynamic_labels_by_hand():
    # Lines 0-1 and 2-1 (stored backward), hard negatives 2-0 and 1-3; 0-3 and 2-3 are neither
    truth = pad_truth([sample(SQUARE, [[0, 1], [2, 1]], [[2, 0], [1, 3]], [[0.1, 0.4], [0.5, 0.7]])])
    found = found_junctions([[11, 10], [10, 31.5], [30, 30], [29, 9], [20, 20]])  # near 0, 1, 2, 3; and none
    drawn = LineSampler(**DYNAMIC_ONLY)(found, truth)
    a, b, c, d, e = ((11, 10), (10, 31.5), (30, 30), (29, 9), (20, 20))
    assert rows(drawn) == sorted([
        (0, *a, *b, 1, 0.1, 0.4),
        (0, *b, *c, 1, 0.3, 0.5),  # the truth has it from 2 to 1
        *((0, *u, *v, 0, None, None) for u, v in ((a, c), (a, d), (a, e), (b, d), (b, e), (c, d), (c, e), (d, e)))],
        key=str)
    only = {kind: rows(LineSampler(**DYNAMIC_ONLY, **{f'dynamic_{other}': 0 for other in
                                                      ('positives', 'negatives', 'others') if other != kind})(
        found, truth)) for kind in ('positives', 'negatives', 'others')}
    assert {kind: len(value) for kind, value in only.items()} == {'positives': 2, 'negatives': 2, 'others': 6}
    assert only['negatives'] == sorted([(0, *a, *c, 0, None, None), (0, *b, *d, 0, None, None)], key=str)


@pytest.mark.parametrize(('distance', 'label'), [(0.0, 1), (1.49, 1), (1.5, 1), (1.51, 0), (20, 0)])
def test_a_match_is_within_one_and_a_half_cells(distance, label):
    truth = pad_truth([sample([[10, 10], [10, 100]], [[0, 1]])])
    drawn = LineSampler(**DYNAMIC_ONLY)(found_junctions([[10 + distance, 10], [10, 100]]), truth)
    assert drawn.labels.tolist() == [label]


def test_distances_far_from_the_origin_are_exact():
    places = torch.rand(1, 300, 2, generator=torch.Generator().manual_seed(0)) * 128
    truth = pad_truth([sample(places[0].tolist(), [])])
    valid = torch.ones(1, 300, dtype=torch.bool)
    assert match_junctions(places, valid, truth, 0.0).tolist() == [list(range(300))]
    assert (match_junctions(places, ~valid, truth, 2.0) == 300).all()


def test_the_nearest_junction_is_the_match_and_padding_is_none():
    # Image 1 has one junction, so its padding lies at (0, 0): a junction found there matches nothing
    truth = pad_truth([sample([[10, 10], [10, 12], [40, 40]], [[1, 2]]), sample([[50, 50]], [])])
    found = found_junctions([[10, 11.1], [40, 40]], [[0, 0], [50, 50]])
    assert match_junctions(found.yx, found.valid, truth, 1.5).tolist() == [[1, 2], [3, 0]]
    drawn = LineSampler(**DYNAMIC_ONLY)(found, truth)
    assert drawn.image_index.tolist() == [0, 1] and drawn.labels.tolist() == [1, 0]


def test_two_detections_of_one_junction_are_no_line():
    truth = pad_truth([sample([[10, 10], [10, 30]], [[0, 1]])])
    drawn = LineSampler(**DYNAMIC_ONLY)(found_junctions([[10, 10], [11, 10], [10, 30]]), truth)
    labels = {tuple(line.flatten().tolist()): label.item() for line, label in zip(drawn.lines_yx, drawn.labels)}
    assert labels == {(10, 10, 11, 10): 0, (10, 10, 10, 30): 1, (11, 10, 10, 30): 1}


def test_a_line_that_the_hard_negatives_name_too_is_a_line():
    truth = pad_truth([sample([[10, 10], [10, 30]], [[0, 1]], [[1, 0]])])
    drawn = LineSampler(**DYNAMIC_ONLY)(found_junctions([[10, 10], [10, 30]]), truth)
    assert drawn.labels.tolist() == [1]


def test_no_more_than_2n_plus_2_junctions_are_looked_at():
    truth = pad_truth([sample([[10, 10], [10, 30]], [[0, 1]]), sample(SQUARE, [[0, 1]]), sample([], [])])
    many = torch.rand(20, 2).mul(60).add(60).tolist()
    drawn = LineSampler(**DYNAMIC_ONLY)(found_junctions(many, many, many), truth)
    assert torch.bincount(drawn.image_index).tolist() == [15, 45, 1]  # pairs of 6, 10 and 2
    seen = {tuple(end) for end in drawn.lines_yx[drawn.image_index == 0].flatten(0, 1).tolist()}
    assert seen == {tuple(row) for row in torch.tensor(many[:6]).tolist()}  # the best, of course
    drawn = LineSampler(**DYNAMIC_ONLY, dynamic_junctions=5)(found_junctions(many, many, many), truth)
    assert torch.bincount(drawn.image_index).tolist() == [10, 10, 1]
    drawn = LineSampler(**DYNAMIC_ONLY, factor=1, extra=1)(found_junctions(many, many, many), truth)
    assert torch.bincount(drawn.image_index, minlength=3).tolist() == [3, 10, 0]


# All together

def random_case(seed, images=3):
    """Random graphs with duplicates among what is found, an image without lines, one where nothing is found."""
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape):
        return torch.rand(*shape, generator=generator)

    data, found = [], []
    for b in range(images):
        n = int(rand(1) * 9) + 2
        junctions = rand(n, 2) * 40
        pairs = torch.combinations(torch.arange(n))
        pairs = pairs[torch.randperm(len(pairs), generator=generator)]
        flip = rand(len(pairs)) < 0.5
        pairs[flip] = pairs[flip].flip(1)
        m, q = (0 if b == 1 else len(pairs) // 3), len(pairs) // 3
        hidden = rand(m, 2).sort(1).values
        hidden[rand(m) < 0.5] = NAN
        data.append(sample(junctions.tolist(), pairs[:m].tolist(), pairs[m:m + q].tolist(), hidden.tolist()))
        near = junctions[torch.randint(n, (n,), generator=generator)] + rand(n, 2) * 3 - 1.5
        places = torch.cat((near, rand(n + 4, 2) * 40))[torch.randperm(2 * n + 4, generator=generator)]
        found.append([] if b == 2 else places.tolist())
    return data, found_junctions(*found, places=30)


def one_by_one(data, found, distance=1.5):
    """All that may be drawn, a second time: an image, a pair at a time. Static lines in the order of the truth."""
    table = []
    for b, truth in enumerate(data):
        places = truth.junctions[:, :2]
        lines = {tuple(pair): truth.occlusions[m].tolist() for m, pair in enumerate(truth.lines.tolist())}
        hard = {frozenset(pair) for pair in truth.negatives.tolist()}
        for (i, j), hidden in lines.items():
            table.append((b, *places[i].tolist(), *places[j].tolist(), 1, *hidden))
        for i, j in truth.negatives.tolist():
            table.append((b, *places[i].tolist(), *places[j].tolist(), 0, NAN, NAN))
        matches, kept = [], found.yx[b][found.valid[b]][:2 * len(places) + 2].tolist()
        for y, x in kept:
            distances = [math.hypot(y - v, x - u) for v, u in places.tolist()]
            best = min(range(len(distances)), key=distances.__getitem__)
            matches.append(best if distances[best] <= distance else None)
        for u in range(len(kept)):
            for v in range(u + 1, len(kept)):
                ends = (b, *kept[u], *kept[v])
                i, j = matches[u], matches[v]
                if (i, j) in lines:
                    table.append((*ends, 1, *lines[i, j]))
                elif (j, i) in lines:
                    front, back = lines[j, i]
                    table.append((*ends, 1, 1 - back, 1 - front))
                else:
                    table.append((*ends, 0, NAN, NAN))
                    hard_pair = i is not None and j is not None and frozenset((i, j)) in hard
                    table[-1] += ('hard' if hard_pair else 'other',)
    return table


def canonical(row):
    """A row, rounded, of the two directions that it can be read in the one with the smaller first end."""
    b, y0, x0, y1, x1, label, front, back = (None if v is None or math.isnan(v) else round(v, 3) for v in row[:8])
    if (y1, x1) < (y0, x0):
        hidden = (None, None) if front is None else (round(1 - back, 3), round(1 - front, 3))
        return (b, y1, x1, y0, x0, label, *hidden)
    return (b, y0, x0, y1, x1, label, front, back)


@pytest.mark.parametrize('seed', range(25))
def test_the_batch_equals_image_by_image(seed):
    data, found = random_case(seed)
    drawn = LineSampler(**ALL)(found, pad_truth(data))
    table = torch.cat((drawn.image_index[:, None], drawn.lines_yx.flatten(1), drawn.labels[:, None],
                       drawn.occlusions), 1).tolist()
    expected = one_by_one(data, found)
    assert sorted(map(canonical, table), key=str) == sorted(map(canonical, expected), key=str)
    # Dynamic pairs keep their direction: the better junction first
    dynamic = LineSampler(**{**ALL, **DYNAMIC_ONLY})(found, pad_truth(data))
    order = {(b, *(round(v, 4) for v in place)): k for b, image in enumerate(found.yx.tolist())
             for k, place in reversed(list(enumerate(image)))}
    for b, y0, x0, y1, x1, *_ in rows(dynamic):
        assert order[b, y0, x0] < order[b, y1, x1]
    negatives = LineSampler(**{**ALL, **DYNAMIC_ONLY, 'dynamic_positives': 0, 'dynamic_others': 0})(
        found, pad_truth(data))
    assert len(negatives.labels) == sum(row[-1] == 'hard' for row in expected)


def big_case():
    """Eight images with more of everything than the quotas; the junctions found are the true ones, a few moved."""
    data, found = [], []
    for b in range(8):
        generator = torch.Generator().manual_seed(b)
        n = 60 + 5 * b
        junctions = torch.rand(n, 2, generator=generator) * 500
        pairs = torch.combinations(torch.arange(n))
        pairs = pairs[torch.randperm(len(pairs), generator=generator)]
        data.append(sample(junctions.tolist(), pairs[:500].tolist(), pairs[500:900].tolist()))
        found.append((junctions + 0.1).tolist())
    return data, found_junctions(*found)


def test_quotas_hold_in_every_image():
    data, found = big_case()
    torch.manual_seed(1)
    drawn = LineSampler()(found, pad_truth(data))
    assert torch.bincount(drawn.image_index).tolist() == [300 + 40 + 300 + 80 + 600] * 8
    assert torch.bincount(drawn.image_index, drawn.labels).tolist() == [600] * 8
    assert (drawn.image_index.diff() >= 0).all()
    for b in range(8):  # without repetition
        lines = [canonical(row) for row in rows(drawn, b)]
        assert len(set(lines)) == len(lines)
    assert drawn.lines_yx.dtype == drawn.labels.dtype == drawn.occlusions.dtype == torch.float32
    assert drawn.image_index.dtype == torch.int64


def test_every_candidate_is_drawn_as_often():
    torch.manual_seed(0)
    candidates = torch.tensor([[True, False, True, True, True], [False, False, True, False, False]])
    counts, times = torch.zeros(2, 5), 4000
    for _ in range(times):
        index, chosen = draw(candidates, 2)
        counts.scatter_add_(1, index, chosen.float())
    assert counts[0, 1] == 0 and counts[1].tolist() == [0, 0, times, 0, 0]
    assert torch.allclose(counts[0, [0, 2, 3, 4]] / times, torch.full((4,), 0.5), atol=0.04)


def test_a_seed_gives_the_same_samples_and_another_others():
    data, found = big_case()
    truth = pad_truth(data)

    def drawn(seed):
        torch.manual_seed(seed)
        return LineSampler()(found, truth)

    one, same, other = drawn(7), drawn(7), drawn(8)
    assert torch.equal(one.lines_yx, same.lines_yx) and torch.equal(one.labels, same.labels)
    assert not torch.equal(one.lines_yx, other.lines_yx)


def test_nothing_found_leaves_the_static_samples():
    truth = pad_truth([sample(SQUARE, [[0, 1]], [[0, 2]])])
    for places in (0, 1, 12):
        drawn = LineSampler()(found_junctions([], places=places), truth)
        assert sorted(drawn.labels.tolist()) == [0, 1]


def test_no_truth_leaves_what_is_found_as_no_lines():
    found = found_junctions([[1, 1], [2, 2], [9, 9]], SQUARE)
    drawn = LineSampler()(found, pad_truth([sample([], []), sample(SQUARE, [])]))
    assert torch.bincount(drawn.image_index).tolist() == [1, 6]  # the count of an empty image leaks as well: 2 of 3
    assert not drawn.labels.any() and drawn.occlusions.isnan().all()


def test_nothing_at_all_is_no_sample():
    drawn = LineSampler()(found_junctions([], [], places=5), pad_truth([sample([], []), sample([], [])]))
    assert drawn.lines_yx.shape == (0, 2, 2) and drawn.occlusions.shape == (0, 2)
    assert len(drawn.labels) == len(drawn.image_index) == 0


def test_samples_carry_no_gradient_and_survive_autocast():
    data, found = random_case(4)
    found = found._replace(yx=found.yx.clone().requires_grad_())
    with torch.autocast('cpu', torch.bfloat16):
        torch.manual_seed(0)
        cast = LineSampler()(found, pad_truth(data))
    torch.manual_seed(0)
    plain = LineSampler()(found, pad_truth(data))
    assert not cast.lines_yx.requires_grad
    assert cast.lines_yx.dtype == torch.float32 and torch.equal(cast.lines_yx, plain.lines_yx)
    assert torch.equal(cast.labels, plain.labels)


def test_an_interval_is_turned_about():
    hidden = torch.tensor([[0.1, 0.4], [0.1, 0.4], [NAN, NAN]])
    found = turned(hidden, torch.tensor([False, True, True]))
    assert torch.allclose(found[:2], torch.tensor([[0.1, 0.4], [0.6, 0.9]])) and found[2].isnan().all()


@pytest.mark.parametrize(('key', 'value'), [('static_positives', -1), ('dynamic_others', 1.5), ('match_distance', NAN)])
def test_bad_numbers_are_named(key, value):
    with pytest.raises(UserError, match=rf'model\.samples: {key}: .*{value}'):
        LineSampler(**{key: value})


def test_nothing_hidden_is_the_same_from_either_end():
    """Else half of the lines would be taught (0, 0) and half (1, 1), and the network the mask in the middle."""
    hidden = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 1.0], [0.2, 0.5], [torch.nan, torch.nan]])
    found = turned(hidden, torch.tensor([False, True, False, True, True]))
    assert found[:3].tolist() == [[0, 0]] * 3 and found[4].isnan().all()
    torch.testing.assert_close(found[3], torch.tensor([0.5, 0.8]))
