"""The ensemble of views equals the average of single passes through mmseg, in one pass of memory."""

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from projects.engine.errors import UserError
from projects.evaluation.metric import SegmentationMetric
from projects.multiscale.agreement import agreement_note
from projects.multiscale.ensemble import EnsembleTTA, class_logits, entropy, sharpen
from projects.multiscale.fit import short_names
from projects.multiscale.views import FLIPS, MERGES, SCALES


def picture(height, width, batch=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, -(-height // 8), -(-width // 8), generator=generator) * 255
    return F.interpolate(coarse, scale_factor=8, mode='nearest')[..., :height, :width].contiguous()


def single_passes(models, image, scales=SCALES, flips=tuple(FLIPS)):
    """Yield (network, logits): each view alone through mmseg's own ``predict``, turned back by hand."""
    size = image.shape[-2:]
    for index, model in enumerate(models):
        for scale in scales:
            scaled = [int(side * scale + 0.5) for side in size]
            resized = F.interpolate(image, scaled, mode='bilinear')
            for flip in flips:
                view = resized.flip(FLIPS[flip]) if FLIPS[flip] else resized
                samples = [SegDataSample(metainfo=dict(ori_shape=tuple(size), img_shape=tuple(scaled))) for _ in view]
                data = model.data_preprocessor(dict(inputs=list(view), data_samples=samples), False)
                with torch.no_grad():
                    done = model(**data, mode='predict')
                logits = torch.stack([sample.seg_logits.data for sample in done])
                yield index, logits.flip(FLIPS[flip]) if FLIPS[flip] else logits


def naive(models, image, merge, weights=None, temperatures=None, temperature=1.0, **views):
    """Average all single passes in float64."""
    weights = np.full(len(models), 1 / len(models)) if weights is None else np.array(weights) / sum(weights)
    temperatures = temperatures or [1.0] * len(models)
    total, counts = 0, np.zeros(len(models))
    for index, _ in (passes := list(single_passes(models, image, **views))):
        counts[index] += 1
    for index, logits in passes:
        logits = class_logits(logits).double() / temperatures[index]
        answer = {'prob': lambda x: x.softmax(1), 'logit': lambda x: x,
                  'vote': lambda x: F.one_hot(x.argmax(1), x.shape[1]).permute(0, 3, 1, 2)}[merge](logits)
        total = total + answer * (weights[index] / counts[index])
    if merge == 'logit':
        return (total / temperature).softmax(1)
    return total if temperature == 1.0 else (total.log() / temperature).softmax(1)


@pytest.fixture(scope='module')
def networks(make_network):
    return [make_network(0), make_network(1)]


@pytest.mark.parametrize('merge', MERGES)
@pytest.mark.parametrize('size', [(64, 96), (61, 45)], ids=['divisible', 'odd'])
def test_the_eighteen_views_equal_the_naive_average(networks, merge, size):
    image = picture(*size, batch=2)
    ensemble = EnsembleTTA(networks[0], networks[1:], merge=merge)
    assert (len(ensemble.members), ensemble.scales, ensemble.flips) == (
        2, (0.75, 1.0, 1.25), ('none', 'horizontal', 'vertical'))
    found = ensemble(image)
    assert found.shape == (2, 4, *size) and found.dtype == torch.float32
    assert len(found.argmax(1).unique()) > 2  # not one class everywhere
    torch.testing.assert_close(found.double(), naive(networks, image, merge).double(), atol=1e-5, rtol=0)


@pytest.mark.parametrize('merge', MERGES)
def test_weights_and_temperatures(networks, merge):
    image = picture(40, 40)
    fit = dict(weights=[3.0, 1.0], temperatures=[2.0, 0.5], temperature=1.0 if merge == 'vote' else 1.5)
    ensemble = EnsembleTTA(networks[0], networks[1:], scales=(1.0, 0.5), flips=('vertical',), merge=merge, **fit)
    expected = naive(networks, image, merge, **fit, scales=(1.0, 0.5), flips=('vertical',))
    torch.testing.assert_close(ensemble(image).double(), expected.double(), atol=1e-5, rtol=0)
    assert ensemble.weights == (0.75, 0.25)


@pytest.mark.parametrize('options', [
    dict(align_corners=True), dict(divisor=None), dict(classes=1),
    dict(test_cfg=dict(mode='slide', crop_size=(32, 32), stride=(24, 24)))], ids=str)
@pytest.mark.parametrize('merge', ['prob', 'logit'])
def test_other_kinds_of_networks(make_network, options, merge):
    models = [make_network(3, **options)]
    image = picture(48, 56)
    if options.get('classes') == 1:  # mmseg gives sigmoid(z) as logits there: compare with the head itself
        with torch.no_grad():
            data = models[0].data_preprocessor(dict(inputs=list(image), data_samples=[SegDataSample()]), False)
            raw = F.interpolate(models[0](data['inputs']), image.shape[-2:], mode='bilinear')
        found = EnsembleTTA(models[0], scales=(1.0,), flips=('none',), merge=merge)(image)
        torch.testing.assert_close(found[:, 1:], raw.sigmoid(), atol=1e-5, rtol=0)
        torch.testing.assert_close(found.sum(1), torch.ones(1, 48, 56), atol=1e-5, rtol=0)
        return
    found = EnsembleTTA(models[0], merge=merge)(image)
    torch.testing.assert_close(found.double(), naive(models, image, merge).double(), atol=1e-5, rtol=0)


def test_normalised_input_gives_the_same(networks):
    image = picture(50, 50)
    ensemble = EnsembleTTA(networks[0], networks[1:])
    mean, std = networks[0].data_preprocessor.mean, networks[0].data_preprocessor.std
    found, _ = ensemble.merge_views((image - mean) / std, normalised=True)
    torch.testing.assert_close(found, ensemble(image), atol=1e-5, rtol=0)


def test_the_views_one_by_one(networks):
    image = picture(40, 44)
    ensemble = EnsembleTTA(networks[0], networks[1:], scales=(1.0, 1.25), flips=('none', 'vertical'))
    for (index, found), (expected_index, expected) in zip(
            ensemble.views(image), single_passes(networks, image, (1.0, 1.25), ('none', 'vertical')), strict=True):
        assert index == expected_index
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)


def test_a_batch_of_samples_is_scored_like_any_prediction(networks):
    ensemble = EnsembleTTA(networks[0], networks[1:], scales=(1.0,), merge='logit')
    images = [picture(32, 40, seed=seed)[0].to(torch.uint8) for seed in (0, 1)] + [picture(24, 24)[0].to(torch.uint8)]
    samples = []
    for index, image in enumerate(images):
        sample = SegDataSample(metainfo=dict(sample_id=f's{index}', ori_shape=tuple(image.shape[-2:]),
                                             img_shape=tuple(image.shape[-2:])))
        sample.gt_sem_seg = PixelData(data=torch.full((1, *image.shape[-2:]), index, dtype=torch.uint8))
        samples.append(sample)
    done = ensemble.test_step(dict(inputs=images, data_samples=samples))
    metric = SegmentationMetric()
    metric.dataset_meta = {'classes': ['a', 'b', 'c', 'd']}
    metric.process({}, [sample.to_dict() for sample in done])
    scores = metric.evaluate(3)
    assert 0 < scores['ECE'] < 1
    for image, sample in zip(images, done):
        expected = naive(networks, image[None].float(), 'logit', scales=(1.0,))[0]
        torch.testing.assert_close(sample.seg_probs.data.double(), expected.double(), atol=1e-5, rtol=0)
        assert torch.equal(sample.pred_sem_seg.data[0], sample.seg_probs.data.argmax(0))
        assert sample.sample_id.startswith('s') and 'seg_logits' not in sample


def test_disagreement_is_the_information_between_members(networks):
    image = picture(40, 40)
    for merge in MERGES:
        ensemble = EnsembleTTA(networks[0], networks[1:], merge=merge)
        merged, found = ensemble.merge_views(image, disagreement=True)
        alone = [EnsembleTTA(model, merge=merge)(image) for model in networks]
        expected = entropy((alone[0] + alone[1]) / 2) - (entropy(alone[0]) + entropy(alone[1])) / 2
        torch.testing.assert_close(found, expected.clamp(min=0), atol=1e-5, rtol=0)
        assert found.max() > 0.01 and found.max() <= 1
        torch.testing.assert_close(merged, ensemble(image), atol=1e-6, rtol=0)
    twin = EnsembleTTA(networks[0], [networks[0]]).merge_views(image, disagreement=True)[1]
    assert twin.abs().max() < 1e-6


def test_disagreement_of_one_network_is_between_its_views(networks):
    image = picture(40, 40)
    views = torch.stack([logits.softmax(1) for _, logits in single_passes(networks[:1], image)])
    for merge in ('prob', 'logit'):
        merged, found = EnsembleTTA(networks[0], merge=merge).merge_views(image, disagreement=True)
        expected = entropy(views.mean(0)) - torch.stack([entropy(view) for view in views]).mean(0)
        torch.testing.assert_close(found, expected.clamp(min=0), atol=1e-5, rtol=0)
        torch.testing.assert_close(merged.double(), naive(networks[:1], image, merge).double(), atol=1e-5, rtol=0)
    assert EnsembleTTA(networks[0], scales=(1.0,), flips=('none',)).merge_views(
        image, disagreement=True)[1].abs().max() < 1e-6


def test_entropy_and_sharpening_by_hand():
    probabilities = torch.tensor([[0.5, 0.5], [1.0, 0.0], [0.8, 0.2]]).T[None, :, None]
    assert entropy(probabilities)[0, 0].tolist() == pytest.approx([1.0, 0.0, 0.721928], abs=1e-5)
    assert sharpen(probabilities, 0.5)[0, 0, 0].tolist() == pytest.approx([0.5, 1.0, 0.64 / 0.68], abs=1e-5)
    assert sharpen(probabilities, 1.0) is probabilities


def test_agreement_is_counted_where_there_are_data(networks):
    image = picture(40, 40)
    image[..., :10] = 0
    ensemble = EnsembleTTA(networks[0], networks[1:])
    classes = [EnsembleTTA(model)(image).argmax(1) for model in networks]
    ensemble(image)
    ensemble(image)
    same = int((classes[0] == classes[1])[..., 10:].sum())
    assert ensemble.take_agreement() == (2 * same, 2 * 40 * 30) and ensemble.take_agreement() == (0, 0)
    assert 0 < same < 1200
    EnsembleTTA(networks[0])(image)
    assert EnsembleTTA(networks[0]).take_agreement() == (0, 0)


def test_the_warning_about_equal_members():
    assert agreement_note(9960, 10000, 2) == (
        'the 2 checkpoints agree in 99.6 % of the pixels: the ensemble can gain little')
    assert agreement_note(9900, 10000, 2) is None
    assert agreement_note(0, 0, 2) is None and agreement_note(10, 10, 1) is None


class LiveBytes(torch.utils._python_dispatch.TorchDispatchMode):
    """Counts the bytes of all tensors made inside the block that are alive at once."""

    def __init__(self, loaded):
        super().__init__()
        self.alive, self.peak = {tensor.untyped_storage().data_ptr(): 0 for tensor in loaded}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in self.alive:
                    self.alive[storage.data_ptr()] = storage.nbytes()
                    weakref.finalize(storage, self.alive.pop, storage.data_ptr(), None)
        self.peak = max(self.peak, sum(self.alive.values()))
        return result


@pytest.mark.parametrize('merge', MERGES)
def test_memory_does_not_grow_with_networks_or_scales(networks, make_network, merge):
    """All tensors beyond the loaded networks, with one largest scale; process memory also shows malloc's habits."""
    image = picture(64, 64)
    more = [*networks, *(make_network(seed) for seed in (2, 3))]
    peaks = []
    for members, scales in ((2, (1.25, 0.75)), (2, (1.25, 0.6, 0.7, 0.8, 0.9, 1.0)), (4, (1.25, 0.75))):
        ensemble = EnsembleTTA(more[0], more[1:members], scales=scales, merge=merge)
        gc.collect()
        with LiveBytes([*ensemble.parameters(), *ensemble.buffers(), image]) as live:
            ensemble.merge_views(image, disagreement=True)
        peaks.append(live.peak)
    assert peaks[0] > 64 * 64 * 4 * 4 and peaks[1] <= peaks[0] and peaks[2] <= peaks[0]


@pytest.mark.parametrize(('options', 'message'), [
    (dict(merge='mean'), 'expected one of prob, logit, vote, found .mean.'),
    (dict(scales=()), 'scales: expected one or more'),
    (dict(scales=(0.0, 1.0)), 'numbers above 0'),
    (dict(scales=(float('nan'),)), 'numbers above 0'),
    (dict(scales=(1.0, 1.0)), 'each view once'),
    (dict(flips=('diagonal',)), 'flips: expected one or more of none, horizontal, vertical'),
    (dict(weights=[1.0, 1.0]), 'expected 1 numbers >= 0'),
    (dict(weights=[0.0]), 'not all 0'),
    (dict(temperatures=[0.0]), 'numbers above 0'),
    (dict(temperature=-1.0), 'numbers above 0'),
    (dict(temperature=2.0, merge='vote'), 'a vote takes none'),
])
def test_bad_settings(networks, options, message):
    with pytest.raises(UserError, match=message):
        EnsembleTTA(networks[0], **options)


def test_members_with_other_classes_and_training(networks, make_network):
    with pytest.raises(UserError, match='equally many classes, found .4, 5.'):
        EnsembleTTA(networks[0], [make_network(0, classes=5)])
    with pytest.raises(UserError, match='it does not train'):
        EnsembleTTA(networks[0])(picture(32, 32), mode='loss')


def test_members_of_one_name_are_told_apart_by_their_folder():
    paths = [Path('run/baseline/best_mIoU_iter_9.pth'), Path('run/distil/best_mIoU_iter_9.pth'), Path('run/other.pth')]
    assert short_names(paths) == ['baseline/best_mIoU_iter_9.pth', 'distil/best_mIoU_iter_9.pth', 'other.pth']
