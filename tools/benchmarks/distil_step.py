#!/usr/bin/env python
"""The cost of a training step with a teacher over a plain one: tools/benchmarks/distil_step.py [--config FILE]

One process, one student, its own network as the teacher, the config's optimizer and precision for this device, random
images. A plain step, a step with the teacher and one with the teacher's logits from a filled cache are taken in turn;
medians and their ratios are printed. The cache lies in a temporary folder, or in one below ``--folder``: its files come
from the system's page cache, as they do in a training whose views fit into memory. ``keep`` is the first step of a
view: the teacher runs and its logits are written.
"""

import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import nn

from projects.engine import startup
from projects.engine.cli import Parser, run
from projects.engine.config import load_config
from projects.engine.errors import UserError
from projects.engine.files import write_json
from projects.engine.precision import apply_precision
from projects.engine.progress import progress
from projects.multistage.teacher_cache import TeacherCache

CONFIG = Path(__file__).resolve().parents[2] / 'configs/landcover/ftunetformer-tiny_s0-baseline_village-256.py'
KINDS = ('plain', 'teacher', 'cache')


def make_batch(number: int, side: int, classes: int, seed: int) -> dict[str, Any]:
    """Return a batch of random images and labels as a data loader gives it."""
    generator = torch.Generator().manual_seed(seed)
    samples = [SegDataSample(
        gt_sem_seg=PixelData(data=torch.randint(0, classes, (1, side, side), generator=generator)),
        metainfo=dict(sample_id=f'{seed}_{index}', img_shape=(side, side), ori_shape=(side, side),
                      augmentation_seed=(seed, index, 0))) for index in range(number)]
    images = [torch.randint(0, 256, (3, side, side), generator=generator, dtype=torch.uint8) for _ in samples]
    return dict(inputs=images, data_samples=samples)


def build(cfg: Any, device: torch.device, folder: Path) -> nn.Module:
    """Return the config's network as a student of itself, on the device."""
    cfg.model.init_cfg = None  # from scratch: time does not depend on weights
    path = folder / 'teacher.pth'
    torch.save({'state_dict': MODELS.build(cfg.model).state_dict(), 'meta': {
        'dataset_meta': {'classes': [str(index) for index in range(cfg.model.decode_head.num_classes)]}}}, path)
    model = MODELS.build(dict(
        type='DistilledSegmentor', student=cfg.model, teacher_checkpoint=str(path), hard_weight=0.3, kd_weight=0.7,
        loss=dict(type='ConfidenceMaskedKDLoss', threshold=0.0)))
    model = model if device.type == 'cuda' else revert_sync_batchnorm(model)
    model = model.to(device)
    return model.to(memory_format=torch.channels_last) if cfg.channels_last else model


def measure(config: str, crop: int, batch_size: int, repetitions: int, folder: Path) -> dict[str, Any]:
    """Return medians in seconds of each kind of step, their ratios to the plain one, and the cache's size a view."""
    cfg = load_config(config, {'crop_size': (crop, crop)})
    device = startup.device()
    levers = apply_precision(cfg, device)
    model = build(cfg, device, folder).train()
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    cache = TeacherCache(folder / 'cache', model.teacher.sha256, min_free_gib=0.0)
    batches = [make_batch(batch_size, crop, model.student.decode_head.num_classes, seed) for seed in range(2)]

    def timed(step: Callable[..., Any], number: int) -> float:
        batch = copy.deepcopy(batches[number % len(batches)])
        begun = time.perf_counter()
        step(batch, wrapper)
        if device.type == 'cuda':
            torch.cuda.synchronize()
        return time.perf_counter() - begun

    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for number in range(2):  # warm-up of both batches, and of every kind
        timed(model.student.train_step, number)
        model.cache = None
        timed(model.train_step, number)
    model.cache, keep = cache, []
    for number in range(2):
        keep.append(timed(model.train_step, number))
    for number in progress(range(repetitions), 'steps', unit='round'):
        for kind in KINDS[number % 3:] + KINDS[:number % 3]:  # none is always the one after another
            model.cache = cache if kind == 'cache' else None
            seconds[kind].append(timed(model.student.train_step if kind == 'plain' else model.train_step, number))
    assert cache.hits == batch_size * repetitions and cache.misses == batch_size * 2
    medians = {kind: statistics.median(values) for kind, values in seconds.items()} | {'keep': statistics.median(keep)}
    sizes = [path.stat().st_size for path in cache.folder.rglob('*.npz')]
    return {'config': Path(config).name, 'crop': crop, 'batch_size': batch_size, 'device': device.type,
            'threads': torch.get_num_threads(), 'repetitions': repetitions, **levers, 'seconds': medians,
            'ratio': {kind: value / medians['plain'] for kind, value in medians.items()},
            'bytes_a_view': sum(sizes) / len(sizes)}


def main() -> None:
    parser = Parser(description='The cost of a training step with a teacher over a plain one.')
    parser.add_argument('--config', default=str(CONFIG), help='a Python config with crop_size (default: the tiny one)')
    parser.add_argument('--crop', type=int, default=256, help='side of the images in pixels')
    parser.add_argument('--batch-size', type=int, default=8)
    parser.add_argument('--repetitions', type=int, default=15)
    parser.add_argument('--folder', help="where the cache lies meanwhile (default: the system's temporary folder)")
    parser.add_argument('--json', metavar='FILE', help='write the figures')
    args = parser.parse_args()
    if min(args.crop, args.batch_size, args.repetitions) < 1:
        raise UserError('--crop, --batch-size and --repetitions: expected at least 1')
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        found = measure(args.config, args.crop, args.batch_size, args.repetitions, Path(folder))
    print(f'{found["config"]}, {args.crop} x {args.crop}, batch {args.batch_size}, {found["device"]}, '
          f'{found["threads"]} threads, amp {found["amp"]}, channels-last {found["channels_last"]}; '
          f'{found["bytes_a_view"] / 1000:.0f} kB a view')
    for kind, value in found['seconds'].items():
        print(f'{kind:8} {1000 * value:9.1f} ms  {found["ratio"][kind]:6.2f} x')
    if args.json:
        write_json(args.json, found)


if __name__ == '__main__':
    run(main)
