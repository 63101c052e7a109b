# AdamW at one rate: nothing is pretrained.
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ParameterGroups',
    paramwise_cfg=dict(backbone_lr_mult=1.0),
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.01))
