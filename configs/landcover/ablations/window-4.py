# The decoder attends within 4 x 4 windows instead of 8 x 8.
_base_ = '../ftunetformer-tiny_s0-baseline_village-256.py'
model = dict(decode_head=dict(window_size=4))
