# For a CPU: PVTv2-b0 and a narrow decoder on generated scenes (tools/camouflage/make_scenes.py), 128 x 128.
_base_ = [
    '../_base_/runtime.py', '../_base_/tracking.py', '../_base_/schedules/adamw.py',
    '../_base_/schedules/cosine_iterations.py', './_base_/model_pvtv2.py', './_base_/data_camouflage.py']
data_root = 'data/camouflage-scenes'
image_size = (128, 128)
num_workers = 2
arch = 'b0'
channels = (32, 64, 160, 256)
duration = '${train_cfg.max_iters}'
model = dict(backbone=dict(drop_path_rate=0.0), decode_head=dict(
    channels=16, groups=4, loss_decode=[dict(type='StructureLoss'), dict(type='UncertaintyAwareLoss')]))
train_cfg = dict(max_iters=400, val_interval=100)
default_hooks = dict(checkpoint=dict(save_best='S'), logger=dict(interval=20))
