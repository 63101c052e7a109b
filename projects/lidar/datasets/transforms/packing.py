"""From arrays to what a network and a metric take."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.structures import PixelData
from mmseg.registry import TRANSFORMS
from mmseg.structures import SegDataSample

from projects.lidar.metrics.building_groups import area_nearby

META_KEYS = ('sample_id', 'tile', 'scale', 'number', 'split', 'kind', 'patch_size', 'density')


@TRANSFORMS.register_module()
class PackPoints(BaseTransform):
    """Pack an item as `inputs` (numpy arrays; `collate_points` makes tensors of the batch) and `data_samples`.

    `inputs` holds `points` (n, 3), `features` (n, F) and `context` (2,) = [log2(patch_size / 50), log(density)].
    `data_samples` has `gt_sem_seg` (1, 1, n) uint8 where there are labels: points as an image of one line. With
    `groups` it has `building_area` (m² of the building at a point, or within `margin` beside it) and `border` (n,)
    float32 too, by which a metric groups points.

    Args:
        groups: Default True; a training has no use for them.
        margin: Metres around a building in which points predicted as building count as its false alarms. Default 2.
        meta_keys: What `data_samples` is told of the patch.
    """

    def __init__(self, groups: bool = True, margin: float = 2.0, meta_keys: Sequence[str] = META_KEYS) -> None:
        self.groups, self.margin, self.meta_keys = groups, margin, tuple(meta_keys)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        sample = SegDataSample(metainfo={key: results[key] for key in self.meta_keys if key in results})
        if results.get('labels') is not None:
            labels = np.ascontiguousarray(results['labels'], np.uint8)
            sample.gt_sem_seg = PixelData(data=torch.from_numpy(labels)[None, None])
        if self.groups:
            area = area_nearby(results['points'][:, :2], results['building_area'], self.margin)
            for key, values in (('building_area', area), ('border', results['border'])):
                sample.set_field(torch.from_numpy(np.ascontiguousarray(values, np.float32)), key)
        context = np.array([np.log2(results['patch_size'] / 50), np.log(max(results['density'], 1e-3))], np.float32)
        return dict(
            inputs=dict(points=np.ascontiguousarray(results['points'], np.float32),
                        features=np.ascontiguousarray(results['features'], np.float32), context=context),
            data_samples=sample)
