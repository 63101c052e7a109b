"""A trained network as an ONNX file, for any height, width and batch, proven equal to torch before it is kept."""

import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from projects.engine.errors import UserError
from projects.engine.files import atomic_path, sha256_of

OPSETS = range(16, 21)  # of torch's tracing exporter
OPSET = 17
TOLERANCE = 1e-4  # of the largest logit
TRACED = (2, 67, 98)  # batch, height, width: odd, so that every padding is a part of the graph
CHECKED = ((1, 64, 96), (3, 64, 96), (1, 131, 100), (3, 131, 100), (1, 160, 77), (3, 160, 77))


@dataclass(frozen=True)
class Exported:
    """What was written, and the largest difference to torch, relative to the largest output.

    Attributes:
        path: the file.
        checks: ``((batch, height, width), difference)`` for each input that was compared.
        opset: version of the operators.
    """

    path: Path
    checks: tuple[tuple[tuple[int, int, int], float], ...]
    opset: int


class ExportNetwork(nn.Module):
    """A segmentor from raw pixels to full-size logits, without mmseg's data samples.

    ``EncoderDecoder.forward`` gives logits at a quarter of the image's size, and expects a normalised and padded one.

    Args:
        model: An mmseg ``EncoderDecoder`` in eval mode.
        probabilities: Give probabilities; one channel of a binary head then becomes two.
    """

    def __init__(self, model: nn.Module, probabilities: bool = False) -> None:
        super().__init__()
        self.model = model
        self.probabilities = probabilities
        preprocessor = model.data_preprocessor
        bands = _bands(model)
        for name, neutral in (('mean', 0.0), ('std', 1.0)):
            value = getattr(preprocessor, name, None) if getattr(preprocessor, '_enable_normalize', False) else None
            value = torch.full((bands, 1, 1), neutral) if value is None else value.reshape(-1, 1, 1).float()
            self.register_buffer(name, value.expand(bands, 1, 1).clone(), persistent=False)
        self.swap = bool(getattr(preprocessor, '_channel_conversion', False)) and bands == 3
        self.divisor = int((getattr(preprocessor, 'test_cfg', None) or {}).get('size_divisor') or 1)
        self.pad_value = float(getattr(preprocessor, 'pad_val', 0))

    def forward(self, image: Tensor) -> Tensor:
        """Map (N, bands, H, W) float32, 0..255, to (N, C, H, W)."""
        height, width = image.shape[-2:]
        if self.swap:
            image = image[:, [2, 1, 0]]
        image = (image - self.mean) / self.std
        if self.divisor > 1:
            image = F.pad(image, (0, -width % self.divisor, 0, -height % self.divisor), value=self.pad_value)
        logits = self.model.decode_head(self.model.extract_feat(image))
        logits = F.interpolate(logits, size=image.shape[-2:], mode='bilinear', align_corners=self.model.align_corners)
        logits = logits[..., :height, :width]
        if not self.probabilities:
            return logits
        if logits.shape[1] == 1:
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
        return logits.softmax(dim=1)


def export_onnx(config: str | Path, checkpoint: str | Path, out: str | Path, *, opset: int = OPSET,
                probabilities: bool = False, size: Sequence[int] | None = None, overwrite: bool = False,
                cfg_options: dict[str, Any] | None = None) -> Exported:
    """Write a network as ONNX, run it with onnxruntime, and keep the file only if it gives what torch gives.

    The input ``image`` is raw, (N, bands, H, W) float32 0..255 in the order of the config's bands (RGB); the network
    normalises and pads it itself. The output ``logits`` (or ``probabilities``) is (N, C, H, W). Batch, height and
    width are free. The file's metadata hold ``classes``, ``palette``, ``taxonomy``, ``taxonomy_hash``, ``mean``,
    ``std``, ``bands``, ``checkpoint`` and ``checkpoint_sha256``; lists are JSON.

    Args:
        config: Path of a Python config.
        checkpoint: The weights.
        out: The file to write, ``.onnx``.
        opset: Version of the ONNX operators, 16..20.
        probabilities: Give probabilities instead of logits.
        size: Height and width, to fix them; the batch stays free.
        overwrite: Replace an existing file.
        cfg_options: Dotted paths and values.

    Raises:
        UserError: onnx or onnxruntime is missing; an argument is out of range; the network cannot be traced (one of
            several scales cannot); or the file does not give what torch gives, and was not kept.
    """
    ort = _onnxruntime()
    out = Path(out)
    if out.suffix != '.onnx':
        raise UserError(f'{out}: expected a name that ends in .onnx')
    if out.exists() and not overwrite:
        raise UserError(f'{out}: exists already; --overwrite replaces it')
    if opset not in OPSETS:
        raise UserError(f'--opset: expected {OPSETS[0]}..{OPSETS[-1]}, found {opset}')
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise UserError(f'--size: expected height and width in pixels, found {size}')
    from projects.engine.inference import load_model

    model, cfg = load_model(config, checkpoint, device='cpu', cfg_options=cfg_options)
    if not hasattr(model, 'decode_head') or not hasattr(model, 'extract_feat'):
        raise UserError(f'config {config}: model.type: expected an EncoderDecoder, found {type(model).__name__}')
    if hasattr(model.backbone, 'forward_scales'):
        raise UserError(f'config {config}: model.backbone: expected a backbone of one scale, found '
                        f'{type(model.backbone).__name__}: it computes the sizes of its scales in Python, which '
                        "torch's tracing exporter cannot follow")
    network = ExportNetwork(model, probabilities).eval()
    shapes = CHECKED if size is None else tuple((batch, *size) for batch in (1, 3))
    with atomic_path(out) as temporary:
        _trace(network, temporary, opset, TRACED if size is None else (2, *size), size is None, config)
        _describe(temporary, network, model, cfg, checkpoint)
        checks = compare(network, temporary, shapes, ort)
        worst, difference = max(checks, key=lambda check: check[1])
        if not difference <= TOLERANCE:
            raise UserError(f'{out}: not kept: at {worst[0]} images of {worst[1]} x {worst[2]} pixels onnxruntime '
                            f'differs from torch by {difference:.2g} of the largest output, expected at most '
                            f'{TOLERANCE:g}{"; --size HEIGHT WIDTH exports one size" if size is None else ""}')
    return Exported(out, checks, opset)


