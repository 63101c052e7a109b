#!/usr/bin/env python
"""Many tiles on a Dask cluster of several processes, one of which is killed in the middle: does the store come whole?

    tools/benchmarks/lidar_dask.py                          210 tiles, 3 workers
    tools/benchmarks/lidar_dask.py --tiles 30 --workers 2   a look

Makes small synthetic tiles, prepares them in one process (the reference), starts a scheduler and workers as processes
of their own on the loopback interface, prepares the tiles there with ``tools/lidar/prepare.py --scheduler``, ends one
worker with SIGKILL when half of the tiles are done, and compares both stores byte by byte. A second run on the cluster
has to find nothing to do.
"""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from projects.engine.cli import Parser, run
from projects.engine.errors import UserError
from projects.engine.files import write_json
from projects.engine.tool_process import ROOT
from projects.geo.point_clouds import write_points

PREPARE = ROOT / 'tools/lidar/prepare.py'
CONFIG = ROOT / 'configs/lidar/_base_/scales.py'
CORNER = (770_000.0, 6_277_000.0)
LIMIT = 1800  # seconds for any single step


def write_tiles(folder: Path, count: int, points: int, side: float, seed: int = 0) -> None:
    """Write tiles that lie side by side: sloping ground, a house with a roof and walls, a tree."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = int(np.ceil(np.sqrt(count)))
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        local = rng.uniform(0, side, (points, 2))
        z = 120 + 0.02 * local[:, 0] + rng.normal(0, 0.02, points)
        code = np.full(points, 2, np.uint8)
        house = (np.abs(local - side / 2) < side / 6).all(axis=1)
        z[house] += 6 + 0.4 * (side / 6 - np.abs(local[house, 0] - side / 2))
        wall = house & (np.abs(local[:, 0] - side / 2) > side / 6 - 0.5)
        z[wall] -= rng.uniform(0, 6, wall.sum())
        code[house] = 6
        tree = np.hypot(*(local - side / 6).T) < side / 9
        z[tree] += rng.uniform(1, 9, tree.sum())
        code[tree] = 5
        x, y = CORNER[0] + side * (number % columns), CORNER[1] + side * (number // columns)
        write_points(folder / f'tile_{number:03d}.laz', np.column_stack([local + (x, y), z]),
                     {'classification': code, 'intensity': rng.integers(0, 3000, points).astype(np.uint16)},
                     point_format=6)


def prepare(tiles: Path, store: Path, *args: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, str(PREPARE), str(tiles), '--config', str(CONFIG), '--out', str(store),
                             *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())


def finish(process: subprocess.Popen) -> dict[str, Any]:
    """Wait for the tool and return its figures.

    Raises:
        UserError: It failed.
    """
    out, problems = process.communicate(timeout=LIMIT)
    found = re.search(r'(\d+) tiles prepared(?:, (\d+) were done)?.*?([\d,]+) points in ([\d.]+) s, ([\d,]+) points/s',
                      out)
    if process.returncode or not found:
        raise UserError(f'{PREPARE.name} ended with status {process.returncode}: {problems.strip() or out.strip()}')
    prepared, kept, points, seconds, rate = (float((text or '0').replace(',', '')) for text in found.groups())
    return dict(tiles=int(prepared), kept=int(kept), points=int(points), seconds=seconds, points_per_second=int(rate))


def cpu_seconds() -> float:
    """Return the CPU seconds of the processes that this one started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def environment() -> dict[str, str]:
    return {**os.environ, 'OMP_NUM_THREADS': '1'}


@contextmanager
def cluster(folder: Path, workers: int) -> Iterator[tuple[str, dict[str, subprocess.Popen]]]:
    """Run a scheduler and workers as processes on the loopback interface; yields its address and them by name."""
    file = folder / 'scheduler.json'
    file.unlink(missing_ok=True)
    local = ('--scheduler-file', str(file), '--host', '127.0.0.1', '--no-dashboard')
    with ExitStack() as stack:
        log = stack.enter_context(open(folder / 'cluster.log', 'w'))

        def start(kind: str, *args: str) -> subprocess.Popen:
            process = subprocess.Popen([sys.executable, '-m', f'distributed.cli.dask_{kind}', *local, *args],
                                       stdout=subprocess.DEVNULL, stderr=log, env=environment(), cwd=folder)
            stack.callback(stop, process)
            return process

        scheduler = start('scheduler', '--port', '0')
        until = time.monotonic() + 60
        while not file.is_file():
            if time.monotonic() > until or scheduler.poll() is not None:
                raise UserError(f'{folder / "cluster.log"}: the scheduler did not start')
            time.sleep(0.1)
        # Without a nanny, which would start a killed worker again: the harder case.
        named = {f'worker-{number}': start('worker', '--nthreads', '1', '--no-nanny', '--name', f'worker-{number}',
                                           '--local-directory', str(folder)) for number in range(workers)}
        yield json.loads(file.read_text())['address'], named


