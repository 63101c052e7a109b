# Crops of 384 x 384.
_base_ = '../ftunetformer_s2-finetune-kd_25e_landcover6-512.py'
crop_size = (384, 384)
