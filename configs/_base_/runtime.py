# What every run shares. Children hold their difference only. '${path}' is resolved after all inheritance.
default_scope = 'mmseg'
custom_imports = dict(
    imports=[
        'projects.engine.register', 'projects.multiscale.register', 'projects.multistage.register',
        'projects.evaluation.register', 'projects.camouflage.register', 'projects.landcover.register',
        'projects.lidar.register', 'projects.roofline.register'],
    allow_failed_imports=False)

env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'))
randomness = dict(seed=0, deterministic=False, diff_rank_seed=True)

# Autocast is bfloat16. Measured by tools/benchmarks/landcover_step.py: see projects/landcover/README.md.
precision = dict(
    cpu=dict(amp=True, channels_last=True, compile=False),
    cuda=dict(amp=True, channels_last=True, compile=False))

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='AtomicCheckpointHook', by_epoch='${train_cfg.by_epoch}', interval='${train_cfg.val_interval}',
        max_keep_ckpts=2, save_best='mIoU', rule='greater'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    report=dict(type='SegmentationReportHook'),
    lineage=dict(type='LineageHook'),
    guard=dict(type='GuardHook', max_skipped_steps=0, max_bad_samples=0),
    preemption=dict(type='PreemptionHook'))

log_level = 'INFO'
log_processor = dict(by_epoch='${train_cfg.by_epoch}')
load_from = None
resume = False
