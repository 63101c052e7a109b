#!/usr/bin/env python
"""Predict one large GeoTIFF: peak memory, georeference, and seams.

Makes a GeoTIFF of SIZE x SIZE pixels, runs ``tools/predict.py`` on it in a process of its own, and checks that

- the peak resident memory of that process stays below ``--memory`` (3 GB),
- CRS, transform and size of the class raster equal the input's,
- classes change across window borders as often as elsewhere (within ``--tolerance``, 5 %).

    tools/benchmarks/predict_large.py                                        # 10,000 x 10,000, untrained network
    tools/benchmarks/predict_large.py --config C --checkpoint W --source village/images
    tools/benchmarks/predict_large.py --size 2000 --window 128 --overlap 32 --tolerance 0.1      # quick

A small raster needs small windows: the rate across borders is only known as well as there are many of them.
Without ``--checkpoint`` the config's network gets random weights and batch statistics of the ground it will see.
Without ``--source`` the ground is synthetic: fields, woods and noise. Exit status 1 when a check fails.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import rasterio
from rasterio.merge import merge
from rasterio.windows import Window

from projects.engine.cli import Parser, run
from projects.engine.errors import UserError
from projects.engine.files import write_json
from projects.geo.windows import window_starts

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIG = REPOSITORY / 'configs/landcover/ftunetformer-tiny_s0-baseline_village-256.py'
GRID = rasterio.Affine(0.2, 0, 652000, 0, -0.2, 6862000)
CRS = 'EPSG:2154'
TILE = 1013  # a prime: repeated ground then falls on window borders no more often than anywhere else


def main() -> int:
    parser = Parser(description='Predict one large GeoTIFF: peak memory, georeference, and seams.')
    parser.add_argument('--size', type=int, default=10_000, help='side of the raster in pixels')
    parser.add_argument('--config', type=Path, default=CONFIG)
    parser.add_argument('--checkpoint', type=Path, help='default: random weights')
    parser.add_argument('--source', type=Path, metavar='DIR',
                        help='folder of GeoTIFF tiles of one area for the ground (default: synthetic)')
    parser.add_argument('--window', type=int, default=512)
    parser.add_argument('--overlap', type=int, default=128)
    parser.add_argument('--batch-size', type=int, default=2)
    parser.add_argument('--memory', type=float, default=3.0, metavar='GB', help='largest peak (1 GB = 1e9 bytes)')
    parser.add_argument('--tolerance', type=float, default=0.05, help='largest relative difference of the rates')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--work-dir', type=Path, help='keep raster and outputs here (default: a temporary folder)')
    parser.add_argument('--json', type=Path, help='write the figures here')
    parser.add_argument('--untrained', type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.untrained:
        make_untrained(args.config, args.untrained, args.source, args.seed)
        return 0
    if args.work_dir:
        args.work_dir.mkdir(parents=True, exist_ok=True)
        return benchmark(args, args.work_dir)
    with tempfile.TemporaryDirectory() as folder:
        return benchmark(args, Path(folder))


def benchmark(args: argparse.Namespace, folder: Path) -> int:
    """Make, predict, check; return the exit status."""
    source, checkpoint = folder / 'ground.tif', args.checkpoint
    rng = np.random.default_rng(args.seed)
    make_ground(source, args.size, make_patch(args.source, rng))
    if checkpoint is None:
        checkpoint = folder / 'untrained.pth'
        command = [sys.executable, __file__, '--config', args.config, '--untrained', checkpoint,
                   '--seed', str(args.seed), *(['--source', args.source] if args.source else [])]
        if subprocess.run(command).returncode:
            raise UserError(f'{args.config}: no untrained network could be made of it')
    command = [sys.executable, REPOSITORY / 'tools/predict.py', args.config, checkpoint, source,
               '--out', folder / 'out', '--window', args.window, '--overlap', args.overlap,
               '--batch-size', args.batch_size, '--overwrite', '--device', 'cpu']
    started = time.monotonic()
    process = subprocess.Popen([str(word) for word in command])
    _, status, usage = os.wait4(process.pid, 0)  # the resources of this one process
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise UserError(f'tools/predict.py ended with status {process.returncode}')
    seconds = time.monotonic() - started
    peak = usage.ru_maxrss * (1 if sys.platform == 'darwin' else 1024) / 1e9

    with rasterio.open(source) as image, rasterio.open(folder / 'out/ground.tif') as classes:
        same = (image.crs, image.transform, image.shape) == (classes.crs, classes.transform, classes.shape)
    across, elsewhere, present = change_rates(folder / 'out/ground.tif', args.window, args.overlap)
    difference = across / elsewhere - 1 if elsewhere else float('inf')
    figures = dict(size=args.size, window=args.window, overlap=args.overlap, seconds=round(seconds, 1),
                   megapixels_per_second=round(args.size**2 / 1e6 / seconds, 3), peak_gb=round(peak, 3),
                   same_georeference=same, classes_present=present, changes_across=across,
                   changes_elsewhere=elsewhere, relative_difference=difference)
    checks = {
        f'peak memory {peak:.2f} GB < {args.memory:g} GB': peak < args.memory,
        'CRS, transform and size equal the input': same,
        f'{present} classes predicted': present > 1,
        f'class changes across window borders {across:.5f}, elsewhere {elsewhere:.5f}: {difference:+.2%} within '
        f'{args.tolerance:.0%}': abs(difference) <= args.tolerance,
    }
    print(f'{args.size} x {args.size} pixels in {seconds:.0f} s')
    for text, passed in checks.items():
        print(f'{"pass" if passed else "FAIL"}  {text}')
    if args.json:
        write_json(args.json, figures)
    else:
        print(json.dumps(figures))
    return 0 if all(checks.values()) else 1


def make_patch(source: Path | None, rng: np.random.Generator) -> np.ndarray:
    """Return one uint8 RGB patch of ground without seams: the mosaic of a folder's GeoTIFFs, or a synthetic one."""
    if source is None:
        return synthetic_tile(rng)
    paths = sorted(source.glob('*.tif'))
    if not paths:
        raise UserError(f'{source}: expected GeoTIFF tiles, found none')
    mosaic, _ = merge(paths, indexes=[1, 2, 3])
    return np.ascontiguousarray(mosaic.transpose(1, 2, 0))


