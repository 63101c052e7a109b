"""A network that knows the truth: what cutting, merging and cleaning cost by themselves."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import shapely
from affine import Affine
from rasterio.windows import Window
from scipy.spatial import cKDTree

from projects.engine.files import atomic_path
from projects.roofline.graph import RoofGraph
from projects.roofline.labels import cells_of, draw_maps
from projects.roofline.wireframe import Wireframe

SURE = 0.9  # a line that drew the map scores 1 to the rounding; a pair across two near lines up to 0.8
LARGEST = 4096  # pixels a side: 12 bits for x and for y make 24 bits of colour


def write_position_raster(path: str | Path, size: tuple[int, int], transform: Affine | None = None,
                          crs: str | None = None) -> None:
    """Write a GeoTIFF ``(height, width)`` whose colours say where each pixel is: x and y, 12 bits each."""
    height, width = size
    if max(size) > LARGEST:
        raise ValueError(f'size: expected at most {LARGEST} pixels a side, found {size}')
    profile = dict(driver='GTiff', dtype='uint8', count=3, height=height, width=width, crs=crs,
                   transform=transform, compress='deflate', zlevel=1)
    with atomic_path(path) as temporary, rasterio.open(temporary, 'w', **profile) as dataset:
        for top in range(0, height, 256):
            y, x = np.mgrid[top:min(top + 256, height), :width]
            colours = np.stack([x & 255, y & 255, x >> 8 | y >> 8 << 4]).astype(np.uint8)
            dataset.write(colours, window=Window(0, top, width, len(y)))


class Oracle:
    """Predicts tiles of a raster of :func:`write_position_raster` by the graph of the whole.

    Args:
        graph: the truth, in pixels of the raster.
        size: height and width of the raster; tiles may be padded beyond it.
        maps: draw junction, line and offset maps of each tile, and decode these; else give the clipped graph itself.
        stride: pixels a cell of the maps.
    """

    def __init__(self, graph: RoofGraph, size: tuple[int, int], maps: bool = False, stride: int = 4) -> None:
        self.graph, self.size, self.maps, self.stride = graph, size, maps, stride

    def __call__(self, tiles: np.ndarray) -> list[Wireframe]:
        """See :data:`projects.roofline.vectorizing.tiles.PredictTiles`."""
        return [self._tile(*tile[0, 0].astype(int), tile.shape[:2]) for tile in tiles]

    def _tile(self, x: int, y: int, high: int, shape: tuple[int, int]) -> Wireframe:
        left, top = x | (high & 15) << 8, y | high >> 4 << 8
        near = self._near(left, top, shape)
        graph = near.moved(np.array([[1, 0, -left], [0, 1, -top]], np.float64)).clipped(shape)
        if not self.maps:
            return Wireframe.make(graph.junctions, graph.lines)
        from projects.roofline.decoding import decode_maps

        cells = cells_of(graph, self.stride)
        drawn = draw_maps(cells, graph.lines, (shape[0] // self.stride, shape[1] // self.stride))
        return decode_maps(drawn.jmap, drawn.joff, drawn.lmap, line_threshold=SURE, stride=self.stride)

    def _near(self, left: int, top: int, shape: tuple[int, int]) -> RoofGraph:
        """The graph without the lines whose boxes miss the tile: clipping costs what is in it."""
        ends = self.graph.segments()
        near = ((ends.min(axis=1) <= [left + shape[1], top + shape[0]]) & (ends.max(axis=1) >= [left, top])).all(axis=1)
        used, lines = np.unique(self.graph.lines[near], return_inverse=True)
        return RoofGraph.make(self.graph.junctions[used], lines.reshape(-1, 2), self.graph.types[near])


@dataclass(frozen=True, eq=False)
class CornerErrors:
    """How far the corners of the truth are from what was found.

    Attributes:
        distances: ``(N,)`` pixels from each true corner to the nearest junction found.
        lines_found: share of the true lines with a chain of found lines along them (ends and points at quarters within
            the tolerance of a found line, and both ends of a junction).
        extra: found junctions further than the tolerance from every true line.
    """

    distances: np.ndarray
    lines_found: float
    extra: int

    def recall(self, tolerance: float) -> float:
        """Return the share of true corners with a junction within ``tolerance`` pixels."""
        return float((self.distances <= tolerance).mean()) if len(self.distances) else 1.0


def corner_errors(truth: RoofGraph, found: Wireframe, tolerance: float = 1.0) -> CornerErrors:
    """Measure a wireframe by the corners of the truth, both in pixels of one image."""
    if len(truth.junctions) == 0 or len(found.lines) == 0:
        return CornerErrors(np.full(len(truth.junctions), np.inf), float(len(truth.lines) == 0),
                            len(found.junctions))
    distances = cKDTree(found.junctions).query(truth.junctions)[0]
    lines = shapely.union_all(shapely.linestrings(found.segments()))
    shapely.prepare(lines)
    segments = truth.segments()
    share = np.linspace(0, 1, 5)[:, None, None]
    points = segments[:, 0] * (1 - share) + segments[:, 1] * share
    along = shapely.dwithin(shapely.points(points), lines, tolerance).all(axis=0)
    along &= (distances[truth.lines] <= tolerance).all(axis=1)
    true_lines = shapely.union_all(shapely.linestrings(segments))
    extra = ~shapely.dwithin(shapely.points(found.junctions), true_lines, tolerance)
    return CornerErrors(distances, float(along.mean()), int(extra.sum()))
