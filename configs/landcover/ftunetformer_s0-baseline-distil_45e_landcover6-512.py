# Stage 0, a second opinion: the baseline once more, with the baseline as its teacher. Both propose label corrections.
_base_ = ['./ftunetformer_s0-baseline_45e_landcover6-512.py', './_base_/distil.py']
