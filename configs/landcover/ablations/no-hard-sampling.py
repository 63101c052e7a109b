# Every image once an epoch.
_base_ = '../ftunetformer_s3-distil_45e_landcover6-512.py'
train_sampler = dict(_delete_=True, type='DefaultSampler', shuffle=True)
