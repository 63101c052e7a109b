"""Trees pasted over roof lines, with the exact interval that they hide."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import shapely
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from projects.roofline.datasets.occluders.hiding import hide
from projects.roofline.datasets.occluders.outlines import Crown, random_crown
from projects.roofline.datasets.occluders.painting import paint_crown
from projects.roofline.datasets.transforms.arguments import check_count, check_range, check_share
from projects.roofline.graph import RoofGraph

TRIES = 10
SMALLEST = 6.0  # px: below, a crown is a smudge


@TRANSFORMS.register_module()
class PasteOccluders(BaseTransform):
    """Paste tree crowns on lines of the graph, and say of every line that they touch which part they hide.

    A line is drawn with a probability by its length, a place on it evenly, and a diameter by `share` of its length;
    the crown's middle lies up to half a radius beside the line. The graph's `occlusions` of each line that is
    touched become the exact interval where line and crown's outline meet, in the direction from the line's first
    junction; where several parts are hidden (by several crowns, or around a bay of one), and more than a pixel between
    them is seen, the interval is NaN. Lines that no crown touches keep what they have: NaN (not known) for a
    photograph, which may have trees of its own (or see `AssumeVisible`). Shadows hide nothing.

    Put it behind `LoadRoofImage`: the crowns are then scaled with the photograph, and none stands on a letterbox's rim.

    Source: specs/roofline.md, "Network" (the supervision of the occlusion attention).

    Args:
        prob: Probability that an image gets crowns. Default: 0.5.
        number: (least, most) crowns. Fewer are pasted where ten draws found no place for one. Default: (1, 4).
        share: (low, high) of a crown's diameter as a share of its line's length. Default: (0.15, 0.6).
        largest: A crown's diameter at most, as a share of the image's shorter side. Default: 0.3.
        shortest: Length from which on a line is chosen for a crown, px. Default: 16.
        most: Hidden share that no line may reach: of a line that cannot be seen nothing is to be learnt. Default: 0.8.
    """

    def __init__(
        self,
        prob: float = 0.5,
        number: Sequence[int] = (1, 4),
        share: Sequence[float] = (0.15, 0.6),
        largest: float = 0.3,
        shortest: int = 16,
        most: float = 0.8,
    ) -> None:
        check_share('PasteOccluders', prob=prob, largest=largest, most=most)
        check_count('PasteOccluders', shortest=shortest)
        self.prob, self.largest, self.shortest, self.most = prob, largest, shortest, most
        self.number = check_range('PasteOccluders', 'number', number, 1, 1000, whole=True)
        self.share = check_range('PasteOccluders', 'share', share, 0.01, 2)

    def transform(self, results: dict) -> dict:
        graph: RoofGraph | None = results.get('graph')
        if graph is None or graph.empty:
            return results
        if np.random.random() < self.prob:
            crowns = self._crowns(graph, results['img'].shape[:2])
            angle = np.random.uniform(0, 2 * np.pi)
            for crown in crowns:
                results['img'] = paint_crown(results['img'], crown, (np.cos(angle), np.sin(angle)))
            if crowns:
                cover = shapely.union_all([crown.outline for crown in crowns])
                graph = replace(graph, occlusions=hide(graph, cover)[0])
        results['graph'] = graph
        return results

    def _crowns(self, graph: RoofGraph, size: tuple[int, int]) -> list[Crown]:
        """Draw crowns that together leave something of every line to be seen."""
        segments = graph.segments()
        lengths = np.linalg.norm(segments[:, 1] - segments[:, 0], axis=1)
        odds = np.where(lengths >= self.shortest, lengths, 0.0)
        crowns: list[Crown] = []
        if not odds.any():
            return crowns
        cover = shapely.Polygon()
        for _ in range(np.random.randint(self.number[0], self.number[1] + 1)):
            for _ in range(TRIES):
                line = np.random.choice(len(odds), p=odds / odds.sum())
                first, second = segments[line]
                diameter = np.clip(lengths[line] * np.random.uniform(*self.share), SMALLEST,
                                   max(SMALLEST, self.largest * min(size)))
                along, beside = np.random.random(), np.random.uniform(-0.25, 0.25) * diameter
                across = np.array([-1.0, 1.0]) * (second - first)[::-1] / lengths[line]
                crown = random_crown(first + along * (second - first) + beside * across, diameter)
                wider = shapely.union(cover, crown.outline)
                if hide(graph, wider)[1].max() < self.most:
                    crowns.append(crown)
                    cover = wider
                    break
        return crowns

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(prob={self.prob}, number={self.number}, share={self.share}, '
                f'largest={self.largest}, shortest={self.shortest}, most={self.most})')
