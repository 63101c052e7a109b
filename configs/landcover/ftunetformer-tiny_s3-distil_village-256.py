# Stage 3 for a CPU: the fine-tuned network teaches itself, hard images come more often.
_base_ = ['./ftunetformer-tiny_s2-finetune_village-256.py', './_base_/distil.py']
warmup = 60
hard_samples_file = None  # the chain's, or tools/landcover/score_samples.py CONFIG CHECKPOINT --out FILE
train_sampler = dict(
    _delete_=True, type='HardSampleSampler', difficulty='${hard_samples_file}', length='weights',
    rule=dict(type='SeedRule', focus=('Settlement', 'SemiNatural Grassland')))
