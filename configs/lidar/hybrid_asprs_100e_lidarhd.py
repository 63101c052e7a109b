# Real tiles: ASPRS codes, so a building point is trained as "some part of a building" and scores are coarse.
_base_ = './hybrid_mixed_100e_lod3.py'
default_hooks = dict(checkpoint=dict(save_best='coarse/mIoU'))
