"""The two ways roofs lie on disk: a graph of each image in one JSON, or the seed's `.npz` beside each image.

| layout | what is there | split |
|---|---|---|
| ``graph`` | ``annotations.json`` + ``images/FILE`` (:mod:`projects.roofline.annotations`) | as each image says |
| ``seed`` | ``train/``, ``valid/`` (and ``test/``) with ``NAME.png`` + ``NAME_label.npz`` | train, val (and test) |
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from projects.engine.errors import UserError
from projects.geo.raster import is_raster, open_raster
from projects.roofline.annotations import FILE_NAME, IMAGE_FOLDER, SPLITS, Annotation, read_annotations
from projects.roofline.npz_labels import SUFFIX, read_npz

LAYOUTS = ('graph', 'seed')
SEED_FOLDERS = {'train': 'train', 'valid': 'val', 'test': 'test'}  # folder -> split
SUFFIXES = ('.png', '.jpg', '.jpeg', '.tif', '.tiff', '.bmp', '.webp')


@dataclass(frozen=True, eq=False)
class Sample:
    """An image, its name within the root (path without the suffix), and what is known of it."""

    name: str
    image: Path
    annotation: Annotation


def list_samples(root: str | Path, split: str, layout: str = 'auto', limit: int | None = None) -> list[Sample]:
    """List the samples of a split: in the order of `annotations.json`, or by name.

    Args:
        root: A folder.
        split: 'train', 'val', 'test' or 'all'.
        layout: 'graph', 'seed', or 'auto' for the one that is there.
        limit: Only the first so many. The others' annotations are checked in the layout 'graph' alone.

    Raises:
        UserError: no such folder or layout, an image without annotation or the other way round, two images for one
            `.npz`, an image of another size than its annotation says, what :func:`read_annotations` refuses, or
            nothing in the split.
    """
    root = Path(root)
    found = find_layout(root) if layout == 'auto' else layout
    samples, has = (_graph_samples if found == 'graph' else _seed_samples)(root, split, limit)
    if not samples:
        there = ', '.join(f'{name} {has[name]}' for name in SPLITS if has[name]) or 'no image at all'
        raise UserError(f'{root}: split: expected images of {split!r}, found {there}')
    return samples


def find_layout(root: Path) -> str:
    """Return the layout of a folder; errors as in :func:`list_samples`."""
    if not root.is_dir():
        raise UserError(f'data_root {root}: no such folder')
    if (root / FILE_NAME).is_file():
        return 'graph'
    if any((root / folder).is_dir() for folder in SEED_FOLDERS):
        return 'seed'
    raise UserError(f'data_root {root}: expected {FILE_NAME} with {IMAGE_FOLDER}/ (layout graph) or train/ and valid/ '
                    f'of NAME.png with NAME{SUFFIX} (layout seed), found neither')


def image_size(path: Path) -> tuple[int, int]:
    """Return (height, width) of an image from its header.

    Raises:
        UserError: the file is missing or no image.
    """
    if is_raster(path):
        with open_raster(path) as dataset:
            return dataset.height, dataset.width
    try:
        with Image.open(path) as picture:
            return picture.height, picture.width
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f'{path}: missing, damaged or no image') from error


def _graph_samples(root: Path, split: str, limit: int | None) -> tuple[list[Sample], Counter]:
    place, folder = root / FILE_NAME, root / IMAGE_FOLDER
    annotations = read_annotations(root)
    files = {path.relative_to(folder).as_posix() for path in _images(folder)}
    named = {annotation.file for annotation in annotations}
    wanted = [annotation for annotation in annotations if split in ('all', annotation.split)]
    _refuse(f'{place}', [f'{folder / name}: image without annotation' for name in sorted(files - named)] + [
        f'{annotation.file}: annotation without image' for annotation in wanted
        if annotation.file not in files and not (folder / annotation.file).is_file()])
    samples = [Sample(Path(annotation.file).with_suffix('').as_posix(), folder / annotation.file, annotation)
               for annotation in wanted[:limit]]
    for sample in samples:
        _check_size(sample, f'{place}: {sample.annotation.file}')
    return samples, Counter(annotation.split for annotation in annotations)


def _seed_samples(root: Path, split: str, limit: int | None) -> tuple[list[Sample], Counter]:
    pairs: list[tuple[Path, Path, str]] = []
    has: Counter = Counter()
    for folder, own in SEED_FOLDERS.items():
        listed = _images(root / folder, '*')
        images = {path.stem: path for path in listed}
        labels = {path.name.removesuffix(SUFFIX): path for path in sorted((root / folder).glob(f'*{SUFFIX}'))}
        has[own] = len(listed)
        if split in ('all', own):
            for path in listed:
                if images[path.stem] != path:
                    raise UserError(f'{root / folder / (path.stem + SUFFIX)}: expected one image for it, found '
                                    f'{path.name} and {images[path.stem].name}')
            _refuse(str(root / folder), [f'{path.name}: image without annotation ({stem}{SUFFIX})'
                                         for stem, path in images.items() if stem not in labels] + [
                f'{path.name}: annotation without image' for stem, path in labels.items() if stem not in images])
            pairs += [(path, labels[stem], own) for stem, path in images.items()]
    samples = []
    for image, label, own in pairs[:limit]:
        size = image_size(image)
        graph = read_npz(label, size)
        name = image.relative_to(root).with_suffix('').as_posix() if split == 'all' else image.stem
        samples.append(Sample(name, image, Annotation(image.name, size[1], size[0], own, graph)))
    return samples, has


def _images(folder: Path, pattern: str = '**/*') -> list[Path]:
    return sorted(path for path in folder.glob(pattern)
                  if path.suffix.lower() in SUFFIXES and not path.name.startswith('.')) if folder.is_dir() else []


def _check_size(sample: Sample, place: str) -> None:
    height, width = image_size(sample.image)
    annotation = sample.annotation
    if (height, width) != (annotation.height, annotation.width):
        raise UserError(f'{place}: width, height: expected {width} and {height}, as the image has it, found '
                        f'{annotation.width} and {annotation.height}')


def _refuse(place: str, problems: Iterable[str]) -> None:
    problems = list(problems)
    if problems:
        more = f' (and {len(problems) - 3} more)' if len(problems) > 3 else ''
        raise UserError(f'{place}: {len(problems)} files do not fit: {"; ".join(problems[:3])}{more}')
