# AdamW under Lookahead; the backbone learns at a tenth of the head's rate.
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ParameterGroups',
    paramwise_cfg=dict(backbone_lr_mult=0.1),
    optimizer=dict(type='Lookahead', base=dict(type='AdamW'), lr=6e-4, weight_decay=2.5e-4, k=5, alpha=0.5))
