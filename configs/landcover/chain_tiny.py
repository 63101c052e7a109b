# The pipeline on a CPU, on two prepared villages, without a person: no corrections.
#   tools/run_stages.py configs/landcover/chain_tiny.py --set target=DIR source=DIR
_base_ = './chain.py'
name = 'ftunetformer-tiny_village-256'
inputs = dict(_delete_=True, target='data/village', source='data/village_source')
budget = {'train_cfg.max_iters': 160, 'train_cfg.val_interval': 80}  # of every training
stages = dict(
    baseline=dict(
        config='ftunetformer-tiny_s0-baseline_village-256.py',
        options=dict(_delete_=True, data_root='{inputs.target}', **budget)),
    second=None,
    candidates=None,
    review=None,
    correct=None,
    combine=dict(command=[
        'tools/landcover/combine.py', '{inputs.target}', '{inputs.source}', '--names', 'target', 'source',
        '--out', '{dir}/data']),
    pretrain=dict(
        config='ftunetformer-tiny_s1-pretrain_village-256.py',
        options={'_delete_': True, 'data_root': '{filter.dir}/data', **budget,
                 'val_dataloader.dataset.data_root': '{inputs.target}',  # scored on what all stages are scored on
                 'test_dataloader.dataset.data_root': '{inputs.target}'}),
    finetune=dict(
        config='ftunetformer-tiny_s2-finetune_village-256.py', note='target alone',
        options=dict(data_root='{inputs.target}', **budget)),
    difficulty=dict(command=[
        'tools/landcover/score_samples.py', '{finetune.config}', '{finetune.best}', '--out', '{dir}/difficulty.json',
        '--cfg-options', 'data_root={inputs.target}']),
    distil=dict(
        config='ftunetformer-tiny_s3-distil_village-256.py', options=dict(data_root='{inputs.target}', **budget)),
    fit=dict(command=[
        'tools/fit_ensemble.py', '{finetune.config}', '{baseline.best}', '--also', '{distil.best}',
        '--out', '{dir}/ensemble.json', '--cfg-options', 'data_root={inputs.target}']),
    ensemble=dict(command=[
        'tools/test.py', '{finetune.config}', '{baseline.best}', '--also', '{distil.best}',
        '--ensemble', '{fit.dir}/ensemble.json', '--work-dir', '{dir}', '--cfg-options', 'data_root={inputs.target}']))
