"""An import on disk: `DIR/annotations.json` and `DIR/images/`, built beside its place and renamed there."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from projects.engine.errors import UserError
from projects.engine.files import atomic_folder, check_output_folder
from projects.engine.progress import progress
from projects.roofline.annotations import FILE_NAME, IMAGE_FOLDER, read_annotations, write_annotations
from projects.roofline.importing.reading import Imported, Reading
from projects.roofline.importing.splits import count_splits, draw_splits, group_names, join_overlaps


@dataclass(frozen=True)
class SplitOptions:
    """How images are split.

    Args:
        val_share: Share of the images for val; with 0 for both the splits of the source stay.
        test_share: The same for test.
        group: A regular expression that names the map sheet in a file name; None: single images.
        seed: Of the hash.
    """

    val_share: float = 0.0
    test_share: float = 0.0
    group: str | None = None
    seed: int = 0


def split_images(reading: Reading, options: SplitOptions) -> Reading:
    """Give the images of a reading their splits.

    Images of one map sheet stay together, and so do georeferenced images that show the same ground.

    Raises:
        UserError: As :func:`~projects.roofline.importing.splits.draw_splits`; or two of the source's own splits share
            ground.
    """
    names = [image.annotation.file for image in reading.images]
    groups = join_overlaps(group_names(names, options.group), [image.ground for image in reading.images])
    if not options.val_share and not options.test_share:
        first: dict[str, Imported] = {}
        for group, image in zip(groups, reading.images, strict=True):
            other = first.setdefault(group, image).annotation
            if other.split != image.annotation.split:
                raise UserError(f'{other.file} ({other.split}) and {image.annotation.file} ({image.annotation.split}) '
                                'share ground: expected one split for both; --val-share draws new splits')
        return reading
    splits = draw_splits(groups, options.val_share, options.test_share, options.seed)
    note = f'splits: {len(set(groups))} groups of images that share no ground: {count_splits(splits)}'
    return Reading(tuple(replace(image, annotation=replace(image.annotation, split=split))
                         for image, split in zip(reading.images, splits, strict=True)), (*reading.notes, note))


def write_import(folder: str | Path, images: Sequence[Imported], link: bool = False, overwrite: bool = False) -> None:
    """Write annotations and images.

    Args:
        folder: New or empty; with ``overwrite`` an earlier import there is replaced.
        images: To write; of those without image file only the annotation is written.
        link: Link the images to where they lie instead of copying them.
        overwrite: Replace what is there.

    Raises:
        UserError: The folder holds something else, an image disappeared, two are of one name, or an annotation is not
            valid. Then nothing was written.
    """
    folder = Path(folder)
    check_output_folder(folder)
    _check_folder(folder, overwrite)
    inside = [image.image for image in images if image.image and image.image.resolve().is_relative_to(folder.resolve())]
    if link and inside:
        raise UserError(f'--link: expected images outside of {folder}, which is replaced, found {inside[0]}')
    with atomic_folder(folder) as temporary:
        write_annotations(temporary, [image.annotation for image in images])
        (temporary / IMAGE_FOLDER).mkdir()
        for image in progress(images, 'images', unit='image'):
            if image.image is None:
                continue
            target = temporary / IMAGE_FOLDER / image.annotation.file
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                if link:
                    target.symlink_to(image.image.resolve())
                else:
                    shutil.copyfile(image.image, target)
            except OSError as error:
                raise UserError(f'{image.image}: not copied: {error.strerror or error}') from error


def _check_folder(folder: Path, overwrite: bool) -> None:
    """Make sure that nothing of the user's is lost."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not overwrite:
        raise UserError(f'--out {folder}: expected an empty folder, found files in it (--overwrite replaces an import)')
    if not (folder / FILE_NAME).is_file():
        raise UserError(f'--out {folder}: expected an import to overwrite, found no {FILE_NAME} in it')
    known = {annotation.file for annotation in read_annotations(folder)}
    for path in sorted(folder.rglob('*')):
        name = path.relative_to(folder).as_posix()
        if (path.is_symlink() or not path.is_dir()) and name != FILE_NAME and (
                name.removeprefix(f'{IMAGE_FOLDER}/') not in known or not name.startswith(f'{IMAGE_FOLDER}/')):
            raise UserError(f'--out {folder}: expected only an import to overwrite, found {name}, which is none of its '
                            'images')
