"""Reading the photograph of a roof."""

from collections.abc import Sequence

import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from projects.engine.errors import UserError
from projects.geo.raster import check_bands, check_value_range, read_image


@TRANSFORMS.register_module()
class LoadRoofImage(BaseTransform):
    """Read a picture or GeoTIFF as three channels of 8 bits in RGB order (`bgr_to_rgb=False` in the preprocessor).

    Needs `img_path`; adds `img` (H, W, 3) uint8, `img_shape` and `ori_shape` (H, W), `letterbox` (1, 0, 0) and
    `source_graph`: the `graph` of the file (None without one), which later transforms leave alone.

    Args:
        bands: The file's band for red, green and blue, from 1. (1, 1, 1) for grey images. Default: (1, 2, 3).
        value_range: (low, high) of the values that become 0 and 255; needed above 8 bits. Default: None.

    Raises:
        UserError: missing, damaged, other bands, or another size than its annotation says (`ori_shape`, where the data
            set has put it there).
    """

    def __init__(self, bands: Sequence[int] = (1, 2, 3), value_range: tuple[float, float] | None = None) -> None:
        check_bands(bands)
        if len(bands) != 3:
            raise UserError(f'LoadRoofImage: bands: expected three band numbers, found {bands!r}')
        self.bands = tuple(bands)
        self.value_range = None if value_range is None else check_value_range(value_range)

    def transform(self, results: dict) -> dict:
        image = read_image(results['img_path'], self.bands, self.value_range)
        if image.dtype != np.uint8:
            image = np.rint(image).astype(np.uint8)  # read_image clips to 0..255
        shape = image.shape[:2]
        expected = tuple(results.get('ori_shape') or shape)
        if shape != expected:
            raise UserError(f'{results["img_path"]}: expected {expected[1]}x{expected[0]} px, as its annotation says, '
                            f'found {shape[1]}x{shape[0]} px')
        results['img'] = image
        results['img_shape'] = results['ori_shape'] = shape
        results['letterbox'] = (1.0, 0.0, 0.0)
        results['source_graph'] = results.setdefault('graph', None)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(bands={self.bands}, value_range={self.value_range})'