@torch.no_grad()
def compare(network: nn.Module, path: str | Path, shapes: Sequence[tuple[int, int, int]], ort: Any = None
            ) -> tuple[tuple[tuple[int, int, int], float], ...]:
    """Return the largest difference between torch and onnxruntime at each input shape.

    Args:
        network: From images (N, bands, H, W) to an output of the file's shape.
        path: The ONNX file.
        shapes: (batch, height, width) each.
        ort: The module onnxruntime.

    Returns:
        ``(shape, difference)``: absolute, divided by the largest absolute output of torch; infinite where
        onnxruntime fails or gives another shape.
    """
    ort = ort or _onnxruntime()
    settings = ort.SessionOptions()
    settings.log_severity_level = 3
    session = ort.InferenceSession(str(path), settings, providers=['CPUExecutionProvider'])
    generator = np.random.default_rng(0)
    found = []
    for batch, height, width in shapes:
        image = (generator.random((batch, len(network.mean), height, width)) * 255).astype(np.float32)
        expected = network(torch.from_numpy(image)).numpy()
        try:
            [answer] = session.run(None, {'image': image})
        except Exception:  # onnxruntime has one exception class for each of its many states
            answer = None
        if answer is None or answer.shape != expected.shape:
            difference = float('inf')
        else:
            difference = float(np.abs(answer - expected).max() / max(np.abs(expected).max(), 1e-12))
        found.append(((batch, height, width), difference))
    return tuple(found)


def _onnxruntime() -> Any:
    try:
        import onnx  # noqa: F401
        import onnxruntime
    except ImportError as error:
        raise UserError(f'export needs {error.name}: pip install -r requirements/export.txt') from error
    return onnxruntime


def _trace(network: ExportNetwork, path: Path, opset: int, shape: tuple[int, int, int], free: bool,
           config: str | Path) -> None:
    batch, height, width = shape
    image = torch.rand(batch, len(network.mean), height, width) * 255
    output = 'probabilities' if network.probabilities else 'logits'
    axes = {0: 'batch', 2: 'height', 3: 'width'} if free else {0: 'batch'}
    with _quiet(), _traceable(), torch.no_grad():
        try:
            torch.onnx.export(network, (image,), str(path), opset_version=opset, dynamo=False, input_names=['image'],
                              output_names=[output], dynamic_axes={'image': axes, output: axes})
        except (RuntimeError, TypeError, ValueError, NotImplementedError, torch.onnx.OnnxExporterError) as error:
            raise UserError(f'config {config}: this network cannot be traced to ONNX: '
                            f'{str(error).splitlines()[0]}') from error


@contextmanager
def _traceable() -> Iterator[None]:
    from projects.engine.export_swin import traceable_swin

    with traceable_swin():
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # the tracer warns about every shape that it meets; the comparison decides
        yield


def _describe(path: Path, network: ExportNetwork, model: nn.Module, cfg: Any, checkpoint: str | Path) -> None:
    import onnx

    meta = model.dataset_meta
    reader = next(iter(cfg.get('test_pipeline') or ()), {})
    facts = {
        'classes': list(meta['classes']), 'palette': [list(map(int, colour)) for colour in meta.get('palette') or ()],
        'taxonomy': str(meta.get('taxonomy', '')), 'taxonomy_hash': str(meta.get('taxonomy_hash', '')),
        'mean': network.mean.flatten().tolist(), 'std': network.std.flatten().tolist(),
        'bands': list(reader.get('bands') or range(1, len(network.mean) + 1)),
        'value_range': reader.get('value_range'),
        'input': 'image (N, bands, H, W) float32 0..255, not normalised: the network does that',
        'checkpoint': Path(checkpoint).name, 'checkpoint_sha256': sha256_of(checkpoint),
    }
    proto = onnx.load(str(path))
    proto.producer_name = 'terrace'
    onnx.helper.set_model_props(proto, {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()})
    onnx.save(proto, str(path))


def _bands(model: nn.Module) -> int:
    """Return how many bands the first convolution takes."""
    return next(module.in_channels for module in model.backbone.modules() if isinstance(module, nn.Conv2d))
