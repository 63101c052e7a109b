# Scales further apart.
_base_ = '../pvtv2-b2_ms-absi_150e_cod-384.py'
scales = (0.5, 1.0, 2.0)
