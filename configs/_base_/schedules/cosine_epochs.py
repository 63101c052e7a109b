# Epochs: one cosine to eta_min, a step each iteration. Children set max_epochs; the schedule follows.
train_cfg = dict(by_epoch=True, max_epochs=45, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
eta_min = 0.0
param_scheduler = [
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end='${train_cfg.max_epochs}',
         T_max='${train_cfg.max_epochs}', eta_min='${eta_min}', convert_to_iter_based=True)]
train_sampler = dict(type='DefaultSampler', shuffle=True)
