# PVTv2-b2 at one scale, 150 epochs, batch 8 of 384 x 384. With ImageNet weights (the official PVT release):
#   --cfg-options model.init_cfg.checkpoint=pvt_v2_b2.pth
_base_ = [
    '../_base_/runtime.py', '../_base_/tracking.py', '../_base_/schedules/adam_step_epochs.py',
    './_base_/model_pvtv2.py', './_base_/data_camouflage.py']
default_hooks = dict(checkpoint=dict(save_best='S'))
