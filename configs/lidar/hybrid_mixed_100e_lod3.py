# All three scales from the start, in the shares 0.4, 0.3, 0.3.
_base_ = [
    '../_base_/runtime.py', '../_base_/tracking.py', '../_base_/schedules/adam_cosine_epochs.py',
    './_base_/model_hybrid.py', './_base_/data_patches.py']
train_cfg = dict(max_epochs=100, val_interval=5)
tracking = dict(predictions=0)  # pictures of points: tools/lidar/view.py
