# Where numbers go: scalars.json in the work directory.
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='SegLocalVisualizer', name='visualizer', vis_backends=vis_backends)
