"""Which image and mask belong together, in which split, and what does not fit."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from projects.camouflage.datasets.duplicates import duplicate_names
from projects.camouflage.datasets.layouts import (
    SPLITS,
    Folder,
    dataset_of_file,
    find_layout,
    image_files,
    read_scenes,
)
from projects.engine.errors import UserError

Roots = str | Path | Sequence[str | Path] | Mapping[str, str | Path]


@dataclass(frozen=True)
class Sample:
    """An image, its mask (None where there is none), and where they belong.

    The id is ``<dataset>/<stem>``; under split 'all' it is ``<dataset>/<split>/<stem>`` where two splits share a stem.
    """

    id: str
    dataset: str
    split: str
    image: Path
    mask: Path | None
    kind: str | None = None
    difficulty: Any = None


@dataclass
class Listing:
    """All samples of one split, sorted by id within each root."""

    samples: list[Sample] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # one line each
    left_out: list[str] = field(default_factory=list)  # ids of training images that are test images too
    layouts: dict[str, str] = field(default_factory=dict)  # by root


def list_samples(
    data_root: Roots,
    split: str = 'all',
    layout: str = 'auto',
    val_share: float = 0.05,
    duplicates: str | Path | Iterable[str] = 'drop',
    non_camouflaged: bool = False,
) -> Listing:
    """List the samples of one or more roots.

    Args:
        data_root: A root, several, or several by the name of their data set.
        split: 'train', 'val', 'test' or 'all'.
        layout: See :func:`~projects.camouflage.datasets.layouts.find_layout`; for all roots.
        val_share: Share of the training images that is held out as 'val' where a root has no such folder, 0 up to
            below 1. Which ones depends on their names alone (:func:`held_out`).
        duplicates: See :func:`~projects.camouflage.datasets.duplicates.duplicate_names`.
        non_camouflaged: Keep the images ``COD10K-NonCAM-…``, which show no camouflaged object.

    Raises:
        UserError: an unknown split, a root without a layout, or nothing in the split.
    """
    if split not in (*SPLITS, 'all'):
        raise UserError(f'split: expected one of {", ".join(SPLITS)}, all, found {split!r}')
    if isinstance(val_share, bool) or not isinstance(val_share, (int, float)) or not 0 <= val_share < 1:
        raise UserError(f'val_share: expected a number from 0 to below 1, found {val_share!r}')
    dropped = duplicate_names(duplicates)
    listing = Listing()
    there: set[str] = set()
    for name, root in _roots(data_root):
        listing.layouts[str(root)], folders = find_layout(root, layout)
        own = _list_root(folders, name, non_camouflaged, listing, split)
        listing.left_out += [s.id for s in own if _is_duplicate(s, dropped) and split in ('all', 'train')]
        own = [s for s in own if not _is_duplicate(s, dropped)]
        if not any(folder.split == 'val' for folder in folders):
            held = held_out([s.image.stem for s in own if s.split == 'train'], val_share)
            own = [replace(s, split='val') if s.split == 'train' and s.image.stem in held else s for s in own]
        there |= {s.split for s in own}
        listing.samples += sorted((s for s in own if split in ('all', s.split)), key=lambda s: s.id)
    if not listing.samples and not listing.problems:
        has = ', '.join(one for one in SPLITS if one in there) or 'no image at all'
        raise UserError(f'data_root {", ".join(listing.layouts)}: no {split} images (layout '
                        f'{", ".join(dict.fromkeys(listing.layouts.values()))} has: {has})')
    if split == 'all':  # scenes are counted anew in each split, and COD10K has names in both
        splits: dict[str, set[str]] = {}
        for s in listing.samples:
            splits.setdefault(s.id, set()).add(s.split)
        listing.samples = [replace(s, id=f'{s.dataset}/{s.split}/{s.image.stem}') if len(splits[s.id]) > 1 else s
                           for s in listing.samples]
    twice = [name for name, number in Counter(s.id for s in listing.samples).items() if number > 1]
    listing.problems += [f'{name}: stands for several images; name the roots apart: data_root=dict(NAME=FOLDER, …)'
                         for name in twice]
    return listing


def held_out(stems: Sequence[str], share: float) -> set[str]:
    """Return the names that are held out of the training for validation.

    A name is held out where the first 64 bits of its SHA-256, as a share of 2^64, lie below `share`: it does not
    depend on the other names, on an order or on a seed. Where that finds none, it is the name with the smallest hash
    (of two or more).

    Args:
        stems: Names of the training images.
        share: 0..1; 0 holds out none.
    """
    place = {name: int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64 for name in stems}
    if share <= 0 or len(place) < 2:
        return set()
    return {name for name, at in place.items() if at < share} or {min(place, key=place.get)}


def _roots(data_root: Roots) -> list[tuple[str | None, Path]]:
    if isinstance(data_root, Mapping):
        roots = [(str(name), root) for name, root in data_root.items()]
    elif isinstance(data_root, (str, Path)):
        roots = [(None, data_root)]
    else:
        roots = [(None, root) for root in data_root or ()]
    if not roots or not all(isinstance(root, (str, Path)) and str(root) for _, root in roots):
        raise UserError(f'data_root: expected a folder, a list of folders or dict(NAME=FOLDER), found {data_root!r}')
    return [(name, Path(root).expanduser()) for name, root in roots]


def _is_duplicate(sample: Sample, names: frozenset[str]) -> bool:
    return sample.split != 'test' and sample.image.stem.casefold() in names


def _list_root(
    folders: list[Folder], name: str | None, non_camouflaged: bool, listing: Listing, split: str
) -> list[Sample]:
    """Return the samples of all splits of a root; problems are noted for the split that is asked for."""
    samples: list[Sample] = []
    with_image: dict[Path, set[str]] = {}  # by mask folder: the stems of all images that it serves
    wanted: set[Path] = set()
    facts = {folder.scenes: read_scenes(folder.scenes) for folder in folders if folder.scenes}
    own_names = len({folder.dataset for folder in folders}) == 1  # else the layout itself tells the data sets apart
    masks = {folder.masks: _by_stem(folder.masks, non_camouflaged, []) for folder in folders if folder.masks}
    for folder in folders:
        # A held-out validation lies in the training's folder.
        asked = split in ('all', folder.split) or (split == 'val' and folder.split == 'train')
        problems = listing.problems if asked else []
        images = _by_stem(folder.images, non_camouflaged, problems)
        if folder.masks:
            with_image.setdefault(folder.masks, set()).update(images)
            if asked and folder.masks not in wanted:
                wanted.add(folder.masks)
                _by_stem(folder.masks, non_camouflaged, problems)
        for key, image in images.items():
            dataset = folder.dataset or dataset_of_file(image.stem, image.parents[1].name)
            if name is not None and own_names and folder.dataset is not None:
                dataset = name
            row = facts.get(folder.scenes, {}).get(f'{folder.split}/{image.stem}', {})
            samples.append(Sample(
                f'{dataset}/{image.stem}', dataset, folder.split, image,
                masks[folder.masks].get(key) if folder.masks else None, row.get('kind'), row.get('difficulty')))
    for folder in wanted:
        listing.problems += [f'{mask}: mask without image' for key, mask in masks[folder].items()
                             if key not in with_image[folder]]
    return samples


def _by_stem(folder: Path, non_camouflaged: bool, problems: list[str]) -> dict[str, Path]:
    """Return the image files of a folder by their stem in lower case."""
    found: dict[str, Path] = {}
    for path in image_files(folder):
        key = path.stem.casefold()
        if key.startswith('cod10k-noncam-') and not non_camouflaged:
            continue
        if key in found:
            problems.append(f'{path}: has the same name as {found[key].name}')
        found.setdefault(key, path)
    return found
