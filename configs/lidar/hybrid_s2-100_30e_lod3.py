# Curriculum, second stage: 100 m patches beside those of the first stage.
_base_ = './hybrid_mixed_100e_lod3.py'
scales = ('50', '100')
weights = {'_delete_': True, '50': 0.5, '100': 0.5}
optim_wrapper = dict(optimizer=dict(lr=5e-4))
train_cfg = dict(max_epochs=30)
initialise = dict(checkpoint=None)
