"""A data set of camouflage scenes on disk: `DIR/{train,val,test}/{images,masks}/NNNNN.png` and `DIR/scenes.json`.

The whole folder is built beside its place and renamed there: it is complete or not there at all.
"""

import json
import math
import multiprocessing
import os
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2

from projects.camouflage.scenes.background import KINDS
from projects.camouflage.scenes.scene import DEFAULTS, SceneOptions, make_scene
from projects.engine.errors import UserError
from projects.engine.files import atomic_folder, write_bytes, write_json
from projects.engine.progress import progress

VERSION = 1
SPLITS = ('train', 'val', 'test')
FORMATS = ('png', 'jpg')
MAX_NUMBER, MIN_SIDE, MAX_SIDE, MAX_OBJECTS, MAX_AREA = 1_000_000, 64, 4096, 16, 0.6
_MIN_PIXELS = 16  # an object of fewer cannot be drawn
_JPEG_QUALITY = 95


@dataclass(frozen=True)
class Written:
    """What :func:`write_scenes` made: images a split, mean share of an object, seconds."""

    folder: Path
    numbers: dict[str, int]
    area: float
    seconds: float


def check_options(options: SceneOptions) -> None:
    """Raise UserError, naming the tool's flag, when an option is out of range."""
    for side in options.size:
        if not MIN_SIDE <= side <= MAX_SIDE:
            raise UserError(f'--size: expected {MIN_SIDE} to {MAX_SIDE} pixels a side, found {side}')
    for name, pair, least, most in (('difficulty', options.difficulty, 0.0, 1.0), ('area', options.area, 0.0, MAX_AREA),
                                    ('objects', options.objects, 1, MAX_OBJECTS)):
        low, high = pair
        if not (math.isfinite(low) and math.isfinite(high) and least <= low <= high <= most):
            raise UserError(f'--{name}: expected {least:g} <= LOW <= HIGH <= {most:g}, found {low:g} {high:g}')
    pixels = options.size[0] * options.size[1]
    if options.area[0] * pixels < _MIN_PIXELS or (options.area[1] - options.area[0]) * pixels < 2:
        raise UserError(f'--area: expected objects of at least {_MIN_PIXELS} pixels and a range of at least 2, found '
                        f'{options.area[0] * pixels:.1f} to {options.area[1] * pixels:.1f} pixels at this --size')
    if options.objects[1] > 1 and options.objects[1] * options.area[0] > 0.4:
        raise UserError(f'--objects: expected at most {int(0.4 / options.area[0])} objects of at least '
                        f'{options.area[0]:g} of the picture each (0.4 in all), found {options.objects[1]}')
    unknown = [kind for kind in options.kinds if kind not in KINDS]
    if unknown or not options.kinds or len(set(options.kinds)) != len(options.kinds):
        raise UserError(f'--kinds: expected some of {", ".join(KINDS)} or all, each once, found '
                        f'{" ".join(options.kinds) or "none"}')


def _check(numbers: dict[str, int], seed: int, image_format: str, workers: int) -> None:
    for split, number in numbers.items():
        flag = 'number' if split == 'train' else split
        least = 1 if split == 'train' else 0
        if not least <= number <= MAX_NUMBER:
            raise UserError(f'--{flag}: expected {least} to {MAX_NUMBER}, found {number}')
    if not 0 <= seed < 2 ** 63:
        raise UserError(f'--seed: expected 0 to 2**63 - 1, found {seed}')
    if image_format not in FORMATS:
        raise UserError(f'--format: expected {" or ".join(FORMATS)}, found {image_format}')
    if not 1 <= workers <= 256:
        raise UserError(f'--workers: expected 1 to 256, found {workers}')


