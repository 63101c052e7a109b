# PVTv2 and a gated decoder at one scale; arch and channels go together.
arch = 'b2'
channels = (64, 128, 320, 512)  # b0: (32, 64, 160, 256); b1..b5 and b2_li as here
duration = '${train_cfg.max_epochs}'  # over which the uncertainty-aware loss is weighed in; iterations where they count
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],  # ImageNet
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=False,  # images are read as RGB
        pad_val=0,
        seg_pad_val=255,
        size='${image_size}',
        test_cfg=dict(size_divisor=32)),
    # From scratch; with a path, from pvt_v2_b2.pth of the official PVT release.
    init_cfg=dict(type='PretrainedFile', checkpoint=None, layout='pvt_v2'),
    backbone=dict(type='PVTv2', arch='${arch}', drop_path_rate=0.1),
    decode_head=dict(
        type='GroupedGateHead',
        in_channels='${channels}',
        num_classes='${num_classes}',
        out_channels=1,
        threshold=0.5,
        loss_decode=[
            dict(type='CrossEntropyLoss', use_sigmoid=True, avg_non_ignore=True),
            dict(type='UncertaintyAwareLoss')]),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
loss_schedule = dict(
    type='StageWarmupHook',
    by_epoch='${train_cfg.by_epoch}',
    weights={'decode_head.loss_decode.1.loss_weight': [(0, 0.0), (1, 1.0)]},
    ramp={'decode_head.loss_decode.1.loss_weight': '${duration}'},
    shape={'decode_head.loss_decode.1.loss_weight': 'cosine'})
