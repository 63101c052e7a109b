"""Blocks and the patches inside them: counts of the specification, no slivers, no patch across a border."""

import numpy as np
import pytest

from projects.engine.errors import UserError
from projects.lidar.preparation.blocks import cut_blocks
from projects.lidar.preparation.patches import cut_patches, patch_boxes, patch_count, rows_of_patches, starts

KILOMETRE = (770_000.0, 6_276_000.0, 771_000.0, 6_277_000.0)


def in_order(local, count, seed):
    return np.arange(len(local))


@pytest.mark.parametrize(('size', 'overlap', 'patches'), [(50, 0.15, 576), (100, 0.12, 144), (150, 0.10, 64)])
def test_a_kilometre_tile_gives_the_patches_of_the_specification(size, overlap, patches):
    assert patch_count(cut_blocks(KILOMETRE, 250.0), size, overlap) == patches
    # as a file has it: no point lies on the border itself
    x0, y0, x1, y1 = KILOMETRE
    assert patch_count(cut_blocks((x0 + 0.3, y0, x1 - 0.01, y1 - 0.4), 250.0), size, overlap) == patches


def test_blocks_are_equal_at_least_as_large_as_told_and_cover_the_tile():
    grid = cut_blocks((0, 0, 599, 130), 250.0)
    assert (grid.columns, grid.rows, len(grid)) == (2, 1, 2)
    np.testing.assert_allclose(grid.boxes(), [[0, 0, 299.5, 130], [299.5, 0, 599, 130]])
    assert len(cut_blocks(KILOMETRE, None)) == 1
    assert len(cut_blocks((0, 0, 49.99, 50.0), 50.0)) == 1


def test_more_blocks_than_the_store_can_number_are_refused():
    assert len(cut_blocks((0, 0, 255, 257), 1.0)) == 65_535
    with pytest.raises(UserError, match=r'--block-size: expected at most 65,535 blocks a tile, found 65,536 in 256 m'):
        cut_blocks((0, 0, 256, 256), 1.0)


def test_a_point_on_an_inner_border_is_in_one_block_and_on_the_outer_one_in_the_last():
    grid = cut_blocks((0, 0, 200, 100), 100.0)
    points = np.array([[0, 0], [99.999, 50], [100, 50], [200, 100]], float)
    assert grid.number_of(points).tolist() == [0, 0, 1, 1]


def test_the_last_patch_is_anchored_inside_the_block():
    assert starts(250, 50, 0.15).tolist() == [0, 42.5, 85, 127.5, 170, 200]
    assert starts(51.5, 50, 0.15).tolist() == [0, 1.5]
    assert starts(50.5, 50, 0.15).tolist() == [0]  # half a metre more is no second patch
    boxes = patch_boxes(np.array([0, 0, 250.0, 250.0]), 150, 0.1)
    assert boxes.tolist() == [[0, 0, 150, 150], [100, 0, 250, 150], [0, 100, 150, 250], [100, 100, 250, 250]]


def test_a_small_block_is_one_patch_of_its_size():
    assert patch_boxes(np.array([0, 0, 57.5, 50.0]), 150, 0.1).tolist() == [[0, 0, 57.5, 50]]
    boxes = patch_boxes(np.array([0, 0, 57.5, 50.0]), 50, 0.15)
    assert (boxes[:, 2:] - boxes[:, :2]).tolist() == [[50, 50], [50, 50]]


def test_every_point_is_in_a_patch_and_every_patch_in_one_block():
    rng = np.random.default_rng(3)
    xy = np.round(rng.uniform(0, 300, (5000, 2)), 2)
    xy[:4] = [[0, 0], [300, 300], [150, 150], [300, 0]]
    grid = cut_blocks((0, 0, 300, 300), 150.0)
    blocks = grid.number_of(xy)
    seen = np.zeros(len(xy), int)
    for block, box, rows in rows_of_patches(xy, blocks, grid, 50.0, 0.15):
        seen[rows] += 1
        assert (blocks[rows] == block).all()
        assert ((xy[rows] >= box[:2]) & (xy[rows] <= box[2:])).all()
    assert seen.min() == 1


def test_without_overlap_no_point_is_listed_twice():
    xy = np.stack(np.meshgrid(np.arange(0, 101.0, 5), np.arange(0, 101.0, 5)), -1).reshape(-1, 2)
    grid = cut_blocks((0, 0, 100, 100), None)
    rows = np.concatenate([rows for *_, rows in rows_of_patches(xy, grid.number_of(xy), grid, 50.0, 0.0)])
    assert sorted(rows.tolist()) == list(range(len(xy)))


def test_outliers_are_not_listed_and_poor_patches_left_out():
    rng = np.random.default_rng(0)
    xyz = rng.uniform(0, 50, (400, 3))
    xyz[300:, 0] += 50  # 300 points in the left half, 100 in the right
    keep = np.ones(400, bool)
    keep[:10] = keep[300:301] = False
    grid = cut_blocks((0, 0, 100, 50), 50.0)
    lists = cut_patches(xyz, keep, grid.number_of(xyz[:, :2]), grid, size=50.0, overlap=0.1, points=64,
                        min_points=100, order=in_order)
    assert lists.left_out == 1
    assert lists.block.tolist() == [0]
    assert lists.offset.tolist() == [0, 290]
    assert sorted(lists.index.tolist()) == list(range(10, 300))


def test_no_patch_at_all():
    grid = cut_blocks((0, 0, 10, 10), None)
    lists = cut_patches(np.ones((3, 3)), np.ones(3, bool), np.zeros(3, np.uint16), grid, size=50.0, overlap=0.1,
                        points=64, min_points=100, order=in_order)
    assert (lists.left_out, lists.offset.tolist(), lists.box.shape) == (1, [0], (0, 4))
