#!/usr/bin/env python
"""LiDAR tiles into a store of patches: tools/lidar/prepare.py INPUT… --config FILE --out STORE."""

import argparse
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')  # one thread a process: --workers says how many work

from projects.engine.cli import Parser, run
from projects.engine.errors import UserError
from projects.engine.options import read_options
from projects.engine.progress import progress
from projects.geo.executors import DaskExecutor, Executor, ProcessExecutor, SerialExecutor, slurm_cluster
from projects.lidar.exporting import export_patches
from projects.lidar.preparation import prepare as preparation
from projects.lidar.preparation.seed_yaml import SeedSettings, export_options, outcomes_text, read_seed_yaml
from projects.lidar.preparation.settings import (
    LABEL_SOURCES,
    UNKNOWN,
    Settings,
    check_number,
    read_mapping,
    read_scales,
    small_blocks,
)
from projects.lidar.store import MANIFEST, open_store


def parse() -> argparse.Namespace:
    parser = Parser(
        description='Read LAS, LAZ and COPC tiles; write labels, features at every scale, outlier flags, heights, '
        'blocks and patch lists into one store. A rerun prepares what is missing or changed. With --seed-yaml the '
        'patches are also written as files, OUT/patches_50m/TILE_0012.npz and .laz; otherwise tools/lidar/export.py '
        'does that.',
        epilog='What becomes of the keys of --seed-yaml:\n' + outcomes_text(),
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('input', nargs='*', help='files, or folders of files')
    parser.add_argument('--config', type=Path, metavar='FILE', help='patch_scales and block_size, read and not run')
    parser.add_argument('--seed-yaml', nargs='+', type=Path, metavar='FILE', help="the seed's files, one a scale")
    parser.add_argument('--out', type=Path, metavar='STORE', help='folder to write')
    parser.add_argument('--dry-run', action='store_true', help='print patches and storage per scale, write nothing')
    parser.add_argument('--overwrite', action='store_true', help='prepare a store of other settings anew')
    cut = parser.add_argument_group('patches')
    cut.add_argument('--scales', nargs='+', metavar='SIZE', help='of the config, all by default')
    cut.add_argument('--block-size', type=float, metavar='METRES', help='least side of a block (of the config)')
    cut.add_argument('--min-points', type=int, default=100, metavar='N', help='leave smaller patches out (100)')
    cut.add_argument('--seed', type=int, default=0, help='of the shuffle behind the farthest points (0)')
    labels = parser.add_argument_group('labels')
    labels.add_argument('--labels', choices=LABEL_SOURCES, default='auto', help='auto: lod3 where a tile has it')
    labels.add_argument('--map', nargs='+', default=[], metavar='CODE=CLASS', help='for codes beyond 0-18 and 64-67')
    labels.add_argument('--unknown-classes', choices=UNKNOWN, default='refuse', help='ignore: no label (refuse)')
    work = parser.add_argument_group('where it runs')
    work.add_argument('--workers', type=int, metavar='N', help='processes of this machine, one thread each (1)')
    work.add_argument('--scheduler', metavar='ADDRESS', help='of a Dask cluster, tcp://HOST:PORT')
    work.add_argument('--slurm', nargs='+', metavar='KEY=VALUE', help='start workers: jobs=N queue=… walltime=…')
    return parser.parse_args()


def read_settings(args: argparse.Namespace) -> tuple[Settings, SeedSettings | None]:
    if (args.config is None) == (args.seed_yaml is None):
        found = 'none' if args.config is None else 'both'
        raise UserError(f'--config, --seed-yaml: expected one of them, found {found}')
    seed = read_seed_yaml(args.seed_yaml) if args.seed_yaml else None
    settings = seed.settings if seed else read_scales(args.config)
    if args.block_size is not None:
        check_number(args.block_size, '--block-size', low=1.0)
        settings = replace(settings, block_size=args.block_size)
    check_number(args.min_points, '--min-points', low=1, whole=True)
    if args.workers is not None:
        check_number(args.workers, '--workers', low=1, whole=True)
    settings = replace(settings, labels=args.labels, mapping=read_mapping(args.map), unknown=args.unknown_classes,
                       min_points=args.min_points, seed=args.seed)
    return settings.chosen(args.scales, str(args.config or args.seed_yaml[0])), seed


def make_executor(args: argparse.Namespace, workers: int) -> Executor:
    if sum(given is not None for given in (args.workers, args.scheduler, args.slurm)) > 1:
        raise UserError('--workers, --scheduler, --slurm: expected at most one of them, found several')
    if args.slurm is not None:
        for pair in args.slurm:
            if '=' not in pair:
                raise UserError(f'--slurm: expected KEY=VALUE, found {pair!r}')
        options = read_options(args.slurm)
        return DaskExecutor(slurm_cluster(options.pop('jobs', 1), options), patience=None)
    if args.scheduler is not None:
        return DaskExecutor(args.scheduler)
    return SerialExecutor() if workers == 1 else ProcessExecutor(workers)


def main() -> int:
    args = parse()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill cleans up like Ctrl-C
    settings, seed = read_settings(args)
    inputs = args.input or ([seed.input_dir] if seed and seed.input_dir else [])
    out = args.out or (Path(seed.output_dir) if seed and seed.output_dir else None)
    if not inputs or (out is None and not args.dry_run):
        raise UserError('INPUT: say which tiles' if not inputs else '--out: say where to write (or --dry-run)')
    for line in (*(seed.notes if seed else ()), *(f'warning: {text}' for text in (seed.warnings if seed else ()))):
        sys.stderr.write(f'{line}\n')
    if warning := small_blocks(settings):
        sys.stderr.write(f'warning: {warning}\n')
    tiles = preparation.plan(inputs)
    if args.dry_run:
        return dry_run(tiles, settings, seed)
    workers = args.workers or (seed.workers if seed and seed.workers else 1)
    executor = make_executor(args, workers)
    report = preparation.prepare(
        tiles, out, settings, executor, cache=seed.cache if seed else True, overwrite=args.overwrite,
        progress=lambda results, total: progress(results, 'tiles', total, 'tile'))
    status = show(report, out)
    if seed and (out / MANIFEST).is_file():
        write_files(out, settings, executor)
    return status


def dry_run(tiles: preparation.Plan, settings: Settings, seed: SeedSettings | None) -> int:
    tell(tiles.warnings, tiles.failed)
    files = export_options(settings) if seed else None
    print('\n'.join(preparation.table(*preparation.estimate(tiles, settings, files), list(tiles.headers))))
    return 1 if tiles.failed else 0


def write_files(out: Path, settings: Settings, executor: Executor) -> None:
    """Write the patches of the store as the files that a seed's YAML asks for; those that are there stay."""
    store = open_store(out)
    refs = [ref for scale in store.scales for ref in store.patches(scale)]
    made = export_patches(store, refs, out, export_options(settings), executor=executor)
    print(f'{out}: {sum(made.patches.values()):,} patches as {" and ".join(settings.export["formats"])}, '
          f'{made.kept:,} of them were there, {made.bytes / 1e6:,.1f} MB')


def show(report: preparation.Report, out: Path) -> int:
    tell(report.warnings, report.failed)
    patches = ', '.join(f'{count:,} of {key} m' for key, count in report.patches.items()) or 'none'
    kept = f', {len(report.kept)} were done' if report.kept else ''
    rate = report.points / max(report.seconds, 1e-9)
    print(f'{out}: {len(report.done)} tiles prepared{kept}, {len(report.failed)} failed; patches: {patches}; '
          f'{report.points:,} points in {report.seconds:.1f} s, {rate:,.0f} points/s')
    return 1 if report.failed else 0


def tell(warnings: tuple[str, ...] | list[str], failed: dict[str, str]) -> None:
    for line in (*(f'warning: {text}' for text in warnings), *(f'failed: {text}' for text in failed.values())):
        sys.stderr.write(f'{line}\n')


if __name__ == '__main__':
    run(main)
