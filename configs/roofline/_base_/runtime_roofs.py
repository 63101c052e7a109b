# What every run on roofs shares: the three best by sAP10 are kept, beside the last.
_base_ = ['../../_base_/runtime.py', '../../_base_/tracking.py']
default_hooks = dict(checkpoint=dict(save_best='sAP10', keep_best=3, max_keep_ckpts=1))
tracking = dict(_delete_=True, type='WireframeTrackingHook', predictions=4, upload=False)
