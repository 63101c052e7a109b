# Three scales on top of a network that was trained at one: fusers and scale heads are new, all else comes from
# --cfg-options initialise.checkpoint=PATH.
_base_ = './pvtv2-tiny_ms-absi_scenes-128.py'
initialise = dict(
    checkpoint=None, rename={'backbone.': 'backbone.backbone.'}, new=['backbone.fusers', 'scale_heads'])
