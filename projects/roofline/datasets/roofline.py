"""The roof-line data set: images with graphs, in either layout, of one or several roots."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.dataset import BaseDataset
from mmseg.registry import DATASETS, TRANSFORMS

from projects.engine.errors import UserError
from projects.roofline.annotations import SPLITS
from projects.roofline.datasets.layouts import LAYOUTS, list_samples
from projects.roofline.graph import LINE_TYPES


@DATASETS.register_module()
class RooflineDataset(BaseDataset):
    """Aerial images with the lines of their roofs: imported data, generated villages, the seed's prepared folders.

    Every data info holds `img_path`, `sample_id` (the file's path in its folder without the suffix; with several roots
    '<folder>/<path>'), `graph` (:class:`~projects.roofline.graph.RoofGraph` in the pixels of the file), `ori_shape`
    (H, W), `split`, and `resolution` (metres a pixel), `crs` and `transform`, None where they are not known. Images
    without a roof are in order: their graph is empty.

    Args:
        data_root: A folder, or a list of them (see :mod:`projects.roofline.datasets.layouts`).
        split: 'train', 'val', 'test' or 'all'. Data without a test split (RoofGraph's) are tested on split='val'.
        layout: 'auto' (default), 'graph' or 'seed'; for all roots.
        pipeline: Transforms.
        limit: Only the first so many samples: a network that cannot overfit them has a fault. Default: None.
        kwargs: As for MMEngine's `BaseDataset`.

    Raises:
        UserError: no such folder, layout or split; images and annotations that do not fit (see
            :func:`~projects.roofline.datasets.layouts.list_samples`); two samples of one id.
    """

    METAINFO = dict(classes=('background', 'roof line'), palette=[[0, 0, 0], [255, 255, 255]], line_types=LINE_TYPES)

    def __init__(
        self,
        data_root: str | Path | Sequence[str | Path],
        split: str,
        layout: str = 'auto',
        pipeline: list[dict | Callable] | tuple = (),
        limit: int | None = None,
        **kwargs: Any,
    ) -> None:
        roots = [data_root] if isinstance(data_root, (str, Path)) else list(data_root or ())
        if not roots or not all(isinstance(root, (str, Path)) and str(root) for root in roots):
            raise UserError(f'RooflineDataset.data_root: expected a folder or a list of them, found {data_root!r}')
        for name, value, known in (('split', split, (*SPLITS, 'all')), ('layout', layout, ('auto', *LAYOUTS))):
            if value not in known:
                raise UserError(f'RooflineDataset.{name}: expected one of {", ".join(known)}, found {value!r}')
        if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
            raise UserError(f'RooflineDataset.limit: expected a whole number from 1 on or None, found {limit!r}')
        self.roots = [Path(root).expanduser() for root in roots]
        self.split, self.layout, self.limit = split, layout, limit
        super().__init__(
            # Built here, in mmseg's scope: MMEngine looks in the default scope, which only a Runner sets.
            pipeline=[TRANSFORMS.build(item) if isinstance(item, Mapping) else item for item in pipeline], **kwargs)

    @classmethod
    def metainfo_of(cls, **_: Any) -> dict[str, Any]:
        """Return the metainfo that a data set with these arguments would have, without opening any data."""
        return dict(cls.METAINFO)

    def load_data_list(self) -> list[dict]:
        """Return one data info a sample: the roots in their order."""
        infos: list[dict] = []
        for root in self.roots:
            rest = None if self.limit is None else self.limit - len(infos)
            if rest == 0:
                break
            before = f'{root.resolve().name}/' if len(self.roots) > 1 else ''
            for sample in list_samples(root, self.split, self.layout, rest):
                known = sample.annotation
                infos.append(dict(
                    img_path=str(sample.image), sample_id=before + sample.name, graph=known.graph, split=known.split,
                    ori_shape=(known.height, known.width), resolution=known.resolution, crs=known.crs,
                    transform=known.transform))
        twice = [name for name, number in Counter(info['sample_id'] for info in infos).items() if number > 1]
        if twice:
            raise UserError(f'data_root {", ".join(map(str, self.roots))}: expected one image of each name, found '
                            f'several of {twice[0]}')
        return infos
