"""The scores of a split: over all images, by data set, and by the size of the object."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from projects.camouflage.metrics.scores import SCORES, ImageScores, dataset_scores
from projects.evaluation.score_table import Score, ScoreTable

SIZES = ('small', 'medium', 'large')
SIZE_BOUNDS = (0.01, 0.1)  # shares of the image; COD10K's attribute "small object" ends at the second
MEANINGS = {
    'S': 'structure measure', 'wF': 'weighted F-measure', 'MAE': 'mean absolute error', 'E_adp': 'enhanced alignment '
    'at twice the mean, E_mean and E_max over 256 thresholds', 'F_adp': 'F-measure (beta² 0.3) likewise',
    'IoU': 'at one half'}


@dataclass(frozen=True)
class SampleScores:
    """What one sample contributes."""

    sample_id: str
    dataset: str | None
    image: ImageScores
    img_path: str | None = None


def size_of(share: float, bounds: Sequence[float] = SIZE_BOUNDS) -> str | None:
    """Return the size of an object by its share of the image: ``small`` up to the first bound, ``medium`` up to the
    second, else ``large``; None where there is no object."""
    if not share:
        return None
    return SIZES[sum(share > bound for bound in bounds)]


def score_table(samples: Sequence[SampleScores], bounds: Sequence[float] = SIZE_BOUNDS) -> ScoreTable:
    """Return the table of a split's samples, each given once.

    Sums are taken in the order of the sample ids, so that the same samples give the same bits whichever process
    scored them. Data sets have rows where there are several, sizes where there is an object. Images without an
    object are of no size.
    """
    samples = sorted(samples, key=lambda sample: sample.sample_id)
    datasets = sorted({sample.dataset for sample in samples if sample.dataset is not None})
    members: list[tuple[str, Callable[[SampleScores], bool]]] = [('all', lambda sample: True)]
    if len(datasets) > 1:
        members += [(name, lambda sample, name=name: sample.dataset == name) for name in datasets]
    members += [(name, lambda sample, name=name: size_of(sample.image.share, bounds) == name) for name in SIZES]
    groups = []
    for name, belongs in members:
        found = [sample.image for sample in samples if belongs(sample)]
        if found:
            groups.append({'group': name, 'images': len(found), **dataset_scores(found)})
    rows = [{'sample_id': sample.sample_id, 'dataset': sample.dataset, 'share': sample.image.share,
             **sample.image.scores, 'img_path': sample.img_path} for sample in samples]
    return ScoreTable(
        'camouflage', 'Camouflaged objects',
        tuple(Score(name, MEANINGS.get(name, ''), smaller_is_better=name == 'MAE') for name in SCORES), groups, rows)
