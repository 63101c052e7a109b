"""The KD loss against plain arithmetic, pixel by pixel."""

import math

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from projects.engine.errors import UserError
from projects.multistage.feature_loss import FeatureDistillationLoss
from projects.multistage.kd_loss import ConfidenceMaskedKDLoss


@pytest.fixture
def batch():
    """Logits of a student and a teacher over 4 classes, and labels with some ignored."""
    generator = torch.Generator().manual_seed(3)
    student = torch.randn(2, 4, 5, 6, generator=generator, dtype=torch.float64)
    teacher = 2 * torch.randn(2, 4, 5, 6, generator=generator, dtype=torch.float64)
    label = torch.randint(0, 4, (2, 5, 6), generator=generator)
    label[:, 0] = 255
    return student, teacher, label


def softmax(logits):
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def naive(student, teacher, label, temperature, threshold, remap=None, seed=False):
    """Loop over pixels in numpy."""
    total, kept, valid, entropy, right, kept_right = 0.0, 0, 0, 0.0, 0, 0
    for image in range(student.shape[0]):
        for row in range(student.shape[2]):
            for column in range(student.shape[3]):
                truth = int(label[image, row, column])
                if truth == 255:
                    continue
                s = student[image, :, row, column].numpy()
                t = teacher[image, :, row, column].numpy()
                sharp, soft, own = softmax(t), softmax(t / temperature), softmax(s / temperature)
                mass = 1.0
                if remap is not None:
                    sharp, soft = sharp @ remap, soft @ remap
                    mass = sharp.sum()
                    sharp, soft = sharp / sharp.sum(), soft / soft.sum()
                valid += 1
                entropy -= sum(p * math.log(p) for p in sharp if p > 0)
                right += int(sharp.argmax() == truth)
                if mass < 0.5 or (soft if seed else sharp).max() < threshold:
                    continue
                kept += 1
                kept_right += int(sharp.argmax() == truth)
                total += sum(p * (math.log(p) - math.log(q)) for p, q in zip(soft, own) if p > 0)
    loss = total / student.numel() if seed else total / kept * temperature ** 2
    return loss, kept / valid, entropy / valid, right / valid, kept_right / kept


REMAP = np.array([[0.0, 1, 0, 0], [0.7, 0, 0.3, 0], [0, 0, 0, 1.0], [0, 0, 0, 0], [1, 0, 0, 0]])


@pytest.mark.parametrize('temperature, threshold, seed', [(3.0, 0.6, False), (1.0, 0.0, False), (5.0, 0.35, True)])
@pytest.mark.parametrize('remap', [None, REMAP], ids=['same', 'remapped'])
def test_it_is_the_naive_loop(batch, temperature, threshold, seed, remap):
    student, teacher, label = batch
    if remap is not None:
        teacher = torch.cat((teacher, teacher[:, :1].flip(3)), 1)  # five classes
    loss, statistics = ConfidenceMaskedKDLoss(temperature, threshold, seed_compatible=seed)(
        student, teacher, label, None if remap is None else torch.from_numpy(remap))
    assert [float(loss), *map(float, statistics.values())] == pytest.approx(
        naive(student, teacher, label, temperature, threshold, remap, seed), rel=1e-5)
    assert list(statistics) == ['kept_share', 'teacher_entropy', 'agreement', 'kept_agreement']


def test_gradients_are_softened_differences_over_kept_pixels(batch):
    """d/ds of T^2 KL is T (softmax(s/T) - softmax(t/T)) at kept pixels, 0 elsewhere; none flows to the teacher."""
    student, teacher, label = batch
    student.requires_grad_(), teacher.requires_grad_()
    loss, _ = ConfidenceMaskedKDLoss(3.0, 0.6)(student, teacher, label)
    loss.backward()
    with torch.no_grad():
        kept = (label != 255) & (teacher.softmax(1).amax(1) >= 0.6)
        expected = 3.0 * ((student / 3).softmax(1) - (teacher / 3).softmax(1)) * kept.unsqueeze(1) / kept.sum()
    assert 0 < kept.float().mean() < 0.8
    torch.testing.assert_close(student.grad, expected, rtol=1e-4, atol=1e-7)
    assert teacher.grad is None


