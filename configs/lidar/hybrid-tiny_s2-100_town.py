# Curriculum, second stage: three tenths of the points, 50 and 100 m, half the rate.
_base_ = './hybrid-tiny_mixed_town.py'
scales = ('50', '100')
weights = {'_delete_': True, '50': 0.5, '100': 0.5}
optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(max_iters=240, val_interval=240)
initialise = dict(checkpoint=None)
