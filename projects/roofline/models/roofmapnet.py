"""RoofMapNet: an image to junctions and verified lines, and the six losses that train all of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from projects.engine.errors import UserError
from projects.roofline.models.junctions import find_junctions
from projects.roofline.models.line_proposal import Proposals, propose_lines
from projects.roofline.models.line_samples import LineSampler, pad_truth
from projects.roofline.models.map_head import RoofMaps
from projects.roofline.models.stacked_hourglass import StackedHourglass

LOSSES = ('gauss', 'qcc', 'lhr', 'off', 'lv', 'sf')
MODES = ('loss', 'predict', 'tensor')
DETECTION = dict(junctions=300, junction_threshold=0.008, line_limit=2500, line_threshold=0.01, unverified=2500)


@MODELS.register_module()
class RoofMapNet(BaseModel):
    """Backbone, map head and line verifier.

    Args:
        backbone: Config; its features lie at a quarter of the image (``in_index`` chooses them where it gives several
            that are no stacks). A :class:`StackedHourglass` is told what the head says of each stack.
        map_head: Config of a :class:`RoofMapHead`.
        line_head: Config of a :class:`LineVerifier`.
        losses: Configs of the six losses by name: gauss, qcc, lhr, off, lv, sf.
        gaussian: Config of the :class:`GaussianTarget`.
        samples: Arguments of the :class:`LineSampler`.
        neck: Config of what stands between backbone and head, None for nothing.
        in_index: Which of several feature maps is read; None (default): all are stacks, and all are supervised.
        lines: Train the line verifier. False is the first of two stages: heat maps only; the verifier keeps its
            weights, without gradients, and no line is predicted.
        detection: ``junctions`` (at most so many an image; default 300) above ``junction_threshold`` (0.008);
            ``line_limit`` candidates that are verified (2,500; None: all pairs) and kept from ``line_threshold`` on
            (0.01); ``unverified`` pairs that are ranked by their junctions alone (2,500; 0: none).
        data_preprocessor: Config of an ``ImgDataPreprocessor``.
        init_cfg: As for every mmengine module.

    Raises:
        UserError: A loss is missing or unknown; a key of ``detection`` is unknown.

    Source: seed 004; specs/roofline.md.
    """

    def __init__(self, backbone: dict, map_head: dict, line_head: dict, losses: Mapping[str, dict],
                 gaussian: dict | None = None, samples: dict | None = None, neck: dict | None = None,
                 in_index: int | None = None, lines: bool = True, detection: dict | None = None,
                 data_preprocessor: dict | None = None, init_cfg: dict | None = None) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        if set(losses) != set(LOSSES):
            raise UserError(f'model.losses: expected {", ".join(LOSSES)}, found {", ".join(losses) or "none"}')
        unknown = sorted(set(detection or {}) - set(DETECTION))
        if unknown:
            raise UserError(f'model.detection: expected keys of {", ".join(DETECTION)}, found {unknown[0]}')
        self.map_head = MODELS.build(map_head)
        if MODELS.get(backbone['type']) is StackedHourglass:
            backbone = {'feedback_channels': self.map_head.out_channels, **backbone}
        self.backbone = MODELS.build(backbone)
        self.neck = None if neck is None else MODELS.build(neck)
        self.line_head = MODELS.build(line_head)
        self.losses = nn.ModuleDict({name: MODELS.build(losses[name]) for name in LOSSES})
        self.gaussian = MODELS.build(gaussian or dict(type='GaussianTarget'))
        self.sampler = LineSampler(**(samples or {}))
        self.in_index, self.lines, self.detection = in_index, lines, {**DETECTION, **(detection or {})}
        if not lines:
            self.line_head.requires_grad_(False)

    def forward(self, inputs: Tensor, data_samples: Sequence[SegDataSample] | None = None,
                mode: str = 'tensor') -> dict[str, Tensor] | list[SegDataSample]:
        """Run the network.

        Args:
            inputs: Normalised images (B, 3, H, W).
            data_samples: What `PackRoofline` gave; for ``predict`` they may be missing.
            mode: ``tensor``, ``loss`` or ``predict``.

        Returns:
            ``tensor``: ``jmap`` (B, T, h, w) and ``lmap`` (B, h, w) probabilities, ``joff`` (B, T, 2, h, w) (dy, dx)
            in [-1/2, 1/2]. ``loss``: ``loss_<name>`` for each of the six (four where ``lines`` is False). ``predict``:
            the samples with ``pred_junctions`` (J, 2) (x, y) in pixels of the original image,
            ``pred_junction_scores`` and, where the network has several, ``pred_junction_types`` (J,), ``pred_lines``
            (L, 2) places of junctions with ``pred_line_scores`` (L,) in 0..1, best first, and
            ``pred_unverified_lines`` (U, 2) with ``pred_unverified_scores`` (U,), the means of their junctions' scores.

        Raises:
            UserError: Another mode, or ``loss`` without truth.
        """
        if mode not in MODES:
            raise UserError(f'RoofMapNet: mode: expected one of {", ".join(MODES)}, found {mode}')
        features, maps = self.maps(inputs)
        if mode == 'loss':
            if not data_samples or 'jmap' not in data_samples[0]:
                raise UserError('RoofMapNet: data_samples: a loss needs the maps of PackRoofline, found none')
            return self.loss(features, maps, data_samples)
        read = read_maps(maps[-1])
        if mode == 'tensor':
            return read
        return self.predict(inputs, features[-1], read, data_samples)

    def maps(self, inputs: Tensor) -> tuple[tuple[Tensor, ...], list[RoofMaps]]:
        """Return the features (B, C, h, w) and the maps of every stack, the last one last."""
        scores: dict[int, Tensor] = {}

        def score(stack: int, features: Tensor) -> Tensor:
            scores[stack] = self.map_head.score(stack, features)
            return scores[stack]

        if getattr(self.backbone, 'feedback_channels', 0):
            features = self.backbone(inputs, score)
        else:
            features = self.backbone(inputs)
        if self.neck is not None:
            features = self.neck(features)
        if self.in_index is not None:
            features = (features[self.in_index],)
        return features, [self.map_head(scores[stack] if stack in scores else score(stack, one))
                          for stack, one in enumerate(features)]

    def loss(self, features: Sequence[Tensor], maps: Sequence[RoofMaps],
             data_samples: Sequence[SegDataSample]) -> dict[str, Tensor]:
        """Return the six losses; those of the maps are means over the stacks."""
        jmap, joff, lmap = (torch.stack([sample.get(key) for sample in data_samples]) for key in
                            ('jmap', 'joff', 'lmap'))
        if lmap.shape != maps[-1].lmap.shape:
            raise UserError(f'PackRoofline.stride: expected maps of {tuple(maps[-1].lmap.shape[1:])} as the network '
                            f'has them, found {tuple(lmap.shape[1:])}')
        gaussian = self.gaussian(jmap)
        losses = self.losses
        stacks = [dict(
            gauss=losses['gauss'](one.raw.float().softmax(2)[:, :, 1], gaussian, jmap),
            qcc=losses['qcc'](one.jmap, jmap),
            lhr=losses['lhr'](one.lmap, lmap),
            off=losses['off'](one.joff, joff, jmap)) for one in maps]
        found = {f'loss_{name}': sum(stack[name] for stack in stacks) / len(stacks) for name in stacks[0]}
        if self.lines:
            truth = pad_truth(data_samples)
            with torch.no_grad():
                last = read_maps(maps[-1])
                candidates = find_junctions(last['jmap'], last['joff'], self.sampler.dynamic_junctions,
                                            self.detection['junction_threshold'])
            lines = self.sampler(candidates, truth)
            probability = maps[-1].lmap.float().sigmoid()
            logits, hidden = self.line_head(self.line_head.features(features[-1], probability), probability,
                                            lines.lines_yx, lines.image_index)
            found['loss_lv'] = losses['lv'](logits, lines.labels)
            found['loss_sf'] = losses['sf'](hidden, lines.occlusions)
        return found

    @torch.no_grad()
    def score_lines(self, images: Tensor, lines_yx: Tensor, image_index: Tensor | None = None) -> Tensor:
        """Return the verifier's logits (L,) of given lines.

        Args:
            images: Normalised (B, 3, H, W).
            lines_yx: Ends (y, x) in cells of the maps, corner origin (L, 2, 2).
            image_index: Image of each line (L,) int64; default: all of the first.
        """
        features, maps = self.maps(images)
        if image_index is None:
            image_index = lines_yx.new_zeros(len(lines_yx), dtype=torch.long)
        lmap = maps[-1].lmap.float().sigmoid()
        return self.line_head(self.line_head.features(features[-1], lmap), lmap, lines_yx, image_index)[0]

    def predict(self, inputs: Tensor, features: Tensor, read: Mapping[str, Tensor],
                data_samples: Sequence[SegDataSample] | None) -> list[SegDataSample]:
        """Find junctions, verify the lines between them, and write both into the samples."""
        cfg = self.detection
        junctions = find_junctions(read['jmap'], read['joff'], cfg['junctions'], cfg['junction_threshold'])
        lmap = read['lmap']
        stride = inputs.shape[-1] / lmap.shape[-1]
        samples = list(data_samples) if data_samples else [SegDataSample() for _ in inputs]
        places = [original(yx.flip(-1) * stride, sample, stride) for yx, sample in zip(junctions.yx, samples)]
        junctions = junctions._replace(valid=junctions.valid & torch.stack([inside for _, inside in places]))
        proposals = propose_lines(junctions, lmap, cfg['line_limit'] if self.lines else 0)
        logits, _ = self.line_head(self.line_head.features(features, lmap), lmap, proposals.lines_yx,
                                   proposals.image_index)
        scores = logits.float().sigmoid()
        for image, sample in enumerate(samples):
            valid = junctions.valid[image]
            sample.set_data(dict(
                pred_junctions=places[image][0][valid],
                pred_junction_scores=junctions.score[image][valid],
                **({'pred_junction_types': junctions.type[image][valid]} if read['jmap'].shape[1] > 1 else {}),
                **verified(proposals, scores, valid, image, cfg['line_threshold'])))
            if cfg['unverified']:
                sample.set_data(unverified(junctions.score[image][valid], cfg['unverified']))
        return samples


def read_maps(maps: RoofMaps) -> dict[str, Tensor]:
    """Return probabilities and offsets in float32: jmap (B, T, h, w), lmap (B, h, w), joff (B, T, 2, h, w)."""
    return dict(jmap=maps.jmap.float().softmax(2)[:, :, 1], lmap=maps.lmap.float().sigmoid(),
                joff=maps.joff.float().sigmoid() - 0.5)


def verified(proposals: Proposals, scores: Tensor, valid: Tensor, image: int, threshold: float) -> dict[str, Any]:
    """Return one image's lines with at least this score, best first, as pairs of its valid junctions."""
    own = (proposals.image_index == image) & (scores >= threshold)
    order = scores[own].argsort(descending=True, stable=True)
    place = valid.cumsum(0) - 1  # of a junction among the valid ones
    return dict(pred_lines=place[proposals.pairs[own][order]], pred_line_scores=scores[own][order])


