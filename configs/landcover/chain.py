# The whole pipeline at full size:
#   tools/run_stages.py configs/landcover/chain.py --set target=DIR source=DIR imagenet=FILE
# baseline, a second opinion on the labels, corrections by a person, pretraining on more data, fine-tuning, distillation
# with hard samples, ensemble. target and source are prepared data sets (tools/landcover/prepare.py), imagenet is
# swin_base_patch4_window7_224.pth of the official Swin release.
name = 'ftunetformer_landcover6-512'
inputs = dict(
    target='data/landcover', source='data/openearthmap', imagenet='swin_base_patch4_window7_224.pth', remap='by_name')
network = 'ftunetformer_s2-finetune_45e_landcover6-512.py'
from_imagenet = {'model.init_cfg.checkpoint': '{inputs.imagenet}'}
stages = dict(
    baseline=dict(
        type='TrainStage', config='ftunetformer_s0-baseline_45e_landcover6-512.py', note='original labels',
        options={'data_root': '{inputs.target}', **from_imagenet}),
    second=dict(
        type='TrainStage', config='ftunetformer_s0-baseline-distil_45e_landcover6-512.py', note='original labels',
        options={'data_root': '{inputs.target}', **from_imagenet}, parents={'distil.teacher_checkpoint': 'baseline'},
        gate=dict(parent='baseline')),
    candidates=dict(
        type='ToolStage', outputs=['candidates.json'],
        command=['tools/landcover/correct.py', 'candidates', '{inputs.target}', '--config', '{baseline.config}',
                 '--checkpoint', '{baseline.best}', '--checkpoint', '{second.best}', '--split', 'train',
                 '--out', '{dir}', '--overwrite']),
    review=dict(
        type='WaitStage', file='{candidates.dir}/decisions.csv',
        text='Look at the labels that are most likely wrong: tools/landcover/review.py {candidates.dir}'),
    correct=dict(
        type='ToolStage', outputs=['data/manifest.json'],
        command=['tools/landcover/correct.py', 'apply', '{inputs.target}', '{candidates.dir}', '--decisions',
                 '{review.file}', '--out', '{dir}/data']),
    combine=dict(
        type='ToolStage', outputs=['data/manifest.json'],
        command=['tools/landcover/combine.py', '{correct.dir}/data', '{inputs.source}', '--names', 'target', 'source',
                 '--remap', 'source={inputs.remap}', '--out', '{dir}/data']),
    filter=dict(
        type='ToolStage', outputs=['data/manifest.json'],
        command=['tools/landcover/filter.py', '{combine.dir}/data', '--class', 'Settlement', '--above', '0.5',
                 '--out', '{dir}/data']),
    pretrain=dict(
        type='TrainStage', config='ftunetformer_s1-pretrain_45e_landcover6-512.py', note='combined, filtered',
        options={'data_root': '{filter.dir}/data', 'val_dataloader.dataset.data_root': '{correct.dir}/data',
                 'test_dataloader.dataset.data_root': '{correct.dir}/data', **from_imagenet}),
    finetune=dict(
        type='TrainStage', config=network, note='corrected labels', options={'data_root': '{correct.dir}/data'},
        parents={'initialise.checkpoint': 'pretrain'}, gate=dict(parent='baseline')),
    difficulty=dict(
        type='ToolStage', outputs=['difficulty.json'],
        command=['tools/landcover/score_samples.py', '{finetune.config}', '{finetune.best}',
                 '--out', '{dir}/difficulty.json', '--cfg-options', 'data_root={correct.dir}/data']),
    distil=dict(
        type='TrainStage', config='ftunetformer_s3-distil_45e_landcover6-512.py', note='KD, hard samples',
        options={'data_root': '{correct.dir}/data', 'hard_samples_file': '{difficulty.dir}/difficulty.json'},
        parents={'initialise.checkpoint': 'finetune', 'distil.teacher_checkpoint': 'finetune'},
        gate=dict(parent='finetune')),
    fit=dict(
        type='ToolStage', outputs=['ensemble.json'], note='weights, temperature: validation split',
        command=['tools/fit_ensemble.py', '{finetune.config}', '{baseline.best}', '--also', '{distil.best}',
                 '--out', '{dir}/ensemble.json', '--cfg-options', 'data_root={correct.dir}/data']),
    ensemble=dict(
        type='ToolStage', outputs=['evaluation/test/scores.json'], note='test split',
        command=['tools/test.py', '{finetune.config}', '{baseline.best}', '--also', '{distil.best}',
                 '--ensemble', '{fit.dir}/ensemble.json', '--work-dir', '{dir}',
                 '--cfg-options', 'data_root={correct.dir}/data']))
