# FTUNetFormer: Swin-B and the UNetFormer decoder; 95,978,478 parameters at 6 classes.
norm_cfg = dict(type='SyncBN', requires_grad=True)  # becomes BN where there is no CUDA
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='BandDataPreProcessor',
        mean=[123.675, 116.28, 103.53],  # ImageNet, RGB: images are read as RGB
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=False,
        pad_val=0,
        seg_pad_val=255,
        size='${crop_size}',
        test_cfg=dict(size_divisor=4)),  # the patches' side: logits then lie exactly on the pixels
    # From scratch; with a path, from swin_base_patch4_window7_224.pth of the official Swin release.
    init_cfg=dict(type='PretrainedFile', checkpoint=None, layout='swin'),
    backbone=dict(
        type='SwinTransformer',
        in_channels=3,
        embed_dims=128,
        depths=(2, 2, 18, 2),
        num_heads=(4, 8, 16, 32),
        window_size=7,
        drop_path_rate=0.3),
    decode_head=dict(
        type='FTUNetFormerHead',
        in_channels=(128, 256, 512, 1024),
        channels=256,
        num_heads=16,
        window_size=8,
        num_classes='${num_classes}',
        dropout_ratio=0.2,
        norm_cfg='${norm_cfg}',
        loss_decode=[  # together the joint loss; two entries are two curves in the log
            dict(type='SoftCrossEntropyLoss', smoothing=0.05),
            dict(type='PresentDiceLoss', smooth=0.05),
        ]),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
