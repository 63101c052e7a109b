# For a CPU: generated villages (tools/roofline/make_roofs.py): images of one resolution, and lines of which
# the hidden parts are known.
_base_ = './roofmapnet-tiny_roofgraph-256.py'
data_root = 'data/roof-villages'
test_split = 'test'
crop_scale = (0.9, 1.1)
resolution = 0.15  # metres a pixel of the training images: tools/roofline/vectorize.py warns at others
train_pipeline = [step for step in _base_.train_pipeline
                  if step['type'] not in ('AssumeVisible', 'PasteOccluders', 'LetterboxRoof')]
train_cfg = dict(max_iters=2500, val_interval=500)
