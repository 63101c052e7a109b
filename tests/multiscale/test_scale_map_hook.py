"""Pictures of the scales' weights: what they show, when they are drawn, and that they disturb nothing."""

import logging
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import BaseModule
from mmengine.registry import init_default_scope
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from PIL import Image
from torch import nn
from torch.utils.data import Dataset

import projects.evaluation.register
import projects.multiscale.register  # noqa: F401
from projects.engine import startup
from projects.engine.errors import UserError
from projects.engine.tracking.backend import TerraceWandbBackend
from projects.evaluation.gallery import GAP, HEADING, LEGEND_LINE, MARGIN, distinct_palette
from projects.multiscale import scale_map_hook
from projects.multiscale.scale_map_hook import ScaleMapHook, scale_names
from projects.multiscale.scale_map_panel import heat, heat_range, scale_map_panel

startup.start()
BLUE_FIRST = (200, 90, 20)  # of the inputs


class Pyramid(BaseModule):
    """Maps of 8 channels at 1/4 and at 1/8, with dropout that draws random numbers when it trains."""

    def __init__(self, init_cfg=None):
        super().__init__(init_cfg)
        self.first, self.second, self.drop = nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 8, 2, 2), nn.Dropout(0.5)

    def forward(self, x):
        x = self.drop(self.first(x))
        return x, self.second(x)


def network_config(**backbone):
    return ConfigDict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', mean=[100.0] * 3, std=[50.0] * 3, bgr_to_rgb=True,
                               test_cfg=dict(size_divisor=16), size=(32, 32)),
        backbone=dict(dict(type='MultiScaleBackbone', backbone=dict(type=Pyramid), divisor=8,
                           fusion=dict(type='GatedFusion', groups=2)), **backbone),
        decode_head=dict(type='FCNHead', in_channels=8, channels=4, num_convs=1, num_classes=2, norm_cfg=None,
                         dropout_ratio=0.5),
        test_cfg=dict(mode='whole'))


class Images(Dataset):
    """Six images of 32 x 40: a blue rim around noise."""

    metainfo = {'classes': ('ground', 'tree'), 'palette': [[10, 20, 30], [200, 100, 0]]}

    def __len__(self):
        return 6

    def __getitem__(self, index):
        image = torch.randint(0, 256, (3, 32, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(index))
        image[:, :4] = torch.tensor(BLUE_FIRST, dtype=torch.uint8)[:, None, None]
        sample = SegDataSample(metainfo=dict(sample_id=f'set/image_{index}', ori_shape=(32, 40), img_shape=(32, 40)))
        sample.gt_sem_seg = PixelData(data=torch.randint(0, 2, (1, 32, 40), generator=torch.Generator()))
        return dict(inputs=image, data_samples=sample)


class Recorder(TerraceWandbBackend):
    """A backend without W&B."""

    def __init__(self, work_dir):
        super().__init__(str(work_dir / 'time' / 'vis_data'))
        self.attached = []
        self.session = SimpleNamespace(run=object(), scrub=SimpleNamespace(text=str), log=self.attached.append)

    def wants_validation(self, iteration, epoch):
        return True

    def attach(self, extras):
        self.attached.append((self.iteration, extras))

    def add_scalars(self, *args, **options):
        pass

    def close(self):
        pass


def runner_of(work_dir, hook, epochs=False, train=True, **backbone):
    loader = dict(batch_size=2, num_workers=0, dataset=Images(), sampler=dict(type='DefaultSampler', shuffle=False),
                  collate_fn=dict(type='pseudo_collate'))
    options = {}
    if train:
        loop = dict(type='EpochBasedTrainLoop', max_epochs=2, val_interval=1) if epochs else dict(
            type='IterBasedTrainLoop', max_iters=6, val_interval=2)
        options = dict(train_dataloader=loader if epochs else dict(loader, sampler=dict(type='InfiniteSampler')),
                       train_cfg=loop, val_dataloader=loader, val_cfg=dict(type='ValLoop'),
                       val_evaluator=dict(type='SegmentationMetric'),
                       optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)))
    init_default_scope('mmseg')
    torch.manual_seed(0)
    return Runner(
        model=MODELS.build(network_config(**backbone)), work_dir=str(work_dir), default_scope='mmseg',
        experiment_name='-'.join(work_dir.parts[-3:]), test_dataloader=loader, test_cfg=dict(type='TestLoop'),
        test_evaluator=dict(type='SegmentationMetric'), default_hooks=dict(checkpoint=None), log_level='WARNING',
        randomness=dict(seed=3), custom_hooks=[hook] if hook else [], cfg=Config(), **options)


