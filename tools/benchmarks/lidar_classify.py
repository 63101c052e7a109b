#!/usr/bin/env python
"""Classify one large LiDAR tile: peak memory, time, and whether every point comes back.

Makes a town of EXTENT x EXTENT metres as one tile (``tools/lidar/make_town.py``), runs ``tools/lidar/classify.py`` on
it in a process of its own, and checks that

- the peak resident memory of that process stays below ``--memory`` (6 GB),
- the copy has every point of the tile once, in order, with every dimension as it was,
- every point has a class, and a confidence, entropy and disagreement of 0 to 1.

    tools/benchmarks/lidar_classify.py                                  # 1 km², about 10 million points: minutes
    tools/benchmarks/lidar_classify.py --extent 150 --density 8         # quick
    tools/benchmarks/lidar_classify.py --tile FILE.laz --scales 50 100 150 --checkpoint W

Without ``--checkpoint`` the config's network gets random weights: they cost the same. Exit status 1 when a check fails.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import laspy
import numpy as np

from projects.engine.cli import Parser, run
from projects.engine.errors import UserError
from projects.engine.files import write_json
from projects.lidar.classes import LOD3
from projects.lidar.prediction.classified_tile import DIMENSIONS

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIG = REPOSITORY / 'configs/lidar/hybrid-tiny_single-150_town.py'
CHUNK = 1_000_000


def main() -> int:
    parser = Parser(description='Classify one large LiDAR tile: peak memory, time, and whether every point comes back.')
    parser.add_argument('--tile', type=Path, metavar='FILE', help='classify this one (default: a generated town)')
    parser.add_argument('--extent', type=float, default=1000.0, help='side of the town in metres (default: 1000)')
    parser.add_argument('--density', type=float, default=9.0, help='pulses per square metre (default: 9)')
    parser.add_argument('--config', type=Path, default=CONFIG)
    parser.add_argument('--checkpoint', type=Path, help='default: random weights')
    parser.add_argument('--scales', nargs='+', default=['150'], help='(default: 150)')
    parser.add_argument('--batch', type=int, default=1, help='patches at once (default: 1)')
    parser.add_argument('--amp', action='store_true', help='bfloat16 autocast')
    parser.add_argument('--memory', type=float, default=6.0, metavar='GB', help='largest peak (1 GB = 1e9 bytes)')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--work-dir', type=Path, help='keep tile and copy here (default: a temporary folder)')
    parser.add_argument('--json', type=Path, help='write the figures here')
    parser.add_argument('--untrained', type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.untrained:
        make_untrained(args.config, args.untrained, args.seed)
        return 0
    if args.work_dir:
        args.work_dir.mkdir(parents=True, exist_ok=True)
        return benchmark(args, args.work_dir)
    with tempfile.TemporaryDirectory() as folder:
        return benchmark(args, Path(folder))


def benchmark(args: argparse.Namespace, folder: Path) -> int:
    """Make, classify, check; return the exit status."""
    source, checkpoint = args.tile or make_tile(args, folder / 'town'), args.checkpoint
    if checkpoint is None:
        checkpoint = folder / 'untrained.pth'
        call(__file__, '--config', args.config, '--untrained', checkpoint, '--seed', args.seed)
    started = time.monotonic()
    usage = call('tools/lidar/classify.py', args.config, checkpoint, source, '--out', folder / 'out', '--scales',
                 *args.scales, '--batch', args.batch, *(['--amp'] if args.amp else []), '--overwrite',
                 '--device', 'cpu')
    seconds = time.monotonic() - started
    peak = usage.ru_maxrss * (1 if sys.platform == 'darwin' else 1024) / 1e9
    copy = folder / 'out' / f'{source.stem.removesuffix(".copc")}.laz'
    points, problem = compare(source, copy)
    record = json.loads((folder / 'out/records' / f'{copy.stem}.json').read_text(encoding='utf-8'))
    cpu = usage.ru_utime + usage.ru_stime
    figures = dict(points=points, scales=args.scales, patches=record['patches'], seconds=round(seconds, 1),
                   cpu_seconds=round(cpu, 1), points_per_cpu_second=round(points / cpu), peak_gb=round(peak, 3),
                   unreached=record['unreached'], classes_present=len(record['classes']), same=problem is None,
                   **{key: round(record[key], 1) for key in ('prepare_seconds', 'predict_seconds', 'write_seconds')})
    checks = {
        f'peak memory {peak:.2f} GB < {args.memory:g} GB': peak < args.memory,
        problem or f'all {points:,} points come back in order with all their dimensions': problem is None}
    print(f'{points:,} points, {record["patches"]} patches of {", ".join(args.scales)} m: {seconds:.0f} s, {cpu:.0f} '
          f'CPU seconds ({points / cpu:,.0f} points per CPU second)')
    for text, passed in checks.items():
        print(f'{"pass" if passed else "FAIL"}  {text}')
    if args.json:
        write_json(args.json, figures)
    else:
        print(json.dumps(figures))
    return 0 if all(checks.values()) else 1


def call(script: str | Path, *arguments: object) -> Any:
    """Run a tool in a process of its own and return its resources: CPU of all threads, peak memory.

    Raises:
        UserError: It failed.
    """
    process = subprocess.Popen([sys.executable, str(REPOSITORY / script), *map(str, arguments)])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise UserError(f'{script} ended with status {process.returncode}')
    return usage


def make_tile(args: argparse.Namespace, folder: Path) -> Path:
    """Return a town as one tile, made unless it is there."""
    if not sorted(folder.glob('*.laz')):
        call('tools/lidar/make_town.py', '--out', folder, '--seed', args.seed, '--extent', args.extent,
             '--tile', args.extent, '--density', args.density)
    return sorted(folder.glob('*.laz'))[0]


def make_untrained(config: Path, checkpoint: Path, seed: int) -> None:
    """Save random weights."""
    import torch
    from mmseg.registry import MODELS

    from projects.engine.checkpoint_files import write_checkpoint
    from projects.engine.config import load_config

    cfg = load_config(config)
    torch.manual_seed(seed)
    write_checkpoint({'state_dict': MODELS.build(cfg.model).state_dict(), 'meta': {'dataset_meta': {'classes': LOD3}}},
                     checkpoint)


def compare(source: Path, copy: Path) -> tuple[int, str | None]:
    """Compare a tile with its copy chunk by chunk; return the points and the first thing that differs."""
    with laspy.open(source) as before, laspy.open(copy) as after:
        names = list(before.header.point_format.dimension_names)
        count = before.header.point_count
        if after.header.point_count != count:
            return count, f'{count:,} points became {after.header.point_count:,}'
        extra = set(after.header.point_format.extra_dimension_names)
        if not extra >= {*DIMENSIONS, *before.header.point_format.extra_dimension_names}:
            return count, f'expected the dimensions {", ".join(DIMENSIONS)}, found {", ".join(sorted(extra))}'
        for one, other in zip(before.chunk_iterator(CHUNK), after.chunk_iterator(CHUNK)):
            for name in names:
                if not np.array_equal(np.asarray(one[name]), np.asarray(other[name])):
                    return count, f'{name} is not what it was'
            if other['terrace_class'].max() >= len(LOD3):
                return count, f'terrace_class: expected below {len(LOD3)}, found {other["terrace_class"].max()}'
            for name in list(DIMENSIONS)[1:]:
                values = np.asarray(other[name])
                if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
                    return count, f'{name}: expected 0 to 1'
        return count, None


if __name__ == '__main__':
    run(main)
