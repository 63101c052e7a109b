"""Prepare a data set: check every pair, remap, split, and write images, masks and a manifest, whole or not at all."""

import json
import os
import shutil
import signal
import socket
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window

from projects.engine.errors import UserError
from projects.engine.files import sha256_of, write_json
from projects.engine.progress import progress
from projects.geo.raster import is_raster, open_raster
from projects.landcover.data.ground import Leak, find_leaks
from projects.landcover.data.labels import read_labels
from projects.landcover.data.layouts import SPLITS, Sample, list_samples
from projects.landcover.data.manifest import MANIFEST_NAME, VERSION
from projects.landcover.data.patches import Patch, examine
from projects.landcover.data.sidecars import AUX, carry_sidecars, link_file, write_georeference
from projects.landcover.data.splits import (
    RULES,
    split_as_published,
    split_as_told,
    split_by_blocks,
    split_by_groups,
    tile_side,
)
from projects.landcover.taxonomy import LabelReader, Taxonomy, get_remap, get_taxonomy, suggest

IGNORE_COLOUR = (255, 0, 255)
ALIGN = ('refuse', 'resample')
T = TypeVar('T')
R = TypeVar('R')


@dataclass(frozen=True)
class Options:
    """How to prepare a data set.

    Args:
        layout: Key of `layouts.LAYOUTS`.
        taxonomy: Taxonomy of the result: a name or a dict.
        source_taxonomy: Taxonomy of the label files. Default: the layout's own, for a plain folder `taxonomy`.
        remap: Variant of the map between the two, or a dict of class names.
        split_by: One of `splits.RULES`. Default: official where the layout has splits, blocks where every image is
            georeferenced, else groups.
        ratios: Shares of train, val, test.
        seed: Fixes blocks and groups.
        block_size, gap: Metres, see `splits.split_by_blocks`.
        group_regex: Finds the group in an image's stem.
        assign: {split: groups}: instead of `ratios`.
        tile: Largest side of an image, px; larger ones are cut.
        align: 'refuse' a mask that does not lie on its image's grid, or 'resample' it.
        bands: Bands that every image must have, from 1.
        mask_band: Band of GeoTIFF masks of several bands that holds the labels, from 1.
        link: Link to the source's images instead of copying them.
        skip_bad: Leave bad files out, listed in the manifest, instead of writing nothing.
        allow_leaks: Write although splits share ground; the leaks are counted in the manifest.
        overwrite: Replace a prepared data set at the same place.
    """

    layout: str
    taxonomy: str | Mapping[str, Any] = 'landcover6'
    source_taxonomy: str | Mapping[str, Any] | None = None
    remap: str | Mapping[str, Any] | None = None
    split_by: str | None = None
    ratios: tuple[float, float, float] = (0.7, 0.15, 0.15)
    seed: int = 0
    block_size: float | None = None
    gap: float = 0.0
    group_regex: str | None = None
    assign: Mapping[str, Sequence[str]] | None = None
    tile: int | None = None
    align: str = 'refuse'
    bands: tuple[int, ...] = ()
    mask_band: int | None = None
    link: bool = False
    skip_bad: bool = False
    allow_leaks: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.split_by is not None and self.split_by not in RULES:
            raise UserError(f'--split-by: unknown rule {self.split_by!r}{suggest(self.split_by, RULES)}')
        if self.align not in ALIGN:
            raise UserError(f'--align: expected one of {ALIGN}, found {self.align!r}')
        if self.tile is not None and self.tile < 1:
            raise UserError(f'--tile: expected a side in px above 0, found {self.tile}')
        if self.assign is not None and self.split_by not in (None, 'groups'):
            raise UserError(f'--assign names groups: it does not go with --split-by {self.split_by}')
        if self.tile is not None and self.link:
            raise UserError('--link keeps images whole: it does not go with --tile')
        if self.gap < 0:
            raise UserError(f'--gap: expected metres from 0 on, found {self.gap}')


