# A folder of roofs in graph layout (tools/roofline/import.py, make_roofs.py) or the seed's (train/, valid/ with
# NAME_label.npz). Children set data_root. Images keep their proportions: letterbox, no stretching.
data_root = 'data/roofs'
image_size = 512  # a multiple of 64; heat maps have a quarter of it
batch_size = 8  # in each process
batch_size_eval = 1
num_workers = 8
occluders = 0.5  # share of the images on which trees are painted over lines
train_size = '${image_size}'  # side of the letterbox
crop_scale = (0.75, 1.0)  # factor on it, before a window of image_size is cut out
val_split = 'val'
test_split = 'test'

train_pipeline = [
    dict(type='LoadRoofImage'),
    dict(type='AssumeVisible'),
    dict(type='PasteOccluders', prob='${occluders}'),
    dict(type='LetterboxRoof', size='${train_size}'),
    dict(type='RandomRoofFlip', prob=0.5, directions=('horizontal', 'vertical')),
    dict(type='RandomQuarterTurn', prob=0.5),
    dict(type='RandomRoofCrop', size='${image_size}', scale='${crop_scale}'),
    dict(type='PhotoMetricDistortion', brightness_delta=26, contrast_range=(0.8, 1.2), saturation_range=(0.8, 1.2),
         hue_delta=8),
    dict(type='PackRoofline', n_types='${num_types}'),
]
test_pipeline = [
    dict(type='LoadRoofImage'),
    dict(type='LetterboxRoof', size='${image_size}'),
    dict(type='PackRoofline', n_types='${num_types}', maps=False),
]
train_dataloader = dict(
    batch_size='${batch_size}', num_workers='${num_workers}', persistent_workers=True, drop_last=True,
    sampler='${train_sampler}',
    dataset=dict(type='RooflineDataset', data_root='${data_root}', split='train', pipeline='${train_pipeline}'))
val_dataloader = dict(
    batch_size='${batch_size_eval}', num_workers='${num_workers}', persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='RooflineDataset', data_root='${data_root}', split='${val_split}', pipeline='${test_pipeline}'))
test_dataloader = dict(
    batch_size='${batch_size_eval}', num_workers='${num_workers}', persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='RooflineDataset', data_root='${data_root}', split='${test_split}', pipeline='${test_pipeline}'))
val_evaluator = [dict(type='WireframeMetric', heat_map=False)]
test_evaluator = [dict(type='WireframeMetric')]
gallery = dict(type='WireframeGalleryHook')  # tools/test.py --show-dir
mask_writer = dict(type='WireframeWriterHook')  # tools/test.py --out
# What a run is called; chain and stage are taken from the config's file name unless they are given here too.
experiment = dict(task='roofline')
