# The weights of the losses as the seed's config file has them; its text has others.
_base_ = '../roofmapnet_30e_seed-512.py'
loss_weights = dict(gauss=8.0, qcc=10.0, lhr=20.0, off=1.0, lv=1.0, sf=2.0)
