"""Merging views, by hand."""

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from projects.engine.errors import UserError
from projects.multiscale.test_time import MergedViewsTTA, merge_views

# two classes, one pixel: the first view is sure of class 0, the other two lean towards class 1
VIEWS = [torch.tensor(logits).view(2, 1, 1) for logits in ([4.0, 0.0], [0.0, 1.0], [0.0, 1.0])]


def test_probabilities_logits_and_votes():
    sure, lean = 1 / (1 + torch.tensor(-4.0).exp()), 1 / (1 + torch.tensor(1.0).exp())
    assert merge_views(VIEWS, 'prob')[0, 0, 0].item() == pytest.approx(((sure + 2 * lean) / 3).item())
    assert merge_views(VIEWS, 'logit')[0, 0, 0].item() == pytest.approx((1 / (1 + torch.tensor(-2 / 3).exp())).item())
    assert merge_views(VIEWS, 'vote').flatten().tolist() == pytest.approx([1 / 3, 2 / 3])
    for merge in ('prob', 'logit', 'vote'):
        assert merge_views(VIEWS, merge).sum().item() == pytest.approx(1.0)


def test_the_model_answers_with_the_merged_views():
    module = MODELS.build(dict(
        type='EncoderDecoder', backbone=dict(type='ResNetV1c', depth=18, base_channels=4, stem_channels=4),
        decode_head=dict(type='FCNHead', in_channels=32, channels=4, num_classes=2, norm_cfg=dict(type='BN'))))
    model = MergedViewsTTA(merge='vote', module=module)
    views = [SegDataSample(seg_logits=PixelData(data=view), pred_sem_seg=PixelData(data=view.argmax(0, True)))
             for view in VIEWS]
    merged = model.merge_preds([views])
    assert len(merged) == 1 and merged[0].pred_sem_seg.data.item() == 1
    assert merged[0].seg_probs.data.flatten().tolist() == pytest.approx([1 / 3, 2 / 3])
    assert 'seg_logits' not in merged[0]


def test_an_unknown_merge():
    with pytest.raises(UserError, match='expected one of prob, logit, vote'):
        MergedViewsTTA(merge='mean', module=torch.nn.Identity())
