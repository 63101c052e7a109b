# A prepared data set (tools/landcover/prepare.py): one manifest holds the splits. Children set data_root, taxonomy.
data_root = 'data/landcover'
taxonomy = 'landcover6'
num_classes = 6
layout = 'prepared'
remap = None
bands = (1, 2, 3)
value_range = None  # (low, high) of 16-bit data
crop_size = (512, 512)
batch_size = 8  # in each process
num_workers = 4
mosaic_prob = 0.25

train_pipeline = [
    dict(type='LoadRasterImage', bands='${bands}', value_range='${value_range}'),
    dict(type='LoadIndexMask'),
    dict(type='Mosaic', prob='${mosaic_prob}'),
    dict(type='RandomScale', scales=(0.75, 1.0, 1.25, 1.5)),
    dict(type='SmartCrop', size='${crop_size}', tries=10, max_share=0.75),
    dict(type='RandomFlips', horizontal=0.5, vertical=0.5),
    dict(type='BrightnessContrast', limit=0.25, prob=0.25),
    dict(type='PackSegInputs', meta_keys=('sample_id', 'img_path', 'ori_shape', 'img_shape', 'flip')),
]
test_pipeline = [
    dict(type='LoadRasterImage', bands='${bands}', value_range='${value_range}'),
    dict(type='LoadIndexMask'),
    dict(type='PackSegInputs', meta_keys=('sample_id', 'img_path', 'seg_map_path', 'ori_shape', 'img_shape')),
]
# Test-time views (--tta): each network at each scale and flip, the seeds' nine.
tta_model = dict(type='EnsembleTTA', scales=(0.75, 1.0, 1.25), flips=('none', 'horizontal', 'vertical'), merge='prob')

train_dataloader = dict(
    batch_size='${batch_size}', num_workers='${num_workers}', persistent_workers=True, drop_last=True,
    sampler='${train_sampler}',
    dataset=dict(
        type='LandCoverDataset', data_root='${data_root}', split='train', layout='${layout}', taxonomy='${taxonomy}',
        remap='${remap}', pipeline='${train_pipeline}'))
val_dataloader = dict(
    batch_size=1, num_workers='${num_workers}', persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='LandCoverDataset', data_root='${data_root}', split='val', layout='${layout}', taxonomy='${taxonomy}',
        remap='${remap}', pipeline='${test_pipeline}'))
test_dataloader = dict(
    batch_size=1, num_workers='${num_workers}', persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='LandCoverDataset', data_root='${data_root}', split='test', layout='${layout}', taxonomy='${taxonomy}',
        remap='${remap}', pipeline='${test_pipeline}'))
val_evaluator = dict(type='SegmentationMetric')
test_evaluator = dict(type='SegmentationMetric')
# What a run is called; chain and stage are taken from the config's file name unless they are given here too.
experiment = dict(task='landcover')
