# No mosaic.
_base_ = '../ftunetformer-tiny_s0-baseline_village-256.py'
mosaic_prob = 0.0
