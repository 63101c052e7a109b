"""The images that belong to annotations: found by name, and measured."""

import warnings
from pathlib import Path, PurePath, PurePosixPath

from PIL import Image

from projects.engine.errors import UserError
from projects.geo.raster import IMAGE_SUFFIXES, is_raster, open_raster
from projects.roofline.importing.reading import listed


class ImageFolder:
    """The images of a folder, looked up by path, by name or by name without suffix.

    Args:
        folder: Searched with its subfolders.

    Raises:
        UserError: There is no such folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise UserError(f'{self.folder}: expected a folder of images, found no folder')
        self.paths = sorted(path for path in self.folder.rglob('*')
                            if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
                            and not path.name.startswith('.'))
        # By path, name, path without suffix and name without suffix: the first that knows a name decides.
        self._by_key: list[dict[str, list[Path]]] = [{}, {}, {}, {}]
        for path in self.paths:
            relative = path.relative_to(self.folder)
            for known, key in zip(self._by_key, _keys(relative), strict=True):
                known.setdefault(key, []).append(path)
        self._used: set[Path] = set()

    def find(self, name: str) -> Path | None:
        """Return the image of a name, path or number (``a.png``, ``train/a.png``, ``9``); None where there is none.

        A name whose suffix is another than the file's finds it too: labels are often renamed with their images.

        Raises:
            UserError: Several images have that name.
        """
        plain = PurePosixPath(name.replace('\\', '/'))
        for known, key in zip(self._by_key, _keys(plain), strict=True):
            found = known.get(key, [])
            if len(found) > 1:
                raise UserError(f'{self.folder}: expected one image {name}, found '
                                f'{found[0].relative_to(self.folder)} and {found[1].relative_to(self.folder)}')
            if found:
                self._used.add(found[0])
                return found[0]
        return None

    def note_unused(self) -> list[str]:
        """Return a line on the images that :meth:`find` never returned; nothing where there are none."""
        unused = [path.relative_to(self.folder).as_posix() for path in self.paths if path not in self._used]
        return [f'{self.folder}: {len(unused)} images without annotation, {listed(unused)}'] if unused else []


def _keys(path: PurePath) -> tuple[str, str, str, str]:
    return path.as_posix(), path.name, path.with_suffix('').as_posix(), path.stem


def image_size(path: Path) -> tuple[int, int]:
    """Return (height, width) of an image, from its header.

    Raises:
        UserError: The file is no image.
    """
    if is_raster(path):
        with open_raster(path) as dataset:
            return dataset.height, dataset.width
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                return picture.height, picture.width
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f'{path}: damaged or no image ({" ".join(str(error).split())})') from error


def check_declared(declared: tuple[int, int], path: Path, place: str) -> None:
    """Make sure that labels were made on this image and not on a resized one.

    Args:
        declared: (height, width) that the labels give.
        path: The image.
        place: File and image, for the message.

    Raises:
        UserError: The sizes differ.
    """
    found = image_size(path)
    if found != declared:
        raise UserError(f'{place}: expected an image of {declared[1]} x {declared[0]} pixels as labelled, found '
                        f'{found[1]} x {found[0]} in {path}')
