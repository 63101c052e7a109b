"""A whole image in a frame of one size, without a change of its proportions."""

from collections.abc import Sequence

from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from projects.roofline.datasets.affine import scaling
from projects.roofline.datasets.transforms.arguments import check_size
from projects.roofline.datasets.transforms.moving import scaled, set_moved, window


@TRANSFORMS.register_module()
class LetterboxRoof(BaseTransform):
    """Scale image and graph by one factor until the image just fits a frame, and centre it there on one colour.

    Sets `letterbox` (scale, dx, dy): x_net = x * scale + dx, y_net = y * scale + dy, from the pixels of the file where
    no flip or turn went before (then it is None, as nothing has to be brought back). The factor is exact: it is not
    changed by the rounding of the scaled sides.

    Args:
        size: A side or (height, width), px.
    """

    def __init__(self, size: int | Sequence[int]) -> None:
        self.size = check_size('LetterboxRoof', size)

    def transform(self, results: dict) -> dict:
        height, width = results['img'].shape[:2]
        factor = min(self.size[0] / height, self.size[1] / width)
        image = scaled(results['img'], factor)
        left, top = (self.size[1] - image.shape[1]) // 2, (self.size[0] - image.shape[0]) // 2
        return set_moved(results, window(image, -left, -top, self.size), scaling(factor, left, top))

    def __repr__(self) -> str:
        return f'{type(self).__name__}(size={self.size})'
