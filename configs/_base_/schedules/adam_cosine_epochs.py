# Epochs of Adam at one rate under one cosine: the seed's recipe for patches of LiDAR tiles.
_base_ = './cosine_epochs.py'
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ParameterGroups',
    paramwise_cfg=dict(backbone_lr_mult=1.0),
    clip_grad=dict(max_norm=10.0),
    optimizer=dict(type='Adam', lr=1e-3))
