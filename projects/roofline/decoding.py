"""A wireframe from heat maps alone: no network, so that labels and oracle maps can be turned back into lines."""

import numpy as np
import torch
from torch import Tensor

from projects.roofline.models.junctions import find_junctions
from projects.roofline.models.line_proposal import propose_lines
from projects.roofline.models.line_sampling import cell_corners
from projects.roofline.wireframe import Wireframe

_LINES_AT_ONCE = 1024


@torch.no_grad()
def decode_maps(
    jmap: np.ndarray | Tensor,
    joff: np.ndarray | Tensor,
    lmap: np.ndarray | Tensor,
    threshold: float = 0.5,
    line_threshold: float = 0.5,
    stride: float = 4.0,
    limit: int = 1000,
    quantile: float = 0.0,
    radius: float = 1.0,
) -> Wireframe:
    """Junctions from their maps, and the pairs of them that the line map supports from end to end.

    A pair is scored by its worst place. At points half a cell apart, the line map around the point is compared with
    what the pair itself would draw there, clip(1 - distance, 0, 1): mean(min(drawn, map)) / mean(drawn) over the four
    centres around the point, by their bilinear shares. A line of the graph that drew the map scores exactly 1, at its
    ends and along the image's border too, and a pair that leaves the lines by half a cell anywhere scores about 1/2.

    A pair a-c that passes a third junction b, with a-b and b-c accepted as well and shorter, is dropped in their
    favour: three junctions in a row make two lines. A line whose parts are not both there stays.

    Args:
        jmap: (T, h, w) probability of a junction of each type.
        joff: (T, 2, h, w) offset (dy, dx) from the cell's centre, in [-1/2, 1/2].
        lmap: (h, w) probability of a line.
        threshold: A junction's probability is above this.
        line_threshold: A pair's score is at least this, 0..1.
        stride: Pixels a cell.
        limit: Largest number of junctions.
        quantile: Share of a pair's worst points that are overlooked, 0..1; 0 for maps without error.
        radius: Cells within which a pair passes a junction.

    Returns:
        All junctions, best first, also those without a line, and the lines, best first.
    """
    jmap, joff, lmap = (torch.as_tensor(values).cpu()[None].float() for values in (jmap, joff, lmap))
    found = find_junctions(jmap, joff, limit, threshold)
    found = type(found)(*(values[:, :int(found.valid.sum())] for values in found))
    # the mean of a map along a line is hardly below half its worst place's score: a cheap and safe sieve
    pairs, image, lines, _ = propose_lines(found, lmap, limit=None, floor=line_threshold / 4 * (1 - quantile))
    score = torch.cat([_support(lmap, some, quantile) for some in lines.split(_LINES_AT_ONCE)])
    accepted = score >= line_threshold
    pairs, score = pairs[accepted], score[accepted]
    whole = ~_passes_accepted(found.yx[0], pairs, radius)
    pairs, score = pairs[whole], score[whole]
    order = score.argsort(descending=True, stable=True)
    return Wireframe(
        junctions=found.yx[0].flip(-1).double().numpy() * stride,
        junction_scores=found.score[0].double().numpy(),
        lines=pairs[order].numpy(),
        scores=score[order].double().numpy(),
        junction_types=found.type[0].numpy() if jmap.shape[1] > 1 else None,
    )


def _support(lmap: Tensor, lines: Tensor, quantile: float) -> Tensor:
    """(L,) scores of lines (L, 2, 2) on the map (1, h, w), as `decode_maps` states them."""
    if not len(lines):
        return lmap.new_empty(0)
    longest = float(torch.linalg.vector_norm(lines[:, 1] - lines[:, 0], dim=1).max())
    points = int(2 * longest) + 2
    width = lmap.shape[-1]
    corner, right, below, fy, fx = cell_corners(lines, lines.new_zeros(len(lines)), points, lmap.shape[-2:])
    values, seen, drawn = lmap.flatten(), 0, 0
    for share, step in (
        ((1 - fy) * (1 - fx), 0), ((1 - fy) * fx, right), (fy * (1 - fx), below), (fy * fx, below + right)
    ):
        cell = corner + step
        centre = torch.stack((torch.div(cell, width, rounding_mode='floor'), cell % width), -1) + 0.5
        own = (1 - _distance(centre, lines)[0]).clamp_min(0)
        drawn = drawn + share * own
        seen = seen + share * torch.minimum(own, values[cell])
    ratio = seen / drawn.clamp_min(1e-6)
    return ratio.kthvalue(1 + int(quantile * (points - 1)), 1).values


def _distance(where: Tensor, lines: Tensor) -> tuple[Tensor, Tensor]:
    """Distance (L, N) of points (L, N, 2) from lines (L, 2, 2), and each foot's share 0..1 of the line."""
    start, way = lines[:, None, 0], lines[:, None, 1] - lines[:, None, 0]  # (L, 1, 2)
    share = ((where - start) * way).sum(-1) / way.square().sum(-1).clamp_min(1e-12)
    share = share.clamp(0, 1)
    return torch.linalg.vector_norm(where - start - share[..., None] * way, dim=-1), share


def _passes_accepted(yx: Tensor, pairs: Tensor, radius: float) -> Tensor:
    """(L,) whether the pair (L, 2) passes a junction (J, 2) that shorter accepted pairs join to both its ends."""
    joined = torch.zeros(len(yx), len(yx), dtype=torch.bool)
    joined[pairs[:, 0], pairs[:, 1]] = joined[pairs[:, 1], pairs[:, 0]] = True
    first, second = pairs.T
    lengths = torch.cdist(yx, yx, compute_mode='donot_use_mm_for_euclid_dist')
    passed = torch.zeros(len(pairs), dtype=torch.bool)
    for some in torch.arange(len(pairs)).split(_LINES_AT_ONCE):
        a, c = first[some], second[some]
        near = _distance(yx.expand(len(some), -1, -1), yx[pairs[some]])[0] < radius  # (some, J)
        length = lengths[a, c][:, None]
        between = (lengths[a] < length) & (lengths[c] < length)  # also excludes the pair's own ends
        passed[some] = (near & between & joined[a] & joined[c]).any(1)
    return passed
