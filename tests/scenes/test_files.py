import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio

from projects.engine.errors import UserError
from projects.engine.files import sha256_of
from projects.scenes.files import draw, write_village
from projects.scenes.objects import OBJECTS, PALETTE
from projects.scenes.render import Renderer
from projects.scenes.scene import make_scene


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp('village')
    write_village(target, tiles=3, size=96, resolution=0.5, seed=21)
    return target


def _tool(repository: Path, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess:
    environment = {**os.environ, 'PYTHONPATH': str(repository)}
    return subprocess.run([sys.executable, str(repository / 'tools' / 'scenes.py'), *arguments], cwd=cwd,
                          env=environment, capture_output=True, text=True)


def test_tiles_carry_their_place_bands_and_colours(folder: Path):
    note = json.loads((folder / 'scene.json').read_text())
    assert (note['seed'], note['size'], note['resolution'], note['season']) == (21, 96, 0.5, 'summer')
    assert note['objects'] == OBJECTS and note['crs'] == 'EPSG:2154'
    assert sorted(p.name for p in (folder / 'images').iterdir()) == sorted(t['name'] + '.tif' for t in note['tiles'])
    assert sorted(p.name for p in (folder / 'masks').iterdir()) == sorted(t['name'] + '.tif' for t in note['tiles'])
    assert len(note['tiles']) == 3
    for tile in note['tiles']:
        east, north = (int(v) for v in tile['name'].split('_')[1:])
        with rasterio.open(folder / 'images' / f'{tile["name"]}.tif') as image:
            assert (image.count, image.dtypes[0], image.width, image.height) == (4, 'uint8', 96, 96)
            assert image.crs.to_epsg() == 2154
            assert (image.bounds.left, image.bounds.bottom) == (east, north)
            assert tuple(image.bounds) == tuple(tile['bounds'])
            assert image.res == (0.5, 0.5)
            assert image.descriptions == ('red', 'green', 'blue', 'near infrared')
            assert all(flags == [rasterio.enums.MaskFlags.all_valid] for flags in image.mask_flag_enums)
            assert image.read().std() > 10
        with rasterio.open(folder / 'masks' / f'{tile["name"]}.tif') as mask:
            ids = mask.read(1)
            assert tuple(mask.bounds) == tuple(tile['bounds'])
            assert mask.colormap(1)[OBJECTS['tree']] == (*PALETTE['tree'], 255)
        assert set(np.unique(ids)) <= set(OBJECTS.values())
        assert {OBJECTS[k]: v for k, v in tile['pixels'].items()} == dict(zip(*np.unique(ids, return_counts=True)))


def test_tiles_are_one_block_from_the_north_west(folder: Path):
    bounds = [tile['bounds'] for tile in json.loads((folder / 'scene.json').read_text())['tiles']]
    west, south = bounds[2][:2]
    assert bounds == [[west, south + 48, west + 48, south + 96], [west + 48, south + 48, west + 96, south + 96],
                      [west, south, west + 48, south + 48]]


def test_the_same_seed_writes_the_same_bytes(folder: Path, tmp_path: Path):
    write_village(tmp_path / 'same', 3, 96, 0.5, 21)
    write_village(tmp_path / 'other', 3, 96, 0.5, 22)

    def hashes(where: Path) -> dict[str, str]:
        return {str(p.relative_to(where)): sha256_of(p) for p in sorted(where.rglob('*')) if p.is_file()}

    assert hashes(tmp_path / 'same') == hashes(folder)
    assert not set(hashes(tmp_path / 'other').values()) & set(hashes(folder).values())


def test_large_tiles_are_drawn_in_blocks(monkeypatch: pytest.MonkeyPatch):
    renderer = Renderer(make_scene(4, 64), 0.5)
    whole, ids = draw(renderer, (0, 0, 64, 64))
    monkeypatch.setattr('projects.scenes.files._BLOCK', 50)
    blocks, block_ids = draw(renderer, (0, 0, 64, 64))
    assert np.array_equal(whole, blocks) and np.array_equal(ids, block_ids)


def test_a_full_folder_is_refused_and_only_a_village_is_replaced(tmp_path: Path):
    write_village(tmp_path / 'v', 1, 64, 1.0, 0)
    (tmp_path / 'v' / 'mine.txt').write_text('keep')
    with pytest.raises(UserError, match='expected an empty folder'):
        write_village(tmp_path / 'v', 1, 64, 1.0, 1)
    old = set((tmp_path / 'v' / 'images').iterdir())
    write_village(tmp_path / 'v', 1, 64, 1.0, 1, overwrite=True)
    assert not old & set((tmp_path / 'v' / 'images').iterdir())
    assert len(list((tmp_path / 'v' / 'masks').iterdir())) == 1
    assert (tmp_path / 'v' / 'mine.txt').read_text() == 'keep'
    (tmp_path / 'photos').mkdir()
    (tmp_path / 'photos' / 'a.jpg').write_text('x')
    with pytest.raises(UserError, match='found no scene.json'):
        write_village(tmp_path / 'photos', 1, 64, 1.0, 1, overwrite=True)
    assert (tmp_path / 'photos' / 'a.jpg').exists()
    with pytest.raises(UserError, match='expected a folder, found a file'):
        write_village(tmp_path / 'photos' / 'a.jpg', 1, 64, 1.0, 1)
    (tmp_path / 'photos' / 'scene.json').write_text('{"tiles": 3}')
    with pytest.raises(UserError, match='expected the scene.json of a village'):
        write_village(tmp_path / 'photos', 1, 64, 1.0, 1, overwrite=True)


@pytest.mark.parametrize('change, message', [
    (dict(tiles=0), '--tiles: expected 1 to 10000, found 0'),
    (dict(size=8), '--size: expected 16 to 8192, found 8'),
    (dict(resolution=0), '--resolution: expected 0.05 to 5, found 0'),
    (dict(resolution=float('nan')), '--resolution: expected 0.05 to 5, found nan'),
    (dict(seed=-3), '--seed: expected 0 or more, found -3'),
    (dict(tiles=1, size=64, resolution=0.5), 'expected ground of 60 to 12000 m a side, found 32 x 32 m'),
    (dict(tiles=10_000, size=8192, resolution=5), 'found 4.096e\\+06'),
    (dict(season='winter'), "season: expected one of summer, autumn, spring, found 'winter'"),
])
def test_ranges_are_told(tmp_path: Path, change, message):
    options = {**dict(tiles=4, size=64, resolution=0.5, seed=0), **change}
    with pytest.raises(UserError, match=message):
        write_village(tmp_path / 'v', **options)
    assert not (tmp_path / 'v').exists()


def test_the_tool_writes_and_sums_up(repository: Path, tmp_path: Path):
    done = _tool(repository, 'make', '--out', 'v', '--tiles', '4', '--size', '64', '--resolution', '0.5', '--seed', '3',
                 cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('4 tiles of 64 px, 64 x 64 m, ') and 'building ' in done.stdout
    assert len(list((tmp_path / 'v' / 'images').iterdir())) == 4
    again = _tool(repository, 'make', '--out', str(tmp_path / 'v'), '--tiles', '4')
    assert again.returncode == 2
    assert again.stderr.startswith('error: --out ') and again.stderr.count('\n') == 1
    assert _tool(repository, 'make', '--out', 'w', '--season', 'winter', cwd=tmp_path).returncode == 2
