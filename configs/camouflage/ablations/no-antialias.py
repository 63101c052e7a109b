# Images are shrunk without a low-pass filter.
_base_ = '../pvtv2-b2_ms-absi_150e_cod-384.py'
model = dict(backbone=dict(antialias=False))