@dataclass
class Report:
    """What was found, and what was made of it.

    Args:
        taxonomy: Taxonomy of the labels.
        patches: The images with their splits.
        problems: One line a bad file.
        left_out: Good images that are in no split, with the reason.
        warnings: What a user should know.
        leaks: Images of different splits that share ground.
        rule: How the data were split.
        block_size: Side of a block, m, where they were split by blocks.
    """

    taxonomy: Taxonomy
    patches: list[Patch] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    leaks: list[Leak] = field(default_factory=list)
    rule: str | None = None
    block_size: float | None = None

    def table(self) -> list[str]:
        """Return the splits as lines: images, share of all, and each class's share of the labelled pixels."""
        width = max(len(name) for name in self.taxonomy.classes)
        columns = [split for split in SPLITS if any(patch.split == split for patch in self.patches)]
        members = {split: [patch for patch in self.patches if patch.split == split] for split in columns}
        pixels = {split: np.sum([patch.pixels for patch in members[split]], axis=0) for split in columns}
        lines = [' ' * width + ''.join(f'{split:>10}' for split in columns)]
        lines.append(f'{"images":<{width}}' + ''.join(f'{len(members[split]):>10}' for split in columns))
        for index, name in enumerate(self.taxonomy.classes):
            row = ''.join(f'{pixels[split][index] / max(1, pixels[split].sum()):>10.1%}' for split in columns)
            lines.append(f'{name:<{width}}{row}')
        return lines


class BadFiles(UserError):
    """Files that cannot be used; `problems` holds a line for each."""

    def __init__(self, message: str, problems: list[str]) -> None:
        super().__init__(message)
        self.problems = problems


def prepare(source: str | Path, out: str | Path, options: Options, dry_run: bool = False) -> Report:
    """Prepare a data set.

    Writes `OUT/images/<id>.<ext>`, `OUT/masks/<id>.png` (class ids of the target taxonomy, with its colours) and
    `OUT/manifest.json`. All is built in a hidden folder beside `OUT` and renamed at the end.

    Args:
        source: Root of the data set as published.
        out: Folder to write.
        options: How.
        dry_run: Do everything but write.

    Raises:
        BadFiles: files are damaged or do not fit (all are listed), and `options.skip_bad` is not set.
        UserError: nothing there, options that contradict each other, splits that cannot be made or share ground, or
            `out` is in the way.
    """
    source, out = Path(source), Path(out)
    check_target(source, out, options.overwrite)
    report, labels = examine_all(source, options)
    if report.problems and not options.skip_bad:
        raise bad_files(source, report, 'nothing was written; --skip-bad leaves them out')
    if not report.patches:
        raise UserError(f'{source}: no usable pair of image and mask')
    make_splits(report, options)
    hashes = parallel(sha256_of, [patch.sample.image for patch in report.patches], 'hash')
    report.leaks = find_leaks(report.patches, hashes)
    if report.leaks and not options.allow_leaks:
        raise BadFiles(
            f'{source}: {len(report.leaks)} pairs of images in different splits share ground, nothing was written; '
            f'first: {report.leaks[0]} (split by --group-regex or blocks; --allow-leaks writes all the same)',
            [str(leak) for leak in report.leaks],
        )
    if not dry_run:
        with building(out, options.overwrite) as folder:
            write(folder, source, report, labels, options)
    return report


def examine_all(source: Path, options: Options) -> tuple[Report, LabelReader]:
    """Read and check every pair of a data set, without splitting it."""
    listing = list_samples(source, options.layout, group_regex=options.group_regex)
    target = get_taxonomy(options.taxonomy)
    own = get_taxonomy(options.source_taxonomy or listing.taxonomy or target)
    labels = LabelReader(own, get_remap(own, target, options.remap), options.mask_band)
    report = Report(target, problems=list(listing.problems))
    labelled = [sample for sample in listing.samples if sample.mask is not None]
    report.left_out = [(sample.id, 'no mask published') for sample in listing.samples if sample.mask is None]

    def read(sample: Sample) -> list[Patch] | str:
        try:
            return examine(sample, labels, options.tile, options.align, options.bands)
        except UserError as error:
            return str(error)

    for result in parallel(read, labelled, 'check'):
        if isinstance(result, str):
            report.problems.append(result)
        else:
            report.patches += result
    report.patches.sort(key=lambda patch: patch.id)
    twice = next((a.id for a, b in zip(report.patches, report.patches[1:]) if a.id == b.id), None)
    if twice is not None:
        raise UserError(f'{source}: two images would be called {twice!r}')
    report.warnings = warnings_of(report.patches)
    return report, labels


