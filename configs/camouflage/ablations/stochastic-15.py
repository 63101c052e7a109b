# The larger scale has a gradient with a chance of a quarter.
_base_ = '../pvtv2-b2_ms-absi_150e_cod-384.py'
policy = 'stochastic(0.25, checkpoint)'
