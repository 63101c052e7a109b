"""Predict class rasters from images and GeoTIFFs of any size with any model: the part that knows no task."""

import csv
import io
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import rasterio
from rasterio.errors import RasterioError

from projects.engine.errors import UserError
from projects.engine.files import atomic_path, check_output_folder
from projects.geo.raster import IGNORE, IMAGE_SUFFIXES, check_bands, is_raster
from projects.geo.sources import Source, open_source
from projects.geo.vectors import HECTARE, pixel_areas, write_polygons
from projects.geo.windows import Band, PredictWindows, check_windows, predict_bands
from projects.geo.writers import ClassWriter, OverlayWriter, ProbabilityWriter, UncertaintyWriter

GDAL_CACHE_MB = 256  # tiles being filled, and the rows shared by neighbouring windows


@dataclass(frozen=True)
class Outputs:
    """What to write beside the class raster.

    Attributes:
        probabilities: a GeoTIFF with one uint8 band per class; probability = value / 254 (stored as the bands'
            scale), 255 = no data.
        overlay: the image with half-transparent class colours, an RGBA GeoTIFF or, for a picture, an RGB PNG.
        polygons: a GeoPackage of class polygons (:func:`projects.geo.vectors.write_polygons`).
        areas: a CSV of pixels, share and hectares per class.
        uncertainty: a GeoTIFF with the float32 bands ``entropy`` and ``disagreement``, 0..1, NaN = no data, see
            :class:`projects.geo.writers.UncertaintyWriter`. The model must then give one plane after the
            probabilities: the disagreement.
    """

    probabilities: bool = False
    overlay: bool = False
    polygons: bool = False
    areas: bool = False
    uncertainty: bool = False


@dataclass(frozen=True)
class Prediction:
    """What became of one input.

    Attributes:
        source: the input.
        classes: the class raster: a GeoTIFF for a GeoTIFF, a palette PNG for a picture.
        probabilities, overlay, polygons, areas, uncertainty: the other files, None where not asked for.
        names: class names by index.
        pixels: pixels per class.
        hectares: hectares per class; None without CRS.
        nodata_pixels: pixels without data.
        seconds: wall time.
        warnings: what the user should know.
        error: why this input failed; then the other fields are empty. None when it went well.
    """

    source: Path
    classes: Path | None = None
    probabilities: Path | None = None
    overlay: Path | None = None
    polygons: Path | None = None
    areas: Path | None = None
    uncertainty: Path | None = None
    names: tuple[str, ...] = ()
    pixels: tuple[int, ...] = ()
    hectares: tuple[float, ...] | None = None
    nodata_pixels: int = 0
    seconds: float = 0.0
    warnings: tuple[str, ...] = field(default=())
    error: str | None = None

    @property
    def files(self) -> list[Path]:
        """The files that were, or are to be, written."""
        return [path for path in (self.classes, self.probabilities, self.overlay, self.polygons, self.areas,
                                  self.uncertainty) if path]


def find_inputs(inputs: str | Path | Sequence[str | Path]) -> list[Path]:
    """Return the image files named by a file, a folder (its images, sorted, without subfolders) or a list of both.

    Raises:
        UserError: a path does not exist, a file has no known image suffix, or a folder holds no image.
    """
    paths = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    if not paths:
        raise UserError('no input given')
    found = []
    for path in map(Path, paths):
        if path.is_dir():
            images = sorted(file for file in path.iterdir()
                            if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file() and file.name[0] != '.')
            if not images:
                raise UserError(f'{path}: expected images ({", ".join(IMAGE_SUFFIXES)}), found none in this folder')
            found.extend(images)
        elif not path.exists():
            raise UserError(f'{path}: no such file or folder')
        elif path.suffix.lower() not in IMAGE_SUFFIXES:
            raise UserError(f'{path}: expected an image ({", ".join(IMAGE_SUFFIXES)}), found another file')
        else:
            found.append(path)
    return found


def plan_outputs(
    sources: Sequence[Path], out: str | Path, outputs: Outputs = Outputs(), overwrite: bool = False
) -> list[Prediction]:
    """Name the files to be written for each source, and refuse what would destroy something.

    Raises:
        UserError: an output would replace one of the sources, two outputs have one name, or a file exists already
            and ``overwrite`` is not set.
    """
    out = Path(out)
    plan = []
    for source in sources:
        raster, stem = is_raster(source), source.stem
        prediction = Prediction(
            source=source,
            classes=out / f'{stem}{".tif" if raster else ".png"}',
            probabilities=out / f'{stem}_probabilities.tif' if outputs.probabilities else None,
            overlay=out / f'{stem}_overlay{".tif" if raster else ".png"}' if outputs.overlay else None,
            polygons=out / f'{stem}_polygons.gpkg' if outputs.polygons else None,
            areas=out / f'{stem}_areas.csv' if outputs.areas else None,
            uncertainty=out / f'{stem}_uncertainty.tif' if outputs.uncertainty else None,
        )
        plan.append(prediction)
    check_targets([(one.source, path) for one in plan for path in one.files], out, overwrite)
    return plan


