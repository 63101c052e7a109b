"""Normalisation of any number of bands, through a training step."""

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from projects.engine.config import load_config
from projects.engine.errors import UserError
from projects.landcover.models import BandDataPreProcessor


def sample(height: int, width: int) -> SegDataSample:
    labels = torch.zeros(1, height, width, dtype=torch.long)
    return SegDataSample(gt_sem_seg=PixelData(data=labels), metainfo=dict(img_shape=(height, width)))


def test_each_band_by_its_own_mean_and_padding_after_it():
    preprocessor = BandDataPreProcessor(
        mean=[10, 20, 30, 40], std=[1, 2, 4, 8], size=(3, 4), pad_val=0, seg_pad_val=255)
    image = torch.tensor([11, 24, 26, 56], dtype=torch.uint8).view(4, 1, 1).expand(4, 2, 4)
    data = preprocessor(dict(inputs=[image], data_samples=[sample(2, 4)]), training=True)
    assert data['inputs'].shape == (1, 4, 3, 4)
    assert data['inputs'][0, :, 0, 0].tolist() == [1.0, 2.0, -1.0, 2.0]
    assert data['inputs'][0, :, 2].abs().sum() == 0 and (data['data_samples'][0].gt_sem_seg.data[0, 2] == 255).all()


def test_mean_and_std_must_fit():
    with pytest.raises(UserError, match='a mean and a positive std for each band'):
        BandDataPreProcessor(mean=[1, 2], std=[1])


def test_a_network_on_four_bands_takes_a_step(repository):
    config = load_config(repository / 'configs/landcover/ftunetformer-tiny_s0-baseline_village-256.py', {
        'bands': (1, 2, 3, 4), 'model.backbone.in_channels': 4, 'crop_size': (64, 64),
        'model.data_preprocessor.mean': [100.0] * 4, 'model.data_preprocessor.std': [50.0] * 4})
    model = MODELS.build(config.model)
    images = [torch.randint(0, 256, (4, 64, 64), dtype=torch.uint8) for _ in range(2)]
    data = model.data_preprocessor(dict(inputs=images, data_samples=[sample(64, 64) for _ in images]), training=True)
    losses = model(data['inputs'], data['data_samples'], mode='loss')
    model.parse_losses(losses)[0].backward()
    assert model.backbone.stem[0].weight.grad.shape[1] == 4
