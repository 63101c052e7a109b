"""Reading images and index masks."""

from collections.abc import Sequence

from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from projects.engine.errors import UserError
from projects.geo.raster import read_image
from projects.landcover.data.labels import read_labels


@TRANSFORMS.register_module()
class LoadRasterImage(BaseTransform):
    """Read an image of any format: RGB order, never BGR.

    Needs `img_path`; adds `img` (H, W, C) uint8, or float32 in 0..255 with `value_range`, `img_shape` and
    `ori_shape` (H, W), and `bands`.

    Args:
        bands: Bands to read, counted from 1. Default: (1, 2, 3).
        value_range: (low, high) of the file's values that become 0 and 255. Needed for more than 8 bits.
    """

    def __init__(self, bands: Sequence[int] = (1, 2, 3), value_range: tuple[float, float] | None = None) -> None:
        self.bands = tuple(bands)
        self.value_range = None if value_range is None else tuple(value_range)

    def transform(self, results: dict) -> dict:
        results['img'] = read_image(results['img_path'], bands=self.bands, value_range=self.value_range)
        results['bands'] = self.bands
        results['img_shape'] = results['ori_shape'] = results['img'].shape[:2]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(bands={self.bands}, value_range={self.value_range})'


@TRANSFORMS.register_module()
class LoadIndexMask(BaseTransform):
    """Read a mask of label values and turn it into class ids of the data set's taxonomy.

    Needs `seg_map_path` and `labels` (a `taxonomy.LabelReader`, put there by `LandCoverDataset`); adds `gt_seg_map`
    (H, W) uint8 and lists it in `seg_fields`. Labels are ignored where the label file or (unless the data set
    `is_prepared`) the image holds no data. Where `seg_map_path` is None (a test set without labels), nothing is
    added.

    Raises:
        UserError: a label outside the taxonomy, a mask of another size than the image, or a GeoTIFF mask that does not
            lie on the ground of its GeoTIFF image.
    """

    def transform(self, results: dict) -> dict:
        path = results['seg_map_path']
        if path is None:
            return results
        mask = read_labels(
            results['img_path'],
            path,
            results['labels'],
            bands=results.get('bands', ()),
            look_at_image=not results.get('is_prepared', False),
        ).mask
        expected = results.get('ori_shape', mask.shape)  # not the image's shape now: it may be resized already (TTA)
        if mask.shape != tuple(expected):
            raise UserError(
                f'{path}: mask of {mask.shape[1]}x{mask.shape[0]} px for an image of {expected[1]}x{expected[0]} px '
                f'({results["img_path"]})'
            )
        results['gt_seg_map'] = mask
        results['seg_fields'] = [*results.get('seg_fields', []), 'gt_seg_map']
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'

