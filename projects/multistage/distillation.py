"""A student that learns from labels and from a frozen teacher."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.logging import MessageHub, print_log
from mmengine.model import BaseModel
from mmseg.models.utils import resize
from mmseg.registry import MODELS
from torch import Tensor, nn

from projects.engine.errors import UserError
from projects.multistage.class_map import Remap, class_map
from projects.multistage.teacher import FrozenTeacher, InputConversion, as_list, last_head, recorded
from projects.multistage.teacher_cache import TeacherCache, view_names

KEPT_RANGE = (0.5, 0.95)
FIRST_CHECK, CHECK_EVERY = 50, 500  # steps with a teacher


@MODELS.register_module()
class DistilledSegmentor(BaseModel):
    """``hard_weight * (the student's own losses) + kd_weight * KD + feature_weight * (feature loss)``.

    To everything but the training step this model is its student: it predicts as the student does, its state dict has
    the student's keys and no others (a checkpoint of this model is one of the student), and its parameters are the
    student's. The teacher (:class:`projects.multistage.teacher.FrozenTeacher`) is no submodule. It runs under the
    autocast of the step, and only in steps where ``kd_weight`` or ``feature_weight`` is not zero; a
    :class:`projects.multistage.warmup.StageWarmupHook` sets the weights.

    Both logits are resized to the labels' size before they are compared: there the student's own losses are taken, the
    ignored pixels are known, and a share of pixels means what it says; strides may differ.

    In the log: the student's terms times ``hard_weight`` under their own names, ``loss_kd`` and ``loss_feature`` times
    their weights (0 while off), and without a part in the sum ``kd/kept_share``, ``kd/teacher_entropy``,
    ``kd/agreement`` and ``kd/kept_agreement`` of this process (see
    :class:`projects.multistage.kd_loss.ConfidenceMaskedKDLoss`). A kept share outside 0.5..0.95 gives a warning, after
    50 steps and then every 500.

    Args:
        student: Model config of any mmseg segmentor with one map of logits (the runner puts the config's ``model``
            here).
        teacher_checkpoint: Weights of the teacher; all must match.
        teacher_config: Path of the config that the teacher was trained with; None: it has the student's network.
        remap: How the teacher's classes map to the student's, where they differ
            (:func:`projects.multistage.class_map.class_map`).
        loss: Config of the KD loss.
        feature_loss: Config of a feature loss, or None.
        hard_weight, kd_weight, feature_weight: Factors, at least 0.
        cache: Folder in which the teacher's logits are kept, or ``dict(folder=…, max_gib=…, min_free_gib=…)``
            (:class:`projects.multistage.teacher_cache.TeacherCache`); needs ``augmentation_views``.
        classes: Classes of the data set (the runner tells them).

    Raises:
        UserError: The teacher cannot be loaded, its classes or bands differ, or the options contradict each other.
    """

    def __init__(self, student: Mapping[str, Any], teacher_checkpoint: str | None = None,
                 teacher_config: str | None = None, remap: Remap | None = None, loss: Mapping[str, Any] | None = None,
                 feature_loss: Mapping[str, Any] | None = None, hard_weight: float = 0.3, kd_weight: float = 0.7,
                 feature_weight: float = 0.0, cache: str | Mapping[str, Any] | None = None,
                 classes: Sequence[str] | None = None) -> None:
        network = MODELS.build(ConfigDict(student))
        super().__init__(data_preprocessor=network.data_preprocessor)
        del self._modules['data_preprocessor']  # it is the student's, see the property
        self.student = network
        self.hard_weight, self.kd_weight = float(hard_weight), float(kd_weight)
        self.feature_weight = float(feature_weight)
        if min(self.hard_weight, self.kd_weight, self.feature_weight) < 0:
            raise UserError(f'distil: expected weights of at least 0, found hard_weight={hard_weight}, '
                            f'kd_weight={kd_weight}, feature_weight={feature_weight}')
        self.kd_loss = MODELS.build(dict(loss or dict(type='ConfidenceMaskedKDLoss')))
        self.feature_loss = None if feature_loss is None else MODELS.build(dict(feature_loss))
        for key, module in (('loss', self.kd_loss), ('feature_loss', self.feature_loss)):
            if module is not None and module.state_dict():
                raise UserError(f'distil.{key}: expected a loss without weights, {type(module).__name__} has some: a '
                                'checkpoint holds the student alone')
        if cache and feature_loss is not None:
            raise UserError('distil: expected cache or feature_loss, found both: only logits are kept')
        if self.feature_weight and self.feature_loss is None:
            raise UserError(f'distil.feature_weight: expected 0 without a feature_loss, found {feature_weight}')

        self.teacher = FrozenTeacher.load(teacher_config, teacher_checkpoint, student)
        self.conversion = InputConversion(network.data_preprocessor, self.teacher.network.data_preprocessor)
        remap = class_map(self.teacher.classes, classes, remap, self.teacher.path)
        expected = (self.teacher.num_classes, last_head(network).out_channels)
        found = (expected[0], expected[0]) if remap is None else tuple(remap.shape)
        if found != expected or min(expected) < 2:
            size = 'as many, or distil.remap' if remap is None else f'a remap of that size, not {found[0]} x {found[1]}'
            raise UserError(f'distil: teacher {self.teacher.path} has {expected[0]} outputs, the student '
                            f'{expected[1]}: expected at least two and {size}')
        self.remap = remap  # no buffer: the average (EMA) has none
        self.cache = _cache(cache, self.teacher)
        self._kept: list[Tensor] = []
        self._steps = 0

    @property
    def data_preprocessor(self) -> nn.Module:
        """The student's."""
        return self.student.data_preprocessor

    @property
    def trained_network(self) -> nn.Module:
        """What is trained: the student (:func:`projects.engine.trained_network.trained_network`)."""
        return self.student

    def state_dict(self, *args: Any, destination: Any = None, prefix: str = '', keep_vars: bool = False) -> Any:
        """Return the student's state, under the student's keys, also within a wrapper."""
        return self.student.state_dict(*args, destination=destination, prefix=prefix, keep_vars=keep_vars)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        # torch and MMEngine call this for each module before its children: give the keys the name of the child.
        for key in [key for key in state_dict if key.startswith(prefix)]:
            state_dict[f'{prefix}student.{key.removeprefix(prefix)}'] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def to(self, *args: Any, **kwargs: Any) -> 'DistilledSegmentor':
        """Move the student; the teacher takes the memory format now and the device when it is used."""
        self.teacher.move(memory_format=torch._C._nn._parse_to(*args, **kwargs)[3])
        return super().to(*args, **kwargs)

    def forward(self, inputs: Tensor, data_samples: list | None = None, mode: str = 'tensor') -> Any:
        """Return losses in mode ``loss``, and what the student returns in any other."""
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        return self.student(inputs, data_samples, mode=mode)

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Any]:
        """Return the loss terms and statistics of a batch."""
        views = view_names(data_samples) if self.cache else None  # asked for while the teacher is off, too: fail early
        head = last_head(self.student)
        with recorded(head, 'loss_by_feat') as heads, recorded(self.student, 'extract_feat') as extracted:
            losses = self.student.loss(inputs, data_samples)
        losses = {name: _times(value, self.hard_weight) if 'loss' in name else value for name, value in losses.items()}
        losses['loss_kd'] = inputs.new_zeros((), dtype=torch.float32)
        if self.feature_loss is not None:
            losses['loss_feature'] = losses['loss_kd']
        if not self.kd_weight:
            _forget_statistics()
        if not self.kd_weight and not self.feature_weight:
            return losses
        logits, features = self._ask(inputs, views)
        if self.kd_weight:
            label = torch.stack([sample.gt_sem_seg.data for sample in data_samples]).squeeze(1)  # (N, H, W)
            own = self._own_logits(heads, head)
            own = resize(own.float(), label.shape[1:], mode='bilinear', align_corners=head.align_corners)
            logits = resize(logits.float(), label.shape[1:], mode='bilinear', align_corners=self.teacher.align_corners)
            if self.remap is not None:
                self.remap = self.remap.to(logits.device)  # a copy in the first step alone: it would wait for a GPU
            loss, statistics = self.kd_loss(own, logits, label, self.remap)
            losses['loss_kd'] = self.kd_weight * loss
            losses.update({f'kd/{name}': value.detach() for name, value in statistics.items()})
            self._watch(statistics['kept_share'])
        if self.feature_weight:
            losses['loss_feature'] = self.feature_weight * self.feature_loss(as_list(extracted[0].result), features)
        return losses

    def _ask(self, inputs: Tensor, views: list[str] | None) -> tuple[Tensor, list[Tensor]]:
        if self.cache is not None:
            return self.cache.logits(inputs, views, lambda images: self.teacher(self.conversion(images))[0]), []
        return self.teacher(self.conversion(inputs), with_features=bool(self.feature_weight))

    @staticmethod
    def _own_logits(calls: list, head: nn.Module) -> Tensor:
        logits = calls[0].arguments[0] if calls and calls[0].arguments else None
        logits = logits[0] if isinstance(logits, (list, tuple)) else logits  # some heads give auxiliary maps, too
        if not isinstance(logits, Tensor) or logits.dim() != 4 or logits.shape[1] != head.out_channels:
            raise UserError(f'distil: {type(head).__name__} gives its losses no map of logits; expected a head that '
                            'classifies each pixel')
        return logits

    def _watch(self, kept_share: Tensor) -> None:
        """Warn now and then when the threshold keeps too little, or next to everything."""
        if not getattr(self.kd_loss, 'threshold', 0):
            return
        self._kept.append(kept_share.detach())
        self._steps += 1
        if self._steps != FIRST_CHECK and self._steps % CHECK_EVERY:
            return
        share = float(torch.stack(self._kept).mean())
        self._kept.clear()
        if not KEPT_RANGE[0] <= share <= KEPT_RANGE[1]:
            does = 'it hardly teaches' if share < KEPT_RANGE[0] else 'the threshold hardly does anything'
            print_log(f'KD keeps {100 * share:.1f} % of the labelled pixels, expected {100 * KEPT_RANGE[0]:.0f} to '
                      f'{100 * KEPT_RANGE[1]:.0f} %: {does} (distil.loss.threshold is {self.kd_loss.threshold:g})',
                      'current', logging.WARNING)


def _forget_statistics() -> None:
    """Take what KD has told before it was switched off out of the log, which would repeat the last values."""
    scalars = MessageHub.get_current_instance().log_scalars
    for name in [name for name in scalars if name.startswith('train/kd/')]:
        del scalars[name]


def _times(value: Tensor | list[Tensor], factor: float) -> Tensor | list[Tensor]:
    return [item * factor for item in value] if isinstance(value, list) else value * factor


def _cache(cache: str | Mapping[str, Any] | None, teacher: FrozenTeacher) -> TeacherCache | None:
    if not cache:
        return None
    options = dict(folder=cache) if isinstance(cache, (str, Path)) else dict(cache)
    unknown = sorted(set(options) - {'folder', 'max_gib', 'min_free_gib'})
    if unknown or 'folder' not in options:
        raise UserError('distil.cache: expected a folder or dict(folder=…, max_gib=…, min_free_gib=…), found '
                        f'{unknown[0] if unknown else "no folder"}')
    return TeacherCache(teacher_sha256=teacher.sha256, **options)
