# The same on a CPU.
name = 'roofmapnet-tiny_roofgraph'
inputs = dict(data='data/roofgraph')
scores = ('mAPJ', 'sAP10')
stages = dict(
    maps=dict(type='TrainStage', config='roofmapnet-tiny_s1-maps_roofgraph-256.py',
              options={'data_root': '{inputs.data}'}, note='heat maps'),
    lines=dict(type='TrainStage', config='roofmapnet-tiny_s2-lines_roofgraph-256.py',
               options={'data_root': '{inputs.data}'}, parents={'initialise.checkpoint': 'maps'}, note='all losses'))
