# Stage 1 (seed 003): 50 epochs, learning rate 6e-4, batch 2 (a small GPU), gradients of four batches added up.
_base_ = './ftunetformer_s1-pretrain_45e_landcover6-512.py'
batch_size = 2
train_cfg = dict(max_epochs=50)
optim_wrapper = dict(accumulative_counts=4, optimizer=dict(lr=6e-4))
