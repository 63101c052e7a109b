# For a CPU: generated villages (tools/roofline/make_roofs.py), whose images share one resolution.
_base_ = './roofmapnet-tiny_roofgraph-256.py'
data_root = 'data/roof-villages'
test_split = 'test'
train_pipeline = [
    dict(type='LoadRoofImage'),
    dict(type='RandomRoofFlip', prob=0.5, directions=('horizontal', 'vertical')),
    dict(type='RandomQuarterTurn', prob=0.5),
    dict(type='RandomRoofCrop', size='${image_size}', scale=(0.9, 1.1)),
    dict(type='PhotoMetricDistortion', brightness_delta=26, contrast_range=(0.8, 1.2), saturation_range=(0.8, 1.2),
         hue_delta=8),
    dict(type='PackRoofline', n_types='${num_types}'),
]
