# The larger scale has a gradient in every other iteration.
_base_ = '../pvtv2-b2_ms-absi_150e_cod-384.py'
policy = 'stochastic(0.5)'
