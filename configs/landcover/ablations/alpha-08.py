# KD counts four times as much as the hard labels.
_base_ = '../ftunetformer_s2-finetune-kd_25e_landcover6-512.py'
hard_weight = 0.2
kd_weight = 0.8
