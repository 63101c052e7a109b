# The expert for patches of 150 m: a third of the points that mixed training sees.
_base_ = './hybrid-tiny_mixed_town.py'
scales = ('150',)
weights = None
train_cfg = dict(max_iters=266, val_interval=266)
