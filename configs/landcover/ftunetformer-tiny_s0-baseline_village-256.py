# Stage 0 for a CPU: the tiny network on a prepared village (tools/quickstart.sh makes one).
_base_ = [
    '../_base_/runtime.py', '../_base_/tracking.py', '../_base_/schedules/adamw_lookahead.py',
    '../_base_/schedules/cosine_iterations.py', './_base_/model_ftunetformer_tiny.py', './_base_/data_prepared.py']
data_root = 'data/village'
crop_size = (256, 256)
num_workers = 2
optim_wrapper = dict(paramwise_cfg=dict(backbone_lr_mult=1.0), optimizer=dict(lr=2e-3))  # nothing is pretrained
train_cfg = dict(max_iters=400, val_interval=100)
default_hooks = dict(logger=dict(interval=20))
