# Heat maps first, then lines: python tools/run_stages.py configs/roofline/chain.py --set data=DIR
name = 'roofmapnet_seed'
inputs = dict(data='data/roofs')
scores = ('mAPJ', 'sAP10')
stages = dict(
    maps=dict(type='TrainStage', config='roofmapnet_s1-maps_10e_seed-512.py', options={'data_root': '{inputs.data}'},
              note='heat maps'),
    lines=dict(type='TrainStage', config='roofmapnet_s2-lines_20e_seed-512.py', options={'data_root': '{inputs.data}'},
               parents={'initialise.checkpoint': 'maps'}, note='all losses'))
