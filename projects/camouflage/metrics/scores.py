"""All measures of camouflaged object detection: of one image, and of a data set."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from projects.camouflage.metrics.alignment import adaptive_alignment, alignment_curve
from projects.camouflage.metrics.error import mean_absolute_error
from projects.camouflage.metrics.f_measure import adaptive_f, f_curve
from projects.camouflage.metrics.overlap import intersection_over_union
from projects.camouflage.metrics.pair import pair
from projects.camouflage.metrics.structure import structure_measure
from projects.camouflage.metrics.weighted_f import weighted_f_measure

SCORES = ('S', 'wF', 'MAE', 'E_adp', 'E_mean', 'E_max', 'F_adp', 'F_mean', 'F_max', 'IoU')
CURVES = ('E', 'F')


@dataclass(frozen=True)
class ImageScores:
    """The scores of one image, and what the scores of a data set need besides."""

    scores: dict[str, float]  # by the names of SCORES
    curves: dict[str, np.ndarray]  # 'E' and 'F': (256,) at the thresholds 255 … 0
    share: float  # the object's share of the image, 0..1


def camouflage_scores(prediction: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Score one predicted map.

    Args:
        prediction: (H, W) uint8, the probability of an object x 255; stretched to its own minimum and maximum.
        truth: (H, W) uint8, the object above 128.

    Returns:
        ``S`` (structure, alpha 0.5), ``wF`` (weighted F, beta 1), ``MAE``, ``E_adp``, ``E_mean``, ``E_max``
        (enhanced alignment), ``F_adp``, ``F_mean``, ``F_max`` (beta squared 0.3) at the adaptive threshold, as mean
        and as maximum over 256 thresholds, and ``IoU`` at one half. All are 0..1; MAE is better when smaller. They
        equal those of PySODMetrics 1.6.2, which has no IoU here.

    Raises:
        UserError: see :func:`~projects.camouflage.metrics.pair.pair`.
    """
    return score_image(prediction, truth).scores


def score_image(prediction: np.ndarray, truth: np.ndarray) -> ImageScores:
    """Return the scores of one image with its curves; arguments as :func:`camouflage_scores`."""
    counted = pair(prediction, truth)
    alignment, f = alignment_curve(counted), f_curve(counted)
    scores = dict(
        S=structure_measure(counted), wF=weighted_f_measure(counted), MAE=mean_absolute_error(counted),
        E_adp=adaptive_alignment(counted), E_mean=float(alignment.mean()), E_max=float(alignment.max()),
        F_adp=adaptive_f(counted), F_mean=float(f.mean()), F_max=float(f.max()), IoU=intersection_over_union(counted))
    return ImageScores(scores, {'E': alignment, 'F': f}, int(counted.foreground.sum()) / counted.size)


def dataset_scores(images: Sequence[ImageScores]) -> dict[str, float]:
    """Return the scores of a data set: means over its images.

    ``E_max`` and ``F_max`` are maxima of the mean curve (one threshold for all images), not means of the images'
    maxima; so the field reports them.

    Raises:
        ValueError: no images.
    """
    if not images:
        raise ValueError('no images to score')
    scores = {name: float(np.mean([image.scores[name] for image in images])) for name in SCORES}
    for name in CURVES:
        curve = np.mean([image.curves[name] for image in images], axis=0)
        scores |= {f'{name}_mean': float(curve.mean()), f'{name}_max': float(curve.max())}
    return scores
