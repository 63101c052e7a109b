# KD where the teacher is at least 0.3 certain.
_base_ = '../ftunetformer_s2-finetune-kd_25e_landcover6-512.py'
threshold = 0.3
