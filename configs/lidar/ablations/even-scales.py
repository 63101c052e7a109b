# As many patches of each scale.
_base_ = '../hybrid-tiny_mixed_town.py'
weights = {'50': 1.0, '100': 1.0, '150': 1.0}
