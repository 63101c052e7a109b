# Brightness varies too, one factor for colour and infrared.
_base_ = '../hybrid-tiny_mixed_town.py'
train_pipeline = [*_base_.train_pipeline[:-1], dict(type='VaryColour'), _base_.train_pipeline[-1]]
