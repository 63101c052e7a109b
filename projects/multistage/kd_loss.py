"""Knowledge distillation on the pixels where the teacher is sure."""

import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor, nn

from projects.engine.errors import UserError


@MODELS.register_module()
class ConfidenceMaskedKDLoss(nn.Module):
    """KL divergence of the student's softened distribution from the teacher's, over the pixels that are kept.

    ``KL(softmax(t / T) || softmax(s / T)) * T^2`` for each pixel, summed over the classes and averaged over the kept
    pixels (Hinton et al. 2015, arXiv:1503.02531). Kept are pixels that are not ignored and whose teacher has
    ``max softmax(t) >= threshold`` (at T = 1). Computed in float32 under autocast too.

    Args:
        temperature: T, above 0. Default 3.
        threshold: Smallest confidence of a kept pixel, 0..1; 0 keeps every pixel that has a label. Default 0.5.
        scale_by_t2: Multiply by T^2, so that the size of the gradients does not depend on T.
        ignore_index: Label of pixels that do not count.
        seed_compatible: The arithmetic of the seed: no T^2, confidence ``max softmax(t / T)``, and the sum divided by
            all N * C * H * W elements, kept or not.
    """

    def __init__(self, temperature: float = 3.0, threshold: float = 0.5, scale_by_t2: bool = True,
                 ignore_index: int = 255, seed_compatible: bool = False) -> None:
        super().__init__()
        if not temperature > 0:
            raise UserError(f'ConfidenceMaskedKDLoss.temperature: expected a number above 0, found {temperature}')
        if not 0 <= threshold <= 1:
            raise UserError(f'ConfidenceMaskedKDLoss.threshold: expected a number in 0..1, found {threshold}')
        self.temperature, self.threshold, self.ignore_index = float(temperature), float(threshold), ignore_index
        self.scale_by_t2, self.seed_compatible = scale_by_t2, seed_compatible

    def forward(self, student: Tensor, teacher: Tensor, label: Tensor,
                remap: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss, a scalar, and statistics; the loss is zero, with zero gradients, when nothing is kept.

        Args:
            student: Logits (N, C, H, W).
            teacher: Logits (N, K, H, W), taken as constants.
            label: Class ids of the student (N, H, W).
            remap: (K, C), each row's sum 1 or 0: what share of a teacher's class is which class of the student. Without
                it K must be C. Probabilities are mapped, at T = 1 and softened alike: ``softmax(t / T) @ remap``. Rows
                of zeros are classes that the student does not have: what is left is normalised, and pixels where less
                than half is left (at T = 1) are not kept.

        Returns:
            The loss and scalars without gradients: ``kept_share`` (kept pixels / labelled pixels), ``teacher_entropy``
            (nats, mean over labelled pixels), ``agreement`` and ``kept_agreement`` (share of labelled, of kept pixels
            where the teacher's arg max is the label). Shares of no pixels are 0.
        """
        with torch.autocast(student.device.type, enabled=False):
            return self._loss(student.float(), teacher.detach().float(), label, remap)

    def _loss(self, student: Tensor, teacher: Tensor, label: Tensor,
              remap: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        labelled = label != self.ignore_index  # (N, H, W)
        log_student = (student / self.temperature).log_softmax(1)
        if remap is None:
            sharp, known = teacher.softmax(1), labelled
            log_soft = (teacher / self.temperature).log_softmax(1)
            losses = F.kl_div(log_student, log_soft, reduction='none', log_target=True).sum(1)  # (N, H, W)
            certain = log_soft.exp() if self.seed_compatible else sharp
        else:
            sharp, mass = _mapped(teacher.softmax(1), remap)
            soft, _ = _mapped((teacher / self.temperature).softmax(1), remap)
            losses = F.kl_div(log_student, soft, reduction='none').sum(1)
            certain, known = soft if self.seed_compatible else sharp, labelled & (mass >= 0.5)
        kept = known & (certain.amax(1) >= self.threshold)
        total = losses.where(kept, 0.0).sum()
        if self.seed_compatible:
            loss = total / student.numel()
        else:
            loss = total / kept.sum().clamp(min=1)
            if self.scale_by_t2:
                loss = loss * self.temperature ** 2
        # argmax and entr would take most of the time of all this on a CPU
        right = sharp.gather(1, label.where(labelled, 0).unsqueeze(1)).squeeze(1) == sharp.amax(1)
        entropy = -(sharp * sharp.clamp(min=torch.finfo(sharp.dtype).tiny).log()).sum(1)
        return loss, {
            'kept_share': _share(kept, labelled),
            'teacher_entropy': entropy.where(labelled, 0.0).sum() / labelled.sum().clamp(min=1),
            'agreement': _share(right & labelled, labelled),
            'kept_agreement': _share(right & kept, kept)}


def _mapped(probability: Tensor, remap: Tensor) -> tuple[Tensor, Tensor]:
    """Return probabilities (N, C, H, W) of the student's classes and how much of each pixel they had (N, H, W)."""
    mapped = torch.einsum('nkhw,kc->nchw', probability, remap.to(probability))
    mass = mapped.sum(1, keepdim=True)
    return mapped / mass.clamp(min=torch.finfo(mass.dtype).tiny), mass.squeeze(1)


def _share(part: Tensor, whole: Tensor) -> Tensor:
    return part.sum() / whole.sum().clamp(min=1)
