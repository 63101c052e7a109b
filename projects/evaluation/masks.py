"""Score a folder of predicted index masks against a folder of true ones."""

from collections.abc import Sequence
from pathlib import Path

from projects.engine.errors import UserError
from projects.engine.progress import progress
from projects.evaluation.confusion import confusion_numpy
from projects.evaluation.result import Evaluation, SampleResult

SUFFIXES = ('.png', '.tif', '.tiff')


def score_folders(
    prediction_dir: str | Path,
    truth_dir: str | Path,
    classes: Sequence[str],
    *,
    palette: Sequence[Sequence[int]] | None = None,
    background: int | None = None,
    ignore_index: int | None = 255,
) -> Evaluation:
    """Score masks, matched by file stem.

    Args:
        prediction_dir: PNG or TIFF masks of class ids; files without a truth of the same stem are not read.
        truth_dir: PNG or TIFF masks of class ids and ``ignore_index``; each needs a prediction.
        classes: class names, their positions the ids.
        palette, background, ignore_index: see :class:`~projects.evaluation.result.Evaluation`.

    Raises:
        UserError: a folder is missing or empty, a prediction is missing, a file is unreadable, sizes differ, or a
            label is outside the classes; names the file.
    """
    from projects.geo.raster import read_mask  # rasterio: only where files are read

    if background is not None and not 0 <= background < len(classes):
        raise UserError(f'background: expected a class id 0..{len(classes) - 1}, found {background}')
    truths = find_masks(truth_dir)
    predictions = find_masks(prediction_dir)
    missing = [path for stem, path in truths.items() if stem not in predictions]
    if missing:
        more = f' (and {len(missing) - 1} more)' if len(missing) > 1 else ''
        raise UserError(f'{missing[0]}: no prediction named {missing[0].stem}.png or .tif in {prediction_dir}{more}')
    samples = []
    for stem, path in progress(truths.items(), 'scoring', unit='mask'):
        confusion = confusion_numpy(
            read_mask(path), read_mask(predictions[stem]), len(classes), ignore_index,
            where=f'{predictions[stem]} against {path}')
        samples.append(SampleResult(stem, confusion))
    return Evaluation.from_samples(
        samples, classes, palette=palette, background=background, ignore_index=ignore_index)


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
