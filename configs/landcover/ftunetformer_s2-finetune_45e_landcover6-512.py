# Stage 2 (seed 001): the target alone, with corrected labels, from the pretrained network; learning rate 6e-5.
_base_ = './ftunetformer_s1-pretrain_45e_landcover6-512.py'
data_root = 'data/landcover'
initialise = dict(checkpoint=None)  # the chain's, or --cfg-options initialise.checkpoint=PATH
