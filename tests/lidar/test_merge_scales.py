"""Scale weights are shares of the merged set, without repetition, and the manifest says what the store still has."""

import json
from collections import Counter
from dataclasses import dataclass, replace

import pytest

from projects.engine.errors import UserError
from projects.lidar.merge import chosen_of, merge_of, quotas, read_merge, weighted_merge, write_merge

WEIGHTS = {'50': 0.4, '100': 0.3, '150': 0.3}


@dataclass(frozen=True)
class Ref:
    tile: str
    scale: str
    number: int
    points: int = 1000


def refs_of(**counts):
    return [Ref(f't{number % 3}', scale[1:], number // 3) for scale, count in counts.items() for number in range(count)]


KM = refs_of(s50=576, s100=144, s150=64)  # a km tile


def test_weights_are_shares_of_the_set_and_the_scarcest_scale_bounds_it():
    # 64 / 0.3 = 213.3 is the least of 1440, 480 and 213.3
    assert quotas({'50': 576, '100': 144, '150': 64}, WEIGHTS) == {'50': 85, '100': 64, '150': 64}
    chosen = weighted_merge(KM, WEIGHTS, 3)
    assert Counter(ref.scale for ref in chosen) == {'50': 85, '100': 64, '150': 64}
    assert len(set(chosen)) == len(chosen) and set(chosen) <= set(KM)


def test_the_seeds_own_weighting_had_no_effect():
    """Its ``min(n, n * w / min(w))`` keeps every patch of every scale whatever the weights; shares 73/18/8 %."""
    kept = {s: min(n, int(n * WEIGHTS[s] / 0.3)) for s, n in {'50': 576, '100': 144, '150': 64}.items()}
    assert kept == {'50': 576, '100': 144, '150': 64}


@pytest.mark.parametrize('available, weights, expected', [
    ({'50': 10, '100': 10}, {'50': 1, '100': 1}, {'50': 10, '100': 10}),
    ({'50': 10, '100': 10}, {'50': 3, '100': 1}, {'50': 10, '100': 3}),
    ({'50': 7, '100': 100, '150': 100}, {'50': 1, '100': 1, '150': 1}, {'50': 7, '100': 7, '150': 7}),
    ({'50': 10, '100': 5}, {'50': 1, '100': 0}, {'50': 10}),
    ({'50': 30, '100': 70}, {'50': 0.3, '100': 0.7}, {'50': 30, '100': 70}),  # 0.3 is none in binary: nothing is lost
    ({'50': 1, '100': 1}, {'50': 0.9, '100': 0.1}, {'50': 1, '100': 0}),
])
def test_quotas(available, weights, expected):
    assert quotas(available, weights) == expected


def test_shares_hold_within_one_patch_and_no_scale_gives_more_than_it_has():
    for a in range(1, 40, 3):
        for b in range(1, 40, 4):
            found = quotas({'50': a, '100': b}, {'50': 0.37, '100': 0.63})
            total = sum(found.values())
            assert found['50'] <= a and found['100'] <= b
            assert abs(found['50'] - 0.37 * total) < 1 and abs(found['100'] - 0.63 * total) < 1


def test_the_seed_alone_decides_and_not_the_order_of_the_patches():
    assert weighted_merge(KM, WEIGHTS, 1) == weighted_merge(KM[::-1], WEIGHTS, 1)
    assert weighted_merge(KM, WEIGHTS, 1) != weighted_merge(KM, WEIGHTS, 2)
    scales = [ref.scale for ref in weighted_merge(KM, WEIGHTS, 1)]
    assert scales != sorted(scales)  # shuffled through each other


@pytest.mark.parametrize('weights, told', [
    ({'50': -1}, 'weights: 50: expected a number of at least 0, found -1.0'),
    ({'50': float('nan')}, 'weights: 50: expected a number'),
    ({'50': 0}, 'expected one above 0'),
    ({'200': 1}, 'weights: 200: expected a scale that has patches, found only 50, 100, 150'),
])
def test_weights_that_make_no_set(weights, told):
    with pytest.raises(UserError, match=told):
        weighted_merge(KM, weights)


def test_a_manifest_returns_its_patches_in_order(tmp_path):
    merge = merge_of(KM, WEIGHTS, 5, 'train')
    write_merge(tmp_path / 'merge.json', merge)
    assert read_merge(tmp_path / 'merge.json') == merge
    assert chosen_of(tmp_path / 'merge.json', KM[::-1]) == weighted_merge(KM, WEIGHTS, 5)
    content = json.loads((tmp_path / 'merge.json').read_text())
    assert content['counts'] == {'50': 85, '100': 64, '150': 64} and content['split'] == 'train'


def test_a_manifest_of_another_store_is_refused(tmp_path):
    path = tmp_path / 'merge.json'
    write_merge(path, merge_of(KM, WEIGHTS))
    with pytest.raises(UserError, match='found none; was it merged from another store or split'):
        chosen_of(path, [ref for ref in KM if ref.scale == '50'])
    with pytest.raises(UserError, match='expected 1,000 points, found 999: the store was prepared anew'):
        chosen_of(path, [replace(ref, points=999) for ref in KM])
    for text, told in (('{}', 'format: expected terrace-lidar-merge-1'), ('[', 'found no JSON'),
                       ('{"format": "terrace-lidar-merge-1"}', "found KeyError\\('weights'\\)")):
        path.write_text(text)
        with pytest.raises(UserError, match=told):
            read_merge(path)
    with pytest.raises(UserError, match='missing.json: cannot read the merge manifest'):
        read_merge(tmp_path / 'missing.json')
