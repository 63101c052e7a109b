"""Look at every file of a camouflage data set before a training does."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from projects.camouflage.datasets.listing import Listing, Roots, Sample, list_samples
from projects.camouflage.datasets.masks import binarise, check_values, read_levels, settle_values
from projects.camouflage.datasets.pictures import open_picture, orientation, picture_size, read_photograph
from projects.engine.errors import UserError
from projects.engine.progress import progress


@dataclass
class Report:
    """What was found: one line for each fact, one for each problem."""

    facts: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def check_data(
    data_root: Roots,
    layout: str = 'auto',
    val_share: float = 0.05,
    duplicates: str | Path | Iterable[str] = 'drop',
    mask_values: str = 'auto',
    non_camouflaged: bool = False,
) -> Report:
    """Read every image and mask of all splits, and compare the images' contents across the splits.

    Arguments and errors are those of :class:`~projects.camouflage.datasets.CamouflageDataset`. Problems are: a file
    that cannot be read, an image without mask, a mask without image, of another size or of other values, a mask
    without foreground (but of ``COD10K-NonCAM-…``), an EXIF orientation that leaves open which way the mask was drawn,
    and images with the same pixels in two splits.
    """
    check_values(mask_values)
    listing = list_samples(data_root, 'all', layout, val_share, duplicates, non_camouflaged)
    report = Report(problems=list(listing.problems))
    report.facts += [f'{root}: layout {name}' for root, name in listing.layouts.items()]
    counts = Counter((sample.split, sample.dataset) for sample in listing.samples)
    order = {'train': 0, 'val': 1, 'test': 2}
    report.facts += [f'{split} {dataset}: {number} images' for (split, dataset), number in sorted(
        counts.items(), key=lambda item: (order[item[0][0]], item[0][1]))]
    if listing.left_out:
        report.facts.append(f'left out of the training, known to be test images too: {", ".join(listing.left_out)}')
    values = _values(listing, mask_values, report)
    pixels: dict[str, list[Sample]] = {}
    for sample in progress(listing.samples, 'check', unit='image'):
        shape = None
        try:
            image = read_photograph(sample.image, sample.mask)
            shape = image.shape[:2]
            digest = hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()
            pixels.setdefault(digest, []).append(sample)
        except UserError as error:
            report.problems.append(str(error))
        report.problems += _mask_problems(sample, shape, values)
    for same in pixels.values():
        splits = dict.fromkeys(sample.split for sample in same)
        if len(splits) > 1:
            report.problems.append('the same image in several splits: ' + ', '.join(
                f'{sample.split} {sample.id}' for sample in sorted(same, key=lambda s: (order[s.split], s.id))))
    return report


def _values(listing: Listing, mask_values: str, report: Report) -> dict[Path, str | None]:
    folders: dict[Path, list[Path]] = {}
    for sample in listing.samples:
        if sample.mask is not None:
            folders.setdefault(sample.mask.parent, []).append(sample.mask)
    values: dict[Path, str | None] = {}
    for folder, masks in folders.items():
        if mask_values != 'auto':
            values[folder] = mask_values
            continue
        whole = [path for path in masks if _is_readable(path)]  # a damaged file must not hide the others' values
        try:
            values[folder] = settle_values(whole, place=str(folder))
            report.facts.append(f'{folder}: masks of {values[folder]}')
        except UserError as error:
            values[folder] = None
            report.problems.append(str(error))
    return values


def _is_readable(mask: Path) -> bool:
    try:
        read_levels(mask)
    except UserError:
        return False
    return True


def _mask_problems(sample: Sample, shape: tuple[int, int] | None, values: dict[Path, str | None]) -> list[str]:
    if sample.mask is None:
        return [f'{sample.image}: image without mask']
    try:
        levels = read_levels(sample.mask)
    except UserError as error:
        return [str(error)]
    problems = []
    if shape is not None and levels.shape != shape:
        problems.append(f'{sample.mask}: expected a mask of {shape[1]}x{shape[0]} px, as its image, found '
                        f'{levels.shape[1]}x{levels.shape[0]} px')
    elif shape is not None and _is_ambiguous(sample):
        problems.append(f'{sample.image}: EXIF says to turn it, and its mask fits both ways: expected an image that '
                        'is stored upright, without the tag')
    kind = values[sample.mask.parent]
    if kind is None:
        return problems
    try:
        if not np.any(binarise(levels, kind, sample.mask)) and 'noncam' not in sample.image.stem.casefold():
            problems.append(f'{sample.mask}: expected an object, found a mask without foreground')
    except UserError as error:
        problems.append(str(error))
    return problems


def _is_ambiguous(sample: Sample) -> bool:
    with open_picture(sample.image) as picture:
        turn = orientation(picture)
    if turn == 1:
        return False
    height, width = picture_size(sample.image)
    return turn < 5 or height == width
