"""How hard each image is for a network: the difficulty file, and the two files of the seed that say the same.

``difficulty.json``::

    {"version": 1, "checkpoint": {"file": NAME, "sha256": HEX}, "classes": [NAME, …],
     "samples": {ID: {"mIoU": x or null, "iou": {CLASS: x or null}, "pixels": {CLASS: n}}}}

An ``iou`` is null where the class is not in the image's truth; ``pixels`` are those of the truth; ``mIoU`` is the mean
over the classes of the truth, null where nothing is labelled.

``hard_samples_analysis.json`` (seed 001 names the file and not its keys; these are ours)::

    {"classes": [NAME, …], "samples": [{"image": ID, "miou": x or null, "class_ious": {CLASS: x}, "class_pixels":
     {CLASS: n}, "weight": w}, …]}

with the classes of the truth only. Read back, ``classes``, ``class_pixels`` and ``weight`` may be missing.

``sample_weights.txt``: one weight a line in the order of a list of ids. The first line may be a comment (``# …``) or
the number of weights (the seed's file has 1,616 lines for 1,615 images). What is written here begins with a comment
and has the ids beside it, one a line, in ``sample_weights.ids.txt``.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from projects.engine.errors import UserError
from projects.engine.files import sha256_of, write_json, write_text
from projects.multistage.sample_ids import named

VERSION = 1


@dataclass(frozen=True)
class SampleDifficulty:
    """Scores of one image. ``iou`` holds the classes of its truth only, fractions 0..1."""

    mean_iou: float | None  # over the classes of the truth; None where nothing is labelled
    iou: dict[str, float]
    pixels: dict[str, int] = field(default_factory=dict)  # of the truth, by class; empty where they are not known


@dataclass(frozen=True)
class Difficulty:
    """Scores of all images of a split, by sample id."""

    classes: tuple[str, ...]
    samples: dict[str, SampleDifficulty]
    checkpoint: dict[str, str] | None = None  # {"file", "sha256"}


def checkpoint_facts(path: str | Path) -> dict[str, str]:
    """Return what a difficulty file says of a checkpoint: its name and its hash."""
    return {'file': Path(path).name, 'sha256': sha256_of(path)}


def write_difficulty(path: str | Path, difficulty: Difficulty) -> None:
    """Write ``difficulty.json``."""
    write_json(path, {
        'version': VERSION, 'checkpoint': difficulty.checkpoint, 'classes': list(difficulty.classes),
        'samples': {name: {
            'mIoU': sample.mean_iou,
            'iou': {label: sample.iou.get(label) for label in difficulty.classes},
            'pixels': {label: sample.pixels.get(label, 0) for label in difficulty.classes} if sample.pixels else {},
        } for name, sample in difficulty.samples.items()}})


def read_difficulty(path: str | Path) -> Difficulty:
    """Read ``difficulty.json``, or the seed's ``hard_samples_analysis.json``.

    Raises:
        UserError: No such file, another version, or a value that is not what the format says; names the sample.
    """
    found = _json(path)
    if isinstance(found.get('samples'), list):
        return _analysis(path, found)
    if found.get('version') != VERSION:
        raise UserError(f'difficulty {path}: version: expected {VERSION}, found {found.get("version")!r}')
    classes = _classes(path, found.get('classes'))
    samples = found.get('samples')
    if not isinstance(samples, dict):
        raise UserError(f'difficulty {path}: samples: expected a dict by sample id, found {type(samples).__name__}')
    checkpoint = found.get('checkpoint')
    if checkpoint is not None and not (isinstance(checkpoint, dict) and {'file', 'sha256'} <= set(checkpoint)):
        raise UserError(f'difficulty {path}: checkpoint: expected file and sha256, found {checkpoint!r}')
    return Difficulty(classes, {
        name: _sample(path, name, sample, classes, ('mIoU', 'iou', 'pixels')) for name, sample in samples.items()
    }, checkpoint)


def write_analysis(path: str | Path, difficulty: Difficulty, weights: Mapping[str, float]) -> None:
    """Write the seed's ``hard_samples_analysis.json``; the hardest image leads."""
    ordered = sorted(difficulty.samples.items(), key=lambda item: (
        math.inf if item[1].mean_iou is None else item[1].mean_iou, item[0]))
    write_json(path, {'classes': list(difficulty.classes), 'samples': [
        {'image': name, 'miou': sample.mean_iou, 'class_ious': sample.iou, 'class_pixels': sample.pixels,
         'weight': weights[name]} for name, sample in ordered]})


def ids_path(path: str | Path) -> Path:
    """Return where the ids of a file of weights stand: ``sample_weights.ids.txt``."""
    return Path(path).with_suffix('.ids.txt')


def write_weights(path: str | Path, weights: Mapping[str, float]) -> None:
    """Write the seed's ``sample_weights.txt``, and the ids beside it.

    Raises:
        UserError: An id holds a line break.
    """
    for name in weights:
        if len(name.splitlines()) != 1:
            raise UserError(f'{path}: the sample id {name!r} does not fit on a line')
    write_text(ids_path(path), ''.join(f'{name}\n' for name in weights))
    write_text(path, f'# {len(weights)} sampling weights, in the order of {ids_path(path).name}\n'
                     + ''.join(f'{weight!r}\n' for weight in weights.values()))


