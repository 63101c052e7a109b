# Two stages on a CPU, the first: heat maps only.
_base_ = './roofmapnet-tiny_roofgraph-256.py'
model = dict(lines=False)
train_cfg = dict(max_iters=600)
default_hooks = dict(checkpoint=dict(save_best='mAPJ'))
