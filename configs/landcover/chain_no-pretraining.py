# Fine-tune from the baseline.
_base_ = './chain.py'
stages = dict(finetune=dict(parents={'initialise.checkpoint': 'baseline'}), pretrain=None, combine=None, filter=None)
