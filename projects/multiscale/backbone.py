"""One backbone sees the image at several scales; a fuser a level joins what it sees."""

import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.logging import print_log
from mmengine.model import BaseModule, ModuleList
from mmseg.registry import MODELS
from torch import Tensor, nn

from projects.engine.errors import UserError
from projects.multiscale.recomputation import recomputed, repeated_blocks
from projects.multiscale.resizing import aligned, resize
from projects.multiscale.scale_policy import MODES, ScalePolicy, parse_policies

FUSION = dict(type='ABSIFusion')
TOLERANCE = 1.1  # a change of the aspect ratio up to this factor is not worth a line
ORDER = {mode: index for index, mode in enumerate(('no_grad', 'checkpoint', 'grad'))}


@MODELS.register_module()
class MultiScaleBackbone(BaseModule):
    """Run a backbone at several scales of the image and fuse its feature maps, level by level.

    It stands in for the backbone in any segmentor: the fused maps have the channels and sizes of the reference
    scale's. Fusers begin as the identity of the reference, so that at step 0 the features are those of the single
    backbone, bit for bit. Keys of the state dict are ``backbone.*`` (the wrapped one) and ``fusers.N.*``; a
    single-scale checkpoint fills it with ``initialise = dict(rename={'backbone.': 'backbone.backbone.'},
    new=['backbone.fusers'], …)``, as long as no other key of the file begins with ``backbone.``.

    Args:
        backbone: Config of the backbone, or the backbone. Its output: feature maps (N, C_l, h_l, w_l), one a level.
        scales: Factors of the image's size, at least two, above 0, all different.
        reference: The scale, one of ``scales``, whose sizes the fused maps have.
        divisor: Pixels; heights and widths become multiples of it (:func:`~projects.multiscale.resizing.aligned`), at
            least one. Only an image at scale 1 that is not smaller is left as it is.
        antialias: Filter where images and features shrink.
        fusion: Config of the fuser of every level, or one for each level; None leaves that level the reference's.
            Default :class:`~projects.multiscale.fusion.absi.ABSIFusion`.
        policy: What gradient a scale gets in training (:mod:`~projects.multiscale.scale_policy`): one for all scales
            above the reference, or one for each scale. May be set later.
        channels: Channels of each level; default: what a small image gives.
        single_scale: Run the reference alone. The state dict is the same; the fusers are not trained.
        init_cfg: As in MMEngine.

    In training, scales without a gradient run first, when nothing is held yet; then those that are recomputed, so that
    their recomputation comes last in backward, when the others' activations are freed. In evaluation nothing is
    recomputed or drawn. Where an optimizer gives the backbone a rate of its own, ``backbone.backbone`` is the wrapped
    one; ``backbone`` are the fusers too.

    Raises:
        UserError: A scale that is not above 0 or is given twice, a reference that is no scale, a policy or fusion of
            another length, an unknown policy.

    Source: ZoomNeXt (Pang et al., arXiv:2310.20208) for one backbone shared by the scales.
    """

    pretrained_part = 'backbone'  # the fusers are trained from scratch

    def __init__(self, backbone: dict | nn.Module, scales: Sequence[float] = (0.5, 1.0, 1.5), reference: float = 1.0,
                 divisor: int = 32, antialias: bool = True,
                 fusion: dict | Sequence[dict | None] = FUSION, policy: str | Sequence[str] = 'grad',
                 channels: Sequence[int] | None = None, single_scale: bool = False,
                 init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.scales = _checked_scales(scales)
        self.reference = _index_of(reference, self.scales)
        if isinstance(divisor, bool) or not isinstance(divisor, int) or divisor < 1:
            raise UserError(f'MultiScaleBackbone.divisor: expected a number of pixels of at least 1, found {divisor!r}')
        self.divisor, self.antialias, self.single_scale = divisor, bool(antialias), bool(single_scale)
        self.policy = policy
        self.modes: tuple[str, ...] | None = None
        self._told: set[tuple[int, int]] = set()
        self._blocks: list[nn.Module] | None = None
        self.backbone = backbone if isinstance(backbone, nn.Module) else MODELS.build(backbone)
        self.channels = tuple(channels) if channels is not None else self._find_channels()
        self.fusers = ModuleList(self._build_fusers(fusion))
        if self.single_scale:
            self.fusers.requires_grad_(False)

    @property
    def policy(self) -> tuple[ScalePolicy, ...]:
        """The policy of each scale; takes a text, or one for each scale."""
        return self._policy

    @policy.setter
    def policy(self, policy: str | Sequence[str]) -> None:
        self._policy = self.parse_policy(policy)

    def parse_policy(self, policy: str | Sequence[str],
                     where: str = 'MultiScaleBackbone.policy') -> tuple[ScalePolicy, ...]:
        """Return the policy of each scale of a text, or of one for each scale; raise UserError where it is none."""
        return parse_policies(policy, self.scales, self.reference, where)

    def draw(self, generator: torch.Generator | None = None) -> tuple[str, ...]:
        """Return a mode for each scale, ``'grad'``, ``'checkpoint'`` or ``'no_grad'``.

        Args:
            generator: A CPU generator; default torch's global one.
        """
        return tuple(policy.draw(generator) for policy in self.policy)

    def sizes(self, h: int, w: int) -> list[tuple[int, int]]:
        """Return the size in pixels that an image (h, w) has at each scale."""
        return [(aligned(h, scale, self.divisor), aligned(w, scale, self.divisor)) for scale in self.scales]

    def real_scales(self, h: int, w: int) -> list[tuple[float, float]]:
        """Return the factors of height and width that an image (h, w) really has at each scale."""
        return [(height / h, width / w) for height, width in self.sizes(h, w)]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the fused feature maps, one a level, at the reference's sizes.

        Args:
            x: Images (N, 3, H, W).
        """
        return self._fuse(self._features(x))

    def forward_scales(self, x: Tensor) -> tuple[tuple[Tensor, ...], list[tuple[Tensor, ...]]]:
        """Return the fused feature maps, and those of each scale at its own sizes.

        Args:
            x: Images (N, 3, H, W).

        Returns:
            The fused maps; a list in the order of ``scales`` of tuples, one map a level (with ``single_scale`` the
            reference's alone).
        """
        features = self._features(x)
        # The fuser's list is emptied as it goes.
        return self._fuse(list(features)), features

    @torch.no_grad()
    def scale_maps(self, x: Tensor) -> list[Tensor]:
        """Return how much each scale counted where: weights (N, S, h, w) that sum to 1, one tensor a fused level.

        Args:
            x: Images (N, 3, H, W); the backbone should be in evaluation mode.

        Raises:
            UserError: It runs at a single scale, or a fuser has no weights.
        """
        if self.single_scale:
            raise UserError('MultiScaleBackbone.scale_maps: expected several scales, found single_scale=True')
        features = self._features(x)
        return [fuser.scale_weights(self._at_reference(features, level))
                for level, fuser in enumerate(self.fusers) if not isinstance(fuser, nn.Identity)]

    def _features(self, x: Tensor) -> list[tuple[Tensor, ...]]:
        """Run the backbone at each scale; maps in the order of the scales, whatever the order of running."""
        height, width = x.shape[-2:]
        sizes = self.sizes(height, width)
        self._tell_of_distortion(height, width, sizes)
        if self.single_scale:
            return [self._run(resize(x, sizes[self.reference], self.antialias))]
        modes = self._modes()
        features: list[Any] = [None] * len(sizes)
        for index in sorted(range(len(sizes)), key=lambda index: ORDER[modes[index]]):
            with self._mode(modes[index]):
                features[index] = self._run(resize(x, sizes[index], self.antialias))
            if modes[index] == 'no_grad':
                torch.clear_autocast_cache()  # holds weights cast without a gradient; older torch gives them to all
        return features

    def _mode(self, mode: str) -> AbstractContextManager:
        if mode == 'no_grad':
            return torch.no_grad()
        return recomputed(self._repeated_blocks()) if mode == 'checkpoint' else nullcontext()

    def _run(self, x: Tensor) -> tuple[Tensor, ...]:
        features = self.backbone(x)
        return (features,) if isinstance(features, Tensor) else tuple(features)

    def _repeated_blocks(self) -> list[nn.Module]:
        if self._blocks is None:
            self._blocks = repeated_blocks(self.backbone)
        return self._blocks

    def _modes(self) -> tuple[str, ...]:
        if not (self.training and torch.is_grad_enabled()):
            return ('grad',) * len(self.scales)
        if self.modes is not None:
            if len(self.modes) != len(self.scales) or not set(self.modes) <= set(MODES):
                raise UserError(f'MultiScaleBackbone.modes: expected one of {", ".join(MODES)} for each of '
                                f'{len(self.scales)} scales, found {self.modes!r}')
            return self.modes
        if any(policy.probability < 1 for policy in self.policy) and get_world_size() > 1:
            raise UserError('MultiScaleBackbone.policy: expected a ScalePolicyHook in custom_hooks, found none: '
                            'processes that draw for themselves would not run the same scales')
        return self.draw()

    def _fuse(self, features: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Fuse; the list is emptied, and so a map is freed once it is resized."""
        if self.single_scale:
            return features[0]
        levels = [list(maps) for maps in zip(*features)]  # by level, then by scale
        features.clear()
        if len(levels) != len(self.fusers):
            raise UserError(f'MultiScaleBackbone.channels: expected {len(levels)} levels, found {len(self.fusers)}')
        fused = []
        for index, fuser in enumerate(self.fusers):
            maps, levels[index] = levels[index], []
            if isinstance(fuser, nn.Identity):
                fused.append(maps[self.reference])
                continue
            size = maps[self.reference].shape[-2:]
            for scale, features_of_scale in enumerate(maps):
                maps[scale] = resize(features_of_scale, size, self.antialias)
            fused.append(fuser(maps))
        return tuple(fused)

    def _at_reference(self, features: list[tuple[Tensor, ...]], level: int) -> list[Tensor]:
        size = features[self.reference][level].shape[-2:]
        return [resize(maps[level], size, self.antialias) for maps in features]

    def _tell_of_distortion(self, height: int, width: int, sizes: list[tuple[int, int]]) -> None:
        """Log, once for a shape, the scales whose aspect ratio rounding has changed."""
        if (height, width) in self._told:
            return
        self._told.add((height, width))
        changed = []
        for scale, (h, w) in zip(self.scales, sizes):
            factor = (h / w) / (height / width)
            if max(factor, 1 / factor) > TOLERANCE and not (self.single_scale and scale != self.reference_scale):
                changed.append(f'{scale:g}x {h} x {w} ({100 * (factor - 1):+.0f} %)')
        if changed:
            print_log(f'an image of {height} x {width} changes its aspect ratio at {", ".join(changed)}: sizes are '
                      f'multiples of {self.divisor}', 'current', logging.WARNING)

    @property
    def reference_scale(self) -> float:
        """The reference as a factor."""
        return self.scales[self.reference]

    def _find_channels(self) -> tuple[int, ...]:
        """Ask the backbone: one small image, in evaluation mode, which leaves running statistics alone."""
        training = [(module, module.training) for module in self.backbone.modules()]
        first = next(self.backbone.parameters(), torch.empty(0))
        bands = next((module.in_channels for module in self.backbone.modules() if isinstance(module, nn.Conv2d)), 3)
        side = max(2 * self.divisor, 64)
        self.backbone.eval()
        try:
            with torch.no_grad():
                features = self._run(torch.zeros(1, bands, side, side, dtype=first.dtype, device=first.device))
        finally:
            for module, value in training:
                module.training = value
        if not all(isinstance(maps, Tensor) and maps.dim() == 4 for maps in features):
            raise UserError('MultiScaleBackbone.backbone: expected feature maps (N, C, H, W), found others')
        return tuple(maps.shape[1] for maps in features)

    def _build_fusers(self, fusion: dict | Sequence[dict | None]) -> list[nn.Module]:
        levels = len(self.channels)
        if isinstance(fusion, Mapping):
            fusion = [fusion] * levels
        if not isinstance(fusion, Sequence) or len(fusion) != levels:
            found = len(fusion) if isinstance(fusion, Sequence) else repr(fusion)
            raise UserError(f'MultiScaleBackbone.fusion: expected one fuser, or one for each of {levels} levels, '
                            f'found {found}')
        return [nn.Identity() if config is None else MODELS.build(
            dict(config, channels=channels, num_scales=len(self.scales), reference=self.reference))
            for config, channels in zip(fusion, self.channels)]


def _checked_scales(scales: Sequence[float]) -> tuple[float, ...]:
    where = 'MultiScaleBackbone.scales'
    try:
        found = tuple(float(scale) for scale in scales)
    except (TypeError, ValueError) as error:
        raise UserError(f'{where}: expected numbers, found {scales!r}') from error
    for scale in found:
        if not (scale > 0 and math.isfinite(scale)):
            raise UserError(f'{where}: expected factors above 0, found {scale:g}')
    if len(found) < 2:
        raise UserError(f'{where}: expected at least two, found {list(found)} (single_scale=True runs the reference '
                        'alone)')
    for index, scale in enumerate(found):
        if scale in found[:index]:
            raise UserError(f'{where}: expected different ones, found {scale:g} twice')
    return found


def _index_of(reference: float, scales: tuple[float, ...]) -> int:
    try:
        return scales.index(float(reference))
    except (TypeError, ValueError) as error:
        raise UserError(f'MultiScaleBackbone.reference: expected one of the scales '
                        f'{", ".join(f"{scale:g}" for scale in scales)}, found {reference!r}') from error
