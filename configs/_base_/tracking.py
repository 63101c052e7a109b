# Where numbers go: scalars.json in the work directory.
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='SegLocalVisualizer', name='visualizer', vis_backends=vis_backends)
# What the run is called; None is taken from the config's file name.
experiment = dict(task=None, chain=None, stage=None, tags=[])
