# Curriculum, first stage: a fifth of the points, 50 m patches.
_base_ = './hybrid-tiny_mixed_town.py'
scales = ('50',)
weights = None
train_cfg = dict(max_iters=160, val_interval=160)