def pixel(picture, column, row, x, y, side, height):
    """The colour at a place of a panel, in a picture with a title."""
    top = MARGIN + HEADING + row * (HEADING + height) + HEADING
    return tuple(int(v) for v in np.asarray(picture.convert('RGB'))[top + y, MARGIN + column * (side + GAP) + x])


def test_a_panel_shows_image_winners_and_weights():
    image = np.full((4, 8, 3), (10, 200, 30), np.uint8)
    weights = np.array([[[0.9, 0.2]], [[0.1, 0.8]]], np.float32)  # two scales, one row of two cells
    picture = scale_map_panel(image, [weights], ['0.5x', '1x'], [3], title='name', side=40)
    assert pixel(picture, 0, 0, 5, 5, 40, 20) == (10, 200, 30)
    first, second = (tuple(colour) for colour in distinct_palette(2))
    assert [pixel(picture, 1, 0, x, 10, 40, 20) for x in (1, 19, 21, 38)] == [first, first, second, second]
    dark, bright = (68, 1, 84), (253, 231, 37)  # ends of viridis
    left, right = (pixel(picture, 2, 0, x, 10, 40, 20) for x in (1, 38))
    assert left == bright and pixel(picture, 3, 0, 1, 10, 40, 20) == dark and dark < right < bright


def test_heat_maps_of_a_level_share_their_range():
    weights = np.array([[[0.2, 0.5]], [[0.8, 0.5]]])
    assert heat_range(weights) == (0.2, 0.8)
    low, high = heat_range(np.full((3, 2, 2), 1 / 3))  # nothing is blown up where nothing differs
    assert (low, high) == (pytest.approx(1 / 3 - 0.005), pytest.approx(1 / 3 + 0.005))
    colours = heat(weights[0], 0.2, 0.8)
    np.testing.assert_allclose(colours[0], [(68, 1, 84), (33, 145, 140)], atol=2)  # viridis at 0 and 0.5


def test_scales_have_their_real_sizes_in_the_legend():
    backbone = MODELS.build(network_config()['backbone'])
    assert scale_names(backbone, 32, 48) == ['0.5x', '1x', '1.5x']
    assert scale_names(backbone, 32, 40) == ['0.5x (16 x 16)', '1x', '1.5x (48 x 56)']


def test_a_training_leaves_pictures_that_show_the_weights(tmp_path):
    hook = ScaleMapHook(interval=2, number=3, side=48)
    runner = runner_of(tmp_path / 'work', hook)
    for fuser in runner.model.backbone.fusers:  # no scale wins everywhere
        nn.init.normal_(fuser.gate.weight, std=3)
        nn.init.zeros_(fuser.gate.bias)
        fuser.is_init = True
    recorder = runner.visualizer._vis_backends['recorder'] = Recorder(tmp_path)
    runner.train()
    names = [f'set__image_{index}-' for index in range(3)]
    folders = sorted((tmp_path / 'work' / 'scale_maps').iterdir())
    assert [folder.name for folder in folders] == ['iter_4', 'iter_6']  # the second, and the last
    for folder in folders:
        files = sorted(path.name for path in folder.iterdir())
        assert len(files) == 3 and all(file.startswith(name) for file, name in zip(files, names))
    assert [step for step, _ in recorder.attached] == [4, 6]
    pictures = recorder.attached[1][1]['val/scale_maps']
    assert len(pictures) == 3 and pictures[0]._caption == 'set/image_0'

    picture = Image.open(next(folders[1].glob('set__image_0*')))
    assert pixel(picture, 0, 0, 20, 2, 48, 32) == BLUE_FIRST[::-1]  # red first, as the network is given it
    assert pixel(picture, 0, 0, 44, 2, 48, 32) == (128, 128, 128)  # the input was padded from 40 to 48
    network, sample = runner.model, Images()[0]
    batch = network.data_preprocessor(dict(inputs=[sample['inputs']], data_samples=[sample['data_samples']]), False)
    maps = network.eval().backbone.scale_maps(batch['inputs'])  # nothing was trained since
    colours = [tuple(colour) for colour in distinct_palette(3)]
    for level, (found, cell) in enumerate(zip(maps, (4, 8))):
        winners = found[0].argmax(0)
        shown = [[pixel(picture, 1, level, x * cell + 1, y * cell + 1, 48, 32) for x in range(winners.shape[1])]
                 for y in range(winners.shape[0])]
        assert shown == [[colours[index] for index in row] for row in winners.tolist()]
    assert len(maps[0][0].argmax(0).unique()) > 1


