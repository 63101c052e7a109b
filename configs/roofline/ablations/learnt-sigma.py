_base_ = '../roofmapnet_30e_seed-512.py'
model = dict(gaussian=dict(learnable=True))
