# The recipe of the seed's text: 30 epochs of Adam with AMSGrad, batch 8, float32 (--amp: bfloat16).
_base_ = [
    './_base_/runtime_roofs.py', '../_base_/schedules/adam_amsgrad_epochs.py', './_base_/model_roofmapnet.py',
    './_base_/data_roofs.py']
test_split = 'val'  # the seed's layout has no other
precision = dict(cpu=dict(amp=False), cuda=dict(amp=False))
