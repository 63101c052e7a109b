# Two stages on a CPU, the second: all six losses, from the heat maps of the first.
_base_ = './roofmapnet-tiny_roofgraph-256.py'
train_cfg = dict(max_iters=600)
initialise = dict(checkpoint=None)
