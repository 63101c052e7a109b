# Real tiles with ASPRS codes on a CPU: "building" stands for any of its parts; scores are coarse. So few tiles that
# none is left to choose a checkpoint by: the last one is scored, once.
_base_ = './hybrid-tiny_mixed_town.py'
data_root = 'data/dense'
scales = ('50',)
weights = None
points = 24576
val_dataloader = None
val_cfg = None
val_evaluator = None
train_cfg = dict(max_iters=2000, val_interval=200)  # how often a checkpoint is written
default_hooks = dict(checkpoint=dict(save_best=None))
