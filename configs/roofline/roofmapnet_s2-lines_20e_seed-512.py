# Two stages, the second: all six losses, from the heat maps of the first.
_base_ = './roofmapnet_30e_seed-512.py'
train_cfg = dict(max_epochs=20)
initialise = dict(checkpoint=None)
