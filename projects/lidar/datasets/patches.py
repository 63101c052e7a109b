"""The LiDAR data set: patches of one or several scales, read from tile stores."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset
from mmseg.registry import DATASETS, TRANSFORMS

from projects.engine.errors import UserError
from projects.lidar.classes import LOD3
from projects.lidar.datasets.transforms.selection import SamplePoints
from projects.lidar.merge import chosen_of, read_merge, weighted_merge
from projects.lidar.palette import LOD3_PALETTE
from projects.lidar.preparation.sampling import farthest_point_order
from projects.lidar.store import SPLIT_NAMES, Patch, PatchRef, Store, make_patch, open_store

SAMPLINGS = ('fps', 'random')


@dataclass(frozen=True)
class PlacedRef(PatchRef):
    """A patch and the place of its store among the data set's roots."""

    root: int = 0


@DATASETS.register_module()
class LidarPatchDataset(BaseDataset):
    """Patches of prepared tiles with the labels of :mod:`projects.lidar.classes`.

    An item of the pipeline holds, for n points in farthest-point order: `points` (n, 3) float32 metres from the patch's
    centre and mean ground, `features` (n, 21) float32, `labels` (n,) uint8, `building_area` (n,) float32 m², `border`
    (n,) float32 metres to the patch's nearest edge and `rows` (n,) uint32 in the tile; and `patch_size` (metres),
    `density` (points per m² of the whole patch), `sample_id` ('tile/50/12'; with several roots 'root/tile/50/12'),
    `tile`, `scale`, `number`, `split` and `kind` ('real' or 'synthetic').

    Args:
        data_root: A store of tools/lidar/prepare.py, or a list of them.
        split: 'train', 'val', 'test', or 'all' (default): whether assigned or not.
        scales: Keys of the store's scales, in the order of the set. Default: all three.
        weights: Scale to its share of the set; of the scales that are too many, patches are left out: chosen once, by
            `seed`, for the whole training. Default: all of all scales.
        merge_file: A manifest of tools/lidar/merge.py, which names the patches instead; its scales must be among
            `scales`.
        pipeline: Transforms.
        points: Points of a patch at most: a number, one for each scale, or None (default) for as many as the store has
            in farthest-point order.
        sampling: 'fps' (default) takes the head of a patch's list: the same points each time. 'random' draws among all
            its points anew each time (numpy's global generator), and orders them.
        seed: Of the choice that `weights` makes.
        kwargs: As for MMEngine's `BaseDataset`.

    Raises:
        UserError: no store, no such split or scale, no patch.
    """

    METAINFO = dict(classes=LOD3, palette=[list(colour) for colour in LOD3_PALETTE])

    def __init__(
        self,
        data_root: str | Sequence[str],
        split: str = 'all',
        scales: Sequence[str] = ('50', '100', '150'),
        weights: Mapping[str, float] | None = None,
        merge_file: str | None = None,
        pipeline: list[dict | Callable] | tuple = (),
        points: int | Mapping[str, int] | None = None,
        sampling: str = 'fps',
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        self.roots = [str(data_root)] if isinstance(data_root, str) or not isinstance(data_root, Sequence) else [
            str(root) for root in data_root]
        self.split, self.scales, self.merge_file, self.seed = split, [str(scale) for scale in scales], merge_file, seed
        self.weights = None if weights is None else {str(scale): share for scale, share in weights.items()}
        self.sampling = sampling
        self._check(points)
        self.stores: list[Store] = [open_store(root) for root in self.roots]
        self.limits = {scale: self._limit(scale, points) for scale in self.scales}
        self._counts: np.ndarray | None = None
        super().__init__(
            # Built here, in mmseg's scope: MMEngine looks in the default scope, which only a Runner sets.
            pipeline=[TRANSFORMS.build(item) if isinstance(item, Mapping) else item for item in pipeline], **kwargs)

    @classmethod
    def metainfo_of(cls, **_: Any) -> dict[str, Any]:
        """Return the metainfo that a data set with these arguments would have, without opening any data."""
        return dict(cls.METAINFO)

    def load_data_list(self) -> list[dict]:
        """Return one data info a patch."""
        split = None if self.split == 'all' else self.split
        refs = [PlacedRef(**{field.name: getattr(ref, field.name) for field in fields(PatchRef)}, root=root)
                for root, store in enumerate(self.stores) for scale in self.scales
                for ref in store.patches(scale, split)]
        if self.merge_file is not None:
            refs = chosen_of(self.merge_file, refs)
        elif self.weights is not None:
            refs = weighted_merge(refs, self.weights, self.seed)
        if not refs:
            raise UserError(f'{", ".join(self.roots)}: split {self.split!r}, scales {", ".join(self.scales)}: expected '
                            'patches, found none')
        names = _names_of(self.roots)
        return [dict(sample_id=names[ref.root] + ref.sample_id, root=ref.root, tile=ref.tile, scale=ref.scale,
                     number=ref.number, block=ref.block, kind=ref.kind, split=ref.split,
                     points=self._points_of(ref)) for ref in refs]

    def point_counts(self) -> np.ndarray:
        """Return how many points each item has at most when `SamplePoints` is done, ``(len,)`` int64."""
        if self._counts is None or len(self._counts) != len(self):
            counts = np.array([self.get_data_info(index)['points'] for index in range(len(self))], np.int64)
            limits = [one.count for one in self.pipeline.transforms if isinstance(one, SamplePoints)]
            self._counts = np.minimum(counts, min(limits)) if limits else counts
        return self._counts

    def prepare_data(self, idx: int) -> Any:
        """Read a patch and run the pipeline on it."""
        info = self.get_data_info(idx)
        patch = self._read(info)
        half = np.array([patch.box[2] - patch.box[0], patch.box[3] - patch.box[1]], np.float32) / 2
        item = dict(
            info, points=patch.xyz, features=patch.features, labels=np.array(patch.label),
            building_area=np.array(patch.building_area, np.float32), rows=patch.rows,
            border=(half - np.abs(patch.xyz[:, :2])).min(axis=1).clip(0), patch_size=float(patch.size),
            density=float(patch.density))
        return self.pipeline(item)

    def _read(self, info: Mapping[str, Any]) -> Patch:
        tile, scale, number = self.stores[info['root']].tiles[info['tile']], info['scale'], info['number']
        rows = tile.patch_rows(scale, number)
        if self.sampling == 'fps' or len(rows) <= info['points']:
            return tile.read_patch(scale, number, info['points'])
        chosen = np.sort(np.random.choice(len(rows), info['points'], replace=False))
        chosen = np.asarray(rows)[chosen]
        local = np.ascontiguousarray(tile.array('xyz')[chosen] * np.float32(tile.quantum), np.float32)
        # Only the second level and on are prefixes; among the rest of the first any order will do.
        order = farthest_point_order(local - local.mean(axis=0), -(-len(chosen) // 4))
        return make_patch(tile, scale, chosen[order], tile.array(f'{scale}/patch_box')[number], number=number,
                          count=len(rows), ground=float(tile.array(f'{scale}/patch_ground')[number]))

    def _points_of(self, ref: PatchRef) -> int:
        return min(ref.points, self.limits[ref.scale])

    def _limit(self, scale: str, points: int | Mapping[str, int] | None) -> int:
        if isinstance(points, Mapping):
            points = {str(key): value for key, value in points.items()}.get(scale)
        if points is None:
            for store in self.stores:
                if scale not in store.scales:
                    raise UserError(f'{store.root}: scale: expected one of {", ".join(store.scales)}, found {scale!r}')
            points = min(store.scales[scale]['points'] for store in self.stores)
        return int(points)

    def _check(self, points: int | Mapping[str, int] | None) -> None:
        name = type(self).__name__
        if self.split not in (*SPLIT_NAMES, 'all'):
            raise UserError(f'{name}.split: expected one of {", ".join(SPLIT_NAMES)} or all, found {self.split!r}')
        if self.sampling not in SAMPLINGS:
            raise UserError(f'{name}.sampling: expected one of {", ".join(SAMPLINGS)}, found {self.sampling!r}')
        if not self.roots or not self.scales:
            raise UserError(f'{name}: expected at least one data_root and one of scales, found none')
        for value in points.values() if isinstance(points, Mapping) else (points,):
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise UserError(f'{name}.points: expected whole numbers of at least 1, found {value!r}')
        if self.merge_file is not None and (self.weights is not None or len(self.roots) > 1):
            raise UserError(f'{name}.merge_file: expected one data_root and no weights beside it, found '
                            f'{len(self.roots)} and {self.weights}')
        merged = None if self.merge_file is None else read_merge(self.merge_file).weights
        for given, what in ((self.weights, 'weights'), (points if isinstance(points, Mapping) else None, 'points'),
                            (merged, f'merge_file {self.merge_file}')):
            strange = sorted({str(scale) for scale in given or ()} - set(self.scales))
            if strange:
                raise UserError(f'{name}.{what}: expected scales among {", ".join(self.scales)}, found '
                                f'{", ".join(strange)}')


def _names_of(roots: Sequence[str]) -> list[str]:
    """Return what to put before the ids of each root: tiles of two stores may have one name."""
    if len(roots) == 1:
        return ['']
    stems = [root.rstrip('/').rpartition('/')[2] for root in roots]
    twice = len(set(stems)) < len(stems)
    return [f'{number}-{stem}/' if twice else f'{stem}/' for number, stem in enumerate(stems)]
