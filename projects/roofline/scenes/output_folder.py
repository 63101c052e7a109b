"""Where made roofs are written: a folder of their own that takes its place whole, at the end."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from projects.engine.errors import UserError
from projects.engine.files import atomic_folder, check_output_folder
from projects.roofline.annotations import FILE_NAME, IMAGE_FOLDER, read_annotations

RASTER_NAME, LIDAR_FOLDER = 'village', 'lidar'
_WINDOW = re.compile(r'(train|val|test)_\d{4,}_\d{4,}\.(png|tif)')
_TILE = re.compile(rf'{LIDAR_FOLDER}/LHD_FXX_\d+_\d+_PTS_LA93_IGN69\.laz')


@contextmanager
def made_beside(folder: str | Path, overwrite: bool = False, name: str = RASTER_NAME) -> Iterator[Path]:
    """Yield a temporary folder beside ``folder`` that takes its place when the body succeeds.

    When the body fails or is interrupted, ``folder`` stays as it was.

    Args:
        folder: New or empty; with ``overwrite`` made roofs there are replaced.
        overwrite: Replace made roofs.
        name: Of a village raster in ``folder``, without suffix.

    Raises:
        UserError: As :func:`check_target`, before the body and, since minutes have passed, after it.
    """
    check_target(folder, overwrite, name)
    with atomic_folder(folder) as temporary:
        yield temporary
        check_target(folder, overwrite, name)


def check_target(folder: str | Path, overwrite: bool = False, name: str = RASTER_NAME) -> None:
    """Make sure that a folder can be replaced as a whole, and that nothing is lost but made roofs.

    Raises:
        UserError: A file; a folder that cannot be renamed; files in it without ``overwrite``; with it annotations
            that are none of made roofs, or a file that is none of them.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f'--out {folder}: expected a folder, found a file')
    whole = folder.resolve()
    check_output_folder(folder)
    check_output_folder(whole.parent)
    if Path.cwd().is_relative_to(whole) or os.path.ismount(whole):
        raise UserError(f'--out {folder}: expected a folder that can be replaced, found the current one, one above it, '
                        'or a mount')
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not overwrite:
        raise UserError(f'--out {folder}: expected an empty folder, found files in it (--overwrite replaces made '
                        'roofs)')
    if not (folder / FILE_NAME).is_file():
        raise UserError(f'--out {folder}: expected made roofs to overwrite, found no {FILE_NAME} in it')
    known = {annotation.file for annotation in read_annotations(folder)}
    rasters = (f'{RASTER_NAME}.tif', f'{name}.tif')
    strange = sorted(file for file in known if not _WINDOW.fullmatch(file) and file not in rasters)
    if strange:
        raise UserError(f'--out {folder}: expected made roofs to overwrite, found annotations of {strange[0]}, which '
                        'are of another data set')
    for path in sorted(folder.rglob('*')):
        if path.is_dir() and not path.is_symlink():
            continue
        file = path.relative_to(folder).as_posix()
        image = file.removeprefix(f'{IMAGE_FOLDER}/')
        if file != FILE_NAME and not (image != file and image in known) and not _TILE.fullmatch(file):
            raise UserError(f'--out {folder}: expected only made roofs to overwrite, found {file}, which is none of '
                            'them')
