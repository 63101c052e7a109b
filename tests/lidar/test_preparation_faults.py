"""Runs that end before their end, and tiles that come later: a rerun completes what is missing, and no more."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from projects.engine.errors import UserError
from projects.geo.point_clouds import write_points
from projects.lidar.store import open_store

ROOT = Path(__file__).resolve().parents[2]
TILES = 48  # of a run whose scheduler is killed
CONFIG = ROOT / 'configs/lidar/_base_/scales.py'
SIDE = 40


def make_tile(path, column=0, n=1500):
    """A tile of SIDE metres; `column` says how far east it lies."""
    rng = np.random.default_rng(column)
    xyz = np.column_stack([rng.uniform(0, SIDE, (n, 2)) + (770_000 + SIDE * column, 6_277_000),
                           rng.uniform(100, 100.3, n)])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_points(path, xyz, {'classification': rng.choice([2, 5, 6], n).astype(np.uint8)}, point_format=6)


def run_prepare(*args, fail_point=None):
    env = {**os.environ, 'OMP_NUM_THREADS': '1', **({'TERRACE_FAIL_POINT': fail_point} if fail_point else {})}
    return subprocess.run([sys.executable, ROOT / 'tools/lidar/prepare.py', *map(str, args), '--config', str(CONFIG),
                           '--scales', '50'], capture_output=True, text=True, timeout=180, env=env)


def counts(result):
    """Return (prepared, done before, failed) as the tool tells them."""
    found = re.search(r'(\d+) tiles prepared(?:, (\d+) were done)?, (\d+) failed', result.stdout)
    assert found, (result.stdout, result.stderr)
    return tuple(int(text or 0) for text in found.groups())


def files_of(store):
    return {path.relative_to(store): path.read_bytes() for path in store.rglob('*')
            if path.is_file() and path.name != '.lock'}


def test_a_download_that_comes_late_changes_its_neighbours_and_nobody_else(tmp_path):
    """What a tile sees across its border is part of it."""
    tiles = tmp_path / 'tiles'
    for column, name in enumerate(('late', 'beside', 'far')):
        make_tile(tiles / f'{name}.laz', 3 * column if name == 'far' else column)
    whole = (tiles / 'late.laz').read_bytes()
    (tiles / 'late.laz').write_bytes(whole[:len(whole) // 2])
    result = run_prepare(tiles, '--out', tmp_path / 'store')
    assert result.returncode == 1 and counts(result) == (2, 0, 1), result.stderr
    (tiles / 'late.laz').write_bytes(whole)
    again = run_prepare(tiles, '--out', tmp_path / 'store')
    assert again.returncode == 0 and counts(again) == (2, 1, 0), again.stderr


def test_a_run_that_was_killed_is_taken_up_and_gives_the_same_store(tmp_path):
    for column, name in enumerate('abc'):
        make_tile(tmp_path / f'tiles/{name}.laz', column)
    killed = run_prepare(tmp_path / 'tiles', '--out', tmp_path / 'store', fail_point='before_rename:b.safetensors')
    assert killed.returncode == -9 and not (tmp_path / 'store/manifest.json').exists()
    assert list((tmp_path / 'store').rglob('.*.tmp-*'))
    again = run_prepare(tmp_path / 'tiles', '--out', tmp_path / 'store')
    assert again.returncode == 0 and counts(again) == (2, 1, 0), again.stderr
    assert run_prepare(tmp_path / 'tiles', '--out', tmp_path / 'straight').returncode == 0
    assert files_of(tmp_path / 'store') == files_of(tmp_path / 'straight')


def test_a_store_that_was_to_be_prepared_anew_and_was_killed_is_none_until_a_rerun(tmp_path):
    """Otherwise tiles of two settings lie under a manifest of the first ones."""
    for column, name in enumerate('ab'):
        make_tile(tmp_path / f'tiles/{name}.laz', column)
    store = tmp_path / 'store'
    assert run_prepare(tmp_path / 'tiles', '--out', store).returncode == 0
    new = ('--block-size', '20', '--min-points', '20')
    killed = run_prepare(tmp_path / 'tiles', '--out', store, *new, '--overwrite',
                         fail_point='before_rename:b.safetensors')
    assert killed.returncode == -9
    with pytest.raises(UserError, match='found a part of one: .*give the prepare command again'):
        open_store(store)
    refused = run_prepare(tmp_path / 'tiles', '--out', store)
    assert refused.returncode == 2 and 'block_size: expected 20.0' in refused.stderr
    again = run_prepare(tmp_path / 'tiles', '--out', store, *new)
    assert again.returncode == 0 and counts(again) == (1, 1, 0), again.stderr
    assert run_prepare(tmp_path / 'tiles', '--out', tmp_path / 'straight', *new).returncode == 0
    assert files_of(store) == files_of(tmp_path / 'straight')
    assert {len(tile.record['blocks']) for tile in open_store(store).tiles.values()} == {4}


@pytest.mark.slow
def test_a_scheduler_that_is_killed_and_started_again(tmp_path):
    """The run ends with one line, although the new scheduler has the old one's address at once: it knows nothing of
    the tiles that were sent. The same command prepares only the missing ones."""
    for column in range(TILES):
        make_tile(tmp_path / f'tiles/t{column:02d}.laz', column, n=2000)
    processes = []

    def start(kind, *args):
        processes.append(subprocess.Popen(
            [sys.executable, '-m', f'distributed.cli.dask_{kind}', '--scheduler-file', tmp_path / 's.json', '--host',
             '127.0.0.1', '--no-dashboard', *args], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path,
            env={**os.environ, 'OMP_NUM_THREADS': '1'}))
        return processes[-1]

    def start_cluster(port='0'):
        (tmp_path / 's.json').unlink(missing_ok=True)
        scheduler = start('scheduler', '--port', port)
        until, told = time.monotonic() + 60, ''
        while not told.rstrip().endswith('}') and time.monotonic() < until:  # it may be half written
            time.sleep(0.1)
            told = (tmp_path / 's.json').read_text() if (tmp_path / 's.json').is_file() else ''
        start('worker', '--nthreads', '1', '--no-nanny', '--local-directory', str(tmp_path))
        return scheduler, json.loads(told)['address']

    def done():
        return len(list((tmp_path / 'store/tiles').glob('t*.json')))

    try:
        scheduler, address = start_cluster()
        run = subprocess.Popen(
            [sys.executable, ROOT / 'tools/lidar/prepare.py', tmp_path / 'tiles', '--config', CONFIG, '--scales', '50',
             '--out', tmp_path / 'store', '--scheduler', address], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True)
        processes.append(run)
        until = time.monotonic() + 120
        while done() < 3 and time.monotonic() < until:
            time.sleep(0.02)
        scheduler.kill()
        scheduler.wait(20)
        assert start_cluster(address.rpartition(':')[2])[1] == address
        _, problems = run.communicate(timeout=120)
        assert run.returncode == 2, problems
        last = problems.strip().splitlines()[-1]
        assert last.startswith(f'error: scheduler {address}: lost the connection') and 'same command continues' in last
        assert 'Traceback' not in problems
        processes[1].wait(60)  # the worker goes with its scheduler, and finishes the tile that it has
        left = TILES - done()
        assert 0 < left < TILES - 2
        again = run_prepare(tmp_path / 'tiles', '--out', tmp_path / 'store', '--scheduler', address)
        assert again.returncode == 0 and counts(again) == (left, TILES - left, 0), again.stderr
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait(20)
