# The expert for patches of 50 m.
_base_ = './hybrid_mixed_100e_lod3.py'
scales = ('50',)
weights = None
train_cfg = dict(max_epochs=80)
