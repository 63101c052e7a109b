# Pretrain on all images, however much Settlement they show.
_base_ = './chain.py'
stages = dict(filter=None, pretrain=dict(options={'data_root': '{combine.dir}/data'}))
