"""Hook that writes the predicted maps of a test, as the field's evaluators read them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmseg.registry import HOOKS
from PIL import Image

from projects.camouflage.maps import grey_map, map_path
from projects.engine.files import atomic_path


@HOOKS.register_module()
class CamouflageMapWriterHook(Hook):
    """Write each test prediction as an 8-bit grey PNG ``OUT_DIR/<dataset>/<stem>.png`` of the image's own size.

    A pixel is the probability of an object x 255, rounded; not stretched, since every evaluator does that itself.
    ``tools/camouflage/score_maps.py --pred-dir OUT_DIR`` gives the scores of the test to the bit.

    Args:
        out_dir: folder of the maps.
    """

    priority = 'LOW'

    def __init__(self, out_dir: str) -> None:
        self.out_dir = Path(out_dir)

    def after_test_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        """Write the maps of one batch."""
        for output in outputs or ():
            sample = output if isinstance(output, dict) else output.to_dict()
            with atomic_path(self.out_dir / map_path(sample)) as temporary:
                Image.fromarray(grey_map(sample)).save(temporary)
