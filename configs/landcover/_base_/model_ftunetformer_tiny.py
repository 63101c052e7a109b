# FTUNetFormer for a CPU: the same decoder, 64 wide, on a half-width ResNet-18; about 3.4 million parameters.
# From scratch on few images a convolutional stem learns sooner than a small Swin (see projects/landcover/README.md).
_base_ = './model_ftunetformer.py'
norm_cfg = dict(type='BN')
model = dict(
    init_cfg=None,
    backbone=dict(
        _delete_=True,
        type='ResNetV1c',
        depth=18,
        in_channels=3,
        stem_channels=32,
        base_channels=32,
        norm_cfg='${norm_cfg}'),
    decode_head=dict(
        in_channels=(32, 64, 128, 256), channels=64, num_heads=8, drop_path_rate=0.1, dropout_ratio=0.1))
