"""From an image and its graph to what a network, a loss and a metric take; the maps are drawn here, last of all."""

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS
from mmseg.structures import SegDataSample

from projects.engine.errors import UserError
from projects.roofline.datasets.transforms.arguments import check_count
from projects.roofline.graph import RoofGraph
from projects.roofline.labels import cells_of, draw_maps, hard_negatives

META_KEYS = ('sample_id', 'img_path', 'ori_shape', 'img_shape', 'letterbox', 'resolution', 'crs', 'transform')


@TRANSFORMS.register_module()
class PackRoofline(BaseTransform):
    """Pack `inputs`, (3, H, W) uint8, and `data_samples`, a `SegDataSample`.

    Its metainfo has the keys of :data:`META_KEYS` (`letterbox` (scale, dx, dy), None after a flip or turn) and `graph`,
    the graph of the file in the file's pixels, which no transform has moved (None without truth).

    Its data, with `maps` and a graph, for N junctions and M lines, in cells of the maps, (y, x), corner origin: `jmap`
    (T, h, w), `joff` (T, 2, h, w) and `lmap` (h, w) float32 (see :func:`~projects.roofline.labels.draw_maps`);
    `junctions` (N, 3) float32 (y, x, type); `lines` (M, 2) int64; `line_types` (M,) uint8; `occlusions` (M, 2) float32,
    NaN where not known; `negatives` (K, 2) int64, pairs of junctions that are no lines, hardest first.

    Args:
        stride: Pixels a cell. Default: 4.
        n_types: Kinds of junctions, T. Default: 1; then the graph's are not looked at.
        negatives: Pairs kept at most. Default: 2000.
        maps: Draw them: for training. Default: True.

    Raises:
        UserError: an image whose sides are no multiples of `stride`, or a junction of a type that is not there.
    """

    def __init__(self, stride: int = 4, n_types: int = 1, negatives: int = 2000, maps: bool = True) -> None:
        check_count('PackRoofline', stride=stride, n_types=n_types)
        check_count('PackRoofline', lowest=0, negatives=negatives)
        self.stride, self.n_types, self.negatives, self.maps = stride, n_types, negatives, maps

    def transform(self, results: dict) -> dict:
        image = results['img']
        if image.dtype != np.uint8:  # a photometric transform's
            image = np.clip(np.rint(image), 0, 255).astype(np.uint8)
        metainfo = {key: results.get(key) for key in META_KEYS}
        sample = SegDataSample(metainfo=dict(metainfo, graph=results.get('source_graph')))
        if self.maps and results.get('graph') is not None:
            for key, value in self._targets(results['graph'], image.shape[:2], results.get('img_path')).items():
                sample.set_field(torch.from_numpy(np.ascontiguousarray(value)), key)
        return dict(inputs=torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))), data_samples=sample)

    def _targets(self, graph: RoofGraph, shape: tuple[int, int], path: str | None) -> dict[str, np.ndarray]:
        if shape[0] % self.stride or shape[1] % self.stride:
            raise UserError(f'PackRoofline: {path}: expected sides that are multiples of stride {self.stride}, found '
                            f'{shape[1]}x{shape[0]} px: put LetterboxRoof or RandomRoofCrop before it')
        kinds = graph.junction_types if self.n_types > 1 else np.zeros_like(graph.junction_types)
        if len(kinds) and kinds.max() >= self.n_types:
            raise UserError(f'PackRoofline: {path}: n_types {self.n_types}: found a junction of type {kinds.max()}')
        cells = cells_of(graph, self.stride)
        size = (shape[0] // self.stride, shape[1] // self.stride)
        maps = draw_maps(cells, graph.lines, size, kinds, self.n_types)
        negatives = hard_negatives(cells, graph.lines, maps.lmap, self.negatives)
        return dict(
            jmap=maps.jmap, joff=maps.joff, lmap=maps.lmap,
            junctions=np.column_stack([cells, kinds]).astype(np.float32).reshape(-1, 3),
            lines=graph.lines.astype(np.int64), line_types=graph.types,
            occlusions=graph.occlusions.astype(np.float32), negatives=negatives.astype(np.int64))

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(stride={self.stride}, n_types={self.n_types}, negatives={self.negatives}, '
                f'maps={self.maps})')
