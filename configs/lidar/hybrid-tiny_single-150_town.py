# One scale of 150 m.
_base_ = './hybrid-tiny_mixed_town.py'
scales = ('150',)
weights = None
