"""A trained point network as a function from patches to class probabilities."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import FUNCTIONS
from mmseg.registry import TRANSFORMS
from torch import nn

from projects.engine.errors import UserError
from projects.lidar.classes import LOD3
from projects.lidar.store import Patch


class NetworkPatches:
    """Present patches to a network as the config's test does, and return its probabilities.

    Args:
        model: In eval mode, on its device; its ``tensor`` mode gives logits (B, C, N).
        cfg: Its config: ``test_pipeline`` and the ``collate_fn`` of ``test_dataloader``.
        amp: Run it under bfloat16 autocast.

    Raises:
        UserError: The config is not one of point patches, or the network has other classes than LOD3.
    """

    def __init__(self, model: nn.Module, cfg: Config, amp: bool = False) -> None:
        classes = tuple((getattr(model, 'dataset_meta', None) or {}).get('classes') or ())
        if classes != LOD3:
            raise UserError(f'config {cfg.filename}: expected a network with the {len(LOD3)} LOD3 classes (a lidar '
                            f'config), found {len(classes)}: {", ".join(classes[:3])} …')
        steps = cfg.get('test_pipeline') or []
        if not steps or steps[-1].get('type') != 'PackPoints':
            raise UserError(f'config {cfg.filename}: expected a test_pipeline that ends with PackPoints (a lidar '
                            'config)')
        steps = [*steps[:-1], {**steps[-1], 'groups': False}]  # of a metric: they come from labels
        self.pipeline = Compose([TRANSFORMS.build(step) for step in steps])
        collate = dict((cfg.get('test_dataloader') or {}).get('collate_fn') or {'type': 'collate_points'})
        self.collate = partial(FUNCTIONS.get(collate.pop('type')), **collate)
        self.model, self.amp = model, amp
        self.device = next(model.parameters()).device

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(LOD3)

    @torch.inference_mode()
    def __call__(self, patches: Sequence[Patch]) -> list[np.ndarray]:
        """Return probabilities (n', C) float32 of the first n' points of each patch, n' as the pipeline leaves them.

        Raises:
            UserError: The pipeline does not keep the head of a patch as it stands, or an answer is not finite.
        """
        items = [self.pipeline(item_of(patch)) for patch in patches]
        for patch, item in zip(patches, items):
            seen = item['inputs']['points']
            if not np.array_equal(seen, patch.xyz[:len(seen)]):
                raise UserError('test_pipeline: expected the first points of a patch as they stand, found others: no '
                                'augmentation and no random choice in a test')
        data = self.model.data_preprocessor(self.collate(items), False)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.amp):
            logits = self.model(data['inputs'], data['data_samples'], mode='tensor')
        probabilities = logits.float().softmax(dim=1).transpose(1, 2).cpu().numpy()
        answers = [own[:len(item['inputs']['points'])] for own, item in zip(probabilities, items)]
        for patch, answer in zip(patches, answers):
            if not np.isfinite(answer).all():
                raise UserError(f'{patch.tile}/{patch.scale}/{patch.number}: expected probabilities of the network, '
                                'found values that are not finite: are its weights?')
        return answers


def item_of(patch: Patch) -> dict[str, Any]:
    """Return a patch as an item of the pipeline, without labels."""
    return dict(points=np.ascontiguousarray(patch.xyz), features=patch.features, rows=patch.rows,
                patch_size=float(patch.size), density=float(patch.density),
                sample_id=f'{patch.tile}/{patch.scale}/{patch.number}', tile=patch.tile, scale=patch.scale,
                number=patch.number, kind=patch.kind)


def points_seen(cfg: Config, scales: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Return how many points of a patch the network sees, by scale; features of more need not be computed.

    That is the least of what the scale has in farthest-point order, what the test data set reads (``points``) and what
    ``SamplePoints`` in the test pipeline keeps.
    """
    wanted = ((cfg.get('test_dataloader') or {}).get('dataset') or {}).get('points')
    heads = [step['count'] for step in cfg.get('test_pipeline') or []
             if step.get('type') == 'SamplePoints' and step.get('mode', 'fps') == 'fps']
    found = {}
    for scale, settings in scales.items():
        own = wanted.get(scale) if isinstance(wanted, Mapping) else wanted
        found[scale] = min(int(count) for count in (settings['points'], own, *heads) if count)
    return found


def scales_of(cfg: Config, wanted: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
    """Return the settings of the scales to predict with: those asked for, else those of the config's test data.

    Raises:
        UserError: The config has no ``patch_scales``, or not those.
    """
    known = cfg.get('patch_scales')
    if not known:
        raise UserError(f'config {cfg.filename}: patch_scales: expected the scales (configs/lidar/_base_/scales.py), '
                        'found none')
    known = {str(key): dict(value) for key, value in known.items()}
    chosen = list(wanted or ((cfg.get('test_dataloader') or {}).get('dataset') or {}).get('scales') or known)
    strange = [scale for scale in chosen if str(scale) not in known]
    if strange or len(set(chosen)) < len(chosen):
        raise UserError(f'scales: expected some of {", ".join(known)}, each once, found '
                        f'{", ".join(map(str, chosen))}')
    return {str(scale): known[str(scale)] for scale in chosen}
