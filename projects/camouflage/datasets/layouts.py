"""How camouflage data sets lie on disk: the official layouts, the repackaged ones, plain folders, generated scenes.

| layout | what is there | split |
|---|---|---|
| ``cod10k`` | ``{Train,Test}/Image`` + ``{Train,Test}/GT_Object`` (COD10K-v3) | as named |
| ``camo`` | ``Images/{Train,Test}`` + ``GT`` (CAMO-V.1.0) | as named |
| ``imgs`` | ``Imgs`` or ``Image`` + ``GT`` (CHAMELEON, NC4K) | test; train where the root is called ``Train…`` |
| ``repackaged`` | ``TrainDataset/{Imgs,Image}`` + ``GT``, ``TestDataset/<NAME>/{Imgs,Image}`` + ``GT`` | as named |
| ``scenes`` | ``{train,val,test}/images`` + ``masks``, ``scenes.json`` (tools/camouflage/make_scenes.py) | as named |
| ``plain`` | ``images`` + ``masks`` | train |
| ``photographs`` | images alone, no masks | test |

Folders are found whatever their case. Any of the splits of a layout may be missing.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from projects.engine.errors import UserError

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')
SPLITS = ('train', 'val', 'test')
IMAGES = ('Imgs', 'Image', 'Images')


@dataclass(frozen=True)
class Folder:
    """The images of one data set in one split.

    Args:
        split: 'train', 'val' or 'test'.
        dataset: Name of the data set; None where the names of the files tell it.
        images: Their folder.
        masks: That of their masks, perhaps shared with other splits; None where there are none.
        scenes: File that tells kind and difficulty of generated scenes.
    """

    split: str
    dataset: str | None
    images: Path
    masks: Path | None
    scenes: Path | None = None


def find_layout(root: str | Path, layout: str = 'auto') -> tuple[str, list[Folder]]:
    """Return the name of the layout at `root` and its folders.

    Args:
        root: Root folder of a data set.
        layout: A key of :data:`LAYOUTS`, or 'auto': the one that is there.

    Raises:
        UserError: no such folder, an unknown layout, nothing that fits, or more than one that does.
    """
    root = Path(root).expanduser()
    if layout != 'auto' and layout not in LAYOUTS:
        raise UserError(f"layout: expected 'auto' or one of {', '.join(LAYOUTS)}, found {layout!r}")
    if not root.is_dir():
        raise UserError(f'data_root {root}: no such folder')
    names = list(LAYOUTS) if layout == 'auto' else [layout]
    found = {name: folders for name in names if (folders := list(LAYOUTS[name][0](root)))}
    if layout == 'auto' and len(found) > 1:
        found.pop('photographs', None)  # pictures beside the folders of a data set are no data set
    if not found:
        looked = '; '.join(f'{name}: {LAYOUTS[name][1]}' for name in names)
        raise UserError(f'data_root {root}: expected the folders of a camouflage data set, found '
                        f'{_content(root)} (looked for {looked})')
    if len(found) > 1:
        raise UserError(f'data_root {root}: fits several layouts ({", ".join(found)}): say which one with layout=')
    return next(iter(found.items()))


def image_files(folder: Path) -> list[Path]:
    """Return the image files of a folder, sorted by name; hidden ones do not count."""
    return sorted(path for path in folder.iterdir()
                  if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith('.') and path.is_file())


def dataset_name(folder: str) -> str:
    """Return the field's name of a data set where a folder's name holds it, else the folder's name."""
    lower = folder.casefold()
    for name in ('COD10K', 'CHAMELEON', 'NC4K'):
        if name.casefold() in lower:
            return name
    return 'CAMO' if re.match(r'camo($|[-_. ])', lower) else folder


def dataset_of_file(stem: str, otherwise: str) -> str:
    """Return the data set that an image of a mixed training folder comes from, as its name tells."""
    lower = stem.casefold()
    return 'COD10K' if lower.startswith('cod10k') else 'CAMO' if lower.startswith('camourflage') else otherwise


