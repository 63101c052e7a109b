# Scales fused one after the other, coarse to fine.
_base_ = './pvtv2-b2_ms-absi_150e_cod-384.py'
fusion = dict(type='HierarchicalFusion')
