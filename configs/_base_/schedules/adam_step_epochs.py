# Epochs of Adam, a tenth of the rate after two thirds; the encoder learns at a tenth of the rest (ZoomNeXt's recipe).
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ParameterGroups',
    paramwise_cfg=dict(backbone_lr_mult=0.1),
    optimizer=dict(type='Adam', lr=1e-4))
train_cfg = dict(by_epoch=True, max_epochs=150, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
decay_epoch = 100  # two thirds of max_epochs: children that change one change both
param_scheduler = [dict(type='MultiStepLR', by_epoch=True, milestones=['${decay_epoch}'], gamma=0.1)]
train_sampler = dict(type='DefaultSampler', shuffle=True)
