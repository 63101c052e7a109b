# No supervision of the single scales.
_base_ = '../pvtv2-b2_ms-absi_150e_cod-384.py'
scale_loss_weight = 0.0
