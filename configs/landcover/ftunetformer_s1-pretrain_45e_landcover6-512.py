# Stage 1 (seed 001): target and OpenEarthMap together, 45 epochs, batch 8, learning rate 6e-5, weight decay 0.01.
_base_ = [
    '../_base_/runtime.py', '../_base_/tracking.py', '../_base_/schedules/adamw_lookahead.py',
    '../_base_/schedules/cosine_epochs.py', './_base_/model_ftunetformer.py', './_base_/data_prepared.py']
data_root = 'data/landcover_combined'
optim_wrapper = dict(paramwise_cfg=dict(backbone_lr_mult=1.0), optimizer=dict(lr=6e-5, weight_decay=0.01))
