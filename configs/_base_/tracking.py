# Where numbers go: scalars.json in the work directory, and a mirror of it at Weights & Biases (WANDB_MODE=disabled
# switches it off; without a key it stays on the disk, tools/sync_runs.py uploads it later).
vis_backends = [dict(type='LocalVisBackend'), dict(type='TerraceWandbBackend')]
visualizer = dict(type='SegLocalVisualizer', name='visualizer', vis_backends='${vis_backends}')
tracking = dict(type='SegmentationTrackingHook', predictions=4, upload=False)
