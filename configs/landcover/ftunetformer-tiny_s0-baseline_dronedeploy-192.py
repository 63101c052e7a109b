# Stage 0 for a CPU on DroneDeploy, split by site; the final weights are scored, nothing is selected on the test site.
# tools/benchmarks/landcover_dronedeploy.py runs it. Classes are weighted by the inverse square root of their share of
# the training site's pixels (vegetation = 1, at most 5; water does not occur there).
_base_ = './ftunetformer-tiny_s0-baseline_village-256.py'
data_root = 'data/dronedeploy'
taxonomy = 'dronedeploy'
crop_size = (192, 192)
batch_size = 4
num_workers = 1
class_weight = [2.6, 4.5, 1.0, 1.0, 0.9, 5.0]
model = dict(decode_head=dict(loss_decode=[
    dict(type='SoftCrossEntropyLoss', smoothing=0.05, class_weight='${class_weight}'),
    dict(type='PresentDiceLoss', smooth=0.05)]))
train_cfg = dict(max_iters=1800, val_interval=10000)
val_cfg = None
val_dataloader = None
val_evaluator = None
default_hooks = dict(checkpoint=dict(interval='${train_cfg.max_iters}', save_best=None))
