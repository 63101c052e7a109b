"""Classify tiles: from a config, a checkpoint and LAS / LAZ / COPC tiles to copies that know their classes."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from projects.engine.errors import UserError, told
from projects.engine.files import sha256_of
from projects.geo.point_tiles import TileIndex, check_name, read_headers
from projects.geo.prediction import check_targets
from projects.geo.task_manifest import TaskManifest, digest_of, file_identity
from projects.lidar.prediction.classified_tile import Report, classify_tile
from projects.lidar.prediction.gate import Gate, check_gate, read_gate
from projects.lidar.prediction.streaming import PredictPatches
from projects.lidar.preparation.settings import Settings, make_scale
from projects.lidar.preparation.tile import reach

VERSION = 1  # of what a tile's answers are made of; another one makes all tiles anew
SUFFIXES = ('.las', '.laz')
RECORDS = 'records'
MERGES = ('mean', 'gate')


@dataclass(frozen=True)
class Classified:
    """One tile, and what became of it.

    Attributes:
        source, target: Its file and the classified copy.
        report: What :func:`classify_tile` said; None where nothing was done.
        already: It was done in an earlier call.
        warnings: What the user should know.
        error: Why it was not done.
        seconds: Wall time.
    """

    source: Path
    target: Path
    report: Report | None = None
    already: bool = False
    warnings: tuple[str, ...] = ()
    error: str | None = None
    seconds: float = 0.0


def classify(config: str | Path, checkpoint: str | Path, inputs: Sequence[str | Path], out: str | Path, *,
             scales: Sequence[str] | None = None, merge: str = 'mean', gate: str | Path | None = None, batch: int = 2,
             device: str | None = None, amp: bool = False, overwrite: bool = False,
             cfg_options: dict[str, Any] | None = None) -> Iterator[Classified]:
    """Classify tiles one after the other with the network of a config.

    ``out`` receives ``NAME.laz`` for each tile, with all of its points in order, all of its dimensions, and those of
    :data:`projects.lidar.prediction.classified_tile.DIMENSIONS`; and ``records/NAME.json``: a rerun does what is
    missing. What was made from another input, with another network or setting is an error without ``overwrite``;
    where only the tiles around it have changed, a warning.

    Args:
        config: Path of the config. Its ``patch_scales`` say how tiles are prepared.
        checkpoint: Path of the weights; they must fit strictly.
        inputs: Tiles, or folders of them. All of them together are the ground around each.
        out: Folder of the copies; made when missing.
        scales: Which scales to predict with. Default: those of the config's test data.
        merge: ``mean`` averages the scales, ``gate`` weighs them at each point.
        gate: The file of the gate (tools/lidar/fit_gate.py).
        batch: Patches given to the network at once.
        device: Default CUDA where it works, else the CPU.
        amp: Autocast to bfloat16. Default: float32.
        overwrite: Replace outputs that were made in another way.
        cfg_options: Dotted paths and their values.

    Yields:
        One result for each tile, in order. One that fails, whatever it fails of, does not stop the others: look at
        ``error``. ``TERRACE_DEBUG=1`` raises instead.

    Raises:
        UserError: Wrong options, config or checkpoint, nothing to classify, or two tiles of one name.
    """
    if merge not in MERGES or (merge == 'gate') != (gate is not None):
        raise UserError(f'--merge: expected mean, or gate with --gate FILE, found {merge}'
                        + ('' if gate is None else f' with {gate}'))
    if batch < 1:
        raise UserError(f'--batch: expected at least 1, found {batch}')
    sources = find_tiles(inputs)
    targets = plan_targets(sources, out)
    fitted = read_gate(gate) if gate is not None else None
    from projects.engine.inference import load_model
    from projects.lidar.prediction.network import NetworkPatches, points_seen, scales_of

    model, cfg = load_model(config, checkpoint, device=device, cfg_options=cfg_options)
    network = NetworkPatches(model, cfg, amp)
    chosen = scales_of(cfg, scales)
    if fitted is not None:
        check_gate(fitted, tuple(chosen), gate)
    identity = dict(version=VERSION, checkpoint=sha256_of(checkpoint), amp=amp, model=dict(cfg.model),
                    pipeline=cfg.test_pipeline, gate=fitted)
    yield from classify_files(network, targets, prediction_settings(chosen, config), points_seen(cfg, chosen),
                              batch=batch, gate=fitted, overwrite=overwrite, identity=identity)


def classify_files(predict: PredictPatches, targets: Mapping[Path, Path], settings: Settings,
                   points: Mapping[str, int], *, batch: int = 2, gate: Gate | None = None, overwrite: bool = False,
                   identity: Mapping[str, Any] | None = None) -> Iterator[Classified]:
    """Classify tiles with any network; see :func:`classify`.

    Args:
        predict: The network.
        targets: Each tile and its copy, all copies in one folder.
        settings: Of the preparation.
        points: How many points of a patch the network sees, by scale.
        batch, gate, overwrite: As for :func:`classify`.
        identity: What tells this network from another one, for the records.
    """
    headers, errors = read_headers(list(targets))
    index = TileIndex(headers)
    by_path = {header.path: header for header in headers}
    general = digest_of([identity, settings.as_dict(), dict(points)])
    overlaps = index.overlaps()
    for source, target in targets.items():
        started = time.monotonic()
        result = Classified(source, target)
        try:
            if source in errors:
                raise errors[source]
            header = by_path[source]
            own = (check_name(header), *(text for text in overlaps if text.startswith(f'{source}: ')))
            result = replace(result, warnings=tuple(text for text in own if text))
            digest = digest_of([general, file_identity(source)])
            around = sorted((file_identity(other.path) for other in index.neighbours(header, reach(settings))),
                            key=lambda file: file['name'])
            manifest = TaskManifest(target.parent / RECORDS)
            if manifest.done(target.stem, digest):
                same = (manifest.read(target.stem) or {}).get('around') == around
                if same or not overwrite:
                    yield replace(result, already=True, warnings=result.warnings if same else (
                        *result.warnings, f'{source}: done already, with other tiles around it: --overwrite does it '
                        'again'))
                    continue
            _claim(manifest, target, digest, overwrite)
            report = classify_tile(predict, header, index, settings, target, points=points, batch=batch, gate=gate,
                                   overwrite=True)
            manifest.write(target.stem, digest, {'source': source.name, 'around': around, **report.as_dict()},
                           (f'../{target.name}',))
            result = replace(result, report=report, warnings=(*result.warnings, *report.warnings))
        except Exception as error:  # a card or a machine without memory for this tile may have it for the next
            if os.environ.get('TERRACE_DEBUG') == '1':
                raise
            text = told(error)
            if not isinstance(error, UserError | OSError):
                text = f'{type(error).__name__}: {text}'.removesuffix(': ')
            result = replace(result, error=text if str(source) in text else f'{source}: {text}')
        yield replace(result, seconds=time.monotonic() - started)


def _claim(manifest: TaskManifest, target: Path, digest: str, overwrite: bool) -> None:
    """Refuse to replace what this call would not have made; leave a note that it is being made.

    The note lets a rerun replace an output whose maker was killed before its record was written.

    Raises:
        UserError: The output exists, from another input, network or setting, or from somewhere else.
    """
    note = f'begun {digest}'
    if target.exists() and not overwrite and (manifest.read(target.stem) or {}).get('digest') != note:
        raise UserError(f'{target}: exists already, and was not made from this tile as it is now with this network and '
                        'these settings: replace it with --overwrite')
    manifest.write(target.stem, note)


def find_tiles(inputs: Sequence[str | Path]) -> list[Path]:
    """Return the tiles named by files and folders (their tiles, sorted, without subfolders).

    A file that does not exist is returned, and is an error of its own later: the others are classified.

    Raises:
        UserError: Nothing is named, a folder holds no tile, or a file has another suffix.
    """
    found: list[Path] = []
    for path in map(Path, inputs):
        if path.is_dir():
            inside = sorted(file for file in path.iterdir()
                            if file.suffix.lower() in SUFFIXES and file.is_file() and file.name[0] != '.')
            if not inside:
                raise UserError(f'{path}: expected tiles ({", ".join(SUFFIXES)}), found none in this folder')
            found.extend(inside)
        elif path.suffix.lower() not in SUFFIXES:
            raise UserError(f'{path}: expected a tile ({", ".join(SUFFIXES)}), found another file')
        else:
            found.append(path)
    if not found:
        raise UserError('no tile given')
    return list(dict.fromkeys(found))


def plan_targets(sources: Sequence[Path], out: str | Path) -> dict[Path, Path]:
    """Name the copy of each tile, ``NAME.laz``.

    Raises:
        UserError: A copy would replace an input, or two have one name.
    """
    targets = {source: Path(out) / f'{source.stem.removesuffix(".copc")}.laz' for source in sources}
    check_targets(list(targets.items()), out, overwrite=True)
    return targets


def prediction_settings(scales: Mapping[str, Mapping[str, Any]], where: str | Path) -> Settings:
    """Return how a tile is prepared to be predicted: one block, no labels needed, and no patch too thin.

    Args:
        scales: Name to the values of a config's ``patch_scales``.
        where: The config, for messages.
    """
    made = {key: make_scale(dict(values), f'{where}: patch_scales.{key}') for key, values in scales.items()}
    return Settings(made, block_size=None, labels='asprs', unknown='ignore', min_points=1, save_stats=False,
                    save_metadata=False)
