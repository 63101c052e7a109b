# The cross entropy alone.
_base_ = '../hybrid-tiny_mixed_town.py'
model = dict(decode_head=dict(loss_decode=[dict(type='HierarchicalCrossEntropy')]))
