# Scales fused by a gate for each group of channels.
_base_ = './pvtv2-b2_ms-absi_150e_cod-384.py'
fusion = dict(type='GatedFusion')
