"""Kept logits: equal to computed ones to float16, never of another picture, never the end of a run."""

import copy
import shutil
from collections import namedtuple

import numpy as np
import pytest
import torch
from mmseg.registry import MODELS

from projects.engine.errors import UserError
from projects.multistage import teacher_cache
from projects.multistage.teacher_cache import TeacherCache, view_names

VIEWS = ['a with seed (0, 0, 0)', 'b with seed (0, 1, 1)', 'c with seed (0, 2, 0)']


@pytest.fixture
def images():
    return torch.randn(3, 3, 32, 48, generator=torch.Generator().manual_seed(0))


class Teacher:
    """Counts the images it is asked about."""

    def __init__(self):
        self.asked = []

    def __call__(self, images):
        self.asked.append(len(images))
        return torch.cat((images, images[:, :1] * 100), 1)[:, :, ::4, ::4]


def test_a_view_is_computed_once(tmp_path, images):
    teacher, cache = Teacher(), TeacherCache(tmp_path, 'f' * 64)
    first = cache.logits(images[:2], VIEWS[:2], teacher)
    torch.testing.assert_close(first, Teacher()(images[:2]), rtol=1e-3, atol=1e-3)
    again = TeacherCache(tmp_path, 'f' * 64)
    mixed = again.logits(images[[2, 1, 0]], [VIEWS[2], VIEWS[1], VIEWS[0]], teacher)
    assert teacher.asked == [2, 1] and (again.hits, again.misses) == (2, 1)
    assert torch.equal(mixed[1:], first.flip(0)) and mixed.dtype == torch.float32  # to the bit, kept or computed
    assert len(list(tmp_path.glob('ffffffffffffffff/*/*.npz'))) == 3


def test_seed_shape_and_teacher_are_told_apart(tmp_path, images):
    teacher = Teacher()
    TeacherCache(tmp_path, 'a' * 64).logits(images[:1], VIEWS[:1], teacher)
    TeacherCache(tmp_path, 'b' * 64).logits(images[:1], VIEWS[:1], teacher)
    TeacherCache(tmp_path, 'a' * 64).logits(images[:1], ['a with seed (0, 0, 1)'], teacher)
    TeacherCache(tmp_path, 'a' * 64).logits(images[:1, :, :16], VIEWS[:1], teacher)
    assert teacher.asked == [1, 1, 1, 1]


def test_another_picture_under_the_same_name_is_an_error(tmp_path, images):
    cache = TeacherCache(tmp_path, 'f' * 64)
    cache.logits(images[:1], VIEWS[:1], Teacher())
    with pytest.raises(UserError, match=r'a with seed \(0, 0, 0\) looks different from when it was kept'):
        cache.logits(images[:1].flip(3), VIEWS[:1], Teacher())


@pytest.mark.parametrize('damage', ['cut', 'empty', 'flipped', 'foreign'])
def test_a_damaged_file_is_made_anew(tmp_path, images, damage):
    cache, teacher = TeacherCache(tmp_path, 'f' * 64), Teacher()
    first = cache.logits(images[:1], VIEWS[:1], teacher)
    path = next(tmp_path.rglob('*.npz'))
    data = bytearray(path.read_bytes())
    data[200] ^= 255
    if damage == 'foreign':
        np.savez(path, logits=np.array(['text']), picture=np.zeros(1))
    else:
        path.write_bytes({'cut': data[:300], 'empty': b'', 'flipped': bytes(data)}[damage])
    assert torch.equal(cache.logits(images[:1], VIEWS[:1], teacher), first) and teacher.asked == [1, 1]
    assert torch.equal(cache.logits(images[:1], VIEWS[:1], teacher), first) and teacher.asked == [1, 1]


def told_by(monkeypatch):
    told = []
    monkeypatch.setattr(teacher_cache, 'print_log', lambda text, *_, **__: told.append(text))
    return told


def test_the_limit_is_kept_and_told_once(tmp_path, images, monkeypatch):
    told, teacher = told_by(monkeypatch), Teacher()
    size = 4 * 8 * 12 * 2 + 3 * 8 * 8 * 2 + 600
    limit = 2.5 * size / teacher_cache.GIB
    cache = TeacherCache(tmp_path, 'f' * 64, max_gib=limit)
    for _ in range(2):
        cache.logits(images, VIEWS, teacher)
    assert teacher.asked == [3, 1] and len(list(tmp_path.rglob('*.npz'))) == 2
    assert len(told) == 1 and 'it has reached distil.cache.max_gib; what is there is still read' in told[0]
    later = TeacherCache(tmp_path, 'f' * 64, max_gib=limit)  # what lies there counts
    later.logits(images, VIEWS, teacher)
    assert len(list(tmp_path.rglob('*.npz'))) == 2


