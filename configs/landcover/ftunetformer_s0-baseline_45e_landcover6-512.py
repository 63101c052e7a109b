# Stage 0 at full size: Swin-B, 45 epochs, batch 8 of 512 x 512. With ImageNet weights (the official Swin release):
#   --cfg-options model.init_cfg.checkpoint=swin_base_patch4_window7_224.pth
_base_ = [
    '../_base_/runtime.py', '../_base_/tracking.py', '../_base_/schedules/adamw_lookahead.py',
    '../_base_/schedules/restarts_45_epochs.py', './_base_/model_ftunetformer.py', './_base_/data_prepared.py']
