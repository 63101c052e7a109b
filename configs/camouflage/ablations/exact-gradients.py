# The larger scale always has a gradient; its activations are computed again.
_base_ = '../pvtv2-b2_ms-absi_150e_cod-384.py'
policy = 'checkpoint'
