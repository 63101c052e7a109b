# Curriculum, third stage: all scales; the earlier ones are replayed.
_base_ = './hybrid_mixed_100e_lod3.py'
optim_wrapper = dict(optimizer=dict(lr=1e-4))
train_cfg = dict(max_epochs=50)
initialise = dict(checkpoint=None)
