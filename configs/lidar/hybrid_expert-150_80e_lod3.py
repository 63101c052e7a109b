# The expert for patches of 150 m.
_base_ = './hybrid_mixed_100e_lod3.py'
scales = ('150',)
weights = None
points = 32768
train_cfg = dict(max_epochs=80)
