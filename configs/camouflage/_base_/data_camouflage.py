# Any camouflage data set (projects/camouflage/datasets/layouts.py). Children set data_root: a folder, a list of them,
# or dict(NAME=FOLDER). Training and test images may lie in different roots: each has an effect on the splits it has.
data_root = 'data/camouflage'
layout = 'auto'
num_classes = 2
image_size = (384, 384)  # (height, width) of the network's input; predictions come back at each mask's own size
batch_size = 8  # in each process
rotation_prob = 0.5
num_workers = 4
# Where there is no folder val, this share of the training images is held out for it: no test set picks a checkpoint.
val_share = 0.05
duplicates = 'drop'  # training images of COD10K that are test images too
train_split = 'train'
val_split = 'val'
test_split = 'test'

# Images are RGB throughout: model.data_preprocessor.bgr_to_rgb is False. ZoomNeXt's augmentation.
train_pipeline = [
    dict(type='LoadPhotograph'),
    dict(type='LoadCamouflageMask'),
    dict(type='RandomRotation', limit=90, prob='${rotation_prob}'),
    dict(type='ResizeImage', size='${image_size}'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PhotoMetricDistortion', brightness_delta=26, contrast_range=(0.9, 1.1), saturation_range=(0.9, 1.1),
         hue_delta=5),
    dict(type='PackSegInputs', meta_keys=(
        'sample_id', 'dataset', 'kind', 'difficulty', 'img_path', 'ori_shape', 'img_shape')),
]
# The mask is loaded after the resize, so that it stays as it is on disk.
test_pipeline = [
    dict(type='LoadPhotograph'),
    dict(type='ResizeImage', size='${image_size}'),
    dict(type='LoadCamouflageMask'),
    dict(type='PackSegInputs', meta_keys=(
        'sample_id', 'dataset', 'kind', 'difficulty', 'img_path', 'seg_map_path', 'ori_shape', 'img_shape')),
]
tta_model = dict(type='EnsembleTTA', scales=(1.0,), flips=('none', 'horizontal'), merge='prob')  # --tta
mask_writer = dict(type='CamouflageMapWriterHook')  # tools/test.py --out

train_dataloader = dict(
    batch_size='${batch_size}', num_workers='${num_workers}', persistent_workers=True, drop_last=True,
    sampler='${train_sampler}',
    dataset=dict(
        type='CamouflageDataset', data_root='${data_root}', split='${train_split}', layout='${layout}',
        val_share='${val_share}', duplicates='${duplicates}', pipeline='${train_pipeline}'))
val_dataloader = dict(
    batch_size=1, num_workers='${num_workers}', persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CamouflageDataset', data_root='${data_root}', split='${val_split}', layout='${layout}',
        val_share='${val_share}', duplicates='${duplicates}', pipeline='${test_pipeline}'))
test_dataloader = dict(
    batch_size=1, num_workers='${num_workers}', persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CamouflageDataset', data_root='${data_root}', split='${test_split}', layout='${layout}',
        val_share='${val_share}', duplicates='${duplicates}', pipeline='${test_pipeline}'))
val_evaluator = [dict(type='CamouflageMetric'), dict(type='SegmentationMetric')]
test_evaluator = [dict(type='CamouflageMetric'), dict(type='SegmentationMetric')]
# What a run is called; chain and stage are taken from the config's file name unless they are given here too.
experiment = dict(task='camouflage')
