# Colour and infrared are never seen in training.
_base_ = '../hybrid-tiny_mixed_town.py'
colour_drop = 1.0
