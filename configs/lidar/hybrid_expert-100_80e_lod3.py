# The expert for patches of 100 m.
_base_ = './hybrid_mixed_100e_lod3.py'
scales = ('100',)
weights = None
train_cfg = dict(max_epochs=80)
