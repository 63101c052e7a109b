# Stage 0 on OpenEarthMap as it is distributed (region/images, region/labels, train.txt, val.txt), its own 9 classes.
_base_ = './ftunetformer_s0-baseline_45e_landcover6-512.py'
data_root = 'data/OpenEarthMap_wo_xBD'
layout = 'openearthmap'
taxonomy = 'openearthmap'
num_classes = 9
test_dataloader = dict(dataset=dict(split='val'))  # the labels of the official test split are not public
