"""Test-time views: one image at several scales and flips, merged into one answer."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseTTAModel
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor

from projects.engine.errors import UserError

MERGES = ('prob', 'logit', 'vote')


def merge_views(views: Sequence[Tensor], merge: str = 'prob') -> Tensor:
    """Merge the logits of several views of one image into probabilities.

    Args:
        views: Logits (C, H, W) each, of the same image at the same size.
        merge: ``'prob'`` averages softmax probabilities (mmseg), ``'logit'`` averages logits (the seed's ensemble),
            ``'vote'`` counts each view's class.

    Returns:
        Probabilities (C, H, W), float32; they sum to one over C.
    """
    total = torch.zeros_like(views[0], dtype=torch.float32)
    for logits in views:
        logits = logits.float()
        if merge == 'prob':
            total += logits.softmax(0)
        elif merge == 'vote':
            total += torch.zeros_like(logits).scatter_(0, logits.argmax(0, keepdim=True), 1.0)
        else:
            total += logits
    total /= len(views)
    return total.softmax(0) if merge == 'logit' else total


@MODELS.register_module()
class MergedViewsTTA(BaseTTAModel):
    """Average a segmentor over the views of ``TestTimeAug``; sets ``pred_sem_seg`` and ``seg_probs``.

    mmseg's ``SegTTAModel`` knows probabilities only, and leaves the last view's logits in the sample.

    Args:
        merge: See :func:`merge_views`.
        kwargs: ``module`` (the segmentor) and the rest of ``BaseTTAModel``.
    """

    def __init__(self, merge: str = 'prob', **kwargs) -> None:
        if merge not in MERGES:
            raise UserError(f'tta_model.merge: expected one of {", ".join(MERGES)}, found {merge!r}')
        super().__init__(**kwargs)
        self.merge = merge

    def merge_preds(self, data_samples_list: list[list[SegDataSample]]) -> list[SegDataSample]:
        """Merge the views of each image of a batch."""
        merged = []
        for views in data_samples_list:
            probabilities = merge_views([view.seg_logits.data for view in views], self.merge)
            sample = views[0]
            del sample.seg_logits
            sample.seg_probs = PixelData(data=probabilities)
            sample.pred_sem_seg = PixelData(data=probabilities.argmax(0, keepdim=True))
            merged.append(sample)
        return merged
