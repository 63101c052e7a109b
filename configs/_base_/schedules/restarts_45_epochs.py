# 45 epochs of cosine annealing with one warm restart: T0 = 15, Tmult = 2.
train_cfg = dict(by_epoch=True, max_epochs=45, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
param_scheduler = [
    dict(type='CosineRestartLR', periods=[15, 30], restart_weights=[1, 1], eta_min=0.0, by_epoch=True)]
train_sampler = dict(type='DefaultSampler', shuffle=True)
