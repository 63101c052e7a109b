# Three scales of the input through the same Swin, fused by attention.
_base_ = '../ftunetformer_s0-baseline_45e_landcover6-512.py'
model = dict(backbone=dict(_delete_=True, type='MultiScaleBackbone', backbone=_base_.model.backbone))