def synthetic_tile(rng: np.random.Generator) -> np.ndarray:
    """Return TILE x TILE ground: patches of soft outline in field colours, striped, spotted, noisy."""
    def noise(cells: int) -> np.ndarray:
        return cv2.resize(rng.standard_normal((cells, cells)).astype(np.float32), (TILE, TILE),
                          interpolation=cv2.INTER_CUBIC)

    colours = rng.uniform(40, 200, (6, 3)).astype(np.float32)
    kind = np.digitize(noise(14) + 0.4 * noise(60), [-0.9, -0.4, 0, 0.4, 0.9])
    tile = colours[kind]
    tile += (12 * noise(120) + 8 * noise(400))[..., None] * rng.uniform(0.5, 1, 3)
    tile += rng.normal(0, 6, tile.shape)
    return np.clip(tile, 0, 255).astype(np.uint8)


def make_ground(path: Path, size: int, patch: np.ndarray) -> None:
    """Write a tiled GeoTIFF of the patch, turned by 30 degrees and mirrored at its edges as often as it takes.

    Mirrored, not repeated: the ground goes on across the edges. Turned, because field edges along the grid would put
    whole lines of true changes on some window borders and none on others. So a change of class where windows meet is
    the network's, not the ground's.
    """
    cosine, sine = np.float32(np.cos(np.pi / 6)), np.float32(np.sin(np.pi / 6))
    across = np.arange(size, dtype=np.float32)
    profile = dict(driver='GTiff', dtype='uint8', count=3, height=size, width=size, crs=CRS, transform=GRID,
                   tiled=True, blockxsize=256, blockysize=256, photometric='rgb')
    with rasterio.open(path, 'w', **profile) as dataset:
        for top in range(0, size, 256):
            down = np.arange(top, min(top + 256, size), dtype=np.float32)[:, None]
            part = cv2.remap(patch, cosine * across - sine * down, sine * across + cosine * down, cv2.INTER_LINEAR,
                             borderMode=cv2.BORDER_REFLECT_101)
            dataset.write(part.transpose(2, 0, 1), window=Window(0, top, size, part.shape[0]))


