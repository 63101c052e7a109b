"""Read the label file of an image: on the same ground, the right band, and ignored where there is no data."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.windows import Window

from projects.engine.errors import UserError
from projects.geo.alignment import check_pair, resample_to
from projects.geo.raster import IGNORE, is_raster, open_raster, read_errors, read_mask, read_valid_mask
from projects.landcover.taxonomy import LabelReader

STRIP = 1024  # rows read at a time where an image may hold nodata


@dataclass(frozen=True)
class Labels:
    """The labels of one image.

    Args:
        mask: (H, W) uint8 target class ids, 255 where ignored.
        resampled: Whether they were resampled to the image's grid.
        nodata: (H, W) bool, true where the image or the label file holds no data; None where both are whole.
    """

    mask: np.ndarray
    resampled: bool
    nodata: np.ndarray | None


def read_labels(
    image: str | Path,
    mask: str | Path,
    reader: LabelReader,
    align: str = 'refuse',
    bands: Sequence[int] = (),
    look_at_image: bool = True,
) -> Labels:
    """Read a mask as target class ids; ignored where it or its image holds no data.

    Args:
        image, mask: The pair of files. Their sizes are left to the caller to compare.
        reader: Turns file values into class ids, and says which band holds them.
        align: 'refuse' a georeferenced mask that does not lie on its image's grid, or 'resample' it.
        bands: The image's bands in use, from 1, see :func:`nodata_of_image`.
        look_at_image: Whether to ignore labels where the image holds no data. False for prepared masks, which do so
            already.

    Raises:
        UserError: damaged file, labels outside the taxonomy, or (align='refuse') a mask off its image's grid.
    """
    resampled = False
    if is_raster(image) and is_raster(mask):
        try:
            check_pair(image, mask)
        except UserError:
            if align != 'resample':
                raise
            resampled = True
    if resampled:
        values, declared = resample_to(mask, image), _declared_nodata(mask, reader)
        nodata = None if declared is None else values == declared
    else:
        values, nodata = read_file_values(mask, reader)
    if nodata is not None:
        values[nodata] = IGNORE
    labels = reader(values, mask)
    hidden = nodata_of_image(image, bands) if look_at_image else None
    if hidden is not None and hidden.shape == labels.shape:
        labels[hidden] = IGNORE
        nodata = hidden if nodata is None else nodata | hidden
    return Labels(labels, resampled, nodata if nodata is not None and nodata.any() else None)


def read_file_values(path: str | Path, reader: LabelReader) -> tuple[np.ndarray, np.ndarray | None]:
    """Read a label file as (H, W) uint8, and where it holds its declared nodata value (H, W) bool, or None.

    Nodata may lie outside 0..255 (-9999); such pixels come out as 255. A value that is a class is no nodata.

    Raises:
        UserError: damaged file, several bands and none was chosen, or values outside 0..255.
    """
    nodata = _declared_nodata(path, reader)
    if nodata is None or 0 <= nodata <= 255:
        values = read_mask(path, band=reader.band)
        return values, None if nodata is None else values == nodata
    with open_raster(path) as dataset, read_errors(path):
        values = dataset.read(reader.band or 1)
    missing = np.isnan(values) if np.isnan(nodata) else values == nodata
    outside = values[~missing & ~((values >= 0) & (values <= 255) & (values == np.floor(values)))]
    if outside.size:
        raise UserError(f'{path}: expected class indices 0..255, found {outside.flat[0]} in {outside.size} pixels')
    return np.where(missing, np.int16(IGNORE), values).astype(np.uint8), missing


def nodata_of_image(path: str | Path, bands: Sequence[int] = ()) -> np.ndarray | None:
    """Return (H, W) bool, true where an image holds no data (nodata value, alpha 0, mask, not a number), or None.

    The pixels are read only where the header says that some may be without data.

    Args:
        path: The image.
        bands: Bands in use, from 1. Default: the first three without alpha. An alpha band among them counts as data;
            so does one that is mostly not opaque where it is not 0: infrared is often tagged as alpha by mistake.
    """
    if not is_raster(path) and not _is_png_with_alpha(path):
        return None
    with open_raster(path) as dataset, read_errors(path):
        alpha = [band for band, meaning in enumerate(dataset.colorinterp, start=1) if meaning == ColorInterp.alpha]
        bands = list(bands) or [band for band in dataset.indexes if band not in alpha][:3] or [1]
        for band in alpha:
            if band not in bands and _is_no_alpha(dataset.read(band)):
                bands.append(band)
        if not (
            any(dataset.nodatavals[band - 1] is not None for band in bands)
            or any(np.dtype(dataset.dtypes[band - 1]).kind == 'f' for band in bands)
            or any(band not in bands for band in alpha)
            or MaskFlags.per_dataset in dataset.mask_flag_enums[bands[0] - 1]
        ):
            return None
        nodata = np.concatenate([
            ~read_valid_mask(dataset, Window(0, top, dataset.width, min(STRIP, dataset.height - top)), bands)
            for top in range(0, dataset.height, STRIP)
        ])
    return nodata if nodata.any() else None


def _declared_nodata(path: str | Path, reader: LabelReader) -> float | None:
    """Return the nodata value that a GeoTIFF of labels declares, unless it is a class."""
    if not is_raster(path):
        return None
    with open_raster(path) as dataset:
        band = reader.band
        if band is None and dataset.count > 1:
            raise UserError(f'{path}: expected a mask of 1 band, found {dataset.count} bands: say which one holds the '
                            'labels: --mask-band (mask_band of LandCoverDataset)')
        if band is not None and not 1 <= band <= dataset.count:
            raise UserError(f'{path}: mask band {band}: the file has {dataset.count}')
        nodata = dataset.nodatavals[(band or 1) - 1]
    return None if nodata in reader.source.values else nodata


def _is_no_alpha(plane: np.ndarray) -> bool:
    seen = plane[plane > 0]
    return seen.size > 0 and np.count_nonzero(seen == np.iinfo(plane.dtype).max) < seen.size / 2


def _is_png_with_alpha(path: str | Path) -> bool:
    if Path(path).suffix.lower() != '.png':
        return False
    with open(path, 'rb') as file:
        head = file.read(26)
    return len(head) == 26 and head[25] in (4, 6)  # colour types grey + alpha, RGB + alpha
