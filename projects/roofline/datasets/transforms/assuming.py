"""What is taken for known where the data do not say which parts of a line are hidden."""

from dataclasses import replace

import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from projects.roofline.graph import RoofGraph


@TRANSFORMS.register_module()
class AssumeVisible(BaseTransform):
    """Say of every line of which no hidden interval is known that nothing hides it: NaN becomes (0, 0).

    For photographs with few trees: from painted trees alone, the network would only learn of lines that are hidden.
    Put it before `PasteOccluders`, whose NaN means several hidden parts; for the same reason it is not for generated
    scenes.
    """

    def transform(self, results: dict) -> dict:
        graph: RoofGraph | None = results.get('graph')
        if graph is not None and not graph.empty:
            unknown = np.isnan(graph.occlusions).any(axis=1)[:, None]
            results['graph'] = replace(graph, occlusions=np.where(unknown, 0.0, graph.occlusions))
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