def warnings_of(patches: Sequence[Patch]) -> list[str]:
    """Say what is no error but should be known: missing CRS, mixed bands, resampled masks, pixels without data."""
    found = []
    bare = [patch for patch in patches if is_raster(patch.sample.image) and patch.crs is None]
    if bare:
        found.append(f'{len(bare)} GeoTIFFs have no CRS, first: {bare[0].sample.image}: their place is not checked')
    kinds = sorted({(patch.bands, patch.dtype) for patch in patches})
    if len(kinds) > 1:
        found.append('images differ: ' + ', '.join(f'{count} bands of {dtype}' for count, dtype in kinds))
    resampled = sorted({patch.sample.mask for patch in patches if patch.resampled})
    if resampled:
        found.append(f'{len(resampled)} masks resampled to the grids of their images, first: {resampled[0]}')
    empty = [patch for patch in patches if patch.nodata_pixels]
    if empty:
        count, total = (sum(values) for values in zip(*((p.nodata_pixels, p.width * p.height) for p in empty)))
        found.append(
            f'{len(empty)} images hold no data in {count} pixels ({count / total:.1%} of theirs): ignored there, '
            f'first: {empty[0].sample.image}'
        )
    return found


def make_splits(report: Report, options: Options) -> None:
    """Split the patches of a report as the options say."""
    patches = report.patches
    rule = options.split_by
    if options.assign is not None:
        rule = 'groups'
    if rule is None:
        if all(patch.sample.split for patch in patches):
            rule = 'official'
        elif all(patch.corners and patch.crs for patch in patches):
            rule = 'blocks'
        else:
            rule = 'groups'
    report.rule = rule
    if rule == 'official':
        report.patches = split_as_published(patches)
    elif rule == 'blocks':
        report.patches, left_out, report.block_size = split_by_blocks(
            patches, options.ratios, options.seed, options.block_size, options.gap
        )
        report.left_out += [(patch.id, reason) for patch, reason in left_out]
        side = tile_side(patches)
        if options.gap == 0 and report.block_size < 1.01 * side:
            report.warnings.append(
                f'blocks of {report.block_size:g} m are no larger than a tile ({side:.4g} m): neighbouring tiles end '
                'up in different splits; use a larger --block-size or --gap'
            )
    elif options.assign is not None:
        report.patches = split_as_told(patches, options.assign)
    else:
        images = {patch.sample.image for patch in patches}
        if len(images) > 1 and len({patch.sample.group for patch in patches}) == len(images):
            report.warnings.append(
                'every image is a group of its own: unless each shows different ground, give --group-regex'
            )
        report.patches = split_by_groups(patches, options.ratios, options.seed)


def check_target(source: Path, out: Path, overwrite: bool) -> None:
    """Refuse to write into the source, over foreign files, or over a prepared data set without `overwrite`.

    Raises:
        UserError: one of these.
    """
    inside, root = out.resolve(), source.resolve()
    if inside == root or root.is_relative_to(inside):
        raise UserError(f'--out {out}: holds the source {source}')
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(f'--out {out}: is a file')
    if (out / MANIFEST_NAME).is_file():
        if not overwrite:
            raise UserError(f'--out {out}: holds a prepared data set already; --overwrite replaces it')
    elif any(out.iterdir()):
        raise UserError(f'--out {out}: is neither empty nor a prepared data set: nothing there will be replaced')


