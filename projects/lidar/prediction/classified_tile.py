"""One tile from its file to its classified copy."""

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from projects.engine.errors import UserError
from projects.geo.point_clouds import PointHeader, copy_with
from projects.geo.point_tiles import TileIndex
from projects.lidar.classes import LOD3
from projects.lidar.prediction.answers import PointAnswers, gated_answers, mean_answers
from projects.lidar.prediction.gate import Gate
from projects.lidar.prediction.streaming import PredictPatches, TileStream
from projects.lidar.preparation.settings import Settings
from projects.lidar.preparation.tile import prepare_tile
from projects.lidar.store import Tile, read_tile

# What the copy gains: type and description of each dimension, by name.
DIMENSIONS: dict[str, tuple[str, str]] = {
    'terrace_class': ('u1', 'LOD3 class 0..29'),
    'terrace_confidence': ('f4', 'probability of the class'),
    'terrace_entropy': ('f4', '0..1, in units of log(classes)'),
    'terrace_disagreement': ('f4', '0..1, between the scales')}


@dataclass(frozen=True)
class Report:
    """What became of one tile.

    Attributes:
        points: Of the tile, all of them in the copy.
        patches: That the network saw, at all scales.
        unreached: Points in no patch (outliers), which took the answer of the nearest point in one.
        classes: Points by class name, of the classes that occur.
        confidence, disagreement: Means over all points.
        prepare_seconds, predict_seconds, write_seconds: Wall time.
        warnings: What the user should know.
    """

    points: int
    patches: int
    unreached: int
    classes: dict[str, int]
    confidence: float
    disagreement: float
    prepare_seconds: float
    predict_seconds: float
    write_seconds: float
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def classify_tile(predict: PredictPatches, header: PointHeader, index: TileIndex, settings: Settings,
                  out_path: str | Path, *, points: Mapping[str, int], batch: int = 2, gate: Gate | None = None,
                  overwrite: bool = False) -> Report:
    """Predict a tile and write a copy of its file with :data:`DIMENSIONS`: every point once, in order, unchanged.

    The prepared tile (and with a gate the scales' answers) lie in a temporary folder beside the output until it is
    written: about 65 bytes a point for one scale, 27 for each further one, 190 with a gate and three scales.

    Args:
        predict: The network.
        header: Of the input.
        index: Of all tiles whose points may lie in the buffer around it.
        settings: Of the preparation, see :func:`prediction_settings`; its scales are predicted, in their order.
        out_path: A ``.las`` or ``.laz`` file.
        points: How many points of a patch the network sees, by scale.
        batch: Patches given to the network at once.
        gate: Weighs the scales at each point. Default: their mean.
        overwrite: Replace the output where it exists.

    Raises:
        UserError: The tile cannot be read or has dimensions of these names already; no point of it lies in a patch; the
            output cannot be written.
    """
    taken = [name for name in DIMENSIONS if name in header.extra]
    if taken:
        raise UserError(f'{header.path}: expected a tile without predictions, found the dimension {taken[0]}')
    started = time.monotonic()
    with work_folder(out_path) as folder:
        prepared_path = folder / f'{header.path.stem}.safetensors'
        prepare_tile(header, index, settings, prepared_path)
        tile = read_tile(prepared_path)
        prepared = time.monotonic()
        answers, stream, unreached = _answer(tile, predict, tuple(settings.scales), points, batch, gate, folder)
        predicted = time.monotonic()
        values = in_file_order(tile, answers, header)
        missing = [name for name, array in (('colour', 'rgb'), ('infrared', 'nir')) if array not in tile]
        warnings = [f'{header.path}: no {" and no ".join(missing)}: predicted without'] if missing else []
        warnings += [f'{header.path}: {name} beside it cannot be read: predicted without'
                     for name in tile.record.get('unread') or ()]
        del tile
        copy_with(header.path, out_path, DIMENSIONS, values, overwrite=overwrite)
    counts = np.bincount(answers.classes, minlength=len(LOD3))
    return Report(
        points=header.count, patches=stream.patches, unreached=unreached,
        classes={name: int(count) for name, count in zip(LOD3, counts) if count},
        confidence=float(answers.confidence.mean(dtype=np.float64)),
        disagreement=float(answers.disagreement.mean(dtype=np.float64)), prepare_seconds=prepared - started,
        predict_seconds=predicted - prepared, write_seconds=time.monotonic() - predicted,
        warnings=tuple(warnings))


def _answer(tile: Tile, predict: PredictPatches, scales: tuple[str, ...], points: Mapping[str, int], batch: int,
            gate: Gate | None, folder: Path) -> tuple[PointAnswers, TileStream, int]:
    stream = TileStream(tile, scales, predict, len(LOD3), points, batch)
    if not stream.patches:
        raise UserError(f'{tile.record["source"]}: expected points for a patch, found {tile.points:,} outliers')
    answers = mean_answers(stream) if gate is None else gated_answers(stream, gate, folder)
    return answers, stream, answers.fill(tile, stream.order)


def in_file_order(tile: Tile, answers: PointAnswers, header: PointHeader) -> dict[str, np.ndarray]:
    """Return the values of :data:`DIMENSIONS` by place in the file.

    Raises:
        UserError: The prepared tile does not hold every point of the file.
    """
    places = np.asarray(tile.array('source_index'))
    if tile.points != header.count:
        raise UserError(f'{header.path}: expected {header.count:,} points, found {tile.points:,} prepared: did it '
                        'change meanwhile?')
    found = {}
    for name, values in zip(DIMENSIONS, (answers.classes, answers.confidence, answers.entropy, answers.disagreement)):
        found[name] = np.empty_like(values)
        found[name][places] = values
    return found


@contextmanager
def work_folder(out_path: str | Path) -> Iterator[Path]:
    """Yield an empty folder beside an output, and remove it in the end; those of killed runs go first."""
    out_path = Path(out_path)
    out_path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f'.{out_path.stem}.work-'
    for left in (path for path in out_path.parent.iterdir() if path.name.startswith(prefix)):
        shutil.rmtree(left, ignore_errors=True)
    for left in (path for path in out_path.parent.iterdir() if path.name.startswith(f'.{out_path.stem}.tmp-')):
        left.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=out_path.parent, ignore_cleanup_errors=True) as folder:
        yield Path(folder)
