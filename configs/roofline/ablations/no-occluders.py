_base_ = '../roofmapnet_30e_seed-512.py'
occluders = 0.0
