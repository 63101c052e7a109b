# No painted trees; lines of which no occlusion is known are taken as visible here too.
_base_ = '../roofmapnet_30e_seed-512.py'
occluders = 0.0
