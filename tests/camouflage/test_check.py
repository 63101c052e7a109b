"""tools/camouflage/check.py names every file that a training would stumble over, and images that are in two splits."""

import io
import runpy
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from projects.camouflage.datasets.check import check_data
from projects.camouflage.datasets.duplicates import COD10K_DUPLICATES


def noise(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 30, 3)).astype(np.uint8))


def square(size: tuple[int, int] = (20, 30), value: int = 255) -> Image.Image:
    array = np.zeros(size, np.uint8)
    array[5:10, 5:10] = value
    return Image.fromarray(array)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / 'cod'
    for part, seeds in (('Train', range(10)), ('Test', range(10, 14))):
        for folder in ('Image', 'GT_Object'):
            (root / part / folder).mkdir(parents=True)
        for seed in seeds:
            noise(seed).save(root / f'{part}/Image/COD10K-CAM-{seed}.png')
            square().save(root / f'{part}/GT_Object/COD10K-CAM-{seed}.png')
    return root


def call(repository: Path, monkeypatch, *arguments: object) -> tuple[int, str, str]:
    path = str(repository / 'tools/camouflage/check.py')
    out, errors = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, 'argv', [path, *map(str, arguments)])
    with redirect_stdout(out), redirect_stderr(errors), pytest.raises(SystemExit) as end:
        runpy.run_path(path, run_name='__main__')
    return end.value.code or 0, out.getvalue(), errors.getvalue()


def test_good_data(data, repository, monkeypatch):
    status, out, _ = call(repository, monkeypatch, data, '--val-share', '0.2')
    lines = out.splitlines()
    assert status == 0 and lines[-1] == 'no problem found'
    assert lines[0] == f'{data}: layout cod10k' and 'test COD10K: 4 images' in lines
    counts = [int(line.split(': ')[1].split()[0]) for line in lines if line.startswith(('train ', 'val '))]
    assert len(counts) == 2 and sum(counts) == 10
    assert f'{data}/Train/GT_Object: masks of 0/255' in lines


def test_every_problem_is_a_line(data, repository, monkeypatch):
    train, truth = data / 'Train/Image', data / 'Train/GT_Object'
    content = (train / 'COD10K-CAM-0.png').read_bytes()
    (train / 'COD10K-CAM-0.png').write_bytes(content[:len(content) // 2])
    (truth / 'COD10K-CAM-1.png').write_bytes(b'nothing')
    square((21, 30)).save(truth / 'COD10K-CAM-2.png')
    square(value=1).save(truth / 'COD10K-CAM-3.png')
    square(value=0).save(truth / 'COD10K-CAM-4.png')
    (truth / 'COD10K-CAM-5.png').unlink()
    square().save(truth / 'COD10K-CAM-99.png')
    noise(11).save(train / 'COD10K-CAM-6.png')  # a test image, under another name
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    noise(7).save(train / 'COD10K-CAM-7.png', exif=exif)
    status, out, _ = call(repository, monkeypatch, data, '--val-share', '0')
    problems = [line for line in out.splitlines() if line.startswith('problem: ')]
    for expected in (
            'Image/COD10K-CAM-0.png: expected a whole image', 'GT_Object/COD10K-CAM-1.png: expected a whole image',
            'GT_Object/COD10K-CAM-2.png: expected a mask of 30x20 px, as its image, found 30x21 px',
            'GT_Object/COD10K-CAM-3.png: expected a mask of 0 and 255',
            'GT_Object/COD10K-CAM-4.png: expected an object, found a mask without foreground',
            'Image/COD10K-CAM-5.png: image without mask', 'GT_Object/COD10K-CAM-99.png: mask without image',
            'the same image in several splits: train COD10K/COD10K-CAM-6, test COD10K/COD10K-CAM-11',
            'Image/COD10K-CAM-7.png: EXIF says to turn it, and its mask fits both ways'):
        assert sum(expected in line for line in problems) == 1, expected
    assert len(problems) == 9 and status == 1 and out.splitlines()[-1] == '9 problems'


def test_known_duplicates_are_told_and_no_problem_unless_kept(data):
    for part in ('Train', 'Test'):
        noise(77).save(data / f'{part}/Image/{COD10K_DUPLICATES[1]}.png')
        square().save(data / f'{part}/GT_Object/{COD10K_DUPLICATES[1]}.png')
    report = check_data(data)
    assert not report.problems
    assert f'left out of the training, known to be test images too: COD10K/{COD10K_DUPLICATES[1]}' in report.facts
    kept = check_data(data, duplicates='keep', val_share=0)
    assert any(line.startswith('the same image in several splits: train') for line in kept.problems)


def test_bad_arguments_are_one_line(data, repository, monkeypatch):
    for arguments, message in (((data / 'away',), 'no such folder'), ((data, '--layout', 'x'), 'layout: expected'),
                               ((data, '--val-share', '2'), 'val_share: expected')):
        status, _, errors = call(repository, monkeypatch, *arguments)
        assert status == 2 and message in errors and errors.startswith('error: ') and errors.count('\n') == 1
