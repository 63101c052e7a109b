# Scales closer together.
_base_ = '../pvtv2-b2_ms-absi_150e_cod-384.py'
scales = (0.75, 1.0, 1.25)
