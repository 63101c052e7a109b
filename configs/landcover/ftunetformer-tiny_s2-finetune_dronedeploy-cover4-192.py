# Stage 2 for a CPU: DroneDeploy alone, from the pretrained network, at half the rate.
_base_ = './ftunetformer-tiny_s0-baseline_dronedeploy-cover4-192.py'
optim_wrapper = dict(optimizer=dict(lr=1e-3))
initialise = dict(checkpoint=None)  # the chain's, or --cfg-options initialise.checkpoint=PATH
