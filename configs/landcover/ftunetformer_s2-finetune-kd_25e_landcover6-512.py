# Stage 2 (seed 003): 5 epochs of hard labels, then 20 with KD, 0.3 (CE + Dice) + 0.7 KD; rate 1e-4 to 3e-5.
_base_ = ['./ftunetformer_s2-finetune_45e_landcover6-512.py', './_base_/distil.py']
train_cfg = dict(max_epochs=25)
eta_min = 3e-5
optim_wrapper = dict(optimizer=dict(lr=1e-4))
