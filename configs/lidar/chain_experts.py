# The seed's third strategy: one network for each scale, put together as one model.
name = 'hybrid_experts_lod3'
inputs = dict(data='data/lidar')
stages = dict(
    e50=dict(type='TrainStage', config='hybrid_expert-50_80e_lod3.py', options={'data_root': '{inputs.data}'}),
    e100=dict(type='TrainStage', config='hybrid_expert-100_80e_lod3.py', options={'data_root': '{inputs.data}'}),
    e150=dict(type='TrainStage', config='hybrid_expert-150_80e_lod3.py', options={'data_root': '{inputs.data}'}),
    experts=dict(type='ToolStage', outputs=['experts.pth'], command=[
        'tools/lidar/assemble_experts.py', 'hybrid_experts_lod3.py', '50={e50.best}', '100={e100.best}',
        '150={e150.best}', '--out', '{dir}/experts.pth']))
