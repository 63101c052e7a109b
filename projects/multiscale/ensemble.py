"""Test-time ensemble: networks x scales x flips, merged into one answer.

The default views are those of the seeds: scales 0.75, 1 and 1.25, each as it is, mirrored and upside down; with two
networks 18 views.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.model import BaseTTAModel, revert_sync_batchnorm
from mmengine.structures import PixelData
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from projects.engine.checkpoints import load_weights
from projects.engine.errors import UserError
from projects.multiscale.views import FLIPS, SCALES, check_views, is_number


def class_logits(logits: Tensor) -> Tensor:
    """Return float32 logits (N, C, H, W) with C >= 2: the one channel z of a binary head becomes (0, z)."""
    logits = logits.float().contiguous()
    return torch.cat([torch.zeros_like(logits), logits], dim=1) if logits.shape[1] == 1 else logits


def most_likely(scores: Tensor) -> Tensor:
    """Return the first class with the highest score, (N, C, H, W) -> (N, H, W); on a CPU far quicker than argmax."""
    return scores.max(dim=1).indices


def sharpen(probabilities: Tensor, temperature: float) -> Tensor:
    """Return ``softmax(log(p) / temperature)`` over axis 1: below 1 more certain, above 1 less; 1 changes nothing."""
    if temperature == 1.0:
        return probabilities
    return (probabilities.clamp_min(torch.finfo(torch.float32).tiny).log() / temperature).softmax(dim=1)


def entropy(probabilities: Tensor) -> Tensor:
    """Return the entropy of (N, C, H, W) probabilities over axis 1 as a share of log(C): 0 certain, 1 uniform."""
    return torch.special.entr(probabilities).sum(dim=1) / math.log(probabilities.shape[1])


@MODELS.register_module()
class EnsembleTTA(BaseTTAModel):
    """One or more segmentors, each at several scales and flips, as one segmentor.

    A view is the image, resized (bilinear) by a scale and flipped, put through a network as mmseg does it (normalised,
    padded to the divisor, logits resized to the view and then to the image), and turned back. Views are merged by

    - ``'prob'``: the mean of softmax(logits / temperature) (mmseg's way),
    - ``'logit'``: softmax of the mean of logits / temperature (the seeds' ensemble),
    - ``'vote'``: the share of views that give a class.

    The sum is one float32 map that every network's own sum is added to: memory does not depend on the number of
    networks or scales beyond the weights themselves. The flips of a scale go through a network as one batch. Under
    ``'logit'`` they are added at the network's own resolution, which is the same, as all that follows is linear and
    commutes with flips.

    Args:
        module: The first network, or its config.
        members: Further networks with the same classes: modules, or ``dict(model=CONFIG, checkpoint=PATH)``.
        scales: Factors of the image's sides, above 0.
        flips: Of ``'none'``, ``'horizontal'``, ``'vertical'``.
        merge: ``'prob'``, ``'logit'`` or ``'vote'``.
        weights: One for each network, not negative; they are divided by their sum. Default: all equal.
        temperatures: One for each network, positive: its logits are divided by it. Default: 1.
        temperature: Of the merged answer, positive (see :func:`sharpen`); a vote takes none.
        channels_last: Keep weights in the channels-last memory format (the same numbers; on a CPU quicker).
        data_preprocessor: Replaces that of ``module``, where that is a config.

    Raises:
        UserError: An argument out of range, or networks with different numbers of classes.
    """

    def __init__(self, module: nn.Module | dict, members: Sequence[nn.Module | dict] = (),
                 scales: Sequence[float] = SCALES, flips: Sequence[str] = tuple(FLIPS), merge: str = 'prob',
                 weights: Sequence[float] | None = None, temperatures: Sequence[float] | None = None,
                 temperature: float = 1.0, channels_last: bool = True, data_preprocessor: dict | None = None) -> None:
        check_views(scales, flips, merge)
        super().__init__(module, data_preprocessor)
        self.others = nn.ModuleList(_build(member) for member in members)
        self.scales, self.flips, self.merge = tuple(map(float, scales)), tuple(flips), merge
        self.set_fit(weights, temperatures, temperature)
        classes = {len(_classes(member)) for member in self.members}
        if len(classes) > 1:
            raise UserError(f'ensemble: expected networks with equally many classes, found {sorted(classes)}')
        self.classes = classes.pop()
        if channels_last:
            self.to(memory_format=torch.channels_last)
        self._counts: list[Tensor] = []  # per batch: pixels in which all members agreed, pixels compared

    @property
    def members(self) -> list[nn.Module]:
        """All networks, the first one first."""
        return [self.module, *self.others]

    def set_fit(self, weights: Sequence[float] | None = None, temperatures: Sequence[float] | None = None,
                temperature: float = 1.0) -> None:
        """Set what :mod:`tools.fit_ensemble` fits; see the class."""
        count = 1 + len(self.others)
        weights = [1.0] * count if weights is None else list(weights)
        temperatures = [1.0] * count if temperatures is None else list(temperatures)
        if len(weights) != count or not all(is_number(w) and w >= 0 for w in weights) or not sum(weights) > 0:
            raise UserError(f'ensemble weights: expected {count} numbers >= 0, not all 0, found {weights}')
        if len(temperatures) != count or not all(is_number(t) and t > 0 for t in (*temperatures, temperature)):
            raise UserError(f'ensemble temperatures: expected {count} numbers above 0 and one for all, '
                            f'found {temperatures} and {temperature}')
        if self.merge == 'vote' and temperature != 1.0:
            raise UserError(f'ensemble temperature: a vote takes none, found {temperature}')
        self.weights = tuple(float(weight) / sum(weights) for weight in weights)
        self.temperatures, self.temperature = tuple(map(float, temperatures)), float(temperature)

    def test_step(self, data: dict[str, Any]) -> list[SegDataSample]:
        """Predict a batch of the data loader; images of one size go through the networks together."""
        data = self.module.data_preprocessor.cast_data(data)
        images, samples = list(data['inputs']), list(data['data_samples'])
        sizes = [(image.shape, _size(image, sample)) for image, sample in zip(images, samples)]
        done: list[SegDataSample] = []
        start = 0
        for end in range(1, len(images) + 1):
            if end == len(images) or sizes[end] != sizes[start]:
                done += self(torch.stack(images[start:end]), samples[start:end], mode='predict')
                start = end
        return done

    def forward(self, inputs: Tensor, data_samples: list[SegDataSample] | None = None,
                mode: str = 'tensor') -> Tensor | list[SegDataSample]:
        """Merge the views of raw images.

        Args:
            inputs: (N, bands, H, W), 0..255, in the bands' order of the files; each network normalises them itself.
            data_samples: One for each image; their ``ori_shape`` is the size of the answer, and equal for all.
            mode: ``'tensor'`` returns probabilities (N, C, H, W); ``'predict'`` data samples with ``seg_probs`` and
                ``pred_sem_seg``.
        """
        if mode == 'tensor':
            return self.merge_views(inputs)[0]
        if mode != 'predict':
            raise UserError(f'EnsembleTTA: expected mode tensor or predict, found {mode!r}: it does not train')
        samples = data_samples or [SegDataSample() for _ in inputs]
        probabilities, _ = self.merge_views(inputs, _size(inputs[0], samples[0]))
        for sample, probability in zip(samples, probabilities, strict=True):
            sample.seg_probs = PixelData(data=probability)
            sample.pred_sem_seg = PixelData(data=most_likely(probability[None]))
        return samples

    def merge_preds(self, data_samples_list: list) -> list:
        """Of the base class, whose views come from the pipeline: not used."""
        raise NotImplementedError('EnsembleTTA makes its views itself: call test_step or forward')

    @torch.inference_mode()
    def merge_views(self, images: Tensor, size: Sequence[int] | None = None, *, normalised: bool = False,
                    whole: bool = False, disagreement: bool = False) -> tuple[Tensor, Tensor | None]:
        """Return the merged probabilities, and how far the answers behind them differ.

        Args:
            images: (N, bands, H, W): raw, 0..255; or normalised already, for all networks alike.
            size: Height and width of the answer. Default: those of ``images``.
            normalised: ``images`` are normalised.
            whole: Put a view through a network in one piece, also where the network's ``test_cfg`` slides.
            disagreement: Also measure it.

        Returns:
            Probabilities (N, C, H, W) float32, and, where asked for, (N, H, W) float32: the mutual information of the
            class and the network (with a single network: the view) as a share of log(C), 0..1. That is the entropy
            of the mean answer less the mean entropy of the answers.
        """
        images = images.float()
        size = tuple(images.shape[-2:]) if size is None else tuple(size)
        alone = len(self.members) == 1
        total = votes = agreed = None
        spread = _Spread() if disagreement else None
        for index, (model, weight, temperature) in enumerate(zip(self.members, self.weights, self.temperatures)):
            own = self._answer(model, temperature, images, size, normalised, whole, spread if alone else None)
            if not alone:
                if spread is not None:
                    spread.add(own.softmax(dim=1) if self.merge == 'logit' else own, weight)
                if index == 0:
                    votes = most_likely(own)
                    agreed = torch.ones_like(votes, dtype=torch.bool)
                else:
                    agreed &= most_likely(own) == votes
            total = own.mul_(weight) if total is None else total.add_(own, alpha=weight)
            del own  # else it would live on beside the next network's
        if agreed is not None:
            self._count(agreed, images)
        if self.merge == 'logit':
            total = total.div_(self.temperature).softmax(dim=1)
        elif self.temperature != 1.0:
            total = sharpen(total, self.temperature)
        return total, None if spread is None else spread.result()

    @torch.inference_mode()
    def views(self, images: Tensor, size: Sequence[int] | None = None) -> Iterator[tuple[int, Tensor]]:
        """Yield each view's network (its index) and its logits (N, C, H, W) float32, turned back, at ``size``."""
        images = images.float()
        size = tuple(images.shape[-2:]) if size is None else tuple(size)
        for index, model in enumerate(self.members):
            for scale in self.scales:
                for logits in self._views(model, images, scale, size, False, False):
                    yield index, logits

    def take_agreement(self) -> tuple[int, int]:
        """Return in how many pixels all networks agreed, and how many were compared, since the last call.

        Pixels that are 0 in all bands (no data) are not compared.
        """
        counts = torch.stack(self._counts).sum(dim=0).tolist() if self._counts else [0, 0]
        self._counts.clear()
        return counts[0], counts[1]

    def _count(self, agreed: Tensor, images: Tensor) -> None:
        holds_data = (images != 0).any(dim=1)
        if holds_data.shape == agreed.shape:
            agreed = agreed & holds_data
        else:  # an answer of another size than the image
            holds_data = torch.ones_like(agreed)
        counts = torch.stack([agreed.sum(), holds_data.sum()])
        self._counts = [torch.stack([counts, *self._counts]).sum(dim=0)]

    def _answer(self, model: nn.Module, temperature: float, images: Tensor, size: tuple[int, int], normalised: bool,
                whole: bool, spread: '_Spread | None') -> Tensor:
        """Return the mean over the views of one network (N, C, H, W): logits, probabilities or shares of votes."""
        number = len(self.scales) * len(self.flips)
        total = None
        for scale in self.scales:
            joined = self.merge == 'logit' and spread is None  # nobody needs the single views
            for view in self._views(model, images, scale, size, normalised, whole, joined):
                if temperature != 1.0:
                    view /= temperature
                probability = view.softmax(dim=1) if spread is not None or self.merge == 'prob' else None
                if spread is not None:
                    spread.add(probability, 1 / number)
                if total is None:
                    total = torch.zeros_like(view)
                if self.merge == 'prob':
                    total += probability
                elif self.merge == 'logit':
                    total += view
                else:
                    best = most_likely(view)[:, None]
                    total.scatter_add_(1, best, torch.ones_like(best, dtype=total.dtype))
                del view, probability
        return total.div_(number)

    def _views(self, model: nn.Module, images: Tensor, scale: float, size: tuple[int, int], normalised: bool,
               whole: bool, joined: bool = False) -> Iterator[Tensor]:
        """Yield the logits of one network at one scale for each flip, turned back; with ``joined`` their sum at once.

        They are (N, C, *size) float32 and the caller's own.
        """
        scaled = tuple(max(1, int(side * scale + 0.5)) for side in images.shape[-2:])  # as mmcv's Resize rounds
        if scaled != tuple(images.shape[-2:]):
            images = F.interpolate(images, size=scaled, mode='bilinear', align_corners=False)
        flipped = torch.cat([images.flip(FLIPS[flip]) if FLIPS[flip] else images for flip in self.flips])
        inputs = _inputs(model, flipped, normalised)
        padded = tuple(inputs.shape[-2:])
        align_corners = bool(getattr(model, 'align_corners', False))
        logits = class_logits(_logits(model, inputs, whole)).split(len(images))
        if joined and padded == scaled:  # a flip and a symmetric resize commute
            yield _resized(_resized(_sum_unflipped(logits, self.flips), scaled, align_corners), size, align_corners)
            return
        full = (_resized(part, padded, align_corners)[..., :scaled[0], :scaled[1]] for part in logits)
        if joined:
            yield _resized(_sum_unflipped(full, self.flips), size, align_corners)
            return
        for part, flip in zip(full, self.flips):
            yield _resized(part.flip(FLIPS[flip]) if FLIPS[flip] else part, size, align_corners)


class _Spread:
    """Running sums behind the mutual information of class and answer."""

    def __init__(self) -> None:
        self._mean: Tensor | None = None
        self._entropy: Tensor | None = None

    def add(self, probabilities: Tensor, weight: float) -> None:
        """Add one answer (N, C, H, W); the weights of all answers sum to one."""
        if self._mean is None:
            self._mean, self._entropy = weight * probabilities, weight * entropy(probabilities)
        else:
            self._mean.add_(probabilities, alpha=weight)
            self._entropy.add_(entropy(probabilities), alpha=weight)

    def result(self) -> Tensor:
        """Return (N, H, W), 0..1."""
        return (entropy(self._mean) - self._entropy).clamp_(min=0)


def _inputs(model: nn.Module, images: Tensor, normalised: bool) -> Tensor:
    """Return what a network sees of raw images: normalised, and padded right and below, where its settings say so."""
    preprocessor = model.data_preprocessor
    if not normalised:
        data = {'inputs': list(images), 'data_samples': [SegDataSample() for _ in images]}
        return preprocessor(data, False)['inputs']
    divisor = (getattr(preprocessor, 'test_cfg', None) or {}).get('size_divisor') or 1
    height, width = images.shape[-2:]
    return F.pad(images, (0, -width % divisor, 0, -height % divisor))


def _logits(model: nn.Module, inputs: Tensor, whole: bool) -> Tensor:
    """Return logits (N, C, h, w): at the head's own resolution where it is mmseg's usual head, else at the input's."""
    size = inputs.shape[-2:]
    metas = [dict(img_shape=size, pad_shape=size, ori_shape=size) for _ in inputs]
    if not whole and (model.test_cfg or {}).get('mode') == 'slide':
        return model.inference(inputs, metas)
    head = model.decode_head
    usual = type(model).encode_decode is EncoderDecoder.encode_decode and isinstance(head, BaseDecodeHead) and all(
        getattr(type(head), name) is getattr(BaseDecodeHead, name) for name in ('predict', 'predict_by_feat'))
    if usual:
        return head(model.extract_feat(inputs))
    return model.encode_decode(inputs, metas)


def _resized(logits: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    if tuple(logits.shape[-2:]) == tuple(size):
        return logits
    return F.interpolate(logits, size=size, mode='bilinear', align_corners=align_corners)


def _sum_unflipped(parts: Any, flips: Sequence[str]) -> Tensor:
    total = None
    for part, flip in zip(parts, flips):
        part = part.flip(FLIPS[flip]) if FLIPS[flip] else part
        total = part.clone() if total is None else total.add_(part)
    return total


def _build(member: nn.Module | dict) -> nn.Module:
    if isinstance(member, nn.Module):
        return member
    model = revert_sync_batchnorm(MODELS.build(ConfigDict(member['model'])))
    load_weights(model, member['checkpoint'])
    return model.eval()


def _classes(model: nn.Module) -> range:
    return range(max(2, model.out_channels))


def _size(image: Tensor, sample: SegDataSample) -> tuple[int, int]:
    """Return the size of an image's answer."""
    size = sample.metainfo.get('ori_shape') or image.shape[-2:]
    return tuple(size[:2])
