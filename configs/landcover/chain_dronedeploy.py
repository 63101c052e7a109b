# The pipeline on real data for a CPU: target DroneDeploy, source LoveDA and Chesapeake, four classes; one seed of
# tools/benchmarks/landcover_chain.py. The stages named …_no_… are ablations of one change each.
_base_ = './chain_tiny.py'
name = 'ftunetformer-tiny_dronedeploy-cover4-192'
inputs = dict(_delete_=True, target='data/dronedeploy-cover4', source='data/loveda-cover4',
              source_2='data/chesapeake-cover4')
recipe = dict(
    finetune='ftunetformer-tiny_s2-finetune_dronedeploy-cover4-192.py',
    distil='ftunetformer-tiny_s3-distil_dronedeploy-cover4-192.py')
on_target = dict(_delete_=True, data_root='{inputs.target}')  # the budget is the configs' own
hard = {'data_root': '{inputs.target}', 'hard_samples_file': '{difficulty.dir}/difficulty.json'}
from_finetune = {'initialise.checkpoint': 'finetune', 'distil.teacher_checkpoint': 'finetune'}
stages = dict(
    baseline=dict(config='ftunetformer-tiny_s0-baseline_dronedeploy-cover4-192.py', options=on_target),
    combine=dict(command=[
        'tools/landcover/combine.py', '{inputs.target}', '{inputs.source}', '{inputs.source_2}',
        '--names', 'target', 'loveda', 'chesapeake', '--out', '{dir}/data']),
    filter=None,
    pretrain=dict(
        config='ftunetformer-tiny_s1-pretrain_dronedeploy-cover4-192.py', note='combined',
        options=dict(_delete_=True, data_root='{combine.dir}/data')),
    finetune=dict(config=recipe['finetune'], options=on_target),
    distil=dict(config=recipe['distil'], options=dict(_delete_=True, **hard)),
    distil_no_kd=dict(
        type='TrainStage', config=recipe['distil'], note='hard samples alone', gate=dict(parent='finetune'),
        options={**hard, 'distil': None, 'loss_schedule': None}, parents={'initialise.checkpoint': 'finetune'}),
    distil_no_mask=dict(
        type='TrainStage', config=recipe['distil'], note='KD on every pixel', gate=dict(parent='finetune'),
        options={**hard, 'threshold': 0.0}, parents=from_finetune),
    distil_no_hard=dict(
        type='TrainStage', config='ablations/dronedeploy_no-hard-sampling.py', note='KD, every image alike',
        options={'data_root': '{inputs.target}'}, parents=from_finetune, gate=dict(parent='finetune')),
    finetune_no_pretrain=dict(
        type='TrainStage', config=recipe['finetune'], note='from the baseline', gate=dict(parent='baseline'),
        options={'data_root': '{inputs.target}'}, parents={'initialise.checkpoint': 'baseline'}),
    difficulty_no_pretrain=dict(
        type='ToolStage', outputs=['difficulty.json'],
        command=['tools/landcover/score_samples.py', '{finetune_no_pretrain.config}', '{finetune_no_pretrain.best}',
                 '--out', '{dir}/difficulty.json', '--cfg-options', 'data_root={inputs.target}']),
    distil_no_pretrain=dict(
        type='TrainStage', config=recipe['distil'], note='KD, hard samples', gate=dict(parent='finetune_no_pretrain'),
        options={'data_root': '{inputs.target}', 'hard_samples_file': '{difficulty_no_pretrain.dir}/difficulty.json'},
        parents={'initialise.checkpoint': 'finetune_no_pretrain',
                 'distil.teacher_checkpoint': 'finetune_no_pretrain'}))
