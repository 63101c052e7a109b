# Two stages, the first: heat maps only. The line verifier keeps its first weights.
_base_ = './roofmapnet_30e_seed-512.py'
model = dict(lines=False)
train_cfg = dict(max_epochs=10)
default_hooks = dict(checkpoint=dict(save_best='mAPJ'))
