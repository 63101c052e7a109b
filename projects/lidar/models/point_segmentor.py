"""A backbone and a head as one model of points: loss, predict, tensor."""

from collections.abc import Sequence

import torch
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor

from projects.engine.errors import UserError
from projects.lidar.models.point_model import PointModel


@MODELS.register_module()
class PointSegmentor(PointModel):
    """Give every point of a patch a class.

    ``inputs`` is a dict of a batch of B patches, padded at the end to N rows:

    - ``points`` (B, N, 3) float32: metres, relative to the patch, in farthest-point order;
    - ``features`` (B, N, F) float32;
    - ``mask`` (B, N) bool: True for points, False for padding;
    - ``context`` (B, 2) float32: log2(size / 50 m) and log(points per m2) of the patch;
    - ``graph``: ``down``, ``near`` and ``up`` of :func:`projects.lidar.graph.build_graph`, each (B, ...) by level.

    Truth is ``gt_sem_seg.data`` (1, 1, n) of a data sample, n being the number of its points: labels of
    ``projects.lidar.classes``, 255 for none.

    Args:
        backbone: Config of the network; built, it has ``out_channels``.
        decode_head: Config of a :class:`LidarPointHead`; its ``in_channels`` follow the backbone.
        data_preprocessor: Default :class:`PointPreprocessor`.
        init_cfg: As for every mmengine module.
    """

    def __init__(self, backbone: dict, decode_head: dict, data_preprocessor: dict | None = None,
                 init_cfg: dict | None = None) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.backbone = MODELS.build(backbone)
        self.decode_head = MODELS.build({'in_channels': self.backbone.out_channels, **decode_head})

    def forward(self, inputs: dict, data_samples: Sequence[SegDataSample] | None = None,
                mode: str = 'tensor') -> Tensor | dict[str, Tensor] | list[SegDataSample]:
        """Run the network.

        Returns:
            ``tensor``: logits (B, classes, N), those of padding meaning nothing. ``loss``: named losses under
            ``decode.``. ``predict``: the data samples (new ones where none were given) with ``seg_logits``
            (classes, 1, n) and ``pred_sem_seg`` (1, 1, n) of the n points. That is the plain arg max, the class whose
            probability calibration is measured by; classify writes what :mod:`projects.lidar.decision` chooses.

        Raises:
            UserError: Another mode, images, or ``loss`` without truth.
        """
        self.check(inputs, mode)
        logits = self.decode_head(self.backbone(inputs))
        if mode == 'tensor':
            return logits
        if mode == 'predict':
            return predicted(logits, inputs['mask'], data_samples)
        labels = truth_of(data_samples, inputs['mask'], self.decode_head.ignore_index)
        return {f'decode.{name}': value for name, value in self.decode_head.loss(logits, labels).items()}


def truth_of(data_samples: Sequence[SegDataSample] | None, mask: Tensor, ignore_index: int) -> Tensor:
    """Join the labels of the samples as (B, N) int64, ``ignore_index`` in the padding."""
    if not data_samples:
        raise UserError('PointSegmentor: data_samples: a loss needs the truth of every patch, found none')
    labels = mask.new_full(mask.shape, ignore_index, dtype=torch.long)
    for row, sample in zip(labels, data_samples):
        truth = sample.gt_sem_seg.data.flatten()
        row[:len(truth)] = truth
    return labels


def predicted(logits: Tensor, mask: Tensor, data_samples: Sequence[SegDataSample] | None) -> list[SegDataSample]:
    """Write logits (B, C, N) and classes of the points, without padding, into the samples."""
    samples = list(data_samples) if data_samples else [SegDataSample() for _ in logits]
    for sample, of_patch, count in zip(samples, logits, mask.sum(1).tolist()):
        of_patch = of_patch[:, None, :count]  # (C, 1, n)
        sample.set_data({'seg_logits': PixelData(data=of_patch),
                         'pred_sem_seg': PixelData(data=of_patch.argmax(0, keepdim=True))})
    return samples
