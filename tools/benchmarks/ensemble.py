#!/usr/bin/env python
"""Time and memory of an ensemble of 18 views against a plain loop of 18 passes: tools/benchmarks/ensemble.py.

The loop keeps both networks loaded and puts each view alone through mmseg's own ``predict``: once with the weights in
the memory format in which they load, once in channels-last, which the ensemble uses too and which is most of its gain
on a CPU. All take turns, so that a busy machine slows all; the figures are medians of the ratios of one turn.
"""

import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from projects.engine import startup
from projects.engine.cli import Parser, run
from projects.multiscale.views import FLIPS, MERGES, SCALES

CONFIG = Path(__file__).resolve().parents[2] / 'configs/landcover/ftunetformer-tiny_s0-baseline_village-256.py'
MANY_SCALES = (1.25, 0.75, 0.8, 0.9, 1.0, 1.1)


def build(config: Path, seed: int, device: str) -> nn.Module:
    """Return a network of a config with random weights."""
    from mmengine.model import revert_sync_batchnorm
    from mmseg.registry import MODELS

    from projects.engine.config import load_config

    torch.manual_seed(seed)
    model = revert_sync_batchnorm(MODELS.build(load_config(config).model)).eval().to(device)
    nn.init.normal_(model.decode_head.conv_seg.weight)
    return model


@torch.inference_mode()
def naive(models: Sequence[nn.Module], image: Tensor, merge: str) -> Tensor:
    """Merge the views of one image (1, 3, H, W), each in a pass of its own."""
    from mmseg.structures import SegDataSample

    size = tuple(image.shape[-2:])
    total = 0
    for model in models:
        for scale in SCALES:
            scaled = tuple(int(side * scale + 0.5) for side in size)
            resized = F.interpolate(image, scaled, mode='bilinear', align_corners=False)
            for axes in FLIPS.values():
                view = resized.flip(axes)
                sample = SegDataSample(metainfo=dict(ori_shape=size, img_shape=scaled))
                data = model.data_preprocessor(dict(inputs=[view[0]], data_samples=[sample]), False)
                [done] = model(**data, mode='predict')
                logits = done.seg_logits.data.flip(axes)
                if merge == 'prob':
                    total = total + logits.softmax(0)
                elif merge == 'logit':
                    total = total + logits
                else:
                    total = total + F.one_hot(logits.argmax(0), len(logits)).permute(2, 0, 1).float()
    total = total / (len(models) * len(SCALES) * len(FLIPS))
    return total.softmax(0) if merge == 'logit' else total


def timed(function: object, *arguments: object, device: str) -> float:
    """Return the seconds of one call."""
    started = time.perf_counter()
    function(*arguments)
    if device != 'cpu':
        torch.cuda.synchronize()
    return time.perf_counter() - started


def compare(config: Path, size: int, rounds: int, device: str) -> None:
    """Print ratio and largest difference for each merge."""
    from projects.multiscale.ensemble import EnsembleTTA

    image = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)).mul_(255).to(device)
    plain, last, own = ([build(config, seed, device) for seed in (0, 1)] for _ in range(3))
    for model in last:
        model.to(memory_format=torch.channels_last)
    for merge in MERGES:
        ensemble = EnsembleTTA(own[0], own[1:], merge=merge).eval()
        difference = (ensemble(image)[0] - naive(plain, image, merge)).abs().max().item()
        naive(last, image, merge)
        turns = [(timed(ensemble, image, device=device), timed(naive, plain, image, merge, device=device),
                  timed(naive, last, image, merge, device=device)) for _ in range(rounds)]
        ours, loop, channels_last = (median(seconds) for seconds in zip(*turns))
        ratios = [median(turn[0] / turn[other] for turn in turns) for other in (1, 2)]
        print(f'{merge:5s} {size} x {size}: ensemble {ours:.3f} s, loop {loop:.3f} s, ratio {ratios[0]:.2f} '
              f'(loop in channels-last {channels_last:.3f} s, ratio {ratios[1]:.2f}), '
              f'largest difference {difference:.1e}', flush=True)


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive at once; the process itself also holds what allocators cache."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, Tensor) and tensor.device.type == 'cpu':
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in self.alive:
                    self.alive[storage.data_ptr()] = storage.nbytes()
                    weakref.finalize(storage, self.alive.pop, storage.data_ptr(), None)
        self.peak = max(self.peak, sum(self.alive.values()))
        return result


def peak(config: Path, size: int) -> None:
    """Print the peak of tensors beyond the loaded networks, for few and many networks and scales."""
    from projects.multiscale.ensemble import EnsembleTTA

    for members, number in ((1, 1), (2, 3), (4, 3), (4, 6)):
        models = [build(config, seed, 'cpu') for seed in range(members)]
        ensemble = EnsembleTTA(models[0], models[1:], scales=MANY_SCALES[:number]).eval()
        weights = {value.untyped_storage().data_ptr() for value in (*ensemble.parameters(), *ensemble.buffers())}
        image = torch.rand(1, 3, size, size) * 255
        with LiveBytes() as live:
            live.alive.update(dict.fromkeys(weights, 0))  # loaded already
            ensemble.merge_views(image)
        print(f'{members} networks x {number} scales x 3 flips: {live.peak / 2**20:.1f} MiB of tensors beyond the '
              'networks', flush=True)


def main() -> None:
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument('--config', type=Path, default=CONFIG)
    parser.add_argument('--size', type=int, default=256, help='side of the image (default: 256)')
    parser.add_argument('--rounds', type=int, default=7, help='turns of each (default: 7; 0: memory only)')
    parser.add_argument('--device', default='cpu')
    args = parser.parse_args()
    startup.start()
    if args.rounds:
        compare(args.config, args.size, args.rounds, args.device)
    peak(args.config, args.size)


if __name__ == '__main__':
    run(main)
