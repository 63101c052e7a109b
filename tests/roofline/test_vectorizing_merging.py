"""Tiles become one wireframe: cuts, long lines, doubles; and how an image is cut."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image

from projects.engine.errors import UserError
from projects.geo.sources import open_source
from projects.roofline.datasets.transforms.moving import FILL
from projects.roofline.vectorizing.merging import Tile, merge_tiles
from projects.roofline.vectorizing.tiles import Tiling, predict_tiles
from projects.roofline.wireframe import Wireframe

SIZE = (100, 180)


def tile(left: int, *lines: list[float], scores: list[float] | None = None) -> Tile:
    """A tile of 100 x 100 from column ``left``, with lines x0, y0, x1, y1 in pixels of the image."""
    ends = np.array(lines, float).reshape(-1, 2)
    return Tile(left, 0, 100, 100, Wireframe.make(ends, np.arange(len(ends)).reshape(-1, 2), scores))


def ends_of(frame: Wireframe) -> list[list[float]]:
    """Lines as sorted x0, y0, x1, y1."""
    return sorted([*min(pair), *max(pair)] for pair in np.round(frame.segments(), 3).tolist())


def test_a_line_seen_whole_wins_over_its_cut_piece():
    frame = merge_tiles([tile(0, [70, 20, 100, 20], scores=[0.9]), tile(80, [80, 20, 130, 20], scores=[0.8])],
                        SIZE, 3.0)
    assert ends_of(frame) == [[70, 20, 130, 20]]
    assert frame.scores.tolist() == [0.9]  # both are cut, the two pieces are joined
    frame = merge_tiles([tile(0, [90, 20, 100, 20], scores=[0.9]), tile(80, [90, 20, 130, 20], scores=[0.8])],
                        SIZE, 3.0)
    assert ends_of(frame) == [[90, 20, 130, 20]] and frame.scores.tolist() == [0.8]


def test_a_line_longer_than_every_tile_is_joined():
    tiles = [Tile(left, 0, 100, 100, Wireframe.make([[max(left, 5), 50], [min(left + 100, 250), 50]], [[0, 1]]))
             for left in (0, 80, 160)]
    assert ends_of(merge_tiles(tiles, (100, 260), 3.0)) == [[5, 50, 250, 50]]


def test_doubles_of_two_tiles_become_their_mean_with_the_higher_score():
    one, other = tile(0, [85, 20, 95, 60], scores=[0.6]), tile(80, [87, 20, 95, 60.5], scores=[0.7])
    frame = merge_tiles([one, other], SIZE, 3.0)
    assert ends_of(frame) == [[86, 20, 95, 60.25]] and frame.scores.tolist() == [0.7]


def test_near_corners_of_one_tile_stay_apart():
    frame = merge_tiles([tile(0, [20, 20, 40, 20], [42, 20, 60, 20])], SIZE, 3.0)
    assert ends_of(frame) == [[20, 20, 40, 20], [42, 20, 60, 20]]


def test_a_line_at_the_border_of_the_image_is_no_cut():
    frame = merge_tiles([tile(0, [0, 50, 40, 50])], SIZE, 3.0)
    assert ends_of(frame) == [[0, 50, 40, 50]]


def test_a_line_between_two_cut_ends_goes():
    one = tile(0, [60, 20, 100, 20], [60, 30, 100, 30], [100, 20, 100, 30])
    other = tile(80, [80, 20, 150, 20], [80, 30, 150, 30], [80, 20, 80, 30])
    assert ends_of(merge_tiles([one, other], SIZE, 3.0)) == [[60, 20, 150, 20], [60, 30, 150, 30]]


def test_a_cut_line_that_no_other_tile_saw_stays():
    assert ends_of(merge_tiles([tile(0, [60, 20, 100, 20]), tile(80)], SIZE, 3.0)) == [[60, 20, 100, 20]]


def test_crossing_tiles_are_cleaned():
    frame = merge_tiles([tile(0, [20, 20, 40, 40], [20, 40, 40, 20])], SIZE, 3.0)
    assert len(frame.lines) == 4 and [30, 30] in frame.junctions.tolist()
    assert (frame.junction_scores == 1).all()


def test_no_tiles_and_empty_tiles():
    for tiles in ([], [tile(0), tile(80)]):
        frame = merge_tiles(tiles, SIZE, 3.0)
        assert frame.junctions.shape == (0, 2) and frame.lines.shape == (0, 2) and frame.scores.shape == (0,)


class Remember:
    """A network that finds one diagonal of 10 px in every tile, and keeps what it was given."""

    def __init__(self) -> None:
        self.tiles: list[np.ndarray] = []

    def __call__(self, tiles: np.ndarray) -> list[Wireframe]:
        self.tiles += list(tiles)
        return [Wireframe.make([[5, 5], [15, 15], [40, 40]], [[0, 1], [1, 2]], [0.9, 0.2]) for _ in tiles]


def test_windows_cover_a_raster_and_nodata_windows_are_skipped(tmp_path: Path):
    values = np.full((3, 150, 200), 7, np.uint8)
    values[:, :, 96:] = 0
    with rasterio.open(tmp_path / 'a.tif', 'w', driver='GTiff', dtype='uint8', count=3, height=150, width=200,
                       nodata=0, transform=Affine(1, 0, 10, 0, -1, 20), crs='EPSG:2154') as dataset:
        dataset.write(values)
    network = Remember()
    with open_source(tmp_path / 'a.tif', [1, 2, 3], None) as source:
        tiles = predict_tiles(network, source, Tiling(64, 16, 3, 0.5))
    places = {(tile.left, tile.top) for tile in tiles}
    assert places == {(left, top) for left in (0, 48, 95) for top in (0, 48, 86)}  # 136 is nodata alone
    assert all(tile.shape == (64, 64, 3) and tile.dtype == np.uint8 for tile in network.tiles)
    first = next(tile for tile in tiles if (tile.left, tile.top) == (48, 86))
    assert first.wireframe.segments().tolist() == [[[53, 91], [63, 101]]]  # the line of 0.2 is below the threshold


def test_a_small_picture_is_padded_and_lines_in_the_padding_go(tmp_path: Path):
    Image.fromarray(np.full((20, 30, 3), 9, np.uint8)).save(tmp_path / 'a.png')
    network = Remember()
    with open_source(tmp_path / 'a.png', [1, 2, 3], None) as source:
        tile, = predict_tiles(network, source, Tiling(64, 16, 1, 0.0))
    assert (tile.width, tile.height) == (30, 20)
    assert (network.tiles[0][:20, :30] == 9).all()
    assert (network.tiles[0][20:] == FILL).all() and (network.tiles[0][:, 30:] == FILL).all()  # as in training
    assert tile.wireframe.segments().tolist() == [[[5, 5], [15, 15]]]


@pytest.mark.parametrize(('tiling', 'message'), [
    (Tiling(64, 64), 'overlap'), (Tiling(0, 0), 'window'), (Tiling(64, 16, 0), 'batch_size'),
    (Tiling(64, 16, 1, 1.5), 'threshold')])
def test_bad_tilings(tmp_path: Path, tiling: Tiling, message: str):
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / 'a.png')
    with open_source(tmp_path / 'a.png', [1, 2, 3], None) as source, pytest.raises(UserError, match=message):
        predict_tiles(Remember(), source, tiling)


def test_a_network_that_returns_too_few_is_a_mistake(tmp_path: Path):
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / 'a.png')
    with open_source(tmp_path / 'a.png', [1, 2, 3], None) as source, pytest.raises(ValueError, match='0 wireframes'):
        predict_tiles(lambda tiles: [], source, Tiling(64, 16))
