# A small U-Net, to begin from scratch on few scenes: what tools/benchmarks/camouflage_scenes.py takes to photographs.
# Maps stay soft: no edge weights, no uncertainty-aware loss, no rotation.
_base_ = './pvtv2-tiny_single_scenes-128.py'
batch_size = 16
rotation_prob = 0.0
model = dict(
    init_cfg=None,
    backbone=dict(
        _delete_=True, type='UNet', base_channels=16, num_stages=5, strides=(2, 1, 1, 1, 1), norm_cfg=dict(type='BN')),
    decode_head=dict(
        _delete_=True, type='FCNHead', in_channels=16, in_index=4, channels=16, num_convs=1, concat_input=False,
        dropout_ratio=0.0, num_classes='${num_classes}', out_channels=1, threshold=0.5, norm_cfg=dict(type='BN'),
        loss_decode=[dict(type='StructureLoss', edge_weight=0.0)]))
loss_schedule = None
optim_wrapper = dict(optimizer=dict(lr=3e-3))
