# RoofMapNet over two stacked hourglasses. 9.9 M parameters. loss_weights: those of the seed's text.
num_types = 1  # of junctions
loss_weights = dict(gauss=1.0, qcc=1.0, lhr=1.0, off=0.25, lv=2.0, sf=0.5)
model = dict(
    type='RoofMapNet',
    data_preprocessor=dict(
        type='ImgDataPreprocessor',
        mean=[109.73, 103.832, 98.681],
        std=[22.275, 22.124, 23.229],
        bgr_to_rgb=False),  # images are read as RGB
    backbone=dict(type='StackedHourglass', depth=4, num_stacks=2, num_blocks=1, channels=256),
    map_head=dict(
        type='RoofMapHead', in_channels='${model.backbone.channels}', num_stacks='${model.backbone.num_stacks}',
        num_types='${num_types}'),
    line_head=dict(
        type='LineVerifier', in_channels='${model.backbone.channels}', channels=128, hidden=1024, points=64, pooled=8),
    gaussian=dict(type='GaussianTarget', sigma=2.0),
    samples=dict(static_positives=300, static_negatives=40, dynamic_positives=300, dynamic_negatives=80,
                 dynamic_others=600, dynamic_junctions=300),
    losses=dict(
        gauss=dict(type='FocalGaussianLoss', loss_weight='${loss_weights.gauss}'),
        qcc=dict(type='CalibrationLoss', loss_weight='${loss_weights.qcc}'),
        lhr=dict(type='LineMapLoss', loss_weight='${loss_weights.lhr}'),
        off=dict(type='JunctionOffsetLoss', loss_weight='${loss_weights.off}'),
        lv=dict(type='LineVerificationLoss', loss_weight='${loss_weights.lv}'),
        sf=dict(type='OcclusionLoss', loss_weight='${loss_weights.sf}')),
    detection=dict(junctions=300, junction_threshold=0.008, line_limit=2500))
