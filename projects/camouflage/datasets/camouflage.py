"""The camouflage data set: any layout on disk, one or several roots, masks as 0 and 1."""

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS, TRANSFORMS

from projects.camouflage.datasets.listing import Listing, Roots, list_samples
from projects.camouflage.datasets.masks import check_values, settle_values
from projects.engine.errors import UserError


@DATASETS.register_module()
class CamouflageDataset(BaseSegDataset):
    """Photographs with masks of camouflaged objects: COD10K, CAMO, CHAMELEON, NC4K, generated scenes, plain folders.

    Every data info holds `img_path`, `seg_map_path` (None where there is no mask), `dataset` ('COD10K', 'CAMO', …),
    `sample_id` ('<dataset>/<name of the file>'), `split`, `kind` and `difficulty` (of generated scenes, else None)
    and `mask_values`, which `LoadCamouflageMask` reads.

    The split 'val' is never a test folder. The official data sets have no validation images, so a share of the
    training images is held out for it, chosen by a hash of their names (`val_share`): the same images on every
    machine, and no checkpoint is ever picked by its score on a test set.

    Args:
        data_root: A root folder, a list of them, or a dict of them by the name of their data set. A root has an effect
            on the splits that it has.
        split: 'train', 'val', 'test' or 'all' (default).
        pipeline: Transforms.
        layout: 'auto' (default), or a key of :data:`~projects.camouflage.datasets.layouts.LAYOUTS`.
        duplicates: Training images that are test images too: 'drop' (default) leaves out those known of COD10K,
            'keep' none; or a text file of names, or a list of names, to leave out.
        val_share: Share of the training images that becomes 'val' where the layout has none, 0 up to below 1.
            Default: 0.05. With 0 all images train, and there is no 'val'.
        mask_values: '0/255' (foreground above 128), '0/1', or 'auto' (default): settled for each folder of masks by
            the first that hold both background and foreground. A mask of the other kind is refused.
        non_camouflaged: Keep COD10K's images ``COD10K-NonCAM-…`` without a camouflaged object. Default: False.
        test_mode: Images without a mask are in order.
        kwargs: As for `BaseSegDataset`.

    Raises:
        UserError: nothing there, more than one layout, files that do not fit, an unknown name.
    """

    METAINFO = dict(classes=('background', 'camouflaged object'), palette=[[0, 0, 0], [255, 255, 255]])

    def __init__(
        self,
        data_root: Roots,
        split: str = 'all',
        pipeline: list[dict | Callable] | tuple = (),
        layout: str = 'auto',
        duplicates: str | Iterable[str] = 'drop',
        val_share: float = 0.05,
        mask_values: str = 'auto',
        non_camouflaged: bool = False,
        test_mode: bool = False,
        **kwargs: Any,
    ) -> None:
        self.split = split
        self.mask_values = check_values(mask_values)
        self.roots = data_root
        self._listed = dict(split=split, layout=layout, val_share=val_share, duplicates=duplicates,
                            non_camouflaged=non_camouflaged)
        super().__init__(
            # Built here, in mmseg's scope: MMEngine looks in the default scope, which only a Runner sets.
            pipeline=[TRANSFORMS.build(item) if isinstance(item, Mapping) else item for item in pipeline],
            test_mode=test_mode,
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        """Return one data info a sample: the roots in their order, sorted by id within each."""
        listing = list_samples(self.roots, **self._listed)
        problems = list(listing.problems)
        if not self.test_mode:
            problems += [f'{sample.image}: image without mask' for sample in listing.samples if sample.mask is None]
        if problems:
            more = f' (and {len(problems) - 3} more)' if len(problems) > 3 else ''
            raise UserError(f'data_root {", ".join(listing.layouts)}: {len(problems)} files do not fit: '
                            f'{"; ".join(problems[:3])}{more}')
        if listing.left_out:
            print_log(f'{len(listing.left_out)} training images are left out, which are test images too: '
                      f'{", ".join(listing.left_out[:8])}{", …" if len(listing.left_out) > 8 else ""}',
                      'current', logging.INFO)
        values = self._values(listing)
        return [
            dict(
                img_path=str(sample.image),
                seg_map_path=None if sample.mask is None else str(sample.mask),
                sample_id=sample.id,
                dataset=sample.dataset,
                split=sample.split,
                kind=sample.kind,
                difficulty=sample.difficulty,
                mask_values=None if sample.mask is None else values[sample.mask.parent],
                seg_fields=[],
                label_map=None,
                reduce_zero_label=False,
            )
            for sample in listing.samples
        ]

    def _values(self, listing: Listing) -> dict[Path, str]:
        """Return the values of the masks of every folder."""
        folders: dict[Path, list[Path]] = {}
        for sample in listing.samples:
            if sample.mask is not None:
                folders.setdefault(sample.mask.parent, []).append(sample.mask)
        if self.mask_values != 'auto':
            return dict.fromkeys(folders, self.mask_values)
        return {folder: settle_values(masks, place=str(folder)) for folder, masks in folders.items()}
