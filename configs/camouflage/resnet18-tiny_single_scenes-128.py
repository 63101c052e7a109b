# A half-width ResNet-18 under the same decoder: from scratch, convolutions carry over to photographs sooner than PVTv2
# (projects/camouflage/README.md). Maps stay soft: no edge weights, no uncertainty-aware loss, no rotation.
_base_ = './pvtv2-tiny_single_scenes-128.py'
batch_size = 16
channels = (32, 64, 128, 256)
model = dict(
    init_cfg=None,
    backbone=dict(
        _delete_=True, type='ResNetV1c', depth=18, in_channels=3, stem_channels=32, base_channels=32,
        norm_cfg=dict(type='BN')),
    decode_head=dict(loss_decode=[dict(type='StructureLoss', edge_weight=0.0)]))
loss_schedule = None
rotation_prob = 0.0
optim_wrapper = dict(optimizer=dict(lr=2e-3))
