# No supervision of the single scales, and no heads for it.
_base_ = '../pvtv2-b2_ms-absi_150e_cod-384.py'
model = dict(scale_head=None, scale_loss=None)
loss_schedule = dict(weights={'scale_loss.loss_weight': None})