@contextmanager
def building(out: Path, overwrite: bool) -> Iterator[Path]:
    """Yield a new hidden folder beside `out`; rename it to `out` when the body ends well, else remove it.

    What a killed run of this machine left behind is removed first. Errors name `out`, not the hidden folder.
    """
    asked, out = out, out.absolute()
    out.parent.mkdir(parents=True, exist_ok=True)
    host = socket.gethostname()
    remove_abandoned(out, host)
    folder = out.with_name(f'.{out.name}.partial-{host}-{os.getpid()}-{uuid.uuid4().hex[:8]}')
    try:
        folder.mkdir()
        yield folder
        if out.exists():
            check_target(folder, out, overwrite)  # it may have come into being meanwhile
            old = folder.with_name(folder.name + '-replaced')
            os.rename(out, old)
            try:
                os.rename(folder, out)
            except BaseException:
                os.rename(old, out)
                raise
            shutil.rmtree(old)
        else:
            os.rename(folder, out)
    except (UserError, OSError) as error:
        error.args = tuple(str(a).replace(str(folder), str(asked)) if isinstance(a, str) else a for a in error.args)
        if isinstance(error, OSError) and error.filename is not None:
            error.filename = str(error.filename).replace(str(folder), str(asked))
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(out: Path, host: str) -> None:
    """Remove what dead processes of this machine left of building `out`; put back a data set they had set aside."""
    for path in sorted(out.parent.glob(f'.{out.name}.partial-{host}-*')):
        process = path.name.removeprefix(f'.{out.name}.partial-{host}-').split('-')[0]
        if not process.isdigit() or _is_alive(int(process)):
            continue
        if path.name.endswith('-replaced') and not out.exists():
            os.rename(path, out)
        else:
            shutil.rmtree(path)


def write(folder: Path, source: Path, report: Report, labels: LabelReader, options: Options) -> None:
    """Write images, masks and manifest into an empty folder."""
    (folder / 'images').mkdir()
    (folder / 'masks').mkdir()
    groups: dict[Path, list[Patch]] = {}
    for patch in report.patches:
        groups.setdefault(patch.sample.image, []).append(patch)
    palette = list(report.taxonomy.palette)
    palette += [IGNORE_COLOUR] * (256 - len(palette))

    def write_sample(patches: list[Patch]) -> list[dict[str, Any]]:
        sample = patches[0].sample
        mask = read_labels(sample.image, sample.mask, labels, options.align, options.bands).mask
        return [write_patch(patch, mask) for patch in patches]

    def write_patch(patch: Patch, mask: np.ndarray) -> dict[str, Any]:
        image = folder / 'images' / (patch.id + patch.sample.image.suffix.lower())
        if patch.window is not None:
            image = cut_image(patch, image)
            sidecars = [path for path in [image.with_name(image.name + AUX)] if path.is_file()]
            left, top, width, height = patch.window
            mask = mask[top : top + height, left : left + width]
        else:
            carry = link_file if options.link else shutil.copyfile
            carry(patch.sample.image, image)
            sidecars = carry_sidecars(patch.sample.image, image, carry)
        label = folder / 'masks' / f'{patch.id}.png'
        picture = Image.fromarray(np.ascontiguousarray(mask))
        picture.putpalette([value for colour in palette for value in colour])
        picture.save(label)
        return {
            'id': patch.id,
            'image': f'images/{image.name}',
            'mask': f'masks/{label.name}',
            'image_sha256': sha256_of(image),
            'mask_sha256': sha256_of(label),
            'sidecars': {f'images/{path.name}': sha256_of(path) for path in sidecars},
            'width': patch.width,
            'height': patch.height,
            'group': patch.sample.group,
            'split': patch.split,
            'crs': patch.crs,
            'bounds': patch.bounds,
            'pixels': list(patch.pixels),
            'nodata_pixels': patch.nodata_pixels,
            'source': patch.sample.image.relative_to(source).as_posix(),
            'window': None if patch.window is None else list(patch.window),
        }

    items = sorted(
        (item for part in parallel(write_sample, list(groups.values()), 'write') for item in part),
        key=lambda item: item['id'],
    )
    counts = {split: sum(item['split'] == split for item in items) for split in SPLITS}
    write_json(
        folder / MANIFEST_NAME,
        {
            'version': VERSION,
            'taxonomy': report.taxonomy.metainfo,
            'source': {
                'root': str(source),
                'layout': options.layout,
                'taxonomy': labels.source.name,
                'remap': [int(value) for value in labels.remap.hard],
                'tile': options.tile,
                'align': options.align,
                'mask_band': options.mask_band,
                'bands': sorted({patch.bands for patch in report.patches}),
                'dtypes': sorted({patch.dtype for patch in report.patches}),
            },
            'split': {
                'rule': report.rule,
                'ratios': None if report.rule == 'official' or options.assign else list(options.ratios),
                'seed': options.seed,
                'block_size': report.block_size,
                'gap': options.gap,
                'group_regex': options.group_regex,
                'assign': None if options.assign is None else {k: list(v) for k, v in options.assign.items()},
                'counts': counts,
                'leaks': len(report.leaks),
            },
            'skipped': report.problems,
            'left_out': [{'id': name, 'reason': reason} for name, reason in report.left_out],
            'items': items,
        },
    )


