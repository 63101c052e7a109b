# Temperature 1.
_base_ = '../ftunetformer_s2-finetune-kd_25e_landcover6-512.py'
temperature = 1.0
