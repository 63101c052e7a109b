# The seed's first strategy: 50 m, then 50 and 100 m, then all, each stage from the one before.
name = 'hybrid_curriculum_lod3'
inputs = dict(data='data/lidar')
stages = dict(
    s1=dict(type='TrainStage', config='hybrid_s1-50_20e_lod3.py', options={'data_root': '{inputs.data}'},
            note='50 m'),
    s2=dict(type='TrainStage', config='hybrid_s2-100_30e_lod3.py', options={'data_root': '{inputs.data}'},
            parents={'initialise.checkpoint': 's1'}, note='50 and 100 m'),
    s3=dict(type='TrainStage', config='hybrid_s3-150_50e_lod3.py', options={'data_root': '{inputs.data}'},
            parents={'initialise.checkpoint': 's2'}, note='all scales'))
