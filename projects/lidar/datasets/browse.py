"""Pictures of what the network really sees: points after the pipeline and the collate function."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.registry import FUNCTIONS

from projects.evaluation.browsing import Sample
from projects.lidar.features import HEIGHT_SCALE, INDEX
from projects.lidar.view.cloud import Cloud
from projects.lidar.view.picture import write_picture


def draw_samples(cfg: Mapping[str, Any], split: str, dataset: Any, samples: Iterable[Sample]) -> Iterator[Path]:
    """For `projects.evaluation.browsing.browse`: write a picture for each view of a sample, by class, height, colour.

    Of several views each has its number, `_<view>`, behind the name.
    """
    collate = dict(cfg[f'{split}_dataloader']['collate_fn'])
    function = FUNCTIONS.get(collate.pop('type'))
    for _, path, passes in samples:
        for number, patch in enumerate(passes, start=1):
            cloud = seen(function([patch], **collate))
            own = path.with_stem(f'{path.stem}_{number}') if len(passes) > 1 else path
            write_picture(own, cloud, ['class', 'height', *(['colour'] if cloud.rgb is not None else [])])
            yield own


def seen(batch: Mapping[str, Any]) -> Cloud:
    """Return the first patch of a batch as a cloud, without its padding."""
    inputs, sample = batch['inputs'], batch['data_samples'][0]
    valid = inputs['mask'][0].numpy()
    points, features = inputs['points'][0].numpy()[valid], inputs['features'][0].numpy()[valid]
    rgb = None
    if features[:, INDEX['has_colour']].any():
        rgb = np.clip(np.round(features[:, INDEX['red']:INDEX['blue'] + 1] * 255), 0, 255).astype(np.uint8)
    size, density = 50 * 2 ** float(inputs['context'][0, 0]), float(np.exp(inputs['context'][0, 1]))
    title = f'{sample.get("sample_id")}: {size:.1f} m, {density:.1f} points per m²'
    return Cloud(title, points, np.zeros(3), sample.gt_sem_seg.data.numpy().ravel(),
                 {'height': features[:, INDEX['height']] * HEIGHT_SCALE}, rgb=rgb, total=len(points))
