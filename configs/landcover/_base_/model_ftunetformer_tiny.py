# FTUNetFormer for a CPU: the same decoder, 64 wide, on a half-width ResNet-18; about 3.4 million parameters.
# From scratch on few images a convolutional stem learns sooner than a small Swin (see projects/landcover/README.md).
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],  # ImageNet, RGB: images are read as RGB
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=False,
        pad_val=0,
        seg_pad_val=255,
        size='${crop_size}',
        test_cfg=dict(size_divisor=4)),  # the stem's stride: logits then lie exactly on the pixels
    backbone=dict(
        type='ResNetV1c',
        depth=18,
        in_channels=3,
        stem_channels=32,
        base_channels=32,
        norm_cfg=norm_cfg),
    decode_head=dict(
        type='FTUNetFormerHead',
        in_channels=(32, 64, 128, 256),
        channels=64,
        num_heads=8,
        window_size=8,
        num_classes='${num_classes}',
        drop_path_rate=0.1,
        dropout_ratio=0.1,
        norm_cfg=norm_cfg,
        loss_decode=[  # together the joint loss; two entries are two curves in the log
            dict(type='SoftCrossEntropyLoss', smoothing=0.05),
            dict(type='PresentDiceLoss', smooth=0.05),
        ]),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
