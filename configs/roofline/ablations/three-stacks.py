_base_ = '../roofmapnet_30e_seed-512.py'
model = dict(backbone=dict(num_stacks=3))
