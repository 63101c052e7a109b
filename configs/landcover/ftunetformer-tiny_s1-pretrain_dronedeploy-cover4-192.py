# Stage 1 for a CPU: DroneDeploy, LoveDA and Chesapeake together.
_base_ = './ftunetformer-tiny_s0-baseline_dronedeploy-cover4-192.py'
data_root = 'data/combined-cover4'
