# Draw at each validation which scale of a multi-scale backbone counted where.
scale_maps = dict(type='ScaleMapHook', number=4)