def test_a_full_disk_ends_the_keeping_and_not_the_run(tmp_path, images, monkeypatch):
    told, teacher = told_by(monkeypatch), Teacher()
    usage = namedtuple('usage', 'total used free')
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage(1 << 40, 1 << 40, 1 << 20))
    cache = TeacherCache(tmp_path, 'f' * 64)
    cache.logits(images, VIEWS, teacher)
    cache.logits(images, VIEWS, teacher)
    assert not list(tmp_path.rglob('*.npz')) and told == [
        f'distil.cache {tmp_path / ("f" * 16)}: nothing more is kept, the disk has less than 1 GiB free; what is there '
        'is still read']


def test_a_write_that_fails_ends_the_keeping(tmp_path, images, monkeypatch):
    def refuse(*_, **__):
        raise OSError(28, 'No space left on device')

    told = told_by(monkeypatch)
    monkeypatch.setattr(np, 'savez', refuse)
    TeacherCache(tmp_path, 'f' * 64).logits(images, VIEWS, Teacher())
    assert len(told) == 1 and 'No space left on device' in told[0] and not list(tmp_path.rglob('*.npz'))
    assert not list(tmp_path.rglob('.*tmp*'))


def test_bad_options_are_refused(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='cannot be made'):
        TeacherCache(tmp_path / 'file', 'f' * 64)
    with pytest.raises(UserError, match='max_gib above 0'):
        TeacherCache(tmp_path, 'f' * 64, max_gib=0)


def test_views_need_a_seed_and_a_name(networks):
    assert view_names(networks.batch(2, augmentation_seed=True)['data_samples']) == [
        'tile_0 with seed (0, 0, 1)', 'tile_1 with seed (0, 1, 1)']
    with pytest.raises(UserError, match='set augmentation_views=K'):
        view_names(networks.batch()['data_samples'])


def test_the_loss_with_and_without_a_cache(tmp_path, networks):
    student = networks.segmentor()
    networks.save(tmp_path / 'teacher.pth', student, seed=7)
    batch = networks.batch(augmentation_seed=True)
    found = []
    for cache in (None, str(tmp_path / 'cache'), dict(folder=str(tmp_path / 'cache'), max_gib=1)):
        torch.manual_seed(0)
        model = MODELS.build(dict(
            type='DistilledSegmentor', student=student, teacher_checkpoint=str(tmp_path / 'teacher.pth'), cache=cache,
            classes=networks.CLASSES)).eval()
        model.init_weights()
        losses = model(**model.data_preprocessor(copy.deepcopy(batch), True), mode='loss')
        losses['loss_kd'].backward()
        found.append((float(losses['loss_kd']), model.student.decode_head.conv_seg.weight.grad))
    (plain, plain_gradient), (computed, computed_gradient), (kept, kept_gradient) = found
    assert model.cache.hits == 2 and computed == kept and torch.equal(computed_gradient, kept_gradient)
    assert plain > 0.01 and computed == pytest.approx(plain, rel=2e-3) and computed != plain
    torch.testing.assert_close(computed_gradient, plain_gradient, rtol=2e-2, atol=1e-5)


def test_a_cache_is_refused_where_views_do_not_come_again_even_while_kd_is_off(tmp_path, networks):
    student = networks.segmentor()
    networks.save(tmp_path / 'teacher.pth', student)
    options = dict(type='DistilledSegmentor', student=student, teacher_checkpoint=str(tmp_path / 'teacher.pth'))
    model = MODELS.build(dict(options, cache=str(tmp_path / 'cache'), kd_weight=0.0))
    with pytest.raises(UserError, match='set augmentation_views=K'):
        model(**model.data_preprocessor(networks.batch(), True), mode='loss')
    with pytest.raises(UserError, match='cache or feature_loss'):
        MODELS.build(dict(options, cache='x', feature_loss=dict(type='FeatureDistillationLoss')))
    with pytest.raises(UserError, match='found max_gb'):
        MODELS.build(dict(options, cache=dict(folder=str(tmp_path), max_gb=1)))
