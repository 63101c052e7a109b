# The larger scale has a gradient in every fourth iteration only.
_base_ = '../pvtv2-b2_ms-absi_150e_cod-384.py'
policy = 'stochastic(0.25, checkpoint)'