def _check_folder(folder: Path, overwrite: bool) -> None:
    """Make sure that nothing of the user's is lost: a new or empty folder, or scenes that may be replaced."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f'--out {folder}: expected a folder, found a file')
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not overwrite:
        raise UserError(f'--out {folder}: expected an empty folder, found files in it (--overwrite replaces scenes)')
    note = folder / 'scenes.json'
    try:
        known = set(json.loads(note.read_text(encoding='utf-8'))['files'])
    except FileNotFoundError:
        raise UserError(f'--out {folder}: expected scenes to overwrite, found no scenes.json in it') from None
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f'{note}: expected the scenes.json of camouflage scenes, found something else') from None
    for path in sorted(folder.rglob('*')):
        name = path.relative_to(folder).as_posix()
        if not path.is_dir() and name != 'scenes.json' and name not in known:
            raise UserError(f'--out {folder}: expected only scenes to overwrite, found {name}, which is none of them')


def _one_thread() -> None:
    cv2.setNumThreads(1)


def _write_one(job: tuple[str, int], folder: Path, seed: int, options: SceneOptions,
               image_format: str) -> dict[str, Any]:
    split, index = job
    scene = make_scene(seed, SPLITS.index(split), index, options)
    image, mask = f'{split}/images/{index:05d}.{image_format}', f'{split}/masks/{index:05d}.png'
    quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if image_format == 'jpg' else [cv2.IMWRITE_PNG_COMPRESSION, 3]
    write_bytes(folder / image, cv2.imencode(f'.{image_format}', scene.image[..., ::-1], quality)[1].tobytes())
    write_bytes(folder / mask, cv2.imencode('.png', scene.mask, [cv2.IMWRITE_PNG_COMPRESSION, 6])[1].tobytes())
    return dict(split=split, image=image, mask=mask, kind=scene.kind, difficulty=round(scene.difficulty, 6),
                area=round(float((scene.mask > 0).mean()), 6), objects=scene.objects)


def write_scenes(folder: str | Path, numbers: dict[str, int], seed: int, options: SceneOptions = DEFAULTS,
                 image_format: str = 'png', workers: int = 1, overwrite: bool = False) -> Written:
    """Make camouflage scenes and write them as a data set.

    Args:
        folder: new or empty; with ``overwrite`` older scenes there are replaced.
        numbers: images in `train`, `val` and `test`; splits of 0 images get no folder.
        seed: image k of a split depends on the seed, k and ``options`` alone: not on how many are made, nor on
            ``workers``.
        options: what the scenes are like.
        image_format: `png` (exact) or `jpg` (quality 95); masks are PNG, 0 and 255.
        workers: processes.

    Raises:
        UserError: a value out of range, or a folder with files in it.
    """
    start = time.monotonic()
    folder = Path(os.path.abspath(folder))
    _check(numbers, seed, image_format, workers)
    check_options(options)
    _check_folder(folder, overwrite)
    jobs = [(split, k) for split in SPLITS for k in range(numbers.get(split, 0))]
    with atomic_folder(folder) as temporary:
        write = partial(_write_one, folder=temporary, seed=seed, options=options, image_format=image_format)
        entries = list(progress(_map(write, jobs, workers), 'scenes', total=len(jobs), unit='image'))
        write_json(temporary / 'scenes.json', {
            'version': VERSION, 'seed': seed, **asdict(options), 'format': image_format,
            'numbers': {split: numbers.get(split, 0) for split in SPLITS},
            'files': [entry[key] for entry in entries for key in ('image', 'mask')], 'images': entries})
        _check_folder(folder, overwrite)  # again: minutes have passed
    shares = [one['area'] for entry in entries for one in entry['objects']]
    return Written(folder, {split: numbers.get(split, 0) for split in SPLITS}, sum(shares) / len(shares),
                   time.monotonic() - start)


def _map(write: Any, jobs: list[tuple[str, int]], workers: int) -> Iterable[dict[str, Any]]:
    if workers == 1:
        threads = cv2.getNumThreads()
        _one_thread()  # with more of them the last bit of some of OpenCV's functions changes
        try:
            yield from map(write, jobs)
        finally:
            cv2.setNumThreads(threads)
        return
    context = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(workers, context, initializer=_one_thread) as pool:
        try:
            yield from pool.map(write, jobs, chunksize=4)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
