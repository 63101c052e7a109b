# For a CPU: the narrow network on generated towns (tools/lidar/make_town.py), all three scales from the start.
_base_ = [
    '../_base_/runtime.py', '../_base_/tracking.py', '../_base_/schedules/adamw.py',
    '../_base_/schedules/cosine_iterations.py', './_base_/model_hybrid.py', './_base_/data_patches.py']
data_root = 'data/town'
model = dict(backbone=dict(widths=(16, 32, 64, 128, 192)))  # 2.6 M parameters
points = 12288
batch_size = 1
num_workers = 1
optim_wrapper = dict(clip_grad=dict(max_norm=10.0), optimizer=dict(lr=2e-3))
train_cfg = dict(max_iters=800, val_interval=400)
default_hooks = dict(logger=dict(interval=20))
tracking = dict(predictions=0)  # pictures of points: tools/lidar/view.py
