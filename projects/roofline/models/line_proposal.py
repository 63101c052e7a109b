"""Candidate lines: pairs of junctions, ranked by line map and junction scores before any work on features."""

from typing import NamedTuple

import torch
from torch import Tensor

from projects.roofline.models.junctions import Junctions
from projects.roofline.models.line_sampling import sample_map

_LINES_AT_ONCE = {'cpu': 4096}  # intermediate arrays of 4,096 lines x 32 points stay in a CPU's cache
_LINES_AT_ONCE_ELSEWHERE = 1 << 18


class Proposals(NamedTuple):
    """Candidate lines of a batch, image after image.

    pairs: (L, 2) int64, places u < v among the image's K junctions. image_index: (L,) int64.
    lines_yx: (L, 2, 2) cells (y, x), from junction u to junction v. map_score: (L,) mean of the line map along it.
    """

    pairs: Tensor
    image_index: Tensor
    lines_yx: Tensor
    map_score: Tensor


@torch.no_grad()
def propose_lines(
    junctions: Junctions, lmap: Tensor, limit: int | None = 2500, points: int = 32, floor: float = 0.0
) -> Proposals:
    """All pairs of an image's junctions, of which the best are kept.

    A pair's map score is the mean of the line map at evenly spaced points from end to end, both included (bilinear): a
    line whose middle is hidden loses its share and no more. Pairs are ranked by the map score times the geometric mean
    of their junctions' scores: weak junctions strewn along a line make more pairs that the map supports than `limit`.

    Args:
        junctions: The junctions of B images.
        lmap: (B, h, w) probability that a line covers the cell.
        limit: Largest number of lines an image, None for all.
        points: Number of points a line that are looked at.
        floor: Lines with a lower map score are dropped even below `limit`.

    Returns:
        The lines, image after image; best first where `limit` took its choice, by pair elsewhere.
    """
    first, second, image, pair = _valid_pairs(junctions)
    lines = _lines(junctions, image, first[pair], second[pair])
    score = _mean_along(lmap.float(), lines, image, points)
    if limit is not None and len(first) > limit:
        ranked = score.new_full((len(lmap), len(first)), -torch.inf)
        strength = junctions.score[image, first[pair]] * junctions.score[image, second[pair]]
        ranked[image, pair] = score * strength.sqrt()
        place = torch.empty_like(ranked, dtype=torch.long)
        place[image, pair] = torch.arange(len(pair), device=pair.device)
        best, order = ranked.topk(limit, 1)  # (B, limit)
        kept = best > -torch.inf
        chosen = place.gather(1, order)[kept]
        image, pair, score = image[chosen], pair[chosen], score[chosen]
        lines = lines[chosen]
    proposals = Proposals(torch.stack((first[pair], second[pair]), 1), image, lines, score)
    return Proposals(*(values[score >= floor] for values in proposals)) if floor > 0 else proposals


def _valid_pairs(junctions: Junctions) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ends of all P pairs u < v (P,), and image (L,) and number (L,) of those whose ends are both valid."""
    valid = junctions.valid
    first, second = torch.triu_indices(valid.shape[1], valid.shape[1], 1, device=valid.device)
    image, pair = (valid[:, first] & valid[:, second]).nonzero(as_tuple=True)
    return first, second, image, pair


def _lines(junctions: Junctions, image: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """(L, 2, 2) end points."""
    return torch.stack((junctions.yx[image, first], junctions.yx[image, second]), 1)


def _mean_along(lmap: Tensor, lines_yx: Tensor, image_index: Tensor, points: int) -> Tensor:
    """(L,) mean of the map along each line; some lines at a time, for the cache and for memory."""
    step = _LINES_AT_ONCE.get(lmap.device.type, _LINES_AT_ONCE_ELSEWHERE)
    mean = lmap.new_empty(len(lines_yx))
    for start in range(0, len(lines_yx), step):
        some = slice(start, start + step)
        mean[some] = sample_map(lmap, lines_yx[some], image_index[some], points).mean(1)
    return mean
