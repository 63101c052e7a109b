"""Cross entropy for labels that know a point's class, or only a set of classes that it is one of."""

from collections.abc import Sequence

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn

from projects.engine.errors import UserError
from projects.lidar.classes import LABELS, LOD3, candidates
from projects.lidar.losses.leaf_scores import leaf_scores


@MODELS.register_module()
class HierarchicalCrossEntropy(nn.Module):
    """``-log sum p(leaf)`` over the leaves that a label leaves open, averaged over the labelled points.

    Of a leaf label that is plain cross entropy. A point known only as "building" is at ease with any building part: its
    loss falls as their probabilities rise together, and says nothing on which of them. Float32 under autocast too.

    Args:
        class_weight: Factor of a point by its label: 30 numbers (a point of several candidates weighs their mean), or
            31, the last for "some building part". The average is weighted, as torch's is. Default None: 1.
        loss_weight: Factor of the whole. Default 1.
        loss_name: Name in the log; it must start with ``loss_`` to be trained on.

    Raises:
        UserError: ``class_weight`` has another length.
    """

    def __init__(self, class_weight: Sequence[float] | None = None, loss_weight: float = 1.0,
                 loss_name: str = 'loss_ce') -> None:
        super().__init__()
        table = torch.from_numpy(candidates())
        self.register_buffer('candidates', table, persistent=False)  # (31, 30) bool
        weights = torch.ones(len(LABELS)) if class_weight is None else torch.tensor(list(class_weight)).float()
        if len(weights) == len(LOD3):
            weights = table.float() @ weights / table.sum(1)
        if len(weights) != len(LABELS):
            raise UserError(f'HierarchicalCrossEntropy: class_weight: expected {len(LOD3)} or {len(LABELS)} numbers, '
                            f'found {len(weights)}')
        self.register_buffer('class_weight', weights, persistent=False)
        self.loss_weight = loss_weight
        self.loss_name = loss_name

    def forward(self, cls_score: Tensor, label: Tensor, ignore_index: int = 255, **kwargs) -> Tensor:
        """Return the loss, a float32 scalar; zero, with zero gradients, when no point has a label.

        Args:
            cls_score: Logits (B, 30, N).
            label: Rows of ``LABELS`` (B, N), int64.
            ignore_index: Label that does not count.

        Raises:
            UserError: The logits are not of LOD3.
        """
        score = leaf_scores(cls_score, 'HierarchicalCrossEntropy')
        label = label.flatten()
        counts = label != ignore_index
        label = torch.where(counts, label, 0)
        possible = score.masked_fill(~self.candidates[label], -torch.inf)
        loss = score.logsumexp(1) - possible.logsumexp(1)
        weight = self.class_weight[label] * counts
        total = weight.sum()
        return self.loss_weight * (loss * weight).sum() / torch.where(total > 0, total, 1)