def read_scenes(path: Path) -> dict[str, dict[str, Any]]:
    """Return what a ``scenes.json`` says about each image, by ``<split>/<stem>``.

    Raises:
        UserError: not the JSON that tools/camouflage/make_scenes.py writes.
    """
    try:
        rows = json.loads(path.read_text(encoding='utf-8'))['images']
        return {f'{row["split"]}/{Path(row["image"]).stem}': row for row in rows}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f'{path}: expected the facts of generated scenes (images: split, image, kind, difficulty), '
                        f'found {type(error).__name__}: {error}') from error


def _cod10k(root: Path) -> Iterator[Folder]:
    for split in ('train', 'test'):
        part = child(root, split)
        images, masks = child(part, *IMAGES), child(part, 'GT_Object')
        if images and masks:
            yield Folder(split, 'COD10K', images, masks)


def _camo(root: Path) -> Iterator[Folder]:
    images, masks = child(root, 'Images'), child(root, 'GT')
    for split in ('train', 'test'):
        part = child(images, split)
        if part and masks:
            yield Folder(split, 'CAMO', part, masks)


def _imgs(root: Path) -> Iterator[Folder]:
    images, masks = child(root, 'Imgs', 'Image', 'Images'), child(root, 'GT')
    if images and masks and not (child(images, 'train') or child(images, 'test')):
        training = root.resolve().name.casefold().startswith('train')
        name = None if training else dataset_name(root.resolve().name)
        yield Folder('train' if training else 'test', name, images, masks)


def _repackaged(root: Path) -> Iterator[Folder]:
    training, tests = child(root, 'TrainDataset'), child(root, 'TestDataset')
    if training:
        images, masks = child(training, *IMAGES), child(training, 'GT')
        if images and masks:
            yield Folder('train', None, images, masks)
    for part in sorted(tests.iterdir()) if tests else ():
        images, masks = child(part, *IMAGES), child(part, 'GT')
        if images and masks:
            yield Folder('test', dataset_name(part.name), images, masks)


def _scenes(root: Path) -> Iterator[Folder]:
    facts = root / 'scenes.json'
    for split in SPLITS:
        part = child(root, split)
        images, masks = child(part, 'images'), child(part, 'masks')
        if images and masks:
            yield Folder(split, root.resolve().name, images, masks, facts if facts.is_file() else None)


def _plain(root: Path) -> Iterator[Folder]:
    images, masks = child(root, 'images'), child(root, 'masks')
    if images and masks:
        yield Folder('train', dataset_name(root.resolve().name), images, masks)


def _photographs(root: Path) -> Iterator[Folder]:
    if image_files(root):
        yield Folder('test', dataset_name(root.resolve().name), root, None)


def child(folder: Path | None, *names: str) -> Path | None:
    """Return the first of the named subfolders that exists, whatever its case; None where there is none."""
    if folder is None or not folder.is_dir():
        return None
    for name in names:
        if (folder / name).is_dir():
            return folder / name
    for name in names:
        for path in sorted(folder.iterdir()):
            if path.name.casefold() == name.casefold() and path.is_dir():
                return path
    return None


def _content(root: Path) -> str:
    names = sorted(path.name + ('/' if path.is_dir() else '') for path in root.iterdir())
    return ', '.join(names[:6]) + (', …' if len(names) > 6 else '') if names else 'an empty folder'


LAYOUTS: dict[str, tuple[Callable[[Path], Iterator[Folder]], str]] = {
    'cod10k': (_cod10k, 'Train/Image + Train/GT_Object, Test/Image + Test/GT_Object'),
    'camo': (_camo, 'Images/Train, Images/Test + GT'),
    'imgs': (_imgs, 'Imgs or Image + GT'),
    'repackaged': (_repackaged, 'TrainDataset/Imgs + GT, TestDataset/NAME/Imgs + GT'),
    'scenes': (_scenes, 'train/images + train/masks, val/…, test/…'),
    'plain': (_plain, 'images + masks'),
    'photographs': (_photographs, 'image files'),
}
