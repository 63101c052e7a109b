"""Score a folder of predicted maps against a folder of true masks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from projects.camouflage.metrics.evaluation import SIZE_BOUNDS, SampleScores, score_table
from projects.camouflage.metrics.scores import score_image
from projects.engine.errors import UserError
from projects.engine.progress import progress
from projects.evaluation.score_table import ScoreTable

SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff')
MASK_FOLDERS = ('GT', 'GT_Object', 'masks')  # what a data set's own folder may keep its masks in


def score_folders(
    prediction_dir: str | Path, truth_dir: str | Path, size_bounds: Sequence[float] = SIZE_BOUNDS
) -> ScoreTable:
    """Score 8-bit maps, matched by stem.

    Args:
        prediction_dir: grey maps, or a folder of them for each data set.
        truth_dir: masks (the object above 128), or a folder for each data set. A folder has its masks itself or in
            ``GT``, ``GT_Object`` or ``masks``. Predictions without a mask are not read.
        size_bounds: see :class:`~projects.camouflage.metrics.metric.CamouflageMetric`.

    Raises:
        UserError: a folder is missing or empty, a prediction is missing, two files have one stem, a file is
            unreadable, coloured or not of 8 bits, sizes differ, or a mask holds 0 and 1; names the file.
    """
    prediction_dir, truth_dir = Path(prediction_dir), Path(truth_dir)
    for folder in (truth_dir, prediction_dir):
        if not folder.is_dir():
            raise UserError(f'{folder}: no such folder')
    pairs = []
    for dataset, truths in _datasets(truth_dir).items():
        folder = prediction_dir if dataset is None else prediction_dir / dataset
        if not folder.is_dir():
            raise UserError(f'{folder}: no such folder; expected the maps of the data set {dataset}')
        predictions = _pictures(folder)
        missing = [path for stem, path in truths.items() if stem not in predictions]
        if missing:
            more = f' (and {len(missing) - 1} more)' if len(missing) > 1 else ''
            inner = sorted(path.name for path in folder.iterdir() if path.is_dir())
            hint = f'; there are folders in it: {", ".join(inner[:5])}' if inner and not predictions else ''
            raise UserError(f'{missing[0]}: no prediction named {missing[0].stem}.png in {folder}{more}{hint}')
        pairs += [(dataset, stem, predictions[stem], path) for stem, path in truths.items()]
    samples = []
    for dataset, stem, prediction, truth in progress(pairs, 'scoring', unit='map'):
        maps = _read(prediction), _read(truth)  # its errors name the file
        try:
            scores = score_image(*maps)
        except UserError as error:
            raise UserError(f'{prediction} against {truth}: {error}') from None
        samples.append(SampleScores(stem if dataset is None else f'{dataset}/{stem}', dataset, scores))
    return score_table(samples, size_bounds)


def _datasets(folder: Path) -> dict[str | None, dict[str, Path]]:
    """Return the masks of each data set by stem; one data set without a name where they lie in the folder itself."""
    if own := _masks(folder):
        return {None: own}
    found = {path.name: masks for path in sorted(folder.iterdir()) if path.is_dir() and (masks := _masks(path))}
    if not found:
        raise UserError(f'{folder}: expected masks ({", ".join(SUFFIXES)}), or folders of masks, found none')
    return found


def _masks(folder: Path) -> dict[str, Path]:
    """Return the masks of one data set by stem: those in its folder, else in the first of its own that has some."""
    places = (folder, *(folder / name for name in MASK_FOLDERS))
    return next((masks for place in places if place.is_dir() and (masks := _pictures(place))), {})


def _pictures(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES or path.name.startswith('.') or not path.is_file():
            continue
        if path.stem in found:
            raise UserError(f'{path}: {found[path.stem].name} has the same stem; keep one of them')
        found[path.stem] = path
    return found


def _read(path: Path) -> np.ndarray:
    """Read a grey picture as ``(H, W)`` uint8; equal colour channels are grey too."""
    try:
        with Image.open(path) as picture:
            picture.load()
            if picture.mode in ('1', 'P'):
                picture = picture.convert('RGB')
            array = np.asarray(picture)
            mode = picture.mode
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise UserError(f'{path}: damaged, truncated or no picture ({str(error).splitlines()[0]})') from error
    if mode in ('LA', 'RGB', 'RGBA'):
        colours = array[..., :1 if mode == 'LA' else 3]
        if not (colours == colours[..., :1]).all():
            raise UserError(f'{path}: expected a grey map, found colours')
        return np.ascontiguousarray(colours[..., 0])
    if mode != 'L':
        raise UserError(f'{path}: expected a grey map of 8 bits, found a picture of mode {mode}')
    return array
