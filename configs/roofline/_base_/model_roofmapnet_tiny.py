# A narrow RoofMapNet for a CPU: one stack of three levels, 64 channels, and fewer lines a step: with the full quotas
# the line stage takes five sixths of the time.
_base_ = './model_roofmapnet.py'
model = dict(
    backbone=dict(channels=64, depth=3, num_stacks=1),
    map_head=dict(hidden=32, calibration=32),
    line_head=dict(channels=64, hidden=256, attention=16),
    samples=dict(dynamic_negatives=20, dynamic_others=60, static_negatives=20))
