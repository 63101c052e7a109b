"""How image, graph and letterbox go together: every transform that moves pixels ends here."""

import cv2
import numpy as np

from projects.roofline.datasets.affine import after_letterbox

FILL = (124, 116, 104)  # RGB where there is no image: ImageNet's mean, which normalises to about 0


def set_moved(results: dict, image: np.ndarray, matrix: np.ndarray, clip: bool = True) -> dict:
    """Put a moved image into `results`, and move its graph and letterbox the same way.

    Args:
        results: Of a pipeline; `graph` may be None or missing.
        image: (H, W, 3) uint8 after the move.
        matrix: (2, 3), from the pixels before to those after, corner origin.
        clip: Cut the graph off at the image's borders; False where nothing can leave it.
    """
    results['img'] = np.ascontiguousarray(image)
    results['img_shape'] = image.shape[:2]
    results['letterbox'] = after_letterbox(results.get('letterbox'), matrix)
    if results.get('graph') is not None:
        graph = results['graph'].moved(matrix)
        results['graph'] = graph.clipped(image.shape[:2]) if clip else graph
    return results


def scaled(image: np.ndarray, factor: float) -> np.ndarray:
    """Resize an image (H, W, 3) by exactly `factor` on both axes; the sides are rounded, the content is not stretched.

    Given a size, OpenCV stretches each axis to it by its own factor, and coordinates would be up to half a pixel off;
    given the factors, it keeps them.
    """
    if factor == 1:
        return image
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    if min(round(side * factor) for side in image.shape[:2]) < 1:
        size = tuple(max(1, round(side * factor)) for side in image.shape[1::-1])
        return cv2.resize(image, size, interpolation=interpolation)
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=interpolation)


def window(image: np.ndarray, left: int, top: int, size: tuple[int, int]) -> np.ndarray:
    """Return the part of an image from (left, top) on, in `size` (height, width); what lies outside is filled."""
    height, width = image.shape[:2]
    part = image[max(0, top):max(0, top + size[0]), max(0, left):max(0, left + size[1])]
    if part.shape[:2] == tuple(size):
        return part
    above, before = max(0, -top), max(0, -left)
    return cv2.copyMakeBorder(part, above, size[0] - above - part.shape[0], before, size[1] - before - part.shape[1],
                              cv2.BORDER_CONSTANT, value=FILL)
