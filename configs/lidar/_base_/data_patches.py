# A store of patches (tools/lidar/prepare.py) with its splits (tools/lidar/split.py). Children set data_root: one store
# or a list of them. Which scales are drawn, and in which shares, is what strategies differ in.
_base_ = './scales.py'
data_root = 'data/lidar'
num_classes = 30
scales = ('50', '100', '150')
weights = {'50': 0.4, '100': 0.3, '150': 0.3}  # shares of the merged set; None: every patch
points = 24576  # of a patch, the head of its farthest-point order; fewer are padded
eval_points = '${points}'
near_levels = (1, 2, 3, 4)  # whose own neighbours the backbone reads
batch_size = 8  # patches in each process, as long as they stay below max_points
max_points = 262144
num_workers = 4
building_area = 150.0  # m² of footprint that part small buildings from large ones in the scores
drop_ratio = 0.3
colour_drop = 0.2

# Rotation turns normals, scaling changes heights, and absolute heights above the sea are never seen.
train_pipeline = [
    dict(type='DropPoints', prob=1.0, ratio='${drop_ratio}'),  # so that a shorter head is another one each time
    dict(type='SamplePoints', count='${points}'),
    dict(type='RotateAboutZ'),
    dict(type='ScalePoints', limits=(0.9, 1.1)),
    dict(type='JitterPoints', sigma=0.02),
    dict(type='DropColour', prob='${colour_drop}'),
    dict(type='PackPoints', groups=False),
]
test_pipeline = [
    dict(type='SamplePoints', count='${eval_points}'),
    dict(type='PackPoints'),
]
train_dataloader = dict(
    batch_size='${batch_size}', num_workers='${num_workers}', persistent_workers=True,
    sampler='${train_sampler}',
    batch_sampler=dict(type='PointBudgetBatchSampler', max_points='${max_points}'),
    collate_fn=dict(type='collate_points', near_levels='${near_levels}'),
    dataset=dict(
        type='LidarPatchDataset', data_root='${data_root}', split='train', scales='${scales}', weights='${weights}',
        pipeline='${train_pipeline}'))
val_dataloader = dict(
    batch_size=1, num_workers='${num_workers}', persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='collate_points', near_levels='${near_levels}'),
    dataset=dict(
        type='LidarPatchDataset', data_root='${data_root}', split='val', scales='${scales}',
        pipeline='${test_pipeline}'))
test_dataloader = dict(
    batch_size=1, num_workers='${num_workers}', persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='collate_points', near_levels='${near_levels}'),
    dataset=dict(
        type='LidarPatchDataset', data_root='${data_root}', split='test', scales='${scales}',
        pipeline='${test_pipeline}'))
val_evaluator = [
    dict(type='PointMetric', level='lod3', building_area='${building_area}'),
    dict(type='PointMetric', level='coarse', prefix='coarse', building_area='${building_area}')]
test_evaluator = [
    dict(type='PointMetric', level='lod3', building_area='${building_area}'),
    dict(type='PointMetric', level='coarse', prefix='coarse', building_area='${building_area}')]
# What a run is called; chain and stage are taken from the config's file name unless they are given here too.
experiment = dict(task='lidar')
