# Curriculum, third stage: half of the points, all scales, a tenth of the rate.
_base_ = './hybrid-tiny_mixed_town.py'
optim_wrapper = dict(optimizer=dict(lr=2e-4))
train_cfg = dict(max_iters=400, val_interval=400)
initialise = dict(checkpoint=None)
