# Stage 0 for a CPU on DroneDeploy in four classes that LoveDA and Chesapeake have too; validated on blocks of the
# training site. Classes are weighted by the inverse square root of their share of the training pixels (at most 5).
# tools/benchmarks/landcover_chain.py prepares the data and runs the chain.
_base_ = './ftunetformer-tiny_s0-baseline_village-256.py'
data_root = 'data/dronedeploy-cover4'
taxonomy = 'cover4'
num_classes = 4
crop_size = (192, 192)
batch_size = 4
num_workers = 1
class_weight = [1.0, 1.0, 3.1, 0.9]
model = dict(decode_head=dict(loss_decode=[
    dict(type='SoftCrossEntropyLoss', smoothing=0.05, class_weight='${class_weight}'),
    dict(type='PresentDiceLoss', smooth=0.05)]))
train_cfg = dict(max_iters=300, val_interval=100)
