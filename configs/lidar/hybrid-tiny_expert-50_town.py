# The expert for patches of 50 m: a third of the points that mixed training sees.
_base_ = './hybrid-tiny_mixed_town.py'
scales = ('50',)
weights = None
train_cfg = dict(max_iters=267, val_interval=267)
