# Epochs of Adam with AMSGrad at one rate, a tenth of it every decay_epoch epochs, a validation every val_steps steps
# (RoofMapNet's recipe).
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ParameterGroups',
    paramwise_cfg=dict(backbone_lr_mult=1.0),
    clip_grad=dict(max_norm=1.0),
    optimizer=dict(type='Adam', lr=1e-3, weight_decay=0, amsgrad=True))
val_steps = 1000
train_cfg = dict(by_epoch=True, max_epochs=30, val_interval=1, val_steps='${val_steps}')
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
decay_epoch = 10
param_scheduler = [dict(type='StepLR', by_epoch=True, step_size='${decay_epoch}', gamma=0.1)]
train_sampler = dict(type='DefaultSampler', shuffle=True)
