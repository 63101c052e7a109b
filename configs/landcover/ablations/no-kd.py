# No distillation: hard labels alone.
_base_ = '../ftunetformer_s2-finetune-kd_25e_landcover6-512.py'
distil = None
loss_schedule = None
