"""The structure measure S: how well the object's shape and grey values are kept, as a whole and region by region."""

import numpy as np

from projects.camouflage.metrics.pair import Pair

EPSILON = np.spacing(1)


def structure_measure(pair: Pair, alpha: float = 0.5) -> float:
    """Return the S-measure, 0..1 (a perfect prediction has 1).

    ``alpha * S_object + (1 - alpha) * S_region``, not below 0. Without an object it is one minus the mean of the
    prediction, and with nothing but object the mean.

    Source: Fan et al., Structure-measure: A New Way to Evaluate Foreground Maps, ICCV 2017. The region that the
    centroid's row or column leaves empty has no weight, and counts as none (PySODMetrics gives NaN there).
    """
    foreground, background = pair.foreground, pair.background
    share = foreground.sum() / pair.size
    if share == 0 or share == 1:
        mean = float((foreground + background) @ pair.levels) / pair.size
        return mean if share else 1 - mean
    whole = share * _object(pair.levels, foreground) + (1 - share) * _object(1 - pair.levels, background)
    return max(0.0, float(alpha * whole + (1 - alpha) * _regions(pair)))


def _object(levels: np.ndarray, counts: np.ndarray) -> float:
    """Return the similarity of grey values to 1 (equation 4 of the paper, lambda = 1/2): large and uniform is good."""
    number = int(counts.sum())
    mean = counts @ levels / number
    deviation = np.sqrt(counts @ (levels - mean) ** 2 / (number - 1)) if number > 1 else 0.0
    return 2 * mean / (mean**2 + 1 + deviation + EPSILON)


def _regions(pair: Pair) -> float:
    """Return the structural similarity of the regions around the object's centroid, weighted by their areas."""
    return sum(counts.sum() / pair.size * _similarity(pair, region, counts)
               for region, counts in zip(pair.regions, pair.counts) if counts.any())


def _similarity(pair: Pair, region: tuple[slice, slice], counts: np.ndarray) -> float:
    """Return SSIM without its constants, luminance x contrast x structure of one region."""
    values = counts.sum(axis=0)
    number = int(values.sum())
    x, y = values @ pair.levels / number, counts[1].sum() / number
    if np.count_nonzero(values) == 1:
        # One grey value over a truth of one kind: 1 where its mean, as a float, is the grey value, else 0. So the
        # mean is taken as PySODMetrics takes it; there is no telling which of the two its authors wanted.
        x = pair.normalised[region].mean()
    from_mean = pair.levels - x
    spread = number - 1 + EPSILON
    variance_x = values @ from_mean**2 / spread
    variance_y = (counts[1].sum() * (1 - y) ** 2 + counts[0].sum() * y**2) / spread
    covariance = (counts[1] @ from_mean * (1 - y) - counts[0] @ from_mean * y) / spread
    above = 4 * x * y * covariance
    below = (x**2 + y**2) * (variance_x + variance_y)
    if above != 0:
        return above / (below + EPSILON)
    return 1.0 if below == 0 else 0.0
