# For a CPU: the narrow network on photographs of single roofs at 256 px, trained as one stage.
_base_ = [
    './_base_/runtime_roofs.py', '../_base_/schedules/adamw.py', '../_base_/schedules/cosine_iterations.py',
    './_base_/model_roofmapnet_tiny.py', './_base_/data_roofs.py']
data_root = 'data/roofgraph'
image_size = 256
train_size = 384
crop_scale = (0.55, 0.8)  # 211 to 307 px: roofs about as large as the test's
test_split = 'val'  # the data set has no other
batch_size = 8
num_workers = 1
loss_weights = dict(gauss=1.0, qcc=8.0, lhr=8.0, off=1.0, lv=1.0, sf=0.5)
optim_wrapper = dict(clip_grad=dict(max_norm=10.0), optimizer=dict(lr=2e-3))
train_cfg = dict(max_iters=1200, val_interval=300)
default_hooks = dict(logger=dict(interval=20))
precision = dict(cpu=dict(amp=False), cuda=dict(amp=False))