def test_a_picture_disturbs_no_training(tmp_path, monkeypatch):
    def chancy(*args, **options):
        torch.rand(3), np.random.rand(3), random.random()
        return scale_map_panel(*args, **options)

    monkeypatch.setattr(scale_map_hook, 'scale_map_panel', chancy)
    weights = []
    for name, hook in (('with', ScaleMapHook(number=6)), ('without', None)):
        runner = runner_of(tmp_path / name, hook)
        runner.train()
        weights.append(runner.model.state_dict())
    assert len(list((tmp_path / 'with' / 'scale_maps').glob('iter_*/*.png'))) == 18
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())


def test_epochs_are_counted_too(tmp_path):
    runner_of(tmp_path / 'work', ScaleMapHook(interval=2, number=1, out_dir=str(tmp_path / 'maps')),
              epochs=True).train()
    assert [folder.name for folder in (tmp_path / 'maps').iterdir()] == ['iter_6']  # two epochs of three
    assert not (tmp_path / 'work' / 'scale_maps').exists()


@pytest.mark.parametrize('loop, done, expected', [
    (IterBasedTrainLoop, 10, False), (IterBasedTrainLoop, 30, True), (IterBasedTrainLoop, 100, True),
    (EpochBasedTrainLoop, 20, False), (EpochBasedTrainLoop, 60, True)])
def test_the_clock_of_the_training_decides(loop, done, expected):
    """A resumed training draws at the same validations."""
    runner = SimpleNamespace(_train_loop=object.__new__(loop), train_loop=object.__new__(loop), val_interval=10,
                             iter=done, epoch=done, max_iters=100, max_epochs=100)
    assert ScaleMapHook(interval=3)._is_due(runner) is expected


@pytest.mark.parametrize('asked', [False, True])
def test_a_test_is_drawn_when_asked_for(tmp_path, asked):
    runner = runner_of(tmp_path / 'work', ScaleMapHook(number=2, test=asked, levels=[1], side=96), train=False)
    recorder = runner.visualizer._vis_backends['recorder'] = Recorder(tmp_path)
    runner.test()
    files = list((tmp_path / 'work' / 'scale_maps' / 'test').glob('*.png'))
    assert len(files) == (2 if asked else 0) and len(recorder.attached) == asked
    if asked:
        assert len(recorder.attached[0]['test/scale_maps']) == 2
        one_level = MARGIN + HEADING + (HEADING + 64) + 12 + LEGEND_LINE + MARGIN - 4
        assert Image.open(files[0]).height == one_level


def test_a_picture_that_fails_ends_nothing(tmp_path, monkeypatch, caplog):
    def fail(*args, **options):
        raise OSError('no space left on device')

    monkeypatch.setattr(scale_map_hook, 'scale_map_panel', fail)
    told = []
    monkeypatch.setattr(scale_map_hook, 'print_log', lambda text, logger, level: told.append((text, level)))
    runner = runner_of(tmp_path / 'work', ScaleMapHook())
    runner.train()
    assert runner.iter == 6
    assert told == [('no scale maps drawn: OSError: no space left on device', logging.ERROR)] * 3  # once a validation


@pytest.mark.parametrize('backbone, hook, message', [
    (dict(fusion=dict(type='HierarchicalFusion')), {}, 'found HierarchicalFusion at level 0'),
    (dict(fusion=[None, dict(type='GatedFusion')]), dict(levels=[0]), r'expected some of the fused levels \[1\], '),
    (dict(fusion=[None, None]), {}, r'expected some of the fused levels \[\], found \[\]'),
    (dict(single_scale=True), {}, 'single_scale=False, found True'),
])
def test_a_model_without_weights_of_scales_is_refused_before_training(tmp_path, backbone, hook, message):
    runner = runner_of(tmp_path / 'work', ScaleMapHook(**hook), **backbone)
    with pytest.raises(UserError, match=message):
        runner.train()
    assert runner.iter == 0


def test_another_backbone_is_refused():
    for model, found in ((nn.ModuleDict({'backbone': Pyramid()}), 'Pyramid'), (nn.Identity(), 'NoneType')):
        with pytest.raises(UserError, match=f'expected model.backbone to be a MultiScaleBackbone, found {found}'):
            ScaleMapHook().before_train(SimpleNamespace(model=model))


@pytest.mark.parametrize('option', ['interval', 'number', 'side'])
def test_bad_options_are_named(option):
    with pytest.raises(UserError, match=f'ScaleMapHook.{option}: expected at least 1, found 0'):
        ScaleMapHook(**{option: 0})
