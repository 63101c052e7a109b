"""The weighted F-measure: an error weighs less beside the object and where its neighbours are right."""

from itertools import product

import cv2
import numpy as np

from projects.camouflage.metrics.pair import Pair

EPSILON = np.spacing(1)
RADIUS = 3  # of the 7x7 window
SIGMA = 5.0
HALF_LIFE = 5.0  # pixels over which the extra weight of a far false alarm goes from 0 to 1/2
FAR = 150  # pixels; the weight there is 2 - 1e-9
# Where to look for the nearest pixel of the object, from near to far. Of equally near ones the leftmost counts, then
# the uppermost: the choice of SciPy's exact transform, whose indices PySODMetrics takes.
REACH = 4  # no pixel of the ring is further than sqrt(18) from the object
NEIGHBOURS = tuple((dy, dx) for squared, dx, dy in sorted(
    (dy * dy + dx * dx, dx, dy) for dy, dx in product(range(-REACH, REACH + 1), repeat=2))
    if 0 < squared <= 2 * RADIUS**2)


def weighted_f_measure(pair: Pair) -> float:
    """Return the weighted F-measure with beta = 1, 0..1; 0 without an object.

    Source: Margolin et al., How to Evaluate Foreground Maps?, CVPR 2014. An error in the object is replaced by the
    Gaussian mean of the errors around it where that is smaller; pixels outside stand there for the nearest pixel of
    the object. An error outside weighs ``2 - 0.5 ** (distance / 5)``.

    Only the 7x7 window asks for nearest pixels, so that they are looked up in a ring of 3 pixels around the object
    instead of everywhere, and distances are taken where they still count.
    """
    if pair.box is None:
        return 0.0
    number = int(pair.foreground.sum())
    in_object = _dependent_error(pair)
    hits = number - in_object
    recall = 1 - in_object / number
    precision = hits / (hits + _false_alarms(pair) + EPSILON)
    return float(2 * recall * precision / (recall + precision + EPSILON))


def _dependent_error(pair: Pair) -> float:
    """Return the sum over the object of each pixel's error, or of its surroundings' where that is smaller."""
    around = _grown(pair, RADIUS)  # all that a window on the object sees
    truth = pair.truth[around]
    error = 1 - pair.normalised[around]
    spread = error * truth
    ring = cv2.dilate(truth, np.ones((2 * RADIUS + 1,) * 2, np.uint8)) - truth
    _fill_ring(spread, truth, ring)
    line = np.exp(-np.arange(-RADIUS, RADIUS + 1) ** 2 / (2 * SIGMA**2))
    line /= line.sum()
    mean = cv2.sepFilter2D(spread, -1, line, line, borderType=cv2.BORDER_CONSTANT)  # zeros outside the image
    np.minimum(error, mean, out=mean)
    mean *= truth
    return float(mean.sum())


def _fill_ring(spread: np.ndarray, truth: np.ndarray, ring: np.ndarray) -> None:
    """Give each pixel of the ring the error of its nearest pixel of the object, in place."""
    padded = cv2.copyMakeBorder(truth, REACH, REACH, REACH, REACH, cv2.BORDER_CONSTANT, value=0)
    width, flat = padded.shape[1], padded.ravel()
    own = np.flatnonzero(ring)  # the pixels that have not found theirs
    ys, xs = np.divmod(own, truth.shape[1])
    left = (ys + REACH) * width + xs + REACH  # and where they lie in `flat`
    errors = spread.ravel()  # a view: `spread` is contiguous
    for dy, dx in NEIGHBOURS:
        if not len(left):
            return
        found = flat[left + dy * width + dx] != 0
        errors[own[found]] = errors[own[found] + dy * truth.shape[1] + dx]
        left, own = left[~found], own[~found]


def _false_alarms(pair: Pair) -> float:
    """Return the weighted sum of the errors outside the object."""
    total = 2 * float(pair.background @ pair.levels)
    near = _grown(pair, FAR)
    outside = pair.truth[near] ^ 1
    if not total or not outside.any():
        return total
    weight = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)  # float32, as all below
    # OpenCV's last bit depends on where an array lies in memory. A squared distance is a whole number.
    weight *= weight
    np.sqrt(np.rint(weight, out=weight), out=weight)
    weight *= np.log(0.5) / HALF_LIFE
    cv2.exp(weight, weight)  # 1 in the object
    weight *= cv2.LUT(pair.prediction[near], pair.levels.astype(np.float32))
    return total - (cv2.sumElems(weight)[0] - float(pair.foreground @ pair.levels))  # summed in float64


def _grown(pair: Pair, margin: int) -> tuple[slice, slice]:
    """Return the object's box with a margin, cut to the image."""
    return tuple(slice(max(along.start - margin, 0), min(along.stop + margin, side))
                 for along, side in zip(pair.box, pair.truth.shape))
