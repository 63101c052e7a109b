# Test-time views averaged as logits (seed) instead of probabilities.
_base_ = '../ftunetformer_s0-baseline_45e_landcover6-512.py'
tta_model = dict(merge='logit')