def make_untrained(config: Path, checkpoint: Path, source: Path | None, seed: int) -> None:
    """Save random weights whose batch statistics fit the ground, so that the answers vary from place to place."""
    import torch
    from mmengine.model import revert_sync_batchnorm
    from mmseg.registry import MODELS

    from projects.engine.config import load_config
    from projects.engine.consistency import config_metainfo

    cfg = load_config(config)
    torch.manual_seed(seed)
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    patch = make_patch(source, np.random.default_rng(seed))
    corners = np.linspace(0, min(patch.shape[:2]) - 256, 4).astype(int)
    crops = [patch[y:y + 256, x:x + 256] for y in corners for x in corners]
    inputs = [torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1))).float() for crop in crops]
    mean, std = model.data_preprocessor.mean, model.data_preprocessor.std
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # plain averages: the first batch counts whole
    with torch.no_grad():
        logits = model((torch.stack(inputs) - mean) / std, mode='tensor')
        bias = model.decode_head.conv_seg.bias
        spread = logits.std(dim=(0, 2, 3))
        model.decode_head.conv_seg.weight.mul_((2 / spread)[:, None, None, None])
        if bias is not None:
            bias.zero_()
    meta = config_metainfo(cfg) or {'classes': [f'class {index}' for index in range(logits.shape[1])]}
    torch.save({'state_dict': model.state_dict(), 'meta': {'dataset_meta': meta}}, checkpoint)


def change_rates(path: Path, window: int, overlap: int) -> tuple[float, float, int]:
    """Return the shares of neighbouring pixels of different class across window borders and elsewhere, and classes.

    A border is where a window starts or ends inside the raster. Horizontal and vertical neighbours are counted
    together; pairs with a pixel of no data are left out.
    """
    changes, pairs = np.zeros(2, np.int64), np.zeros(2, np.int64)  # elsewhere, across
    present: set[int] = set()
    with rasterio.open(path) as dataset:
        height, width = dataset.shape
        columns = is_border(width, window, overlap)
        rows = is_border(height, window, overlap)
        for top in range(0, height, 512):
            count = min(513, height - top)  # one row more, for the pairs that lie across
            classes = dataset.read(1, window=Window(0, top, width, count))
            present |= set(np.unique(classes).tolist()) - {255}
            for first, second, border in (
                (classes[:512, :-1], classes[:512, 1:], columns[None, :]),
                (classes[:-1], classes[1:], rows[top:top + count - 1, None]),
            ):
                valid = (first != 255) & (second != 255)
                changed = (first != second) & valid
                border = np.broadcast_to(border, valid.shape)
                for index, where in enumerate((~border, border)):
                    changes[index] += np.count_nonzero(changed & where)
                    pairs[index] += np.count_nonzero(valid & where)
    rates = changes / np.maximum(pairs, 1)
    return float(rates[1]), float(rates[0]), len(present)


def is_border(length: int, window: int, overlap: int) -> np.ndarray:
    """Return ``(length - 1,)`` bool: whether a window starts or ends between pixels i and i + 1."""
    border = np.zeros(length - 1, dtype=bool)
    for start in window_starts(length, window, overlap):
        for edge in (start, start + window):
            if 0 < edge < length:
                border[edge - 1] = True
    return border


if __name__ == '__main__':
    run(main)
