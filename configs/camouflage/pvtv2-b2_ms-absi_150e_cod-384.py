# Inputs at 0.5, 1 and 1.5, fused by attention at each place (ABSI).
_base_ = [
    '../_base_/runtime.py', '../_base_/tracking.py', '../_base_/schedules/adam_step_epochs.py',
    './_base_/model_pvtv2_multiscale.py', './_base_/data_camouflage.py']
default_hooks = dict(checkpoint=dict(save_best='S'))