def read_weights(path: str | Path, ids: Sequence[str] | None = None) -> dict[str, float]:
    """Read the seed's ``sample_weights.txt``.

    Args:
        path: The file.
        ids: Whose weights they are, in the file's order. Default: what stands in the file of ids beside it.

    Returns:
        The weights by sample id.

    Raises:
        UserError: There are no ids, their number is not that of the weights, an id occurs twice, or a line is no
            number of at least 0.
    """
    lines = _lines(path)
    if ids is None:
        if not ids_path(path).is_file():
            raise UserError(f'weights {path}: whose they are is not known: expected the sample ids, one a line, in '
                            f'{ids_path(path).name} beside it')
        ids = _lines(ids_path(path))
    if lines and (lines[0].startswith('#') or (len(lines) == len(ids) + 1 and lines[0] == str(len(ids)))):
        lines = lines[1:]
    if len(lines) != len(ids):
        raise UserError(f'weights {path}: expected {len(ids)} weights, one for each sample id, found {len(lines)}')
    twice = [name for name, number in Counter(ids).items() if number > 1]
    if twice:
        raise UserError(f'weights {path}: {len(twice)} sample ids occur twice: {named(twice)}')
    weights = {}
    for name, line in zip(ids, lines):
        try:
            weights[name] = float(line)
        except ValueError:
            weights[name] = math.nan
        if not (math.isfinite(weights[name]) and weights[name] >= 0):
            raise UserError(f'weights {path}: sample {name}: expected a number of at least 0, found {line!r}')
    return weights


def _lines(path: str | Path) -> list[str]:
    try:
        return [line.strip() for line in Path(path).read_text(encoding='utf-8').splitlines() if line.strip()]
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}') from error
    except UnicodeDecodeError as error:
        raise UserError(f'{path}: expected text in UTF-8: {error}') from error


def _json(path: str | Path) -> dict[str, Any]:
    try:
        text = Path(path).read_text(encoding='utf-8')
        found = json.loads(text, object_pairs_hook=lambda pairs: _unique(path, pairs))
    except OSError as error:
        raise UserError(f'difficulty {path}: {error.strerror}') from error
    except ValueError as error:
        raise UserError(f'difficulty {path}: no JSON: {error}') from error
    if not isinstance(found, dict):
        raise UserError(f'difficulty {path}: expected a JSON object, found {type(found).__name__}')
    return found


def _unique(path: str | Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):  # the last one would count in silence
        twice = [name for name, number in Counter(key for key, _ in pairs).items() if number > 1]
        raise UserError(f'difficulty {path}: occurs twice: {named(twice)}')
    return found


def _classes(path: str | Path, found: Any) -> tuple[str, ...]:
    if not (isinstance(found, list) and found and all(isinstance(name, str) for name in found)
            and len(set(found)) == len(found)):
        raise UserError(f'difficulty {path}: classes: expected a list of different names, found {found!r}')
    return tuple(found)


def _sample(path: str | Path, name: str, found: Any, classes: Sequence[str], keys: tuple[str, str, str]
            ) -> SampleDifficulty:
    mean, iou, pixels = keys
    where = f'difficulty {path}: sample {name}'
    if not isinstance(found, dict) or mean not in found or not isinstance(found.get(iou), dict):
        raise UserError(f'{where}: expected {mean}, {iou} and {pixels}, found '
                        f'{_told(found)}')
    counts = found.get(pixels) or {}
    if not isinstance(counts, dict):
        raise UserError(f'{where}: {pixels}: expected numbers by class, found {counts!r}')
    for label in (*found[iou], *counts):
        if label not in classes:
            raise UserError(f'{where}: {label!r} is none of the classes ({", ".join(classes)})')
    for label, value in ((mean, found[mean]), *((f'{iou} of {label}', x) for label, x in found[iou].items())):
        if value is not None and not (_number(value) and 0 <= value <= 1):
            raise UserError(f'{where}: {label}: expected null or a number in 0..1, found {value!r}')
    for label, value in counts.items():
        if not (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
            raise UserError(f'{where}: {pixels} of {label}: expected a number of pixels, found {value!r}')
    return SampleDifficulty(
        None if found[mean] is None else float(found[mean]),
        {label: float(value) for label, value in found[iou].items() if value is not None},
        {label: value for label, value in counts.items() if value})


def _told(found: Any) -> str:
    return ', '.join(found) if isinstance(found, dict) else repr(found)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _analysis(path: str | Path, found: dict[str, Any]) -> Difficulty:
    samples = found['samples']
    for number, sample in enumerate(samples):
        if not (isinstance(sample, dict) and isinstance(sample.get('image'), str)
                and isinstance(sample.get('class_ious'), dict)):
            raise UserError(f'difficulty {path}: sample number {number}: expected image, miou and class_ious, found '
                            f'{_told(sample)}')
    twice = [name for name, number in Counter(sample['image'] for sample in samples).items() if number > 1]
    if twice:
        raise UserError(f'difficulty {path}: images that occur twice: {named(twice)}')
    seen = list(dict.fromkeys(label for sample in samples for label in sample['class_ious']))
    classes = _classes(path, found.get('classes', seen))
    return Difficulty(classes, {sample['image']: _sample(
        path, sample['image'], sample, classes, ('miou', 'class_ious', 'class_pixels')) for sample in samples})
