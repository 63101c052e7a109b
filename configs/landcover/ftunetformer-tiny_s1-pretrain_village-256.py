# Stage 1 for a CPU: the target and another village together.
_base_ = './ftunetformer-tiny_s0-baseline_village-256.py'
data_root = 'data/village_combined'
