# Another backbone at a quarter of the image: HRNet-W18, its finest level.
_base_ = '../roofmapnet_30e_seed-512.py'
model = dict(
    backbone=dict(_delete_=True, type='HRNet', norm_cfg=dict(type='BN'), multiscale_output=False, extra=dict(
        stage1=dict(num_modules=1, num_branches=1, block='BOTTLENECK', num_blocks=(4,), num_channels=(64,)),
        stage2=dict(num_modules=1, num_branches=2, block='BASIC', num_blocks=(4, 4), num_channels=(18, 36)),
        stage3=dict(num_modules=4, num_branches=3, block='BASIC', num_blocks=(4,) * 3, num_channels=(18, 36, 72)),
        stage4=dict(num_modules=3, num_branches=4, block='BASIC', num_blocks=(4,) * 4,
                    num_channels=(18, 36, 72, 144)))),
    map_head=dict(in_channels=18, num_stacks=1), line_head=dict(in_channels=18), in_index=0)
