# Stage 3 (seed 001): the fine-tuned network teaches itself, hard images come more often; 0.7 (CE + Dice) + 0.3 KD.
_base_ = ['./ftunetformer_s2-finetune_45e_landcover6-512.py', './_base_/distil.py']
hard_weight = 0.7
kd_weight = 0.3
hard_samples_file = None  # the chain's, or tools/landcover/score_samples.py CONFIG CHECKPOINT --out FILE
train_sampler = dict(
    _delete_=True, type='HardSampleSampler', difficulty='${hard_samples_file}', length='weights',
    rule=dict(type='SeedRule', focus=('Settlement', 'SemiNatural Grassland')))
