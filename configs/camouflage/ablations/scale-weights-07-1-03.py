# The smaller scale counts more in the scale loss.
_base_ = '../pvtv2-b2_ms-absi_150e_cod-384.py'
scale_weights = (0.7, 1.0, 0.3)
