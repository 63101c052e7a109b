# The deeper backbone; pretrained: model.init_cfg.checkpoint=pvt_v2_b4.pth.
_base_ = './pvtv2-b2_single_150e_cod-384.py'
arch = 'b4'