def stop(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def kill_one(address: str, workers: dict[str, subprocess.Popen], store: Path, half: int,
             running: subprocess.Popen) -> dict[str, Any]:
    """End a worker that has work with SIGKILL, when half of the tiles are done; return what it had.

    Raises:
        UserError: The run ended before.
    """
    from distributed import Client

    with Client(address, set_as_default=False) as client:
        while True:
            if running.poll() is not None:
                raise UserError('the run ended before a worker was killed: give it more tiles')
            done = len(list((store / 'tiles').glob('*.safetensors')))
            busy = {address: keys for address, keys in client.processing().items() if keys} if done >= half else {}
            if busy:
                names = {address: info['name'] for address, info in client.scheduler_info(n_workers=-1)['workers'
                                                                                                        ].items()}
                victim, keys = next(iter(busy.items()))
                process = workers[names[victim]]
                process.send_signal(signal.SIGKILL)
                process.wait(10)
                return dict(killed=names[victim], done_before=done, tiles_given_back=len(keys))
            time.sleep(0.05)


def files_of(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in sorted(store.rglob('*'))
            if path.is_file() and path.name != '.lock'}


def measure(folder: Path, count: int, points: int, side: float, workers: int) -> dict[str, Any]:
    write_tiles(folder / 'tiles', count, points, side)
    begin = cpu_seconds()
    serial = finish(prepare(folder / 'tiles', folder / 'serial', '--workers', '1'))
    serial['cpu_seconds'] = cpu_seconds() - begin
    with cluster(folder, workers) as (address, processes):
        running = prepare(folder / 'tiles', folder / 'cluster', '--scheduler', address)
        try:
            killed = kill_one(address, processes, folder / 'cluster', count // 2, running)
            spread = finish(running)
        finally:
            if running.poll() is None:
                running.kill()
    spread['cpu_seconds'] = cpu_seconds() - begin - serial['cpu_seconds']  # scheduler and workers have ended
    with cluster(folder, 1) as (address, _):
        again = finish(prepare(folder / 'tiles', folder / 'cluster', '--scheduler', address))
    alone, together = files_of(folder / 'serial'), files_of(folder / 'cluster')
    different = sorted(name for name in alone.keys() | together.keys() if alone.get(name) != together.get(name))
    return dict(tiles=count, points=serial['points'], workers=workers, serial=serial, cluster=spread, **killed,
                again=again, files=len(together), different=different)


def main() -> int:
    parser = Parser(description=__doc__.split('\n')[0])
    parser.add_argument('--tiles', type=int, default=210, metavar='N', help='(210)')
    parser.add_argument('--points', type=int, default=2500, metavar='N', help='of a tile (2500)')
    parser.add_argument('--side', type=float, default=50.0, metavar='METRES', help='of a tile (50)')
    parser.add_argument('--workers', type=int, default=3, metavar='N', help='processes, one of which is killed (3)')
    parser.add_argument('--folder', type=Path, metavar='DIR', help='keep everything there (a temporary one)')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the figures')
    args = parser.parse_args()
    if args.workers < 2 or args.tiles < 4:
        raise UserError('--workers, --tiles: expected at least 2 and 4: one worker is killed when half are done')
    if args.folder is not None:
        if args.folder.exists() and any(args.folder.iterdir()):
            raise UserError(f'{args.folder}: expected a new folder or an empty one, found files')
        args.folder.mkdir(parents=True, exist_ok=True)
        found = measure(args.folder.absolute(), args.tiles, args.points, args.side, args.workers)
    else:
        with tempfile.TemporaryDirectory(prefix='lidar_dask_') as folder:
            found = measure(Path(folder), args.tiles, args.points, args.side, args.workers)
    for name, one in (('one process', found['serial']), (f'{args.workers} workers, one killed', found['cluster'])):
        print(f'{name:<24} {one["tiles"]:>5} tiles  {one["points"]:>11,} points  {one["seconds"]:>7.1f} s  '
              f'{one["points_per_second"]:>9,} points/s  {one["cpu_seconds"]:>7.1f} CPU s')
    print(f'{found["killed"]} was killed with {found["done_before"]} tiles done; the {found["tiles_given_back"]} tiles '
          'that it had were given to the others')
    print(f'a second run prepared {found["again"]["tiles"]} tiles and kept {found["again"]["kept"]}')
    print(f'{found["files"]} files of the store: ' + ('identical to those of one process, byte by byte'
          if not found['different'] else f'{len(found["different"])} differ: {", ".join(found["different"][:5])}'))
    if args.json is not None:
        write_json(args.json, found)
    return 1 if found['different'] or found['again']['tiles'] else 0


if __name__ == '__main__':
    run(main)
