# Two scales: the image itself and the larger one.
_base_ = '../pvtv2-b2_ms-absi_150e_cod-384.py'
scales = (1.0, 1.5)
scale_weights = (1.0, 0.5)
