# One scale: what the others are compared with, at as many points seen.
_base_ = './hybrid_mixed_100e_lod3.py'
scales = ('150',)
weights = None
points = 32768
