# The same network seen at several scales of its input; only the backbone changes, and each scale is supervised until
# scale_epochs have passed.
_base_ = './model_pvtv2.py'
scales = (0.5, 1.0, 1.5)
fusion = dict(type='ABSIFusion')
policy = 'stochastic(0.5, checkpoint)'  # of 1.5x; the same scores as exact gradients: projects/camouflage/README.md
scale_weights = (0.5, 1.0, 0.5)
scale_loss_weight = 0.3
scale_epochs = 50  # iterations where the run counts them
model = dict(
    type='MultiScaleSegmentor',
    backbone=dict(
        _delete_=True,
        type='MultiScaleBackbone',
        backbone=_base_.model.backbone,
        scales='${scales}',
        reference=1.0,
        fusion='${fusion}',
        policy='${policy}'),
    scale_head=dict(type='ScaleHead', in_channels='${channels}', num_classes='${num_classes}', out_channels=1),
    scale_loss=dict(
        type='ScaleAwareLoss', weights='${scale_weights}', loss_weight='${scale_loss_weight}', targets='area'))
loss_schedule = dict(
    weights={'scale_loss.loss_weight': [(0, '${scale_loss_weight}'), ('${scale_epochs}', 0.0)]})
scale_policy = dict(type='ScalePolicyHook')  # draws what the policy leaves to chance, alike in all processes
