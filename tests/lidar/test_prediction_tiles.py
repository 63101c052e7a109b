"""Classifying tile files: copies are whole, faults cost one line and one tile, reruns do what is missing."""

from dataclasses import replace
from pathlib import Path

import laspy
import numpy as np
import pytest

from projects.engine.errors import UserError
from projects.geo.point_clouds import read_header, read_points, write_points
from projects.lidar.prediction.classified_tile import DIMENSIONS
from projects.lidar.prediction.classify import (
    Classified,
    classify_files,
    find_tiles,
    plan_targets,
    prediction_settings,
)
from projects.lidar.prediction.gate import Gate

SCALES = {'50': dict(size=50.0, overlap=0.15, points=400, neighbours=20, buffer=8.0, sor=dict(k=8, std=1.5),
                     ror=dict(radius=5.0, neighbours=3)),
          '100': dict(size=100.0, overlap=0.12, points=400, neighbours=25, buffer=12.0)}
ALL = {'50': 10**6, '100': 10**6}


class Heights:
    """A network that says ground below a height, roof above; it counts what it was asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, patches):
        self.calls += len(patches)
        answers = []
        for patch in patches:
            answer = np.zeros((len(patch.xyz), 30), np.float32)
            answer[np.arange(len(patch.xyz)), np.where(patch.xyz[:, 2] + patch.centre[2] < 203, 23, 3)] = 1
            answers.append(answer)
        return answers


def write_tile_file(path: Path, points: int = 3000, side: float = 90.0, point_format: int = 8, seed: int = 0,
                    x: float = 770_000.0, colour: bool = True) -> None:
    """Write ground at 200 m with a flat roof at 206 m, in no order, with an extra dimension."""
    rng = np.random.default_rng(seed)
    xyz = np.concatenate([rng.uniform(0, side, (points, 2)), rng.normal(0, 0.02, (points, 1))], axis=1)
    house = (np.abs(xyz[:, :2] - side / 2) < 15).all(axis=1)
    xyz[house, 2] += 6
    fields = dict(intensity=rng.integers(0, 5000, points).astype(np.uint16),
                  classification=np.where(house, 6, 2).astype(np.uint8),
                  amplitude=rng.normal(size=points).astype(np.float32))
    if point_format != 0:
        fields['gps_time'] = np.sort(rng.uniform(0, 1e6, points))
    if colour and point_format in (3, 7, 8):
        fields |= {name: rng.integers(256, 65535, points).astype(np.uint16) for name in ('red', 'green', 'blue')}
    if colour and point_format == 8:
        fields['nir'] = rng.integers(256, 65535, points).astype(np.uint16)
    write_points(path, xyz + (x, 6_277_000.0, 200.0), fields, point_format=point_format)


def run(targets: dict[Path, Path], network=None, scales=('50',), **options) -> list[Classified]:
    settings = prediction_settings({key: SCALES[key] for key in scales}, 'test')
    return list(classify_files(network or Heights(), targets, settings, ALL, **options))


@pytest.mark.parametrize('point_format', [3, 6, 7, 8])
def test_every_point_comes_back_once_in_order_with_all_dimensions(tmp_path: Path, point_format: int) -> None:
    source, target = tmp_path / 'tile.laz', tmp_path / 'out/tile.laz'
    write_tile_file(source, point_format=point_format)
    result, = run({source: target}, scales=('50', '100'))
    assert result.error is None
    before, after = laspy.read(source), laspy.read(target)
    assert after.header.point_format.id == point_format
    for name in before.point_format.dimension_names:
        np.testing.assert_array_equal(before[name], after[name], err_msg=name)
    assert set(after.point_format.extra_dimension_names) == {'amplitude', *DIMENSIONS}
    np.testing.assert_array_equal(after['terrace_class'], np.where(before.z < 203, 23, 3))
    assert (after['terrace_confidence'] == 1).all() and (after['terrace_disagreement'] == 0).all()
    assert result.report.points == len(before) == 3000
    assert result.report.classes == {'ground': int((before.z < 203).sum()), 'roof_flat': int((before.z >= 203).sum())}
    missing = {3: 'no infrared', 6: 'no colour and no infrared', 7: 'no infrared', 8: None}[point_format]
    assert [text.partition(': ')[2] for text in result.warnings] == (
        [f'{missing}: predicted without'] if missing else [])


def test_outliers_take_the_nearest_answer(tmp_path: Path) -> None:
    source, target = tmp_path / 'tile.laz', tmp_path / 'out/tile.laz'
    write_tile_file(source, points=2000)
    xyz = read_points(source).xyz.copy()
    birds = np.array([5, 900])
    xyz[birds, 2] += 60
    write_points(source, xyz, {}, point_format=6)
    heights = []

    def watched(patches):
        heights.extend((patch.xyz[:, 2] + patch.centre[2]).max() for patch in patches)
        return Heights()(patches)

    result, = run({source: target}, watched)
    found = laspy.read(target)['terrace_class']
    assert result.report.unreached >= 2 and max(heights) < 210
    others = np.setdiff1d(np.arange(2000), birds)
    nearest = others[np.linalg.norm(xyz[birds][:, None] - xyz[others], axis=2).argmin(axis=1)]
    np.testing.assert_array_equal(found[birds], found[nearest])
    np.testing.assert_array_equal(found[xyz[:, 2] < 203], 23)


def test_faults_cost_a_line_each_and_a_rerun_does_the_missing(tmp_path: Path) -> None:
    good, other, cut, empty, gone = (tmp_path / f'{name}.laz' for name in ('good', 'other', 'cut', 'empty', 'gone'))
    write_tile_file(good)
    write_tile_file(other, x=775_000.0, seed=1)
    write_tile_file(cut, x=780_000.0, seed=2)
    whole = cut.read_bytes()
    cut.write_bytes(whole[:len(whole) // 2])
    laspy.LasData(laspy.LasHeader(point_format=6, version='1.4')).write(empty)
    targets = plan_targets([good, cut, empty, gone, other], tmp_path / 'out')
    network = Heights()
    results = run(targets, network)
    assert [result.source.stem for result in results if result.error is None] == ['good', 'other']
    for result, name in zip(results[1:4], ('cut', 'empty', 'gone')):
        assert f'{name}.laz: ' in result.error and '\n' not in result.error
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['good.laz', 'other.laz', 'records']
    calls, times = network.calls, {path: path.stat().st_mtime_ns for path in (tmp_path / 'out').glob('*.laz')}
    again = run(targets, network)
    assert network.calls == calls and [result.already for result in again] == [True, False, False, False, True]
    cut.write_bytes(whole)
    mended = run(targets, network)
    assert network.calls == calls * 3 // 2
    assert [result.already for result in mended] == [True, False, False, False, True] and mended[1].error is None
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())


def test_a_folder_that_cannot_be_written_is_a_line_a_tile(tmp_path: Path) -> None:
    write_tile_file(tmp_path / 'tile.laz', points=500)
    (tmp_path / 'out').write_text('a file')
    result, = run({tmp_path / 'tile.laz': tmp_path / 'out/tile.laz'})
    assert str(tmp_path / 'out') in result.error and '\n' not in result.error


def test_a_file_in_the_way_is_replaced_only_when_asked(tmp_path: Path) -> None:
    source, target = tmp_path / 'tile.laz', tmp_path / 'out/tile.laz'
    write_tile_file(source)
    target.parent.mkdir()
    target.write_bytes(b'mine')
    result, = run({source: target})
    assert result.error == (f'{source}: {target}: exists already, and was not made from this tile as it is now with '
                            'this network and these settings: replace it with --overwrite')
    assert target.read_bytes() == b'mine'
    assert run({source: target}, overwrite=True)[0].error is None
    assert run({source: target})[0].already
    assert 'exists already' in run({source: target}, identity={'checkpoint': 'another'})[0].error
    assert 'exists already' in run({source: target}, scales=('100',))[0].error
    assert run({source: target})[0].already  # the refused calls forgot nothing


def test_a_rerun_replaces_what_a_killed_one_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / 'tile.laz', tmp_path / 'out/tile.laz'
    write_tile_file(source)
    from projects.geo.task_manifest import TaskManifest

    write = TaskManifest.write

    def killed(self, name, digest, *arguments, **options):
        if arguments:
            raise KeyboardInterrupt
        write(self, name, digest)

    monkeypatch.setattr(TaskManifest, 'write', killed)
    with pytest.raises(KeyboardInterrupt):
        run({source: target})
    assert target.is_file()
    monkeypatch.undo()
    (target.parent / '.tile.work-abc').mkdir()
    (target.parent / '.tile.work-abc/tile.safetensors').write_bytes(b'x')
    (target.parent / '.tile.tmp-abc.laz').write_bytes(b'x')
    result, = run({source: target})
    assert result.error is None and not result.already
    assert sorted(path.name for path in target.parent.iterdir()) == ['records', 'tile.laz']


def test_a_neighbour_that_appears_is_told(tmp_path: Path) -> None:
    """Its points lie in the buffer: features near the seam would be others. A rerun does the missing, not this."""
    source, beside, target = tmp_path / 'a.laz', tmp_path / 'b.laz', tmp_path / 'out/a.laz'
    write_tile_file(source)
    write_tile_file(beside, x=770_090.0, seed=1)
    run({source: target})
    both, network = {source: target, beside: tmp_path / 'out/b.laz'}, Heights()
    first, second = run(both, network)
    assert first.already and not second.already and 'with other tiles around it' in first.warnings[0]
    assert not run(both)[1].warnings
    calls = network.calls
    first, second = run(both, network, overwrite=True)
    assert not first.already and second.already and network.calls == 2 * calls
    assert [result.already for result in run(both, overwrite=True)] == [True, True]


def test_a_disk_that_is_full_costs_the_tile_not_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    from projects.lidar.prediction import classified_tile

    write_tile_file(tmp_path / 'a.laz')
    write_tile_file(tmp_path / 'b.laz', x=775_000.0)
    copy = classified_tile.copy_with

    def full(path_in, *arguments, **options):
        if path_in.stem == 'a':
            raise OSError(errno.ENOSPC, 'No space left on device')
        copy(path_in, *arguments, **options)

    monkeypatch.setattr(classified_tile, 'copy_with', full)
    first, second = run(plan_targets([tmp_path / 'a.laz', tmp_path / 'b.laz'], tmp_path / 'out'))
    assert 'a.laz' in first.error and 'No space left' in first.error and second.error is None
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['b.laz', 'records']


@pytest.mark.parametrize('failure, told', [
    (RuntimeError('CUDA out of memory.\nTried to allocate 2.00 GiB.'),
     'RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB.'),
    (MemoryError(), 'MemoryError')])
def test_whatever_a_tile_fails_of_the_others_are_classified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                            failure: Exception, told: str) -> None:
    write_tile_file(tmp_path / 'a.laz')
    write_tile_file(tmp_path / 'b.laz', x=775_000.0)
    targets = plan_targets([tmp_path / 'a.laz', tmp_path / 'b.laz'], tmp_path / 'out')

    def fails_at_a(patches):
        if patches[0].tile == 'a':
            raise failure
        return Heights()(patches)

    first, second = run(targets, fails_at_a)
    assert first.error == f'{tmp_path / "a.laz"}: {told}' and second.error is None
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['b.laz', 'records']
    monkeypatch.setenv('TERRACE_DEBUG', '1')
    with pytest.raises(type(failure)):
        run(targets, fails_at_a)
    monkeypatch.delenv('TERRACE_DEBUG')
    first, second = run(targets)
    assert first.error is None and not first.already and second.already


def test_a_classified_tile_is_no_input(tmp_path: Path) -> None:
    source, target = tmp_path / 'tile.laz', tmp_path / 'out/tile.laz'
    write_tile_file(source)
    run({source: target})
    network = Heights()
    result, = run({target: tmp_path / 'again/tile.laz'}, network)
    assert 'expected a tile without predictions, found the dimension terrace_class' in result.error
    assert network.calls == 0


def test_a_tile_of_few_points_is_classified(tmp_path: Path) -> None:
    source, target = tmp_path / 'tile.laz', tmp_path / 'out/tile.laz'
    write_points(source, np.array([[0, 0, 200], [1, 0, 200], [0, 1, 200.1], [3, 3, 206]]) + (770_000, 6_277_000, 0), {},
                 point_format=6)
    settings = prediction_settings({'50': {**SCALES['50'], 'ror': None, 'sor': None}}, 'test')
    result, = classify_files(Heights(), {source: target}, settings, ALL)
    assert result.error is None
    assert laspy.read(target)['terrace_class'].tolist() == [23, 23, 23, 3]


def test_a_name_that_disagrees_with_the_header_is_a_warning(tmp_path: Path) -> None:
    source, target = tmp_path / 'LHD_FXX_0770_6300_PTS.laz', tmp_path / 'out/LHD_FXX_0770_6300_PTS.laz'
    write_tile_file(source)
    result, = run({source: target})
    assert result.error is None and 'its name says' in result.warnings[0]


def test_a_gate_weighs_the_scales_of_a_file(tmp_path: Path) -> None:
    source, target = tmp_path / 'tile.laz', tmp_path / 'out/tile.laz'
    write_tile_file(source)

    def by_scale(patches):
        answers = [np.zeros((len(patch.xyz), 30), np.float32) for patch in patches]
        for answer, patch in zip(answers, patches):
            high = patch.xyz[:, 2] + patch.centre[2] > 203
            answer[:, 23] = 0.9 - 0.8 * high  # both scales call the house building: one of 30 x 30 m
            answer[:, 3 if patch.scale == '50' else 4] = 0.1 + 0.8 * high
        return answers

    # log(1 + area): the 100 m scale from about 150 m² on
    gate = Gate(('50', '100'), (5.0, 0.0, 0.0), (1.0, 1.0, 1.0), ((-9.0, 0, 0), (9.0, 0, 0)), (0.0, 0.0))
    result, = run({source: target}, by_scale, scales=('50', '100'), gate=gate)
    assert result.error is None
    z, found = laspy.read(target).z, laspy.read(target)['terrace_class']
    assert set(found[z > 203]) == {4} and set(found[z < 203]) == {23}
    assert sorted(path.name for path in target.parent.iterdir()) == ['records', 'tile.laz']


def test_inputs_are_files_and_folders_of_tiles(tmp_path: Path) -> None:
    for name in ('b.laz', 'a.copc.laz', 'c.LAS', '.hidden.laz', 'notes.txt'):
        (tmp_path / name).write_bytes(b'')
    found = find_tiles([tmp_path, tmp_path / 'b.laz'])
    assert [path.name for path in found] == ['a.copc.laz', 'b.laz', 'c.LAS']
    assert [path.name for path in plan_targets(found, tmp_path / 'out').values()] == ['a.laz', 'b.laz', 'c.laz']
    with pytest.raises(UserError, match='notes.txt: expected a tile'):
        find_tiles([tmp_path / 'notes.txt'])
    (tmp_path / 'none').mkdir()
    with pytest.raises(UserError, match='found none in this folder'):
        find_tiles([tmp_path / 'none'])
    with pytest.raises(UserError, match='is an input and would be replaced'):
        plan_targets([tmp_path / 'b.laz'], tmp_path)
    with pytest.raises(UserError, match='would be written for both'):
        plan_targets([tmp_path / 'b.laz', tmp_path / 'none/b.las'], tmp_path / 'out')


def test_a_tile_that_changed_while_it_was_read_is_an_error(tmp_path: Path) -> None:
    from projects.geo.point_tiles import TileIndex
    from projects.lidar.prediction.classified_tile import classify_tile

    source = tmp_path / 'tile.laz'
    write_tile_file(source)
    header = replace(read_header(source), count=2999)
    with pytest.raises(UserError, match='expected 2,999 points, found 3,000 prepared'):
        classify_tile(Heights(), header, TileIndex([header]), prediction_settings({'50': SCALES['50']}, 'test'),
                      tmp_path / 'out/tile.laz', points=ALL)
    assert not (tmp_path / 'out/tile.laz').exists()
