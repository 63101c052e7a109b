"""What a reader of a foreign format returns: annotations, where their images lie, and what has to be said."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from projects.engine.errors import UserError
from projects.roofline.annotations import Annotation


@dataclass(frozen=True, eq=False)
class Imported:
    """One image of a source.

    Args:
        annotation: As it will be written; its split is the source's, or 'train' where the source has none.
        image: The image file; None where there are labels only.
        ground: The image's corners, (4, 2) longitude and latitude, where it is georeferenced: images that show the
            same ground stay in one split.
    """

    annotation: Annotation
    image: Path | None
    ground: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Reading:
    """All images of a source, and one line for everything that the user should know."""

    images: tuple[Imported, ...]
    notes: tuple[str, ...] = ()


def unique_names(images: list[Imported], folders: list[str], place: str) -> list[Imported]:
    """Give images of the same name in different folders the folder's name in front: ``train_a.png``.

    Args:
        images: Of one source.
        folders: The folder of each; '' for none.
        place: The source, for the message.

    Raises:
        UserError: Two images of one folder have the same name.
    """
    times: dict[str, int] = {}
    for image in images:
        times[image.annotation.file] = times.get(image.annotation.file, 0) + 1
    named, seen = [], set()
    for image, folder in zip(images, folders, strict=True):
        name = image.annotation.file
        if times[name] > 1 and folder:
            name = f'{folder}_{name}'
        if name in seen:
            raise UserError(f'{place}: expected each image once, found {image.annotation.file} twice')
        seen.add(name)
        named.append(replace(image, annotation=replace(image.annotation, file=name)))
    return named


def listed(names: list[str]) -> str:
    """Return names for a message: the first, and how many more."""
    return names[0] if len(names) == 1 else f'{names[0]} and {len(names) - 1} more'