def cut_image(patch: Patch, path: Path) -> Path:
    """Write the window of a patch as an image of its own; return its path.

    A GeoTIFF stays one, with its bands and their names, values, CRS and nodata; a PNG stays PNG; a JPEG becomes PNG, so
    that it is not compressed twice. Where the picture has a place on the ground, the PNG gets a sidecar that says so.

    Raises:
        UserError: it cannot be read or written.
    """
    left, top, width, height = patch.window
    if is_raster(patch.sample.image):
        path = path.with_suffix('.tif')
        window = Window(left, top, width, height)
        with open_raster(patch.sample.image) as source:
            profile = dict(
                driver='GTiff',
                width=width,
                height=height,
                count=source.count,
                dtype=source.dtypes[0],
                crs=source.crs,
                transform=source.window_transform(window),
                nodata=source.nodata,
                compress='deflate',
            )
            with rasterio.open(path, 'w', **profile) as target:
                target.colorinterp = source.colorinterp  # before the pixels: afterwards GDAL writes a sidecar
                if source.colorinterp[0] == ColorInterp.palette:
                    target.write_colormap(1, source.colormap(1))
                target.descriptions = source.descriptions
                target.write(source.read(window=window))
        return path
    path = path.with_suffix('.png')
    # Pillow cuts 16-bit colour down to 8; OpenCV keeps it. The file was found whole before.
    image = cv2.imread(str(patch.sample.image), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise UserError(f'{patch.sample.image}: not readable by OpenCV')
    if not cv2.imwrite(str(path), image[top : top + height, left : left + width]):
        raise UserError(f'{path}: could not be written')
    if patch.corners is not None:
        write_georeference(path, patch.crs, patch.corners, (width, height))
    return path


def bad_files(source: Path, report: Report, consequence: str) -> BadFiles:
    """Return the error that lists the problems of a report."""
    count = len(report.problems)
    total = len({patch.sample.image for patch in report.patches}) + count
    if count == 1:
        return BadFiles(f'{report.problems[0]} ({consequence})', report.problems)
    return BadFiles(f'{source}: {count} of {total} pairs are bad; {consequence}; first: {report.problems[0]}',
                    report.problems)


def name_or_file(text: str | None) -> str | dict[str, Any] | None:
    """Return a name as it is, or the content of a file `….json`.

    Raises:
        UserError: the file is missing, or no JSON object.
    """
    if text is None or not text.endswith('.json'):
        return text
    try:
        value = json.loads(Path(text).read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise UserError(f'{text}: not readable as JSON: {error}') from error
    if not isinstance(value, dict):
        raise UserError(f'{text}: expected a JSON object, found {type(value).__name__}')
    return value


def parallel(function: Callable[[T], R], items: Sequence[T], description: str) -> list[R]:
    """Apply a function to items in threads (reading releases the interpreter), in order, with a progress bar."""
    with warnings.catch_warnings(), ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        # Filters are global to the process: what a thread sets and restores reaches the others at random.
        warnings.simplefilter('ignore', NotGeoreferencedWarning)
        with interrupts_held():  # one that strikes while a task is being queued can leave the queue's lock taken
            futures = [pool.submit(function, item) for item in items]
        try:
            return [future.result() for future in progress(futures, description, total=len(items), unit='file')]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Let SIGINT and SIGTERM wait until the body is done."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
