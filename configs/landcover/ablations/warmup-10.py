# Ten epochs of hard labels before KD.
_base_ = '../ftunetformer_s2-finetune-kd_25e_landcover6-512.py'
warmup = 10
