# Every image alike.
_base_ = '../ftunetformer-tiny_s3-distil_dronedeploy-cover4-192.py'
train_sampler = dict(_delete_=True, type='InfiniteSampler', shuffle=True)
