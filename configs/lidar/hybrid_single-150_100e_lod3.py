# One scale: what the others are compared with. As many epochs as mixed training, not as many points: of a km² it sees
# 64 patches of 32,768 points an epoch (2.1 M), mixed training 213 of 24,576 (5.2 M). At equal points: *_town.py.
_base_ = './hybrid_mixed_100e_lod3.py'
scales = ('150',)
weights = None
points = 32768
