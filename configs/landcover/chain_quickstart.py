# chain_tiny in a few minutes (tools/quickstart.sh): short trainings, the first steps of a real chain.
_base_ = './chain_tiny.py'
name = 'quickstart'
short = {'train_cfg.max_iters': 120, 'train_cfg.val_interval': 60, 'warmup_iters': 20}
stages = dict(
    baseline=dict(options=short),
    pretrain=dict(options=short),
    finetune=dict(options=short),
    distil=dict(options={**short, 'warmup': 30}))
