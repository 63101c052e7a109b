"""Reading photographs and masks."""

from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from projects.camouflage.datasets.masks import binarise, check_values, kind_of, read_levels
from projects.camouflage.datasets.pictures import read_photograph
from projects.engine.errors import UserError


@TRANSFORMS.register_module()
class LoadPhotograph(BaseTransform):
    """Read a photograph as three channels of 8 bits in RGB order (so `bgr_to_rgb=False` in the data preprocessor).

    Needs `img_path`, and `seg_map_path` where EXIF says to turn the image (see
    :func:`~projects.camouflage.datasets.pictures.read_photograph`); adds `img` (H, W, 3) uint8, `img_shape` and
    `ori_shape` (H, W).

    Raises:
        UserError: missing, damaged or truncated.
    """

    def transform(self, results: dict) -> dict:
        results['img'] = read_photograph(results['img_path'], results.get('seg_map_path'))
        results['img_shape'] = results['ori_shape'] = results['img'].shape[:2]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'


@TRANSFORMS.register_module()
class LoadCamouflageMask(BaseTransform):
    """Read a mask as labels 0 (background) and 1 (camouflaged object).

    Needs `seg_map_path` and `mask_values` (put there by `CamouflageDataset`); adds `gt_seg_map` (H, W) uint8 and lists
    it in `seg_fields`. It keeps the mask's own size: behind `ResizeImage` it leaves the truth as it is on disk, which
    predictions are resized to. Where `seg_map_path` is None, nothing is added.

    Args:
        mask_values: '0/255' or '0/1' instead of what the data set says. Default: 'auto': what it says; without a data
            set each mask is judged alone.

    Raises:
        UserError: values of the other kind, colours, a damaged file, or another size than the image's.
    """

    def __init__(self, mask_values: str = 'auto') -> None:
        self.mask_values = check_values(mask_values)

    def transform(self, results: dict) -> dict:
        path = results['seg_map_path']
        if path is None:
            return results
        levels = read_levels(path)
        values = self.mask_values if self.mask_values != 'auto' else results.get('mask_values')
        mask = binarise(levels, values or kind_of(levels) or '0/255', path)
        expected = tuple(results.get('ori_shape', mask.shape))  # not the image's size now: it may be resized already
        if mask.shape != expected:
            raise UserError(f'{path}: expected a mask of {expected[1]}x{expected[0]} px, as its image '
                            f'{results["img_path"]}, found {mask.shape[1]}x{mask.shape[0]} px')
        results['gt_seg_map'] = mask
        results['seg_fields'] = [*results.get('seg_fields', []), 'gt_seg_map']
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(mask_values={self.mask_values!r})'
