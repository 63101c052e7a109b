"""From the loader's batch to the device."""

from mmengine.model import BaseDataPreprocessor
from mmseg.registry import MODELS


@MODELS.register_module()
class PointPreprocessor(BaseDataPreprocessor):
    """Move a batch of patches, its graph and its truth to the model's device.

    Nothing else: features are scaled when a patch is read (``projects.lidar.features``), and metres stay metres.

    Args:
        non_blocking: Copy beside the computation, from pinned memory. Default True.
    """

    def __init__(self, non_blocking: bool = True) -> None:
        super().__init__(non_blocking)
