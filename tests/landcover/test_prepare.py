"""tools/landcover/prepare.py and what stands behind it: files checked, written whole or not at all, and proven."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin

from projects.engine.errors import UserError
from projects.geo.raster import read_mask
from projects.landcover.data.check import check_prepared, check_source
from projects.landcover.data.prepare import BadFiles, Options, building, prepare
from projects.landcover.datasets import LandCoverDataset

FOLDER = Options('folder', group_regex='^([a-z]+)_')
SIZE = 48


def picture(seed: int, size: int = SIZE) -> np.ndarray:
    blocks = np.random.default_rng(seed).integers(0, 256, (size // 8, size // 8, 3), dtype=np.uint8)
    return np.kron(blocks, np.ones((8, 8, 1), np.uint8))


def folder(root: Path, groups: str = 'abcdef', each: int = 2) -> Path:
    for name in ('images', 'masks'):
        (root / name).mkdir(parents=True)
    for index, group in enumerate(group for group in groups for _ in range(each)):
        Image.fromarray(picture(index)).save(root / f'images/{group}_{index}.png')
        Image.fromarray((picture(index)[..., 0] % 6).astype(np.uint8)).save(root / f'masks/{group}_{index}.png')
    return root


def geotiff(path: Path, values: np.ndarray, left: float, top: float, pixel: float = 1.0, crs='EPSG:2154') -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.atleast_3d(values)
    with rasterio.open(
        path, 'w', driver='GTiff', width=values.shape[1], height=values.shape[0], count=values.shape[2],
        dtype=values.dtype, crs=crs, transform=from_origin(left, top, pixel, pixel),
    ) as file:
        file.write(np.moveaxis(values, -1, 0))


def georeferenced(root: Path, columns: int = 8, rows: int = 4, step: float = SIZE) -> Path:
    for index in range(columns * rows):
        left, top = 700000 + step * (index % columns), 6600000 + step * (index // columns)
        image = np.concatenate([picture(index), picture(index)[..., :1]], axis=2)
        geotiff(root / f'images/t{index}.tif', image, left, top)
        geotiff(root / f'masks/t{index}.tif', (image[..., 0] % 6).astype(np.uint8), left, top)
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob('*')) if p.is_file()}


def splits_of(root: Path) -> dict[str, str]:
    return {item['id']: item['split'] for item in json.loads((root / 'manifest.json').read_text())['items']}


def test_prepared_folder(tmp_path):
    source = folder(tmp_path / 'source')
    report = prepare(source, tmp_path / 'out', FOLDER)
    assert report.rule == 'groups' and len(report.patches) == 12 and not report.problems
    manifest = json.loads((tmp_path / 'out/manifest.json').read_text())
    assert manifest['taxonomy']['taxonomy'] == 'landcover6'
    assert {split: manifest['split']['counts'][split] for split in ('train', 'val', 'test')} == {
        'train': 8, 'val': 2, 'test': 2,
    }
    item = manifest['items'][0]
    assert (item['id'], item['group'], item['width'], item['height']) == ('a_0', 'a', SIZE, SIZE)
    mask = np.asarray(Image.open(source / 'masks/a_0.png'))
    assert item['pixels'] == np.bincount(mask.ravel(), minlength=6).tolist()
    assert (tmp_path / 'out' / item['image']).read_bytes() == (source / 'images/a_0.png').read_bytes()
    assert (read_mask(tmp_path / 'out' / item['mask']) == mask).all()
    colours = np.asarray(Image.open(tmp_path / 'out' / item['mask']).convert('RGB'))
    assert tuple(colours[mask == 1][0]) == (250, 62, 119)  # Forest Land
    clean = check_prepared(tmp_path / 'out')
    assert not clean.problems and not clean.leaks and len(clean.patches) == 12
    dataset = LandCoverDataset(
        tmp_path / 'out', 'train', [dict(type='LoadRasterImage'), dict(type='LoadIndexMask')]
    )
    assert len(dataset) == 8 and {dataset.get_data_info(i)['group'] for i in range(8)} < set('abcdef')
    assert dataset[0]['gt_seg_map'].shape == (SIZE, SIZE)
    with pytest.raises(UserError, match='there is none'):
        LandCoverDataset(tmp_path / 'out', 'train', taxonomy='loveda')


def test_preparing_again_gives_the_same_bytes(tmp_path):
    source = folder(tmp_path / 'source')
    prepare(source, tmp_path / 'out', FOLDER)
    first = contents(tmp_path / 'out')
    with pytest.raises(UserError, match='--overwrite replaces it'):
        prepare(source, tmp_path / 'out', FOLDER)
    prepare(source, tmp_path / 'out', Options('folder', group_regex='^([a-z]+)_', overwrite=True))
    assert contents(tmp_path / 'out') == first
    assert sorted(p.name for p in tmp_path.iterdir()) == ['out', 'source']


def test_dry_run_writes_nothing(tmp_path):
    source = folder(tmp_path / 'source')
    before = contents(tmp_path)
    report = prepare(source, tmp_path / 'out', FOLDER, dry_run=True)
    assert len(report.patches) == 12 and contents(tmp_path) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ['source']


def test_every_bad_file_is_named(tmp_path):
    source = folder(tmp_path / 'source')
    data = (source / 'images/a_0.png').read_bytes()
    (source / 'images/a_0.png').write_bytes(data[: len(data) // 2])
    data = (source / 'masks/a_1.png').read_bytes()
    (source / 'masks/a_1.png').write_bytes(data[: len(data) // 2])
    Image.fromarray(np.zeros((10, 20), np.uint8)).save(source / 'masks/b_2.png')
    Image.fromarray(np.full((SIZE, SIZE), 77, np.uint8)).save(source / 'masks/b_3.png')
    (source / 'masks/c_4.png').unlink()
    (source / 'images/c_5.png').unlink()
    Image.fromarray(picture(0)).save(source / 'masks/d_6.png')
    (source / 'images/d_7.png').write_text('no image')
    with pytest.raises(BadFiles, match='8 of 12 pairs are bad; nothing was written') as error:
        prepare(source, tmp_path / 'out', FOLDER)
    problems = '\n'.join(sorted(error.value.problems))
    for expected in (
        'images/a_0.png: damaged, truncated',
        'masks/a_1.png: damaged, truncated',
        'masks/b_2.png: mask of 20x10 px for an image of 48x48 px',
        "masks/b_3.png: labels outside taxonomy 'landcover6': found 77 (2304 px), expected 0..5, 255",
        'images/c_4.png: image without a mask',
        'masks/c_5.png: mask without an image',
        'masks/d_6.png: expected class indices in one channel',
        'images/d_7.png: not a readable raster',
    ):
        assert expected in problems
    assert len(error.value.problems) == 8 and not (tmp_path / 'out').exists()
    assert len(check_source(source, FOLDER).problems) == 8

    report = prepare(source, tmp_path / 'out', Options('folder', skip_bad=True))
    manifest = json.loads((tmp_path / 'out/manifest.json').read_text())
    assert len(report.patches) == len(manifest['items']) == 4 and len(manifest['skipped']) == 8


def test_what_stands_in_the_way(tmp_path):
    source = folder(tmp_path / 'source')
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine/thesis.txt').write_text('years')
    for out, message in (
        (tmp_path / 'mine', 'neither empty nor a prepared data set'),
        (source, 'holds the source'),
        (tmp_path, 'holds the source'),
    ):
        with pytest.raises(UserError, match=message):
            prepare(source, out, Options('folder', overwrite=True))
    assert (tmp_path / 'mine/thesis.txt').read_text() == 'years'


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(split_by='block'), "did you mean 'blocks'"),
        (dict(tile=0), '--tile'),
        (dict(align='maybe'), '--align'),
        (dict(tile=8, link=True), '--link'),
        (dict(split_by='blocks', assign={'train': ['a']}), '--assign'),
    ],
)
def test_options_that_contradict(options, message):
    with pytest.raises(UserError, match=message):
        Options('folder', **options)


def test_links_instead_of_copies(tmp_path):
    source = folder(tmp_path / 'source')
    prepare(source, tmp_path / 'out', Options('folder', group_regex='^([a-z]+)_', link=True))
    assert (tmp_path / 'out/images/a_0.png').is_symlink()
    assert not check_prepared(tmp_path / 'out').problems


def test_blocks_of_georeferenced_images(tmp_path):
    source = georeferenced(tmp_path / 'source')
    report = prepare(source, tmp_path / 'out', Options('folder', block_size=2 * SIZE))
    assert report.rule == 'blocks' and not report.left_out
    splits = splits_of(tmp_path / 'out')
    for column in range(0, 8, 2):
        for row in range(0, 4, 2):
            block = {splits[f't{(row + r) * 8 + column + c}'] for r in (0, 1) for c in (0, 1)}
            assert len(block) == 1
    item = json.loads((tmp_path / 'out/manifest.json').read_text())['items'][0]
    assert item['crs'] == 'EPSG:2154' and item['bounds'] == [700000, 6600000 - SIZE, 700000 + SIZE, 6600000]
    assert not check_prepared(tmp_path / 'out').leaks


def test_overlapping_tiles_in_two_splits_are_found(tmp_path):
    source = georeferenced(tmp_path / 'source', step=SIZE / 2)
    names = [f't{i}' for i in range(32)]
    assignment = {'train': names[:31], 'test': names[31:]}
    with pytest.raises(BadFiles, match='share ground, nothing was written') as error:
        prepare(source, tmp_path / 'out', Options('folder', assign=assignment))
    # t31 is the corner tile: three neighbours overlap it.
    assert sorted(line.split(' ')[1] for line in error.value.problems) == ['t22', 't23', 't30']
    prepare(source, tmp_path / 'out', Options('folder', assign=assignment, allow_leaks=True))
    assert len(check_prepared(tmp_path / 'out').leaks) == 3


def with_world_files(root: Path, suffix: str, world: str, step: int = SIZE // 2) -> Path:
    """Four pictures in a row, overlapping by half, whose place stands in world files only."""
    folder(root, 'abcd', 1)
    for index, path in enumerate(sorted((root / 'images').iterdir())):
        if suffix != '.png':
            Image.open(path).save(path.with_suffix(suffix))
            path.unlink()
        path.with_suffix(world).write_text(f'1\n0\n0\n-1\n{700000 + step * index + 0.5}\n6599999.5\n')
    return root


@pytest.mark.parametrize('suffix, world', [('.tif', '.tfw'), ('.png', '.pgw')])
@pytest.mark.parametrize('link', [False, True])
def test_world_files_go_with_their_images(tmp_path, suffix, world, link):
    source = with_world_files(tmp_path / 'source', suffix, world)
    assign = {'train': ['a_0', 'b_1'], 'test': ['c_2', 'd_3']}
    out = tmp_path / 'out'
    prepare(source, out, Options('folder', assign=assign, allow_leaks=True, link=link))
    assert (out / f'images/a_0{world}').is_symlink() == link
    report = check_prepared(out)
    assert not report.problems and [(leak.a.id, leak.b.id) for leak in report.leaks] == [('b_1', 'c_2')]
    (out / f'images/b_1{world}').unlink()
    assert check_prepared(out).problems == [f'{out}/images/b_1{world}: listed in manifest.json but missing']


def test_check_misses_a_place_that_the_manifest_knows(tmp_path):
    out = tmp_path / 'out'
    prepare(with_world_files(tmp_path / 'source', '.tif', '.tfw', SIZE), out, Options('folder'))
    manifest = json.loads((out / 'manifest.json').read_text())
    for item in manifest['items']:
        for name in item.pop('sidecars'):
            (out / name).unlink()
    (out / 'manifest.json').write_text(json.dumps(manifest))
    problems = check_prepared(out).problems
    assert len(problems) == 4 and 'a_0.tif: bounds: manifest.json says [700000.0, ' in problems[0]
    assert problems[0].endswith('the file has none: its place is not known')


def test_tiles_of_a_picture_know_their_place(tmp_path):
    source = with_world_files(tmp_path / 'source', '.png', '.pgw', SIZE)
    wkt = rasterio.crs.CRS.from_epsg(2154).to_wkt().replace('"', '&quot;')
    for path in (source / 'images').glob('*.png'):
        path.with_name(path.name + '.aux.xml').write_text(f'<PAMDataset><SRS>{wkt}</SRS></PAMDataset>')
    prepare(source, tmp_path / 'out', Options('folder', tile=24))
    with rasterio.open(tmp_path / 'out/images/b_1_y24_x0.png') as file:
        assert file.bounds == (700048, 6599952, 700072, 6599976) and file.crs.to_epsg() == 2154
    assert not check_prepared(tmp_path / 'out').problems


def test_cut_geotiffs_keep_names_and_meaning_of_bands(tmp_path):
    source = tmp_path / 'source'
    geotiff(source / 'images/a.tif', np.dstack([picture(1), picture(2)[..., :1]]), 0, 0)
    geotiff(source / 'masks/a.tif', np.zeros((SIZE, SIZE), np.uint8), 0, 0)
    meaning = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.undefined)
    with rasterio.open(source / 'images/a.tif', 'r+') as file:
        file.descriptions, file.colorinterp = ('r', 'g', 'b', 'nir'), meaning
    prepare(source, tmp_path / 'out', Options('folder', tile=24))
    with rasterio.open(tmp_path / 'out/images/a_y0_x24.tif') as file:
        assert file.descriptions == ('r', 'g', 'b', 'nir') and file.colorinterp == meaning
    assert not check_prepared(tmp_path / 'out').problems


def test_a_tile_that_cannot_be_written_is_an_error(tmp_path, monkeypatch):
    source = folder(tmp_path / 'source')
    monkeypatch.setattr('projects.landcover.data.prepare.cv2.imwrite', lambda *_: False)
    with pytest.raises(UserError, match='could not be written'):
        prepare(source, tmp_path / 'out', Options('folder', tile=24, group_regex='^([a-z]+)_', allow_leaks=True))
    assert not (tmp_path / 'out').exists()


def test_pixels_without_data_are_ignored(tmp_path):
    source = tmp_path / 'source'
    image = np.maximum(picture(1), 1)
    image[:8] = 0
    mask = np.ones((SIZE, SIZE), np.int16)
    mask[:, :4] = -9999
    geotiff(source / 'images/a.tif', image, 700000, 6600000)
    geotiff(source / 'masks/a.tif', mask, 700000, 6600000)
    for path, nodata in (('images', 0), ('masks', -9999)):
        with rasterio.open(source / path / 'a.tif', 'r+') as file:
            file.nodata = nodata
    expected = np.where(mask == 1, 1, 255)
    expected[:8] = 255
    report = prepare(source, tmp_path / 'out', Options('folder', tile=24))
    items = {item['id']: item for item in json.loads((tmp_path / 'out/manifest.json').read_text())['items']}
    assert (read_mask(tmp_path / 'out/masks/a_y0_x0.png') == expected[:24, :24]).all()
    assert [items[f'a_y{y}_x{x}']['nodata_pixels'] for y, x in ((0, 0), (0, 24), (24, 0), (24, 24))] == [
        8 * 24 + 16 * 4, 8 * 24, 24 * 4, 0,
    ]
    assert items['a_y0_x0']['pixels'] == [0, 20 * 16, 0, 0, 0, 0]
    assert any(f'3 images hold no data in {256 + 192 + 96} pixels' in warning for warning in report.warnings)
    assert not check_prepared(tmp_path / 'out').problems


def test_blocks_as_small_as_a_tile_are_a_warning(tmp_path):
    source = georeferenced(tmp_path / 'source')
    for size, gap, warned in ((SIZE, 0, True), (2 * SIZE, 0, False)):
        report = prepare(source, tmp_path / 'out', Options('folder', block_size=size, gap=gap), dry_run=True)
        assert any('neighbouring tiles end up in different splits' in text for text in report.warnings) == warned


def test_check_finds_a_split_that_was_edited(tmp_path):
    prepare(folder(tmp_path / 'source'), tmp_path / 'out', FOLDER)
    path = tmp_path / 'out/manifest.json'
    manifest = json.loads(path.read_text())
    victim = next(item for item in manifest['items'] if item['split'] == 'train')
    victim['split'] = 'test'
    path.write_text(json.dumps(manifest))
    report = check_prepared(tmp_path / 'out')
    assert any(f"group '{victim['group']}' is in several splits" in problem for problem in report.problems)


def test_check_names_tampered_files(tmp_path):
    prepare(folder(tmp_path / 'source'), tmp_path / 'out', FOLDER)
    out = tmp_path / 'out'
    Image.fromarray(picture(99)).save(out / 'images/a_0.png')
    Image.fromarray(np.zeros((SIZE, SIZE), np.uint8)).save(out / 'masks/b_2.png')
    (out / 'images/c_4.png').unlink()
    Image.fromarray(picture(98)).save(out / 'images/new.png')
    problems = check_prepared(out).problems
    assert len(problems) == 4
    assert problems[0].startswith(f'{out}/images/a_0.png: changed since it was prepared: SHA-256')
    assert problems[1].startswith(f'{out}/masks/b_2.png: changed since it was prepared: SHA-256')
    assert problems[2] == f'{out}/images/c_4.png: listed in manifest.json but missing'
    assert problems[3] == f'{out}/images/new.png: not in manifest.json'


def test_check_of_a_published_split_finds_duplicates(tmp_path):
    for split in ('train', 'val'):
        folder(tmp_path / split, 'ab', 1)
    report = check_source(tmp_path, Options('folder'))
    assert [leak.reason for leak in report.leaks] == ['identical files', 'identical files']


def test_tiles_of_a_large_geotiff(tmp_path):
    image = np.concatenate([picture(1, 96), picture(2, 96)], axis=2)  # 6 bands
    mask = (image[..., 0] % 6).astype(np.uint8)
    geotiff(tmp_path / 'source/images/scene.tif', image.astype(np.uint16) * 100, 700000, 6600000, 2.0)
    geotiff(tmp_path / 'source/masks/scene.tif', mask, 700000, 6600000, 2.0)
    report = prepare(tmp_path / 'source', tmp_path / 'out', Options('folder', tile=32, bands=(1, 6)))
    assert report.rule == 'blocks' and len(report.patches) == 9
    assert set(splits_of(tmp_path / 'out').values()) == {'train', 'val', 'test'}
    with rasterio.open(tmp_path / 'out/images/scene_y32_x64.tif') as file:
        assert file.bounds == (700128, 6599872, 700192, 6599936) and file.count == 6 and file.crs.to_epsg() == 2154
        assert (np.moveaxis(file.read(), 0, -1) == image[32:64, 64:].astype(np.uint16) * 100).all()
    assert (read_mask(tmp_path / 'out/masks/scene_y32_x64.png') == mask[32:64, 64:]).all()
    assert not check_prepared(tmp_path / 'out').leaks
    with pytest.raises(UserError, match='expected bands'):
        prepare(tmp_path / 'source', tmp_path / 'out2', Options('folder', bands=(7,)))


def test_tiles_of_pictures_stay_with_their_group(tmp_path):
    source = folder(tmp_path / 'source', 'abc', 1)
    report = prepare(source, tmp_path / 'out', Options('folder', tile=24, group_regex='^([a-z]+)_'))
    assert len(report.patches) == 12
    assert all(len({p.split for p in report.patches if p.sample.group == group}) == 1 for group in 'abc')
    whole = np.asarray(Image.open(source / 'images/b_1.png'))
    assert (np.asarray(Image.open(tmp_path / 'out/images/b_1_y24_x0.png')) == whole[24:, :24]).all()
    assert not check_prepared(tmp_path / 'out').problems


def test_village(tmp_path):
    source = tmp_path / 'source'
    for index in range(9):
        east, north = 700000 + SIZE * (index % 3), 6600000 + SIZE * (index // 3)
        name = f'tile_{east}_{north}.tif'
        bands = np.concatenate([picture(index), picture(index)[..., :1]], axis=2)
        geotiff(source / 'images' / name, bands, east, north + SIZE)
        geotiff(source / 'masks' / name, np.full((SIZE, SIZE), index + 6, np.uint8), east, north + SIZE)
    (source / 'scene.json').write_text('{}')
    report = prepare(source, tmp_path / 'out', Options('village', block_size=SIZE))
    assert report.rule == 'blocks' and len(report.patches) == 9
    # tree, water, road, path, courtyard, building, garden, hedge, car
    wanted = [1, 0, 4, 4, 4, 4, 2, 1, 4]
    found = {item['id']: int(np.argmax(item['pixels']))
             for item in json.loads((tmp_path / 'out/manifest.json').read_text())['items']}
    assert [found[f'tile_{700000 + SIZE * (i % 3)}_{6600000 + SIZE * (i // 3)}'] for i in range(9)] == wanted


def test_geotiff_without_crs_is_a_warning(tmp_path):
    for index in range(3):
        geotiff(tmp_path / f'source/images/t{index}.tif', picture(index), 100 * index, 0, crs=None)
        geotiff(tmp_path / f'source/masks/t{index}.tif', picture(index)[..., 0] % 6, 100 * index, 0, crs=None)
    report = prepare(tmp_path / 'source', tmp_path / 'out', Options('folder'))
    assert '3 GeoTIFFs have no CRS' in report.warnings[0] and len(report.patches) == 3


def test_real_landsat_pair_is_refused_or_resampled(shared_data, tmp_path):
    for kind, name in (('images', 'merged-landsat.tif'), ('masks', 'landcover-30m.tif')):
        (tmp_path / 'source' / kind).mkdir(parents=True)
        (tmp_path / 'source' / kind / 'scene.tif').symlink_to(
            shared_data / 'landcover/geotiff/landsat_philippines' / name
        )
    codes = (1, 2, 5, 7, 8, 10, 11)
    taxonomy = dict(
        name='esri', classes=[f'code {c}' for c in codes], palette=[(c, c, c) for c in codes], file_values=codes,
        no_data=(0,),
    )
    options = dict(taxonomy=taxonomy, tile=100, ratios=(0.5, 0.25, 0.25))
    with pytest.raises(BadFiles, match=r'does not lie on .*off by x -15, y \+5 metre'):
        prepare(tmp_path / 'source', tmp_path / 'out', Options('folder', **options))
    report = prepare(tmp_path / 'source', tmp_path / 'out', Options('folder', align='resample', **options))
    assert len(report.patches) == 12 and '1 masks resampled' in report.warnings[0]
    assert not check_prepared(tmp_path / 'out').problems
    assert sum(p.width * p.height for p in report.patches) == 325 * 277


def test_real_dronedeploy_by_site(shared_data, tmp_path):
    options = Options(
        'folder', taxonomy='dronedeploy', group_regex='^([0-9a-f]+)_',
        assign={'train': ['ec09336a6f'], 'test': ['1d4fbe33f3']},
    )
    prepare(shared_data / 'landcover/dronedeploy', tmp_path / 'out', options)
    assert json.loads((tmp_path / 'out/manifest.json').read_text())['split']['counts'] == {
        'train': 84, 'val': 0, 'test': 36,
    }
    report = check_prepared(tmp_path / 'out')
    assert not report.problems and not report.leaks


TOOL = Path(__file__).resolve().parents[2] / 'tools/landcover/prepare.py'


def tool(*arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(TOOL), *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=60
    )


def test_tool(tmp_path):
    folder(tmp_path / 'source')
    made = tool('source', '--layout', 'folder', '--group-regex', '^([a-z]+)_', '--out', 'out', cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert 'wrote 12 images, split by groups, to out' in made.stdout and made.stderr == ''
    checked = tool('out', '--check', cwd=tmp_path)
    assert checked.returncode == 0 and 'no two splits share ground' in checked.stdout
    unsplit = tool('source', '--layout', 'folder', '--check', cwd=tmp_path)
    assert unsplit.returncode == 0 and unsplit.stdout.endswith('12 images in order, no splits to compare\n')
    (tmp_path / 'out/masks/a_0.png').write_bytes(b'')
    failed = tool('out', '--check', cwd=tmp_path)
    assert failed.returncode != 0 and 'out/masks/a_0.png: changed' in failed.stdout
    (tmp_path / 'empty/images').mkdir(parents=True)
    (tmp_path / 'empty/masks').mkdir()
    empty = tool('empty', '--layout', 'folder', '--out', 'out2', cwd=tmp_path)
    assert empty.returncode != 0
    assert empty.stderr.startswith('error: empty: no images found') and empty.stderr.count('\n') == 1


def test_failure_in_the_middle_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), building(tmp_path / 'out', False) as partial:
        (partial / 'images').mkdir()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_failure_in_the_middle_keeps_the_old_data(tmp_path):
    prepare(folder(tmp_path / 'source'), tmp_path / 'out', FOLDER)
    before = contents(tmp_path)
    with pytest.raises(RuntimeError), building(tmp_path / 'out', True) as partial:
        (partial / 'images').mkdir()
        raise RuntimeError
    assert contents(tmp_path) == before


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM])
def test_kill_in_the_middle(tmp_path, number):
    source = folder(tmp_path / 'source', 'abcdef', 40)
    options = ['--layout', 'folder', '--group-regex', '^([a-z]+)_', '--out', 'out']
    process = subprocess.Popen([sys.executable, str(TOOL), str(source), *options], cwd=tmp_path,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not any(tmp_path.glob('.out.partial-*/masks/*.png')):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(process.pid, number)
    assert process.wait(30) != 0
    assert not (tmp_path / 'out').exists()
    if number == signal.SIGTERM:
        assert [p.name for p in tmp_path.iterdir()] == ['source']
    prepare(source, tmp_path / 'out', FOLDER)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['out', 'source']  # the next run has cleaned up
    assert len(splits_of(tmp_path / 'out')) == 240
