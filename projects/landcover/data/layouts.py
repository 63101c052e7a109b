"""How data sets lie on disk: one function a layout, each listing the pairs of image and mask that it finds.

A layout only looks at names. It reports what does not fit (an image without a mask, a mask without an image) instead
of dropping it, so that the data set can refuse it and `prepare` can list it.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from projects.engine.errors import UserError
from projects.landcover.data.changes import check_settled
from projects.landcover.data.manifest import MANIFEST_NAME, read_manifest
from projects.landcover.taxonomy import Taxonomy, get_taxonomy, suggest

IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.tif', '.tiff')
UNREAD_SUFFIXES = ('.bmp', '.webp', '.gif', '.jp2', '.vrt', '.img', '.ppm', '.tga', '.npy', '.h5', '.hdf', '.nc')
IMAGE_FOLDERS = ('images', 'image', 'img', 'imgs', 'images_png')
MASK_FOLDERS = ('masks', 'mask', 'labels', 'label', 'ann', 'anns', 'annotations', 'masks_png')
SPLITS = ('train', 'val', 'test')


@dataclass(frozen=True)
class Sample:
    """One image with its mask.

    Args:
        id: Name that is unique within the data set; file names and reports use it.
        image: Image file.
        mask: Label file, or None where the data set publishes none.
        group: What must not be torn apart by a split: region, site or scene type.
        split: Split the publisher put it in, or None.
    """

    id: str
    image: Path
    mask: Path | None
    group: str
    split: str | None = None


@dataclass
class Listing:
    """What a layout found.

    Args:
        samples: The complete pairs (and images that may lack a mask), sorted by id.
        problems: One line a file that does not fit, with its path.
        taxonomy: Taxonomy of the label files where the layout knows it.
    """

    samples: list[Sample] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    taxonomy: Taxonomy | None = None


def list_prepared(root: Path) -> Listing:
    """List a data set written by `tools/landcover/prepare.py`: the manifest says everything."""
    check_settled(root)
    manifest = read_manifest(root)
    listing = Listing(taxonomy=get_taxonomy(manifest['taxonomy']))
    for item in manifest['items']:
        sample = Sample(item['id'], root / item['image'], root / item['mask'], item['group'], item['split'])
        absent = [path for path in (sample.image, sample.mask) if not path.is_file()]
        if absent:
            listing.problems.append(f'{absent[0]}: listed in {MANIFEST_NAME} but missing')
        else:
            listing.samples.append(sample)
    return listing


def list_openearthmap(root: Path) -> Listing:
    """List the official OpenEarthMap layout.

    `<region>/images/<region>_<n>.tif` and `<region>/labels/<region>_<n>.tif`, with `train.txt`, `val.txt` and
    `test.txt` in the root. Group = region. The labels of the test split are not published, so they may be absent.
    """
    listing = Listing(taxonomy=get_taxonomy('openearthmap'))
    split_of: dict[str, str] = {}
    for split in SPLITS:
        names = root / f'{split}.txt'
        for line in names.read_text(encoding='utf-8').split() if names.is_file() else ():
            stem = Path(line).stem
            if split_of.setdefault(stem, split) != split:
                listing.problems.append(f'{names}: {stem} is listed in {split_of[stem]}.txt too')
    present = set()
    for folder in sorted(path for path in root.iterdir() if (path / 'images').is_dir()):
        pairs, problems = pair_files(folder / 'images', folder / 'labels', may_lack=lambda s: split_of.get(s) == 'test')
        listing.problems += problems
        present |= {path.stem for name in ('images', 'labels') for path in (folder / name).glob('*')}
        for stem, image, mask in pairs:
            listing.samples.append(Sample(stem, image, mask, folder.name, split_of.get(stem)))
    for stem, split in sorted(split_of.items()):
        if stem not in present:
            region = stem.rpartition('_')[0]
            listing.problems.append(f'{root / region / "images" / stem}.tif: listed in {split}.txt but missing')
    return listing


def list_loveda(root: Path) -> Listing:
    """List the official LoveDA layout.

    `Train|Val|Test/{Urban,Rural}/{images_png,masks_png}/<n>.png`; masks hold 0 = no data and 1..7. Group = scene
    type. The masks of Test are not published.
    """
    listing = Listing(taxonomy=get_taxonomy('loveda'))
    for split in SPLITS:
        for scene in ('Urban', 'Rural'):
            folder = root / split.capitalize() / scene
            if not (folder / 'images_png').is_dir():
                continue
            pairs, problems = pair_files(
                folder / 'images_png', folder / 'masks_png', may_lack=lambda stem, split=split: split == 'test'
            )
            listing.problems += problems
            for stem, image, mask in pairs:
                listing.samples.append(Sample(f'{split}-{scene.lower()}-{stem}', image, mask, scene.lower(), split))
    return listing


def list_folder(root: Path) -> Listing:
    """List a plain folder of images and masks, matched by stem.

    `images/` (or image, img, …) and `masks/` (or mask, labels, ann, …) stand in the root, or in `train/`, `val/` and
    `test/` below it, which then are the publisher's splits. PNG, JPEG and GeoTIFF. Group = the stem.
    """
    listing = Listing()
    bases = {split: root / split for split in SPLITS if find_folder(root / split, IMAGE_FOLDERS)}
    for split, base in (bases or {None: root}).items():
        images = find_folder(base, IMAGE_FOLDERS)
        masks = find_folder(base, MASK_FOLDERS)
        if images is None:
            raise UserError(f'{base}: expected a folder of images, one of {IMAGE_FOLDERS}, found none')
        if masks is None:
            raise UserError(f'{base}: expected a folder of masks, one of {MASK_FOLDERS}, found none')
        pairs, problems = pair_files(images, masks)
        listing.problems += problems
        prefix = f'{split}-' if split else ''
        listing.samples += [Sample(prefix + stem, image, mask, stem, split) for stem, image, mask in pairs]
    return listing


def list_village(root: Path) -> Listing:
    """List a procedural village of `tools/scenes.py make`: `images/tile_<east>_<north>.tif`, masks beside them."""
    if not (root / 'scene.json').is_file():
        raise UserError(f'{root / "scene.json"}: missing: not a village (make one with tools/scenes.py make)')
    pairs, problems = pair_files(root / 'images', root / 'masks')
    samples = [Sample(stem, image, mask, stem) for stem, image, mask in pairs]
    return Listing(samples, problems, get_taxonomy('village'))


LAYOUTS: dict[str, Callable[[Path], Listing]] = {
    'prepared': list_prepared,
    'openearthmap': list_openearthmap,
    'loveda': list_loveda,
    'folder': list_folder,
    'village': list_village,
}


def list_samples(
    root: str | Path,
    layout: str,
    split: str | None = None,
    group_regex: str | None = None,
) -> Listing:
    """List the samples of a data set on disk.

    Args:
        root: Root folder of the data set.
        layout: Key of :data:`LAYOUTS`.
        split: 'train', 'val' or 'test': only what the publisher (or the manifest) put there. None or 'all': all.
        group_regex: Regular expression searched in the image's stem; its first bracket (or the whole match) becomes
            the group. Default: the layout's own group.

    Raises:
        UserError: unknown layout (the nearest is suggested), missing or empty folder, a split that the data set does
            not have, or a name that `group_regex` does not match.
    """
    root = Path(root)
    if layout not in LAYOUTS:
        raise UserError(f'unknown layout {layout!r}{suggest(layout, LAYOUTS)}')
    if not root.is_dir():
        raise UserError(f'{root}: no such folder')
    listing = LAYOUTS[layout](root)
    if not listing.samples and not listing.problems:
        raise UserError(f'{root}: no images found for layout {layout!r}{_describe(layout)}')
    if group_regex is not None:
        listing.samples = [_regroup(sample, group_regex) for sample in listing.samples]
    listing.samples.sort(key=lambda sample: sample.id)
    for a, b in zip(listing.samples, listing.samples[1:]):
        if a.id == b.id:
            listing.problems.append(f'{b.image}: its name {b.id!r} is taken by {a.image}')
    listing.samples = [s for i, s in enumerate(listing.samples) if i == 0 or s.id != listing.samples[i - 1].id]
    if split not in (None, 'all'):
        known = sorted({sample.split for sample in listing.samples if sample.split is not None})
        if split not in known:
            has = f'has the splits {known}' if known else 'has no splits of its own: prepare it, or use split="all"'
            raise UserError(f'{root}: no split {split!r}: the data set {has}')
        listing.samples = [sample for sample in listing.samples if sample.split == split]
    return listing


def pair_files(
    images: Path,
    masks: Path,
    may_lack: Callable[[str], bool] = lambda stem: False,
) -> tuple[list[tuple[str, Path, Path | None]], list[str]]:
    """Match the files of two folders by stem.

    Args:
        images, masks: The folders. A missing folder counts as empty.
        may_lack: Says for a stem whether an image without a mask is in order.

    Returns:
        The triples (stem, image, mask or None), sorted by stem, and one line a file that has no partner.
    """
    problems: list[str] = []
    image_of = _by_stem(images, problems)
    mask_of = _by_stem(masks, problems)
    pairs: list[tuple[str, Path, Path | None]] = []
    for stem, image in sorted(image_of.items()):
        mask = mask_of.get(stem)
        if mask is None and not may_lack(stem):
            problems.append(f'{image}: image without a mask in {masks}')
        else:
            pairs.append((stem, image, mask))
    for stem in sorted(mask_of.keys() - image_of.keys()):
        problems.append(f'{mask_of[stem]}: mask without an image in {images}')
    return pairs, problems


def find_folder(base: Path, names: Iterable[str]) -> Path | None:
    """Return the first of the named folders that exists below `base`."""
    return next((base / name for name in names if (base / name).is_dir()), None)


def _by_stem(folder: Path, problems: list[str]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name.startswith('.'):
            continue
        if path.is_dir():
            if any(inner.suffix.lower() in IMAGE_SUFFIXES + UNREAD_SUFFIXES for inner in path.rglob('*')):
                problems.append(f'{path}: a folder among the files: the images in it are not read')
        elif path.suffix.lower() in UNREAD_SUFFIXES:
            problems.append(f'{path}: {path.suffix} is not read, expected one of {", ".join(IMAGE_SUFFIXES)}')
        elif path.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        elif path.stem in files:
            problems.append(f'{path}: same stem as {files[path.stem].name}')
        else:
            files[path.stem] = path
    return files


def _regroup(sample: Sample, group_regex: str) -> Sample:
    try:
        match = re.search(group_regex, sample.image.stem)
    except re.error as error:
        raise UserError(f'group regex {group_regex!r}: {error}') from error
    if match is None:
        raise UserError(f'{sample.image}: the group regex {group_regex!r} does not match the stem')
    group = match.group(1) if match.re.groups else match.group(0)
    return Sample(sample.id, sample.image, sample.mask, group, sample.split)


def _describe(layout: str) -> str:
    """Return what the layout expects: the second paragraph of its docstring in one line."""
    paragraphs = (LAYOUTS[layout].__doc__ or '').split('\n\n')
    return f'; expected {" ".join(paragraphs[1].split())}' if len(paragraphs) > 1 else ''