def unverified(scores: Tensor, limit: int) -> dict[str, Any]:
    """Return the best pairs of junctions with these scores (J,) by the mean of both, best first."""
    pairs = torch.combinations(torch.arange(len(scores), device=scores.device))
    mean = scores[pairs].mean(1)
    order = mean.argsort(descending=True, stable=True)[:limit]
    return dict(pred_unverified_lines=pairs[order], pred_unverified_scores=mean[order])


def original(xy: Tensor, sample: SegDataSample, tolerance: float) -> tuple[Tensor, Tensor]:
    """Return points (N, 2) of the network's input in pixels of the original image, and which of them (N,) lie in it.

    Args:
        xy: In pixels of the input.
        sample: Its ``letterbox`` and ``ori_shape``, where it has them.
        tolerance: Pixels of the input that a point may lie outside; it is moved onto the border.
    """
    letterbox, shape = sample.get('letterbox'), sample.get('ori_shape')
    if letterbox is None and 'letterbox' in sample:
        raise UserError(f'sample {sample.get("sample_id")}: letterbox: expected scale and shift, found one turned or '
                        'flipped after it was read, where no place leads back')
    scale = 1.0
    if letterbox is not None:
        scale, *shift = letterbox
        xy = (xy - xy.new_tensor(shift)) / scale
    if shape is None:
        return xy, torch.ones_like(xy[:, 0], dtype=torch.bool)
    inside = torch.minimum(xy.clamp_min(0), xy.new_tensor([shape[1], shape[0]]))
    return inside, ((xy - inside).abs() <= tolerance / scale).all(1)
