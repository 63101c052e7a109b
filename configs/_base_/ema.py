# Validate and save an exponential moving average of the weights beside the weights.
ema = dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=0.002, update_buffers=True)
