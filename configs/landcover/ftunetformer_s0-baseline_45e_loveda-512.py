# Stage 0 on LoveDA as it is distributed (Train|Val/Urban|Rural/images_png, masks_png), its own 7 classes.
_base_ = './ftunetformer_s0-baseline_45e_landcover6-512.py'
data_root = 'data/LoveDA'
layout = 'loveda'
taxonomy = 'loveda'
num_classes = 7
test_dataloader = dict(dataset=dict(split='val'))  # the labels of the official test split are not public
