# Knowledge distillation, L = hard_weight (CE + Dice) + kd_weight KD. The teacher is the same network unless
# teacher_config names another one; its weights come from the chain or from --cfg-options.
temperature = 3.0
threshold = 0.5  # pixels whose teacher is less certain than this are left out of KD
hard_weight = 0.3
kd_weight = 0.7
warmup = 5  # epochs (iterations where the run counts them) of hard labels alone
distil = dict(
    type='DistilledSegmentor',
    teacher_config=None,
    teacher_checkpoint=None,
    loss=dict(type='ConfidenceMaskedKDLoss', temperature='${temperature}', threshold='${threshold}'),
    hard_weight='${hard_weight}',
    kd_weight='${kd_weight}')
loss_schedule = dict(
    type='StageWarmupHook',
    by_epoch='${train_cfg.by_epoch}',
    weights=dict(
        hard_weight=[(0, 1.0), ('${warmup}', '${hard_weight}')],
        kd_weight=[(0, 0.0), ('${warmup}', '${kd_weight}')]))
