# The mixture of experts over three scales.
_base_ = '../pvtv2-b2_ms-absi_150e_cod-384.py'
model = dict(decode_head=dict(
    _delete_=True, type='ModelLevelMoE', expert=dict(type='GroupedGateHead', in_channels='${channels}'), num_experts=4,
    top_k=2, in_channels='${channels}', num_classes='${num_classes}', out_channels=1, threshold=0.5,
    loss_decode=_base_.model.decode_head.loss_decode))
