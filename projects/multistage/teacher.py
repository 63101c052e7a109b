"""A trained network that only answers: frozen, in eval mode, and part of no other module."""

import copy
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.logging import print_log
from mmengine.model import revert_sync_batchnorm
from mmseg.registry import MODELS
from torch import Tensor, nn

from projects.engine.checkpoints import load_weights
from projects.engine.errors import UserError
from projects.engine.files import sha256_of
from projects.engine.inference import load_model
from projects.engine.random_state import undisturbed


class FrozenTeacher:
    """A segmentor under inference mode.

    It is no ``nn.Module``: a module that holds it as an attribute has none of its parameters, buffers, state keys or
    submodules, so that optimizers, checkpoints, wrappers for distribution and ``train()`` do not see it. A deep copy of
    that module shares it.

    Args:
        network: An mmseg segmentor; it is frozen and put into eval mode.
        classes: Its classes in order; None where unknown.
        path: Its checkpoint.
    """

    def __init__(self, network: nn.Module, classes: tuple[str, ...] | None, path: str | Path) -> None:
        self.network = network.requires_grad_(False).eval()
        self.classes, self.path = classes, str(path)

    def __deepcopy__(self, memo: dict) -> 'FrozenTeacher':
        return self

    @classmethod
    def load(cls, config: str | None, checkpoint: str | Path | None, default: Mapping[str, Any]) -> 'FrozenTeacher':
        """Build a teacher and load its weights, all of them; the process's random generators are left alone.

        Args:
            config: Path of the config it was trained with; None: it has the network ``default``.
            checkpoint: Its weights.
            default: The model config of the student.

        Raises:
            UserError: There is no such file, or it does not fit the network.
        """
        if not checkpoint or not Path(checkpoint).is_file():
            raise UserError(f'distil.teacher_checkpoint {checkpoint}: no such file')
        with undisturbed():
            if config is not None:
                network, cfg = load_model(config, checkpoint, 'cpu')
                return cls(network, tuple(network.dataset_meta['classes']), checkpoint)
            network = revert_sync_batchnorm(MODELS.build(ConfigDict(copy.deepcopy(dict(default)))))
        try:
            meta = load_weights(network, checkpoint)['meta'].get('dataset_meta') or {}
        except UserError as error:
            raise UserError(f'{error} (the teacher has the network of the student unless distil.teacher_config names '
                            'another config)') from error
        if not meta.get('classes'):
            print_log(f'teacher {checkpoint}: names no classes; they are taken to be those of the student', 'current',
                      logging.WARNING)
        return cls(network, tuple(meta['classes']) if meta.get('classes') else None, checkpoint)

    @cached_property
    def sha256(self) -> str:
        """Of the checkpoint file."""
        return sha256_of(self.path)

    @property
    def num_classes(self) -> int:
        """Channels of the logits."""
        return last_head(self.network).out_channels

    @property
    def align_corners(self) -> bool:
        """How its logits are meant to be resized."""
        return bool(last_head(self.network).align_corners)

    def move(self, device: torch.device | None = None, memory_format: torch.memory_format | None = None) -> None:
        """Move it to a device, or change its memory format."""
        if device is not None and next(self.network.parameters()).device != device:
            self.network.to(device)
        if memory_format is not None:
            self.network.to(memory_format=memory_format)

    def __call__(self, inputs: Tensor, with_features: bool = False) -> tuple[Tensor, list[Tensor]]:
        """Return logits (N, K, h, w), at the network's own stride, for images as it was trained on; features if asked.

        The autocast of the caller is in force. What comes back are copies, ordinary tensors: autograd may save them for
        the backward pass, which it may not with tensors of inference mode.
        """
        self.move(inputs.device)
        with torch.inference_mode(), recorded(self.network, 'extract_feat') as calls:
            logits = self.network(inputs, mode='tensor')
        logits = logits[0] if isinstance(logits, (list, tuple)) else logits
        features = as_list(calls[0].result) if with_features else []
        if not isinstance(logits, Tensor) or logits.dim() != 4:
            raise UserError(f'teacher {self.path}: {type(self.network).__name__} gives no map of logits')
        return logits.clone(), [feature.clone() for feature in features]


class Call:
    """Arguments and result of one call."""

    def __init__(self, arguments: tuple, result: Any) -> None:
        self.arguments, self.result = arguments, result


@contextmanager
def recorded(owner: Any, name: str) -> Iterator[list[Call]]:
    """Note the calls of an object's method while the body runs.

    mmseg calls ``head.forward`` and ``head.loss_by_feat`` by name, so that forward hooks do not see them.
    """
    method = getattr(owner, name)
    calls: list[Call] = []

    def call(*arguments: Any, **keywords: Any) -> Any:
        result = method(*arguments, **keywords)
        calls.append(Call(arguments, result))
        return result

    replaced = vars(owner).get(name)
    object.__setattr__(owner, name, call)
    try:
        yield calls
    finally:
        if replaced is None:
            object.__delattr__(owner, name)
        else:
            object.__setattr__(owner, name, replaced)


def as_list(features: Any) -> list[Tensor]:
    """Return features as a list of levels, whatever a backbone or neck returns."""
    return list(features) if isinstance(features, (list, tuple)) else [features]


def last_head(network: nn.Module) -> nn.Module:
    """Return the decode head whose logits count; of a cascade the last one."""
    head = network.decode_head
    return head[-1] if isinstance(head, nn.ModuleList) else head


class InputConversion:
    """Turn images that were normalised for one network into images normalised for another.

    Args:
        own: Data preprocessor that has made the images.
        other: Data preprocessor of the network that gets them.

    Raises:
        UserError: The networks take different numbers of bands.
    """

    def __init__(self, own: nn.Module, other: nn.Module) -> None:
        self.flips = _flips(own) != _flips(other)
        own_scale, other_scale = _scale(own), _scale(other)
        for name in ('mean', 'std'):
            sizes = [len(scale[name]) for scale in (own_scale, other_scale) if scale]
            if len(set(sizes)) > 1:
                raise UserError(f'distil.teacher_config: data_preprocessor.{name}: expected {sizes[0]} bands, as the '
                                f'student has, found {sizes[1]}')
        self.same = not self.flips and own_scale == other_scale
        self.own, self.other = _tensors(own_scale), _tensors(other_scale)

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return images (N, C, H, W) for the other network."""
        if self.same:
            return inputs
        for scale in (self.own, self.other):
            if scale and scale['mean'].device != inputs.device:  # once: each copy would wait for a GPU
                scale.update({name: values.to(inputs.device) for name, values in scale.items()})
        if self.own:
            inputs = inputs * self.own['std'] + self.own['mean']
        if self.flips:
            inputs = inputs.flip(1)
        if self.other:
            inputs = (inputs - self.other['mean']) / self.other['std']
        return inputs


def _flips(preprocessor: nn.Module) -> bool:
    return bool(getattr(preprocessor, '_channel_conversion', False))


def _scale(preprocessor: nn.Module) -> dict[str, list[float]] | None:
    if not getattr(preprocessor, '_enable_normalize', False):
        return None
    return {name: getattr(preprocessor, name).flatten().tolist() for name in ('mean', 'std')}


def _tensors(scale: dict[str, list[float]] | None) -> dict[str, Tensor] | None:
    return scale and {name: torch.tensor(values).view(-1, 1, 1) for name, values in scale.items()}  # (C, 1, 1)
