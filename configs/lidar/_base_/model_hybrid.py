# The hybrid network: local blocks over neighbourhoods, attention over the coarse levels, conditioned on scale and
# density. 9.8 M parameters.
model = dict(
    type='PointSegmentor',
    data_preprocessor=dict(type='PointPreprocessor'),
    backbone=dict(type='HybridPointNet', in_channels=21, widths=(32, 64, 128, 256, 384)),
    decode_head=dict(
        type='LidarPointHead', num_classes='${num_classes}',
        loss_decode=[dict(type='HierarchicalCrossEntropy'), dict(type='PointLovasz', loss_weight=1.0)]))
