"""The land-cover data set: any layout on disk, labels in one taxonomy."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS, TRANSFORMS

from projects.engine.errors import UserError
from projects.landcover.data.layouts import Listing, list_samples
from projects.landcover.data.ledger import original_masks
from projects.landcover.taxonomy import LabelReader, get_remap, get_taxonomy

LABELS_VERSIONS = ('current', 'original')


@DATASETS.register_module()
class LandCoverDataset(BaseSegDataset):
    """Images with land-cover masks in the classes of a taxonomy.

    Every data info holds `img_path`, `seg_map_path` (None where there is no mask), `sample_id`, `group`, and
    `labels`, the :class:`LabelReader` that `LoadIndexMask` applies, and `is_prepared`, whether the masks were checked
    against their images already. `metainfo` is the taxonomy's.

    Transforms that need further samples (`Mosaic`) have a method `bind(draw)`; the data set calls it once, when the
    pipeline is built. `draw()` picks a sample uniformly with numpy's global generator and runs the transforms that
    stand before the one that asks. So nothing is loaded unless the mosaic takes place, a pipeline stays a plain list
    in the config (mmseg's MultiImageMixDataset loads all four images each time and wraps data set and pipeline), and
    forked workers draw from the generator that MMEngine has seeded for each of them.

    Args:
        data_root: Root folder of the data set.
        split: 'train', 'val', 'test', or 'all' (default).
        pipeline: Transforms.
        layout: Key of `layouts.LAYOUTS`. Default: 'prepared'.
        taxonomy: Taxonomy of the labels that come out: a name or a dict. Default: 'landcover6'.
        source_taxonomy: Taxonomy of the label files. Default: the layout's (or the manifest's) own, for a plain folder
            that of `taxonomy`.
        remap: Variant of the map between the two, or a dict of class names, see `taxonomy.get_remap`. Default: the
            identity where the taxonomies are equal, or the only map there is.
        labels_version: 'current' (default), or 'original': the labels that a prepared data set came with, before
            `tools/landcover/correct.py` replaced any.
        mask_band: Band of GeoTIFF masks of several bands that holds the labels, from 1.
        group_regex: Regular expression that finds the group in the image's stem.
        test_mode: Images without a mask are in order.
        kwargs: As for `BaseSegDataset`.

    Raises:
        UserError: nothing there, files that do not fit, an unknown name, or taxonomies without a map between them.
    """

    def __init__(
        self,
        data_root: str,
        split: str | None = 'all',
        pipeline: list[dict | Callable] | tuple = (),
        layout: str = 'prepared',
        taxonomy: str | Mapping[str, Any] = 'landcover6',
        source_taxonomy: str | Mapping[str, Any] | None = None,
        remap: str | Mapping[str, Any] | None = None,
        group_regex: str | None = None,
        mask_band: int | None = None,
        labels_version: str = 'current',
        test_mode: bool = False,
        **kwargs: Any,
    ) -> None:
        self.split = split
        self.layout = layout
        self.group_regex = group_regex
        self.taxonomy = get_taxonomy(taxonomy)
        if labels_version not in LABELS_VERSIONS:
            raise UserError(f'labels_version: expected one of {LABELS_VERSIONS}, found {labels_version!r}')
        if labels_version == 'original' and layout != 'prepared':
            raise UserError(f'labels_version="original": only prepared data have a ledger, found layout {layout!r}')
        self.labels_version = labels_version
        self._listing: Listing | None = self._list(data_root)
        source = get_taxonomy(source_taxonomy or self._listing.taxonomy or self.taxonomy)
        self.labels = LabelReader(source, get_remap(source, self.taxonomy, remap), mask_band)
        super().__init__(
            data_root=str(data_root),
            # Built here, in mmseg's scope: MMEngine looks in the default scope, which only a Runner sets.
            pipeline=[TRANSFORMS.build(item) if isinstance(item, Mapping) else item for item in pipeline],
            metainfo=self.taxonomy.metainfo,
            ignore_index=self.taxonomy.ignore_index,
            test_mode=test_mode,
            **kwargs,
        )
        for position, transform in enumerate(self.pipeline.transforms):
            if hasattr(transform, 'bind'):
                transform.bind(partial(self._draw, position))

    @classmethod
    def metainfo_of(cls, taxonomy: str | Mapping[str, Any] = 'landcover6', **_: Any) -> dict[str, Any]:
        """Return the metainfo that a data set with these arguments would have, without opening any data."""
        return get_taxonomy(taxonomy).metainfo

    @classmethod
    def _load_metainfo(cls, metainfo: Mapping[str, Any] | None = None) -> dict:
        # MMEngine takes every string in the metainfo for the name of a file, and warns when there is none.
        return dict(metainfo or {})

    def load_data_list(self) -> list[dict]:
        """Return one data info a sample, sorted by id."""
        listing = self._listing or self._list(self.data_root)
        self._listing = None  # the paths are kept once, serialised
        problems = list(listing.problems)
        if not self.test_mode:
            problems += [f'{sample.image}: no mask' for sample in listing.samples if sample.mask is None]
        if problems:
            more = f' (and {len(problems) - 3} more)' if len(problems) > 3 else ''
            raise UserError(f'{self.data_root}: {len(problems)} files do not fit: {"; ".join(problems[:3])}{more}')
        return [
            dict(
                img_path=str(sample.image),
                seg_map_path=None if sample.mask is None else str(sample.mask),
                sample_id=sample.id,
                group=sample.group,
                seg_fields=[],
                label_map=None,
                reduce_zero_label=False,
            )
            for sample in listing.samples
        ]

    def get_data_info(self, idx: int) -> dict:
        """Return the data info of a sample, with the reader of its labels."""
        info = super().get_data_info(idx)
        info['labels'] = self.labels
        info['is_prepared'] = self.layout == 'prepared'
        return info

    def _list(self, data_root: str) -> Listing:
        listing = list_samples(data_root, self.layout, self.split, self.group_regex)
        if self.labels_version == 'original':
            masks = original_masks(data_root)
            listing.samples = [replace(s, mask=masks[s.id]) if s.id in masks else s for s in listing.samples]
        return listing

    def _draw(self, position: int) -> dict:
        """Return the results of a random sample after the first `position` transforms of the pipeline."""
        results = self.get_data_info(int(np.random.randint(len(self))))
        for transform in self.pipeline.transforms[:position]:
            results = transform(results)
        return results
