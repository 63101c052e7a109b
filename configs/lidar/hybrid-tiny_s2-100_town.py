# Curriculum, second stage: three tenths of the points, 50 and 100 m, half the rate.
_base_ = './hybrid-tiny_mixed_town.py'
scales = ('50', '100')
weights = {'50': 0.5, '100': 0.5, '150': None}
optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(max_iters=240, val_interval=240)
initialise = dict(checkpoint=None)
