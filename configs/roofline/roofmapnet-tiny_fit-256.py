# Four roofs by heart: shows in minutes that every part learns. Trained and tested on the same images.
_base_ = './roofmapnet-tiny_roofgraph-256.py'
train_pipeline = [
    dict(type='LoadRoofImage'),
    dict(type='LetterboxRoof', size='${image_size}'),
    dict(type='PackRoofline', n_types='${num_types}'),
]
batch_size = 4
num_workers = 0
train_dataloader = dict(dataset=dict(limit=4))
val_split = 'train'
test_split = 'train'
val_dataloader = dict(dataset=dict(limit=4))
test_dataloader = dict(dataset=dict(limit=4))
train_cfg = dict(max_iters=240, val_interval=240)
