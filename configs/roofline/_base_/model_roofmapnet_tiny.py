# A narrow RoofMapNet for a CPU: one stack of three levels, 64 channels.
_base_ = './model_roofmapnet.py'
model = dict(
    backbone=dict(channels=64, depth=3, num_stacks=1),
    map_head=dict(hidden=32, calibration=32),
    line_head=dict(channels=64, hidden=256))
