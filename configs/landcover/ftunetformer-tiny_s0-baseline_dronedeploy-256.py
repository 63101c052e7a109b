# Stage 0 for a CPU on DroneDeploy, split by site; the final weights are scored, nothing is selected on the test site.
# tools/benchmarks/landcover_dronedeploy.py runs it.
_base_ = './ftunetformer-tiny_s0-baseline_village-256.py'
data_root = 'data/dronedeploy'
taxonomy = 'dronedeploy'
train_cfg = dict(max_iters=600, val_interval=10000)
val_cfg = None
val_dataloader = None
val_evaluator = None
default_hooks = dict(checkpoint=dict(interval='${train_cfg.max_iters}', save_best=None))
