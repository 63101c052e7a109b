"""Files beside an image that belong to it: world file, CRS, statistics, mask, overviews (.tfw, .aux.xml, .msk, …)."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from projects.geo.raster import open_raster
from projects.landcover.data.patches import crs_of

AUX = '.aux.xml'  # GDAL's own sidecar, read for every format


def carry_sidecars(source: Path, target: Path, carry: Callable[[Path, Path], object]) -> list[Path]:
    """Copy or link the sidecars that GDAL reads with an image to those of its copy; return the new files, sorted.

    Args:
        source: The image, `a.tif`: `a.tfw` and `a.tif.aux.xml` are its sidecars.
        target: Its copy, of any name.
        carry: Copies or links one file.
    """
    with open_raster(source) as dataset:
        files = [Path(name) for name in dataset.files]
    made = []
    for file in files:
        if file.name == source.name or file.parent != source.parent:
            continue
        if file.name.startswith(f'{source.name}.'):
            made.append(target.with_name(target.name + file.name[len(source.name) :]))
        elif file.name.startswith(f'{source.stem}.'):
            made.append(target.with_name(target.stem + file.name[len(source.stem) :]))
        else:  # metadata of a whole scene
            continue
        carry(file, made[-1])
    return sorted(made)


def link_file(source: Path, target: Path) -> None:
    """Make `target` a symbolic link to the file that `source` is in the end."""
    os.symlink(source.resolve(), target)


def write_georeference(
    path: Path,
    crs: str | None,
    corners: Sequence[tuple[float, float]],
    size: tuple[int, int],
) -> None:
    """Write the place of a picture on the ground into its `.aux.xml`.

    Args:
        path: The picture.
        crs: CRS as a manifest holds it, or None.
        corners: Upper left, upper right, lower right and lower left corner in that CRS.
        size: (width, height), px.
    """
    (x, y), (right_x, right_y), _, (down_x, down_y) = corners
    width, height = size
    transform = (x, (right_x - x) / width, (down_x - x) / height, y, (right_y - y) / width, (down_y - y) / height)
    srs = '' if crs is None else f'<SRS>{escape(crs_of(crs).to_wkt())}</SRS>'
    numbers = ', '.join(repr(float(value)) for value in transform)
    text = f'<PAMDataset>{srs}<GeoTransform>{numbers}</GeoTransform></PAMDataset>\n'
    path.with_name(path.name + AUX).write_text(text, encoding='utf-8')
