# All scales count alike in the scale loss.
_base_ = '../pvtv2-b2_ms-absi_150e_cod-384.py'
scale_weights = (1.0, 1.0, 1.0)
