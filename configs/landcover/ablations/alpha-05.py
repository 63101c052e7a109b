# Hard labels and KD count alike.
_base_ = '../ftunetformer_s2-finetune-kd_25e_landcover6-512.py'
hard_weight = 0.5
kd_weight = 0.5
