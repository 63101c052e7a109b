"""Small networks and batches for the tests of this folder."""

import torch
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

CLASSES = ('water', 'wood', 'field', 'town')
IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])


def segmentor(level=0, base_channels=8, num_classes=4, auxiliary=False, **preprocessor):
    """Return a model config: logits at 1/4 of the image for level 0, at 1/32 for level 3."""
    norm = dict(type='BN')
    head = dict(type='FCNHead', in_channels=base_channels * 2 ** level, in_index=level, channels=8, num_convs=1,
                concat_input=False, dropout_ratio=0.1, num_classes=num_classes, norm_cfg=norm,
                loss_decode=[dict(type='CrossEntropyLoss', loss_name='loss_ce'),
                             dict(type='DiceLoss', loss_name='loss_dice')])
    return dict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', seg_pad_val=255, size=(64, 64), **(IMAGENET | preprocessor)),
        backbone=dict(type='ResNetV1c', depth=18, stem_channels=8, base_channels=base_channels, norm_cfg=norm),
        decode_head=head, auxiliary_head=dict(head, loss_decode=dict(type='CrossEntropyLoss')) if auxiliary else None,
        train_cfg=dict(), test_cfg=dict(mode='whole'))


def save(path, config, classes=CLASSES, seed=0):
    """Write a checkpoint of random weights, with running statistics that are not 0 and 1; return the network."""
    torch.manual_seed(seed)
    network = MODELS.build(config)
    network.init_weights()
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name.endswith(('running_mean', 'running_var')):
                value.add_(0.2 * torch.rand_like(value))
        network.decode_head.conv_seg.weight.mul_(300)  # else every distribution is flat
    torch.save({'meta': {'dataset_meta': {'classes': list(classes)}} if classes else {},
                'state_dict': network.state_dict()}, path)
    return network.eval()


def batch(number=2, side=64, seed=0, augmentation_seed=False):
    """Return raw data as a loader gives it."""
    generator = torch.Generator().manual_seed(seed)
    samples = []
    for index in range(number):
        label = torch.randint(0, 4, (1, side, side), generator=generator)
        label[:, :8] = 255
        sample = SegDataSample(gt_sem_seg=PixelData(data=label), metainfo=dict(
            sample_id=f'tile_{index}', img_shape=(side, side), ori_shape=(side, side)))
        if augmentation_seed:
            sample.set_metainfo(dict(augmentation_seed=(0, index, 1)))
        samples.append(sample)
    images = [torch.randint(0, 256, (3, side, side), generator=generator, dtype=torch.uint8) for _ in samples]
    return dict(inputs=images, data_samples=samples)