@pytest.mark.parametrize('remap', [None, torch.eye(4)])
def test_gradients_against_finite_differences(batch, remap):
    """The loss computes in float32: compare with a wide difference along a direction."""
    student, teacher, label = batch
    loss = ConfidenceMaskedKDLoss(2.0, 0.4)
    student.requires_grad_()
    loss(student, teacher, label, remap)[0].backward()
    direction = torch.randn(student.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        ahead, behind = (loss(student + sign * 0.01 * direction, teacher, label, remap)[0] for sign in (1, -1))
    assert float((student.grad * direction).sum()) == pytest.approx(float(ahead - behind) / 0.02, rel=2e-3)


@pytest.mark.parametrize('why', ['unsure', 'ignored', 'unmapped'])
@pytest.mark.parametrize('seed', [False, True])
def test_nothing_kept_is_zero_with_zero_gradients(batch, why, seed):
    student, teacher, label = batch
    student.requires_grad_()
    remap = torch.zeros(4, 4) if why == 'unmapped' else None
    loss, statistics = ConfidenceMaskedKDLoss(3.0, 1.0 if why == 'unsure' else 0.0, seed_compatible=seed)(
        student, teacher, torch.full_like(label, 255) if why == 'ignored' else label, remap)
    loss.backward()
    assert loss.item() == 0.0 and float(student.grad.abs().max()) == 0.0
    assert float(statistics['kept_share']) == 0.0 and all(math.isfinite(value) for value in statistics.values())


def test_equal_logits_give_exactly_zero(batch):
    student, _, label = batch
    assert float(ConfidenceMaskedKDLoss(3.0, 0.0)(student, student.clone(), label)[0]) == 0.0
    remapped, _ = ConfidenceMaskedKDLoss(3.0, 0.0)(student, student.clone(), label, torch.eye(4))
    assert abs(float(remapped)) < 1e-6


def test_a_permuted_teacher_maps_back(batch):
    student, teacher, label = batch
    order = torch.tensor([2, 0, 3, 1])
    matrix = torch.zeros(4, 4)
    matrix[torch.arange(4), order] = 1.0  # channel k of the teacher is class order[k]
    loss = ConfidenceMaskedKDLoss()
    plain, mapped = loss(student, teacher, label), loss(student, teacher[:, order], label, matrix)
    torch.testing.assert_close(plain[0], mapped[0])
    torch.testing.assert_close(plain[1], mapped[1])


@pytest.mark.parametrize('options', [dict(), dict(seed_compatible=True)])
@pytest.mark.parametrize('remap', [None, torch.eye(4)], ids=['same', 'remapped'])
def test_no_step_waits_for_a_value(batch, options, remap):
    """Tensors without values: reading one, which waits for a GPU, would raise."""
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        student, teacher, label = (mode.from_tensor(item) for item in batch)
        loss, statistics = ConfidenceMaskedKDLoss(**options)(student.requires_grad_(), teacher, label, remap)
        loss.backward()
        assert loss.shape == () and all(value.shape == () for value in statistics.values())
        with pytest.raises(DataDependentOutputException):
            loss.item()


def test_scale(batch):
    scaled, plain = (ConfidenceMaskedKDLoss(4.0, 0.0, scale_by_t2=flag)(*batch)[0] for flag in (True, False))
    assert float(scaled) == pytest.approx(16 * float(plain))


def test_autocast_changes_nothing(batch):
    student, teacher, label = (item.float() if item.is_floating_point() else item for item in batch)
    loss = ConfidenceMaskedKDLoss()
    with torch.autocast('cpu', torch.bfloat16):
        inside = loss(student, teacher, label, torch.eye(4))[0]
    assert inside.dtype == torch.float32 and torch.equal(inside, loss(student, teacher, label, torch.eye(4))[0])


@pytest.mark.parametrize('options, told', [(dict(temperature=0), 'temperature'), (dict(threshold=50), 'threshold')])
def test_bad_options_are_refused(options, told):
    with pytest.raises(UserError, match=told):
        ConfidenceMaskedKDLoss(**options)


def test_attention_transfer():
    """Squares have the means (1, 4.5) and (4, 4) at two positions; each map is normalised by its length."""
    student = torch.tensor([[[[1.0, 3.0]], [[1.0, 0.0]]]])
    teacher = torch.full((1, 3, 2, 4), 2.0)
    a, b = np.array([1, 4.5]) / np.hypot(1, 4.5), np.array([1, 1]) / np.sqrt(2)
    loss = FeatureDistillationLoss()
    assert float(loss([student], [teacher])) == pytest.approx(((a - b) ** 2).sum())
    assert float(loss([student], [3 * student])) == pytest.approx(0.0, abs=1e-7)
    student.requires_grad_()
    loss([student], [teacher]).backward()
    assert student.grad.abs().max() > 0
    with pytest.raises(UserError, match='student_level: expected an index into 1 levels, found 2'):
        FeatureDistillationLoss(student_level=2)([student], [teacher])
