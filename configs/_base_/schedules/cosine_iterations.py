# Iterations: linear warm-up, then one cosine to zero. Children set max_iters and val_interval; the schedule follows.
train_cfg = dict(by_epoch=False, max_iters=2000, val_interval=200)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
warmup_iters = 50
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, begin=0, end='${warmup_iters}', by_epoch=False),
    dict(type='CosineAnnealingLR', begin='${warmup_iters}', end='${train_cfg.max_iters}', eta_min=0.0, by_epoch=False)]
train_sampler = dict(type='InfiniteSampler', shuffle=True)
