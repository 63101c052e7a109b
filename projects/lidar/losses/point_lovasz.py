"""A loss on the intersection over union itself, for leaf labels and for sets of leaves."""

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn

from projects.lidar.classes import BUILDING, BUILDING_PARTS, LABELS, candidates
from projects.lidar.losses.leaf_scores import leaf_scores


@MODELS.register_module()
class PointLovasz(nn.Module):
    """Lovász-softmax, averaged over the classes that the truth of the batch has.

    A leaf class is scored on the points whose label says whether they are of it: a point known only as "some building
    part" is no evidence for or against one part, but is none of the ground. Where such points occur, "building" is a
    class of its own, with the summed probability of all parts, scored on every labelled point. Float32 under autocast
    too.

    Args:
        loss_weight: Factor of the whole. Default 1.
        loss_name: Name in the log; it must start with ``loss_`` to be trained on.

    Source: Berman et al., The Lovász-Softmax loss, CVPR 2018, algorithm 1.
    """

    def __init__(self, loss_weight: float = 1.0, loss_name: str = 'loss_lovasz') -> None:
        super().__init__()
        open_to = torch.from_numpy(candidates())  # (31, 30): label x leaf
        # (31, 31): label x scored class. A label is of a class when all its candidates are, and is not when none is.
        overlap = open_to.float() @ open_to.float().T
        self.register_buffer('inside', overlap == overlap.diagonal()[:, None], persistent=False)
        self.register_buffer('outside', overlap == 0, persistent=False)
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
        score = leaf_scores(cls_score, 'PointLovasz')
        label = label.flatten()
        known = (label != ignore_index).nonzero().squeeze(1)
        score, label = score[known], label[known]
        present = torch.bincount(label, minlength=len(LABELS)).nonzero().squeeze(1)
        if len(present) == 0:
            return cls_score.sum() * 0.0
        probability = score.softmax(1)
        if bool((present == BUILDING).any()):
            whole = probability[:, BUILDING_PARTS].sum(1, keepdim=True)  # autocast would halve a matrix product
            probability = torch.cat((probability, whole), dim=1)
        probability = probability[:, present].T  # (classes, points)
        inside, outside = self.inside[label][:, present].T, self.outside[label][:, present].T
        errors = torch.where(inside, 1 - probability, torch.where(outside, probability, 0))
        # A point that a class cannot judge has error 0 and no part in the gradient: it changes no sum
        errors, order = errors.sort(dim=1, descending=True)
        inside, outside = inside.gather(1, order).float(), outside.gather(1, order).float()
        return self.loss_weight * (errors * lovasz_gradient(inside, outside)).sum(1).mean()


@torch.no_grad()
def lovasz_gradient(inside: Tensor, outside: Tensor) -> Tensor:
    """Return what each point, sorted by falling error, adds to the Jaccard loss: (classes, points) float32 0/1 each."""
    total = inside.sum(1, keepdim=True)
    jaccard = 1 - (total - inside.cumsum(1)) / (total + outside.cumsum(1))
    return torch.cat((jaccard[:, :1], jaccard[:, 1:] - jaccard[:, :-1]), dim=1)
