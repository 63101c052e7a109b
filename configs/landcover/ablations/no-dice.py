# Cross entropy alone.
_base_ = '../ftunetformer-tiny_s0-baseline_village-256.py'
model = dict(decode_head=dict(loss_decode=[dict(type='SoftCrossEntropyLoss', smoothing=0.05)]))
