"""Score a folder of predicted index masks against a folder of true ones."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from projects.engine.errors import UserError
from projects.engine.progress import progress
from projects.evaluation.confusion import check_same_shape, confusion_numpy
from projects.evaluation.result import Evaluation, SampleResult

SUFFIXES = ('.png', '.tif', '.tiff')
NOT_PREDICTED = 255  # what prediction writes where the image holds no data
RULES = ('error', 'miss', 'skip')  # what to do with such pixels where the truth has a class


def score_folders(
    prediction_dir: str | Path,
    truth_dir: str | Path,
    classes: Sequence[str],
    *,
    palette: Sequence[Sequence[int]] | None = None,
    background: int | None = None,
    ignore_index: int | None = 255,
    unpredicted: str = 'error',
    decode: Callable[[np.ndarray, Path], np.ndarray] | None = None,
) -> tuple[Evaluation, int]:
    """Score masks, matched by file stem.

    Args:
        prediction_dir: PNG or TIFF masks of class ids; files without a truth of the same stem are not read.
        truth_dir: PNG or TIFF masks of class ids and ``ignore_index``; each needs a prediction.
        classes: class names, their positions the ids.
        palette, background, ignore_index: see :class:`~projects.evaluation.result.Evaluation`.
        unpredicted: what a prediction of 255 on labelled ground is: an ``error``, a ``miss`` (wrong: a miss of the
            true class, a false alarm of none), or to ``skip`` (not counted).
        decode: turns a true mask ``(H, W)`` uint8 as read, with its path, into class ids and ``ignore_index``;
            default: the files hold these already.

    Returns:
        The evaluation, and the number of labelled pixels that were not predicted.

    Raises:
        UserError: a folder is missing or empty, a prediction is missing, a file is unreadable, sizes differ, two
            GeoTIFFs do not lie on the same ground, a labelled pixel is not predicted (by rule ``error``), or a label
            is outside the classes; names the file.
    """
    from projects.geo.alignment import check_pair  # rasterio: only where files are read
    from projects.geo.raster import is_raster, read_mask

    if unpredicted not in RULES:
        raise UserError(f'unpredicted: expected one of {", ".join(RULES)}, found {unpredicted!r}')
    if background is not None and not 0 <= background < len(classes):
        raise UserError(f'background: expected a class id 0..{len(classes) - 1}, found {background}')
    truths = find_masks(truth_dir)
    predictions = find_masks(prediction_dir)
    missing = [path for stem, path in truths.items() if stem not in predictions]
    if missing:
        more = f' (and {len(missing) - 1} more)' if len(missing) > 1 else ''
        raise UserError(f'{missing[0]}: no prediction named {missing[0].stem}.png or .tif in {prediction_dir}{more}')
    samples, total = [], 0
    for stem, path in progress(truths.items(), 'scoring', unit='mask'):
        if is_raster(path) and is_raster(predictions[stem]):
            check_pair(path, predictions[stem])
        truth, prediction = read_mask(path), read_mask(predictions[stem])
        if decode is not None:
            truth = decode(truth, path)
        where = f'{predictions[stem]} against {path}'
        check_same_shape(truth, prediction, where)
        gaps = prediction == NOT_PREDICTED
        if ignore_index is not None:
            gaps &= truth != ignore_index
        missed, number = None, int(np.count_nonzero(gaps))
        if number:
            if unpredicted == 'error':
                raise UserError(f'{where}: {number} labelled pixels are not predicted ({NOT_PREDICTED}): '
                                '--unpredicted miss counts them as wrong, --unpredicted skip leaves them out')
            total += number
            lost, truth, prediction = truth[gaps], truth[~gaps], prediction[~gaps]
            # The truth against itself: its pixels by class, and the check that they are classes.
            by_class = confusion_numpy(lost, lost, len(classes), ignore_index, where).diagonal()
            missed = by_class if unpredicted == 'miss' else None
        confusion = confusion_numpy(truth, prediction, len(classes), ignore_index, where)
        samples.append(SampleResult(stem, confusion, missed=missed))
    evaluation = Evaluation.from_samples(
        samples, classes, palette=palette, background=background, ignore_index=ignore_index)
    return evaluation, total


def find_masks(folder: str | Path) -> dict[str, Path]:
    """Return the masks of a folder by stem, in the order of their names.

    Raises:
        UserError: no such folder, no masks in it, or two files with one stem.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f'{folder}: no such folder')
    masks: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES or path.name.startswith('.'):
            continue
        if path.stem in masks:
            raise UserError(f'{path}: {masks[path.stem].name} has the same stem; keep one of them')
        masks[path.stem] = path
    if not masks:
        raise UserError(f'{folder}: expected masks ({", ".join(SUFFIXES)}), found none')
    return masks