def check_targets(planned: Sequence[tuple[Path, Path]], out: str | Path, overwrite: bool = False) -> None:
    """Refuse to write what would destroy something.

    Args:
        planned: each input with each file that is to be written for it.
        out: folder of those files.
        overwrite: files that exist already may be replaced; inputs never.

    Raises:
        UserError: ``out`` is a file or may not be written to, a file would replace an input, two files have one name,
            or a file exists already.
    """
    check_output_folder(out)
    originals = {source.resolve() for source, _ in planned}
    taken: dict[Path, Path] = {}
    for source, path in planned:
        if path.resolve() in originals:
            raise UserError(f'{path}: is an input and would be replaced: choose another output folder')
        if path in taken:
            raise UserError(f'{path}: would be written for both {taken[path]} and {source}: predict them into '
                            'two folders')
        if path.exists() and not overwrite:
            raise UserError(f'{path}: exists already: overwrite is not set (--overwrite)')
        taken[path] = source


def predict_files(
    predict_windows: PredictWindows,
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    outputs: Outputs = Outputs(),
    overwrite: bool = False,
    **options,
) -> Iterator[Prediction]:
    """Predict images one after the other, and yield what became of each.

    All names are checked before the first image is read. One failing image does not stop the others: its
    ``Prediction`` carries the ``error``. A single input that fails raises instead.

    Args:
        predict_windows: the model, see :data:`projects.geo.windows.PredictWindows`.
        inputs: see :func:`find_inputs`.
        out: folder of the outputs.
        outputs: what to write beside the class raster.
        overwrite: replace existing outputs.
        **options: of :func:`predict_raster`.

    Raises:
        UserError: see :func:`find_inputs`, :func:`plan_outputs`, and a single failing input.
    """
    plan = plan_outputs(find_inputs(inputs), out, outputs, overwrite)
    for target in plan:
        try:
            yield predict_raster(predict_windows, target, **options)
        except UserError as error:
            if len(plan) == 1:
                raise
            yield Prediction(source=target.source, error=str(error))


def predict_raster(
    predict_windows: PredictWindows,
    target: Prediction,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    bands: Sequence[int] = (1, 2, 3),
    value_range: tuple[float, float] | None = None,
    window: int = 512,
    overlap: int = 128,
    batch_size: int = 2,
    tags: Mapping[str, str] | None = None,
) -> Prediction:
    """Predict one image and write the files that ``target`` names, each whole or not at all.

    A GeoTIFF is read and written in bands of rows: memory grows with its width, not with its height. A picture
    (PNG, JPEG, ...) is held in memory. The class raster of a GeoTIFF is a tiled, compressed uint8 GeoTIFF of the same
    size, CRS and transform (or ground control points), with colour table, nodata 255, overviews (most frequent
    class), the class names in its tags (``CLASS_0``, ``CLASS_1``, ...) and ``tags`` beside them.

    Args:
        predict_windows: from ``(N, C, window, window)`` float32 0..255, C as in ``bands``, to probabilities
            ``(N, classes, window, window)``, with the disagreement as one plane more where ``target`` names an
            uncertainty; they are averaged where windows overlap.
        target: source and output names, from :func:`plan_outputs`.
        classes: class names by index, at most 255.
        palette: ``(red, green, blue)`` per class.
        bands, value_range: what the network sees of the file, see :func:`projects.geo.raster.read_image`.
        window, overlap, batch_size: see :func:`projects.geo.windows.predict_bands`.
        tags: further tags of the class raster.

    Returns:
        ``target`` with the counts filled in.

    Raises:
        UserError: unreadable or unsuitable input, windows out of range, or an output that cannot be written.
    """
    started = time.monotonic()
    if not 1 <= len(classes) <= IGNORE or len(palette) != len(classes):
        raise UserError(f'expected 1..{IGNORE} classes with a colour each, found {len(classes)} classes and '
                        f'{len(palette)} colours')
    check_bands(bands)
    check_windows(window, overlap)
    if value_range is not None:
        value_range = tuple(value_range)
    with ExitStack() as stack:
        stack.enter_context(rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE_MB))
        source = stack.enter_context(open_source(target.source, bands, value_range))
        _refuse_sources(source, target)
        temporary = {path: stack.enter_context(atomic_path(path)) for path in target.files}
        writers = [ClassWriter(temporary[target.classes], source, classes, palette, tags or {})]
        if target.probabilities:
            writers.append(ProbabilityWriter(temporary[target.probabilities], source, classes))
        if target.overlay:
            writers.append(OverlayWriter(temporary[target.overlay], source, palette))
        if target.uncertainty:
            writers.append(UncertaintyWriter(temporary[target.uncertainty], source))
        count = _Counter(source, len(classes))
        with write_errors(target.classes.parent):
            with ExitStack() as open_files:
                for writer in writers:
                    open_files.enter_context(writer)
                for band in predict_bands(
                    predict_windows, source.read_band, source.height, source.width, len(classes),
                    window, overlap, batch_size, description=target.source.name,
                    extra=1 if target.uncertainty else 0,
                ):
                    indices = _most_likely(band)
                    count.add(band.top, indices)
                    for writer in writers:
                        writer.write(band, indices)
            for writer in writers:
                writer.finish()
        result = replace(target, names=tuple(classes), pixels=tuple(int(n) for n in count.pixels[:len(classes)]),
                         hectares=count.hectares(), nodata_pixels=int(count.pixels[IGNORE]),
                         warnings=tuple(_warnings(source, count)))
        if target.polygons:
            write_polygons(temporary[target.classes], temporary[target.polygons], classes)
        if target.areas:
            temporary[target.areas].write_text(areas_table(result), encoding='utf-8')
    return replace(result, seconds=time.monotonic() - started)


