"""Splits share no ground, keep their shares, and a leak made on purpose is found."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from projects.engine.errors import UserError
from projects.landcover.data.ground import find_leaks, footprints, overlapping
from projects.landcover.data.layouts import Sample
from projects.landcover.data.patches import ORIENTATIONS, Patch, thumbnail, tile_windows
from projects.landcover.data.splits import (
    assign,
    leave_out_shared,
    split_as_told,
    split_by_blocks,
    split_by_groups,
)

RATIOS = (0.7, 0.15, 0.15)


def texture(seed: int, size: int = 128) -> np.ndarray:
    """A smooth random picture (H, W, 3) uint8: like ground, unlike any other seed."""
    noise = np.random.default_rng(seed).normal(size=(size // 8, size // 8)).astype(np.float32)
    picture = cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.clip(128 + 40 * picture, 0, 255).astype(np.uint8)[..., None].repeat(3, 2)


def patch(name: str, split: str | None = None, **fields) -> Patch:
    values = dict(
        id=name,
        sample=Sample(name, Path(f'{name}.png'), Path(f'{name}_mask.png'), fields.pop('group', name)),
        window=None,
        width=64,
        height=64,
        bands=3,
        dtype='uint8',
        crs=None,
        corners=None,
        pixels=(10, 10, 0),
        thumbnail=thumbnail(texture(abs(hash(name)) % 2**32)),
        split=split,
    )
    return Patch(**{**values, **fields})


def tile(x: float, y: float, side: float = 64.0, split: str | None = None, crs: str = 'EPSG:2154', **fields) -> Patch:
    corners = ((x, y + side), (x + side, y + side), (x + side, y), (x, y))
    seed = int(x * 7919 + y) % 2**32
    return patch(f't_{x:g}_{y:g}', split, crs=crs, corners=corners, thumbnail=thumbnail(texture(seed)), **fields)


def grid(columns: int, rows: int, step: float = 64.0, side: float = 64.0) -> list[Patch]:
    generator = np.random.default_rng(0)
    return [
        tile(700000 + step * c, 6600000 + step * r, side, pixels=tuple(int(n) for n in generator.integers(1, 999, 3)))
        for r in range(rows)
        for c in range(columns)
    ]


def leaks(*patches: Patch) -> list[str]:
    found = find_leaks(patches, [f'hash of {p.id}' for p in patches])
    return [leak.reason for leak in found]


def counts(patches: list[Patch]) -> dict[str, int]:
    return {split: sum(p.split == split for p in patches) for split in ('train', 'val', 'test')}


def test_assign_respects_ratios_and_rare_classes():
    generator = np.random.default_rng(1)
    contents = np.ones((60, 4))
    contents[:, 1:3] = generator.integers(0, 1000, (60, 2))
    contents[:, 3] = 0
    contents[[3, 17, 40], 3] = 50  # a class in three units only: each split gets one of them
    splits = assign(contents, RATIOS, seed=0)
    assert np.bincount(splits).tolist() == [42, 9, 9]
    assert sorted(splits[[3, 17, 40]]) == [0, 1, 2]
    for column in (1, 2):
        shares = np.bincount(splits, contents[:, column]) / contents[:, column].sum()
        np.testing.assert_allclose(shares, RATIOS, atol=0.03)


def test_assign_is_fixed_by_the_seed():
    contents = np.random.default_rng(2).integers(1, 100, (30, 5)).astype(float)
    assert (assign(contents, RATIOS, 3) == assign(contents, RATIOS, 3)).all()
    assert any((assign(contents, RATIOS, 3) != assign(contents, RATIOS, seed)).any() for seed in range(4, 10))


def test_assign_fills_every_split_or_says_so():
    assert sorted(assign(np.array([[100.0, 1], [1, 1], [1, 1]]), RATIOS, 0)) == [0, 1, 2]
    assert set(assign(np.ones((5, 2)), (0.8, 0, 0.2), 0)) == {0, 2}
    with pytest.raises(UserError, match='cannot fill 3 splits from 2 groups'):
        assign(np.ones((2, 2)), RATIOS, 0, 'groups')
    with pytest.raises(UserError, match='sum to 1'):
        assign(np.ones((5, 2)), (0.7, 0.7, 0.1), 0)


def test_blocks_never_share_ground():
    patches, left_out, size = split_by_blocks(grid(16, 16), RATIOS, seed=0)
    assert size == 256 and not left_out and len(patches) == 256
    shares = np.array(list(counts(patches).values())) / 256
    np.testing.assert_allclose(shares, RATIOS, atol=0.06)
    assert not find_leaks(patches, [p.id for p in patches])
    # Every block of 4 x 4 tiles went to one split.
    splits = np.array([p.split for p in patches]).reshape(4, 4, 4, 4).swapaxes(1, 2).reshape(16, 16)
    assert all(len(set(block)) == 1 for block in splits)


def test_blocks_with_overlapping_tiles_leave_out_what_straddles():
    tiles = grid(20, 20, step=32.0)  # each tile overlaps its neighbours by half
    patches, left_out, _ = split_by_blocks(tiles, RATIOS, seed=0, block_size=320)
    assert len(patches) + len(left_out) == 400 and 0 < len(left_out) < 200
    assert 'share' in left_out[0][1]
    assert not find_leaks(patches, [p.id for p in patches])
    assert min(counts(patches).values()) > 10
    with pytest.raises(UserError, match='larger --block-size'):
        split_by_blocks(tiles, RATIOS, seed=0, block_size=32)


def test_gap_keeps_splits_apart():
    patches, left_out, _ = split_by_blocks(grid(16, 16), RATIOS, seed=0, gap=50)
    assert left_out
    ((_, shapes),) = footprints(patches)
    near = [(i, j) for i, j in overlapping(shapes, 49) if patches[i].split != patches[j].split]
    assert near == []


def test_blocks_need_georeferencing():
    with pytest.raises(UserError, match='not georeferenced'):
        split_by_blocks([*grid(3, 3), patch('a')], RATIOS, 0)
    with pytest.raises(UserError, match='have no CRS'):
        split_by_blocks([*grid(3, 3), tile(0, 0, crs=None)], RATIOS, 0)


def test_leaving_out_prefers_to_keep_the_test():
    kept, out = leave_out_shared([tile(0, 0, split='train'), tile(32, 0, split='test'), tile(200, 0, split='train')])
    assert [p.id for p in kept] == ['t_32_0', 't_200_0'] and out[0][0].id == 't_0_0'


def test_groups_stay_whole():
    patches = [patch(f'{group}_{i}', group=group) for group in 'abcdefghij' for i in range(5)]
    split = split_by_groups(patches, RATIOS, seed=0)
    assert all(len({p.split for p in split if p.sample.group == group}) == 1 for group in 'abcdefghij')
    assert counts(split)['train'] == 35 and min(counts(split).values()) >= 5


def test_assignment_must_be_complete():
    patches = [patch('a1', group='a'), patch('b1', group='b')]
    assert [p.split for p in split_as_told(patches, {'train': ['a'], 'test': ['b']})] == ['train', 'test']
    for assignment, message in (
        ({'train': ['a']}, '1 groups have no split: b'),
        ({'train': ['a', 'c']}, "no group 'c'"),
        ({'train': ['a', 'b'], 'val': ['b']}, 'in train and in val'),
        ({'trian': ['a', 'b']}, "did you mean 'train'"),
    ):
        with pytest.raises(UserError, match=message):
            split_as_told(patches, assignment)


def test_overlapping_footprints_leak_and_touching_ones_do_not():
    (reason,) = leaks(tile(0, 0, split='train'), tile(63, 0, split='test'))
    assert reason == 'footprints share 62.7 m² (1.5% of the smaller)'  # 1 m of 64, less the tolerance
    assert leaks(tile(0, 0, split='train'), tile(64, 0, split='test')) == []
    assert leaks(tile(0, 0, split='train'), tile(63, 0, split='train')) == []


def test_footprints_in_different_crs_are_compared_on_the_ground():
    # (2.6, 48.9) degrees lies at (670675, 6866741) m in Lambert-93.
    metric = tile(670600, 6866650, 200, split='train')
    degrees = tile(2.5995, 48.8995, 0.001, split='test', crs='EPSG:4326')
    (reason,) = leaks(metric, degrees)
    assert reason.startswith('footprints share')
    assert leaks(metric, tile(2.65, 48.9, 0.001, split='test', crs='EPSG:4326')) == []


def test_windows_of_one_file():
    sample = Sample('s', Path('s.png'), Path('m.png'), 's')
    a = patch('a', 'train', sample=sample, window=(0, 0, 64, 64))
    b = patch('b', 'test', sample=sample, window=(32, 0, 64, 64))
    c = patch('c', 'test', sample=sample, window=(0, 64, 64, 64))
    assert leaks(a, b) == ['overlapping windows of s.png'] and leaks(a, c) == []


def test_identical_files():
    found = find_leaks([patch('a', 'train'), patch('b', 'val')], ['same', 'same'])
    assert [str(leak) for leak in found] == ['train: a and val: b: identical files']


def save_tiles(folder: Path, names: dict[str, tuple[int, int]], mosaic: np.ndarray) -> list[Patch]:
    """Write 64 px tiles of a picture, cut at (left, top) and named as told; the first is train, the others test."""
    patches = []
    for index, (name, (left, top)) in enumerate(names.items()):
        part = mosaic[top : top + 64, left : left + 64]
        path = folder / f'{name}.png'
        cv2.imwrite(str(path), part)
        sample = Sample(name, path, path, name)
        patches.append(
            patch(name, 'train' if index == 0 else 'test', sample=sample, thumbnail=thumbnail(part))
        )
    return patches


@pytest.mark.parametrize(
    'names',
    [
        {'town_0_0': (0, 0), 'town_32_0': (32, 0)},  # x first
        {'town_0_0': (0, 0), 'town_0_32': (0, 32)},
        {'town_x0_y0': (0, 0), 'town_x32_y16': (32, 16)},
        {'town_0_0': (0, 0), 'town_16_32': (32, 16)},  # y first
        {'town_700000_64': (0, 0), 'town_700032_48': (32, 16)},  # northing grows upwards
    ],
)
def test_overlapping_tile_names_leak(tmp_path, names):
    (reason,) = leaks(*save_tiles(tmp_path, names, texture(1)))
    assert reason.startswith('tile names overlap, and so do the pixels')


def test_tile_names_alone_are_no_proof(tmp_path):
    # The same names on unrelated pictures, and rows and columns that grow by one.
    unrelated = save_tiles(tmp_path, {'town_0_0': (0, 0), 'town_32_0': (64, 64)}, texture(1))
    assert leaks(*unrelated) == []
    rows = save_tiles(tmp_path, {'town_0_0': (0, 0), 'town_0_1': (64, 0), 'town_1_0': (0, 64)}, texture(2))
    assert leaks(*rows) == []


@pytest.mark.parametrize('name', ORIENTATIONS)
def test_near_duplicates_are_found_in_any_orientation(name):
    picture = texture(5)
    turned = ORIENTATIONS[name](picture)
    _, buffer = cv2.imencode('.jpg', np.clip(turned * 0.8 + 10, 0, 255).astype(np.uint8)[1:, 1:])
    copy = cv2.imdecode(buffer, cv2.IMREAD_COLOR)
    found = leaks(patch('a', 'train', thumbnail=thumbnail(picture)), patch('b', 'test', thumbnail=thumbnail(copy)))
    assert len(found) == 1 and found[0].startswith(f'near-duplicates, {name} (')


def test_different_pictures_are_no_near_duplicates():
    patches = [patch(f'p{i}', 'train' if i % 2 else 'test', thumbnail=thumbnail(texture(100 + i))) for i in range(300)]
    assert leaks(*patches) == []
    flat = np.full((32, 32), 7, np.float32)
    assert leaks(patch('a', 'train', thumbnail=flat), patch('b', 'test', thumbnail=flat)) == []


def test_tile_windows_cover_evenly_without_overlap():
    windows = tile_windows(1000, 300, 512)
    assert windows == [(0, 0, 500, 300), (500, 0, 500, 300)]
    covered = np.zeros((77, 131), int)
    for left, top, width, height in tile_windows(131, 77, 32):
        assert width <= 32 and height <= 32
        covered[top : top + height, left : left + width] += 1
    assert (covered == 1).all()
    assert tile_windows(40, 50, None) == [(0, 0, 40, 50)]
