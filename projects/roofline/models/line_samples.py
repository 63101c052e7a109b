"""The lines that the verifier learns from: of the truth, and of what the junction head finds at this moment."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mmseg.structures import SegDataSample
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from projects.engine.errors import UserError
from projects.roofline.models.junctions import Junctions


@dataclass(frozen=True, eq=False)
class PaddedTruth:
    """The graphs of B images, padded to one size; every axis of N, M and Q is at least 1 long.

    Args:
        junctions: (y, x) in cells (B, N, 2) float32.
        junction_valid: Which of them are no padding (B, N) bool.
        lines: Places of their two junctions (B, M, 2) int64; 0 in the padding.
        line_valid: (B, M) bool.
        negatives: Hard negatives, pairs of junctions that are no line (B, Q, 2) int64; 0 in the padding.
        negative_valid: (B, Q) bool.
        occlusions: Hidden interval (s_f, s_b) of each line from its first junction, NaN unknown (B, M, 2) float32.
    """

    junctions: Tensor
    junction_valid: Tensor
    lines: Tensor
    line_valid: Tensor
    negatives: Tensor
    negative_valid: Tensor
    occlusions: Tensor


@dataclass(frozen=True, eq=False)
class LineSamples:
    """Lines to verify, image after image.

    Args:
        lines_yx: Both ends (y, x) in cells (L, 2, 2) float32.
        image_index: Image of the batch (L,) int64, ascending.
        labels: 1 for a line, 0 for none (L,) float32.
        occlusions: Hidden interval (s_f, s_b) from the first end of ``lines_yx`` (L, 2) float32; NaN where it is not
            known, and for all that are no lines.
    """

    lines_yx: Tensor
    image_index: Tensor
    labels: Tensor
    occlusions: Tensor


@dataclass(frozen=True)
class LineSampler:
    """Draws static and dynamic lines of a batch at once: no loop over images, no wait for the device but the last.

    Static ones are of the truth: lines, and hard negatives, either end first with equal chance. Dynamic ones are pairs
    u < v of the junctions found, best first, as a prediction has them. A junction found is matched to the nearest true
    one, whatever their types (the verifier sees none), if that is near enough; a pair is positive if its matches are a
    line in either direction, negative if they are a hard negative, and other (label 0) in all other cases, unmatched
    junctions among them. Each quota is a uniform draw of each image, without repetition, from torch's global generator.

    At most ``factor N + extra`` junctions of an image of N true ones are looked at. That tells the number of junctions,
    so it is for training only.

    Args:
        static_positives: At most so many true lines an image. Default 300.
        static_negatives: Hard negatives. Default 40.
        dynamic_positives: Pairs found that are true lines. Default 300.
        dynamic_negatives: Pairs found that are hard negatives. Default 80.
        dynamic_others: All other pairs found. Default 600.
        dynamic_junctions: At most so many junctions found are looked at. Default 300.
        match_distance: In cells, inclusive. Default 1.5.
        factor, extra: See above. Default 2 and 2.

    Raises:
        UserError: A number is negative, or a quota is not whole.

    Source: specs/roofline.md, "Samples"; Zhou et al., End-to-End Wireframe Parsing (L-CNN), ICCV 2019 (static and
    dynamic line sampling).
    """

    static_positives: int = 300
    static_negatives: int = 40
    dynamic_positives: int = 300
    dynamic_negatives: int = 80
    dynamic_others: int = 600
    dynamic_junctions: int = 300
    match_distance: float = 1.5
    factor: int = 2
    extra: int = 2

    def __post_init__(self) -> None:
        for key, value in vars(self).items():
            number = int | float if key == 'match_distance' else int
            if not isinstance(value, number) or not value >= 0:
                kind = 'a number' if key == 'match_distance' else 'a whole number'
                raise UserError(f'model.samples: {key}: expected {kind} >= 0, found {value!r}')

    @torch.no_grad()
    def __call__(self, found: Junctions, truth: PaddedTruth) -> LineSamples:
        """Return the lines drawn.

        Args:
            found: Junctions found, best first, places in cells: yx (B, K, 2), valid (B, K).
            truth: The graphs of the same images.
        """
        parts = [*self._static(truth), *self._dynamic(found, truth)]
        lines, chosen, labels, occlusions = (torch.cat(part, 1) for part in zip(*parts))
        image, place = chosen.nonzero(as_tuple=True)
        return LineSamples(lines[image, place], image, labels[image, place], occlusions[image, place])

    def _static(self, truth: PaddedTruth) -> list[tuple[Tensor, ...]]:
        """Return true lines and hard negatives: lines (B, q, 2, 2), chosen (B, q), labels, occlusions (B, q, 2)."""
        image, parts = _images(truth.junctions), []
        for is_line, pairs, valid, quota in (
                (True, truth.lines, truth.line_valid, self.static_positives),
                (False, truth.negatives, truth.negative_valid, self.static_negatives)):
            index, chosen = draw(valid, quota)
            backward = torch.rand(chosen.shape, device=chosen.device) < 0.5
            lines = truth.junctions[image[:, :, None], pairs[image, index]]
            lines = torch.where(backward[..., None, None], lines.flip(2), lines)
            label, hidden = _no_line(chosen)
            if is_line:
                label, hidden = torch.ones_like(label), turned(truth.occlusions[image, index], backward)
            parts.append((lines, chosen, label, hidden))
        return parts

    def _dynamic(self, found: Junctions, truth: PaddedTruth) -> list[tuple[Tensor, ...]]:
        """Return positive, negative and other pairs of junctions found, as :meth:`_static` does."""
        image, true = _images(truth.junctions), truth.junctions.shape[1]
        seen = min(found.yx.shape[1], self.dynamic_junctions, self.factor * true + self.extra)
        yx = found.yx[:, :seen].float()
        most = self.factor * truth.junction_valid.sum(1, keepdim=True) + self.extra
        valid = found.valid[:, :seen] & (torch.arange(seen, device=yx.device) < most)
        match = match_junctions(yx, valid, truth, self.match_distance)

        u, v = torch.triu_indices(seen, seen, 1, device=yx.device)  # (P,) each
        pair = image, match[:, u], match[:, v]
        line = _line_table(truth)[pair]  # (B, P)
        possible = valid[:, u] & valid[:, v]
        positive = possible & (line != 0)
        negative = possible & ~positive & _negative_table(truth)[pair]

        parts = []
        for is_line, pairs, quota in (
                (True, positive, self.dynamic_positives),
                (False, negative, self.dynamic_negatives),
                (False, possible & ~positive & ~negative, self.dynamic_others)):
            index, chosen = draw(pairs, quota)
            lines = torch.stack((yx[image, u[index]], yx[image, v[index]]), 2)
            label, hidden = _no_line(chosen)
            if is_line:
                label, number = torch.ones_like(label), line.gather(1, index)
                hidden = turned(truth.occlusions[image, (number.abs() - 1).clamp_min(0)], number < 0)
            parts.append((lines, chosen, label, hidden))
        return parts


def pad_truth(data_samples: Sequence[SegDataSample]) -> PaddedTruth:
    """Return the graphs of a batch as one: of ``junctions``, ``lines``, ``negatives`` and ``occlusions`` (cells)."""
    junctions, junction_valid = _pad([sample.junctions[:, :2].float() for sample in data_samples])
    lines, line_valid = _pad([sample.lines.long() for sample in data_samples])
    negatives, negative_valid = _pad([sample.negatives.long() for sample in data_samples])
    occlusions, _ = _pad([sample.occlusions.float() for sample in data_samples])
    return PaddedTruth(junctions, junction_valid, lines, line_valid, negatives, negative_valid, occlusions)


def match_junctions(yx: Tensor, valid: Tensor, truth: PaddedTruth, distance: float) -> Tensor:
    """Return the place of the nearest true junction, or N (one past the last) if none is near: (B, K) int64.

    Args:
        yx: Junctions found, cells (B, K, 2) float32.
        valid: Which of them count (B, K).
        truth: The graphs, N junctions each.
        distance: Largest distance in cells, inclusive.
    """
    # By matrix products, a distance of 0 between points near 128 would come out as up to 0.1
    distances = torch.cdist(yx, truth.junctions, compute_mode='donot_use_mm_for_euclid_dist')
    nearest, match = distances.masked_fill(~truth.junction_valid[:, None], torch.inf).min(2)
    return torch.where(valid & (nearest <= distance), match, truth.junctions.shape[1])


def draw(candidates: Tensor, quota: int) -> tuple[Tensor, Tensor]:
    """Draw at most ``quota`` of the true entries of each row, uniformly, without repetition.

    Args:
        candidates: (B, P) bool.
        quota: q' >= 0.

    Returns:
        Places (B, q) int64 and which of them are drawn (B, q) bool, q = min(q', P).
    """
    luck = torch.rand(candidates.shape, device=candidates.device).masked_fill(~candidates, -1)
    best, index = luck.topk(min(quota, candidates.shape[1]), 1)
    return index, best >= 0


def turned(occlusions: Tensor, backward: Tensor) -> Tensor:
    """Return hidden intervals (..., 2) as seen from the other end, ``(1 - s_b, 1 - s_f)``, where backward (...).

    An empty one is (0, 0) from either end: a network that sees no direction in a line that nothing hides could only
    learn the mean of (0, 0) and (1, 1), a mask in its middle.
    """
    seen = torch.where(backward[..., None], 1 - occlusions.flip(-1), occlusions)
    return torch.where(seen[..., :1] >= seen[..., 1:], 0.0, seen)


def _no_line(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Return the labels (B, q) and hidden intervals (B, q, 2) of samples that are no lines."""
    labels = torch.zeros_like(chosen, dtype=torch.float32)
    return labels, labels[..., None].expand(-1, -1, 2) + torch.nan


def _images(values: Tensor) -> Tensor:
    """Return the number of each image (B, 1), to index with."""
    return torch.arange(len(values), device=values.device)[:, None]


def _line_table(truth: PaddedTruth) -> Tensor:
    """Return by image and two junctions the line's number from 1, negative against its direction, 0 for none.

    (B, N + 1, N + 1) int64: junction N is "none", which is also where the padding goes.
    """
    image, none = _images(truth.lines), truth.junctions.shape[1]
    first, second = torch.where(truth.line_valid[..., None], truth.lines, none).unbind(2)
    number = torch.arange(1, truth.lines.shape[1] + 1, device=first.device).expand_as(first)
    table = first.new_zeros(len(first), none + 1, none + 1)
    table[image, second, first] = -number
    table[image, first, second] = number
    table[:, none, none] = 0
    return table


def _negative_table(truth: PaddedTruth) -> Tensor:
    """Return by image and two junctions, in either direction, whether they are a hard negative: as _line_table."""
    image, none = _images(truth.negatives), truth.junctions.shape[1]
    first, second = torch.where(truth.negative_valid[..., None], truth.negatives, none).unbind(2)
    table = first.new_zeros(len(first), none + 1, none + 1, dtype=torch.bool)
    table[image, first, second] = True
    table[image, second, first] = True
    table[:, none, none] = False
    return table


def _pad(rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return rows (n_b, D) as (B, max(n_b, 1), D), and which are no padding (B, max(n_b, 1))."""
    padded = pad_sequence(rows, batch_first=True)
    padded = F.pad(padded, (0, 0, 0, max(0, 1 - padded.shape[1])))
    lengths = torch.tensor([len(row) for row in rows], device=padded.device)
    return padded, torch.arange(padded.shape[1], device=padded.device) < lengths[:, None]
