# KD on every pixel, however uncertain the teacher is.
_base_ = '../ftunetformer_s2-finetune-kd_25e_landcover6-512.py'
threshold = 0.0