def areas_table(prediction: Prediction) -> str:
    """Return class areas as CSV: id, name, pixels, share of the valid pixels, and hectares (empty without CRS)."""
    total = max(1, sum(prediction.pixels))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(['class_id', 'class_name', 'pixels', 'share', 'hectares'])
    for index, (name, pixels) in enumerate(zip(prediction.names, prediction.pixels, strict=True)):
        hectares = '' if prediction.hectares is None else f'{prediction.hectares[index]:.6f}'
        writer.writerow([index, name, pixels, f'{pixels / total:.6f}', hectares])
    return text.getvalue()


@contextmanager
def write_errors(folder: Path) -> Iterator[None]:
    """Turn GDAL's failure to write inside the block (a full disk) into a :class:`UserError`."""
    try:
        yield
    except RasterioError as error:
        raise UserError(f'{folder}: an output could not be written ({error})') from error


def _refuse_sources(source: Source, target: Prediction) -> None:
    """Refuse to replace a file that the source is made of (a VRT names others)."""
    parts = {target.source.resolve()}
    if not source.is_picture:
        parts |= {Path(part).resolve() for part in source.dataset.files}
    for path in target.files:
        if path.resolve() in parts:
            raise UserError(f'{path}: is a part of the input {target.source} and would be replaced: choose another '
                            'output folder')


def _warnings(source: Source, count: '_Counter') -> Iterator[str]:
    yield from source.warnings()
    if count.pixels[IGNORE] == source.height * source.width:
        yield f'{source.path}: holds no valid pixel'


class _Counter:
    """Pixels and square metres per class, summed as the bands come."""

    def __init__(self, source: Source, classes: int) -> None:
        self._source, self._classes = source, classes
        self.pixels = np.zeros(IGNORE + 1, dtype=np.int64)
        self._square_metres = np.zeros(classes)

    def add(self, top: int, indices: np.ndarray) -> None:
        rows = len(indices)
        keys = indices + (np.arange(rows, dtype=np.int64) * (IGNORE + 1))[:, None]
        counts = np.bincount(keys.ravel(), minlength=rows * (IGNORE + 1)).reshape(rows, IGNORE + 1)
        self.pixels += counts.sum(axis=0)
        areas = self._pixel_areas(top, rows)
        if areas is not None:
            self._square_metres += areas @ counts[:, :self._classes]

    def hectares(self) -> tuple[float, ...] | None:
        if self._pixel_areas(0, 1) is None:
            return None
        return tuple(float(area) for area in self._square_metres / HECTARE)

    def _pixel_areas(self, top: int, rows: int) -> np.ndarray | None:
        return pixel_areas(self._source.transform, self._source.crs, top, rows, self._source.width)


def _most_likely(band: Band) -> np.ndarray:
    """Return ``(rows, width)`` uint8: the first class of the highest score, 255 where the image holds no data."""
    best = band.scores[0].copy()
    indices = np.zeros(best.shape, dtype=np.uint8)
    for index, scores in enumerate(band.scores[1:], start=1):  # far quicker than argmax over the leading axis
        higher = scores > best
        np.copyto(best, scores, where=higher)
        indices[higher] = index
    indices[~band.valid] = IGNORE
    return indices

