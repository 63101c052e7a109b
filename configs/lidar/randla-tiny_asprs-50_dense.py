# The baseline network instead of the hybrid one: RandLA-Net as in its paper, 1.2 M parameters.
_base_ = './hybrid-tiny_asprs-50_dense.py'
near_levels = (0, 1, 2, 3)
model = dict(backbone=dict(_delete_=True, type='RandLAPointNet', in_channels=21))
train_cfg = dict(max_iters=1200)
