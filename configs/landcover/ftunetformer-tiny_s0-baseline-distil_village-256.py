# Stage 0, a second opinion, for a CPU: the baseline once more, with the baseline as its teacher.
_base_ = ['./ftunetformer-tiny_s0-baseline_village-256.py', './_base_/distil.py']
warmup = 80
