# The strategies on generated towns at equal points seen, for a CPU: one seed of tools/benchmarks/lidar_strategies.py.
name = 'hybrid-tiny_town'
inputs = dict(train='data/town', val='data/town-val')
towns = {'data_root': '{inputs.train}', 'val_dataloader.dataset.data_root': '{inputs.val}'}
stages = dict(
    single=dict(type='TrainStage', config='hybrid-tiny_single-150_town.py', options=towns, note='150 m'),
    mixed=dict(type='TrainStage', config='hybrid-tiny_mixed_town.py', options=towns, note='all scales'),
    s1=dict(type='TrainStage', config='hybrid-tiny_s1-50_town.py', options=towns, note='50 m'),
    s2=dict(type='TrainStage', config='hybrid-tiny_s2-100_town.py', options=towns, note='50 and 100 m',
            parents={'initialise.checkpoint': 's1.last'}),
    s3=dict(type='TrainStage', config='hybrid-tiny_s3-150_town.py', options=towns, note='all scales',
            parents={'initialise.checkpoint': 's2.last'}),
    e50=dict(type='TrainStage', config='hybrid-tiny_expert-50_town.py', options=towns, note='50 m'),
    e100=dict(type='TrainStage', config='hybrid-tiny_expert-100_town.py', options=towns, note='100 m'),
    e150=dict(type='TrainStage', config='hybrid-tiny_expert-150_town.py', options=towns, note='150 m'),
    experts=dict(type='ToolStage', outputs=['experts.pth'], command=[
        'tools/lidar/assemble_experts.py', 'hybrid-tiny_experts_town.py', '50={e50.best}', '100={e100.best}',
        '150={e150.best}', '--out', '{dir}/experts.pth']))
