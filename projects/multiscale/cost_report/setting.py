"""What a cost is measured on: a config's network, random images and the precision they run in."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from projects.engine import startup
from projects.engine.config import load_config
from projects.engine.errors import UserError


@dataclass(frozen=True)
class CostSetting:
    """A network, an input and a precision.

    Args:
        config: Path of a Python config.
        height: Of the images in pixels.
        width: Of the images in pixels.
        batch: Images at once.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        amp: bfloat16 autocast, else float32.
        channels_last: Memory format of network and images.
        threads: Of torch on the CPU; None leaves them.
        options: Dotted paths of the config and their values.
    """

    config: str
    height: int
    width: int
    batch: int = 1
    device: str = 'cpu'
    amp: bool = False
    channels_last: bool = False
    threads: int | None = None
    options: dict[str, Any] | None = None

    def plain(self) -> dict[str, Any]:
        """Return the setting as plain values."""
        return asdict(self)

    def build(self) -> nn.Module:
        """Build the network in training mode; its weights are random, no file is read."""
        startup.start()
        cfg = load_config(self.config, self.options)
        if not cfg.get('model'):
            raise UserError(f'config {self.config}: it has no model')
        torch.manual_seed(0)
        model = MODELS.build(cfg.model)
        if not hasattr(model, 'num_classes'):
            raise UserError(f'config {self.config}: model {type(model).__name__}: expected a segmentor of images, '
                            'whose cost is that of an input of --input HEIGHT WIDTH')
        if torch.device(self.device).type == 'cpu':
            model = revert_sync_batchnorm(model)
        model = model.to(self.device)
        if self.channels_last:
            model = model.to(memory_format=torch.channels_last)
        return model.train()

    def draw(self, model: nn.Module, seed: int = 0) -> tuple[Tensor, list[SegDataSample]]:
        """Return random images, as the data preprocessor would give them, and samples with random labels."""
        generator = torch.Generator().manual_seed(seed)
        images = torch.randn(self.batch, bands_of(model), self.height, self.width, generator=generator)
        images = images.to(self.device)
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        shape = (self.height, self.width)
        samples = []
        for _ in range(self.batch):
            label = torch.randint(0, model.num_classes, (1, *shape), generator=generator)
            samples.append(SegDataSample(
                gt_sem_seg=PixelData(data=label.to(self.device)),
                metainfo=dict(img_shape=shape, ori_shape=shape, pad_shape=shape)))
        return images, samples

    def loss(self, model: nn.Module, images: Tensor, samples: list[SegDataSample]) -> Tensor:
        """Return the sum of the config's loss terms, in this setting's precision."""
        with self.autocast():
            return model.parse_losses(model.loss(images, samples))[0]

    def autocast(self) -> torch.autocast:
        """Return a new autocast context."""
        return torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.amp)

    @contextmanager
    def in_threads(self) -> Iterator[None]:
        """Run with the setting's number of threads."""
        before = torch.get_num_threads()
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def make_setting(config: str, *, size: tuple[int, int] | None = None, batch: int = 1, device: str | None = None,
                 dtype: str | None = None, channels_last: bool | None = None, threads: int | None = None,
                 options: dict[str, Any] | None = None) -> CostSetting:
    """Fill in what is not said from the config: crop size and ``precision`` of the device.

    Args:
        config: Path of a Python config.
        size: Height and width in pixels; default the config's ``crop_size``, else the size its preprocessor pads to.
        batch: Images at once, at least 1.
        device: Default: CUDA where it works, else the CPU.
        dtype: ``float32`` or ``bfloat16`` (autocast); default as ``precision`` says.
        channels_last: Default as ``precision`` says.
        threads: At least 1.
        options: Dotted paths and their values.

    Raises:
        UserError: The config is wrong, has no size, or a number is out of range.
    """
    cfg = load_config(config, options)
    size = size or _crop_size(cfg, config)
    for name, value in (('--input', size[0]), ('--input', size[1]), ('--batch', batch), ('--threads', threads or 1)):
        if value < 1:
            raise UserError(f'{name}: expected at least 1, found {value}')
    if threads is not None and threads < 1:
        raise UserError(f'--threads: expected at least 1, found {threads}')
    try:
        chosen = torch.device(device) if device else startup.device()
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f'--device {device}: {str(error).splitlines()[0]}') from error
    levers = dict((cfg.get('precision') or {}).get(chosen.type, {}))
    if dtype not in (None, 'float32', 'bfloat16'):
        raise UserError(f'--dtype: expected float32 or bfloat16, found {dtype}')
    return CostSetting(
        str(config), int(size[0]), int(size[1]), batch, str(chosen),
        amp=dtype == 'bfloat16' if dtype else bool(levers.get('amp')),
        channels_last=bool(levers.get('channels_last')) if channels_last is None else channels_last,
        threads=threads, options=options)


def bands_of(model: nn.Module) -> int:
    """Return the number of bands that a segmentor takes: of its normalisation, else of its first convolution."""
    mean = getattr(model.data_preprocessor, 'mean', None)
    if isinstance(mean, Tensor) and mean.numel() > 1:
        return mean.numel()
    return next((module.in_channels for module in model.backbone.modules() if isinstance(module, nn.Conv2d)), 3)


def _crop_size(cfg: Config, path: str) -> tuple[int, int]:
    size = cfg.get('crop_size') or (cfg.model.get('data_preprocessor') or {}).get('size') if cfg.get('model') else None
    if isinstance(size, int):
        return size, size
    if size is None or len(size) != 2:
        raise UserError(f'config {path}: it has no crop_size and no data_preprocessor.size; give --input HEIGHT WIDTH')
    return tuple(size)
