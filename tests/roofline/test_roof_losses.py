"""Each of the six losses by numbers worked out by hand; where its minimum lies; what it does with nothing to count."""

import math

import pytest
import torch
from mmseg.registry import MODELS

from projects.engine.errors import UserError
from projects.roofline.losses import (
    CalibrationLoss,
    FocalGaussianLoss,
    GaussianTarget,
    JunctionOffsetLoss,
    LineMapLoss,
    LineVerificationLoss,
    OcclusionLoss,
)

LOSSES = (FocalGaussianLoss, CalibrationLoss, LineMapLoss, JunctionOffsetLoss, LineVerificationLoss, OcclusionLoss)


def softplus(x):
    """-log sigmoid(-x)."""
    return math.log1p(math.exp(x))


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def logit(p):
    return math.log(p / (1 - p))


def descended(loss, start, steps=400, rate=0.05):
    """Return where gradient descent (Adam) on one tensor ends."""
    value = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([value], lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(value).backward()
        optimizer.step()
    return value.detach()


def assert_gradient(loss, value, rtol=2e-3):
    """The gradient is that of finite differences."""
    value = value.clone().requires_grad_()
    loss(value).backward()
    found, flat, step = value.grad.flatten(), value.detach().flatten(), 1e-2
    for index in range(len(flat)):
        up, down = flat.clone(), flat.clone()
        up[index] += step
        down[index] -= step
        slope = (loss(up.view_as(value)) - loss(down.view_as(value))).item() / (2 * step)
        assert found[index].item() == pytest.approx(slope, rel=rtol, abs=2e-3)


def naive_gaussian(jmap, sigma, floor):
    """The definition: the maximum over all junctions, cell by cell."""
    out = torch.zeros(jmap.shape)
    for b, t, y, x in torch.cartesian_prod(*map(torch.arange, jmap.shape)).tolist():
        best = max((math.exp(-((y - v) ** 2 + (x - u) ** 2) / (2 * sigma ** 2))
                    for v, u in jmap[b, t].nonzero().tolist()), default=0)
        out[b, t, y, x] = best if best >= floor else 0
    return out


# The Gaussian

@pytest.mark.parametrize(('sigma', 'floor'), [(2.0, 0.05), (0.8, 0.05), (3.3, 0.3), (2.0, 0.01)])
def test_the_target_is_the_nearest_junctions_gaussian(sigma, floor):
    generator = torch.Generator().manual_seed(3)
    jmap = (torch.rand(2, 2, 17, 23, generator=generator) < 0.02).float()
    jmap[0, 1] = 0  # a type without junctions
    jmap[1, 0, 0, 0] = jmap[1, 0, 16, 22] = 1  # corners
    found = GaussianTarget(sigma, floor)(jmap)
    assert found.dtype == torch.float32
    assert torch.allclose(found, naive_gaussian(jmap, sigma, floor), atol=1e-6)
    assert (found[jmap > 0] == 1).all()
    assert not found[0, 1].any()


def test_the_target_by_hand_maximum_not_sum_and_floor():
    jmap = torch.zeros(1, 1, 1, 20)
    jmap[..., 5] = jmap[..., 9] = 1
    found = GaussianTarget()(jmap)[0, 0, 0]
    assert found[7].item() == pytest.approx(math.exp(-0.5))  # two cells from both: not twice that
    assert found[6].item() == pytest.approx(math.exp(-1 / 8))
    assert found[1].item() == pytest.approx(math.exp(-2))  # 0.135
    assert found[0].item() == 0  # five cells: 0.0439 is below the floor
    jmap = torch.zeros(1, 1, 9, 9)
    jmap[..., 4, 4] = 1
    found = GaussianTarget()(jmap)[0, 0]
    assert found[2, 0].item() == pytest.approx(math.exp(-20 / 8))  # 0.082
    assert found[1, 0].item() == 0  # (3, 4) away: 0.0439, though either axis alone is above the floor


def test_the_target_is_a_constant_unless_its_width_is_learnt():
    jmap = torch.zeros(1, 1, 9, 9)
    jmap[..., 4, 4] = 1
    fixed, learnt = GaussianTarget(), GaussianTarget(learnable=True)
    assert not list(fixed.parameters()) and not fixed(jmap).requires_grad
    assert torch.equal(fixed(jmap), learnt(jmap))
    assert learnt.sigma.item() == 2
    learnt(jmap)[0, 0, 4, 6].backward()  # d/dwidth exp(-4 / (2 s^2)) = G 4 / s^3 ds, ds = s log 2
    assert learnt.width.grad.item() == pytest.approx(math.exp(-0.5) * 0.5 * 2 * math.log(2), rel=1e-5)
    with torch.no_grad():
        learnt.width.fill_(50.0)
    assert learnt.sigma.item() == pytest.approx(4)  # never more than twice
    assert torch.allclose(learnt(jmap), naive_gaussian(jmap, 4.0, 0.05), atol=1e-6)


def test_a_learnt_width_widens_under_the_focal_loss():
    jmap = torch.zeros(1, 2, 16, 40)  # cells out of reach, and a type without junctions
    jmap[0, 0, 8, 8] = 1
    target = GaussianTarget(learnable=True)
    FocalGaussianLoss()(torch.full(jmap.shape, 0.3), target(jmap), jmap).backward()
    assert target.width.grad.item() < 0  # as the docstring warns


@pytest.mark.parametrize(('arguments', 'named'), [((0.0,), 'sigma'), ((2.0, 0.0), 'floor'), ((2.0, 1.0), 'floor')])
def test_the_target_names_what_is_wrong(arguments, named):
    with pytest.raises(UserError, match=named):
        GaussianTarget(*arguments)


# gauss

def test_gauss_by_hand():
    p = torch.tensor([0.8, 0.3, 0.6, 0.5]).view(1, 1, 2, 2)
    gaussian = torch.tensor([1.0, 0.5, 0.0, 1.0]).view(1, 1, 2, 2)
    junctions = torch.tensor([True, False, False, True]).view(1, 1, 2, 2)
    terms = (0.2 ** 2 * math.log(0.8), 0.5 ** 4 * 0.3 ** 2 * math.log(0.7), 0.6 ** 2 * math.log(0.4),
             0.5 ** 2 * math.log(0.5))
    assert FocalGaussianLoss()(p, gaussian, junctions).item() == pytest.approx(-sum(terms) / 2, rel=1e-6)
    assert FocalGaussianLoss(loss_weight=8.0)(p, gaussian, junctions.float()).item() == pytest.approx(
        -4 * sum(terms), rel=1e-6)
    terms = (0.2 * math.log(0.8), 0.5 ** 2 * 0.3 * math.log(0.7), 0.6 * math.log(0.4), 0.5 * math.log(0.5))
    assert FocalGaussianLoss(alpha=1, beta=2)(p, gaussian, junctions).item() == pytest.approx(-sum(terms) / 2, rel=1e-6)
    assert_gradient(lambda q: FocalGaussianLoss()(q, gaussian, junctions), p)


def seeds_formula(p, gaussian, gamma=4.0):
    """The focal loss of the seed: the soft label itself says what a cell should be."""
    right = p * gaussian + (1 - p) * (1 - gaussian)
    return -((1 - right) ** gamma) * right.log()


@pytest.mark.parametrize('gaussian', [0.0, 0.3, 0.5, 0.8, 0.97])
def test_gauss_wants_nothing_beside_a_junction_whatever_the_gaussian(gaussian):
    p = torch.linspace(0.001, 0.999, 999)
    ours = torch.stack([FocalGaussianLoss()(q.view(1, 1, 1, 1), torch.full((1, 1, 1, 1), gaussian),
                                            torch.zeros(1, 1, 1, 1)) for q in p])
    assert (ours.diff() > 0).all()  # the minimum is p = 0, with a slope everywhere, at G = 1/2 too
    theirs = seeds_formula(p, torch.tensor(gaussian))
    if gaussian == 0.5:
        assert theirs.diff().abs().max() < 1e-7  # says nothing
    else:
        assert theirs.argmin() == (0 if gaussian < 0.5 else 998)  # above 1/2 it wants a junction where none is


def test_gauss_forgives_near_a_junction():
    def slope(gaussian):
        p = torch.tensor([[[[0.4]]]], requires_grad=True)
        FocalGaussianLoss()(p, torch.tensor([[[[gaussian]]]]), torch.zeros(1, 1, 1, 1)).backward()
        return p.grad.item()

    assert slope(0.5) == pytest.approx(slope(0.0) / 16)
    assert 0 < slope(0.8825) < slope(0.0) / 5000  # one cell away
    assert slope(0.0) == pytest.approx(-2 * 0.4 * math.log(0.6) + 0.16 / 0.6, rel=1e-5)


@pytest.mark.parametrize('start', [-2.0, 0.0, 2.0])
def test_descent_on_gauss_finds_the_junctions_and_nothing_else(start):
    jmap = torch.zeros(2, 2, 16, 16)
    jmap[0, 0, 8, 8] = jmap[0, 0, 8, 11] = jmap[1, 1, 0, 0] = 1  # two of them three cells apart
    gaussian = GaussianTarget()(jmap)
    logits = descended(lambda x: FocalGaussianLoss()(x.sigmoid(), gaussian, jmap), torch.full(jmap.shape, start),
                       2000)
    p = logits.sigmoid()
    assert p[jmap > 0].min() > 0.94
    assert p[jmap == 0].max() < 0.06  # far away and beside them, where G is 0.88, alike


def test_gauss_at_the_ends_is_finite():
    p = torch.tensor([0.0, 1.0, 0.0, 1.0]).view(1, 1, 2, 2).requires_grad_()
    junctions = torch.tensor([1.0, 1.0, 0.0, 0.0]).view(1, 1, 2, 2)
    loss = FocalGaussianLoss()(p, torch.zeros(1, 1, 2, 2), junctions)
    loss.backward()
    assert loss.item() == pytest.approx(-math.log(1e-12), rel=1e-5)  # (27.6 + 27.6) / 2
    assert p.grad.isfinite().all()


def test_gauss_of_an_image_without_junctions_still_counts_what_is_wrong():
    nothing = torch.zeros(1, 1, 3, 3)
    p = torch.full((1, 1, 3, 3), 0.5)
    assert FocalGaussianLoss()(p, nothing, nothing).item() == pytest.approx(9 * 0.25 * math.log(2), rel=1e-6)
    p = nothing.clone().requires_grad_()
    loss = FocalGaussianLoss()(p, nothing, nothing)
    loss.backward()
    assert loss.item() == 0 and not p.grad.any()


# qcc

def test_qcc_by_hand_with_two_types():
    logits = torch.zeros(1, 2, 2, 1, 2)  # (B, T, 2, h, w)
    logits[0, 0, :, 0, 0] = torch.tensor([1.0, 3.0])  # background, junction
    logits[0, 1, :, 0, 1] = torch.tensor([0.0, -1.0])
    jmap = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])
    terms = (softplus(-2), math.log(2), math.log(2), softplus(1))
    assert CalibrationLoss()(logits, jmap).item() == pytest.approx(sum(terms) / 4, rel=1e-6)
    assert CalibrationLoss(loss_weight=10.0)(logits, jmap).item() == pytest.approx(10 * sum(terms) / 4, rel=1e-6)
    assert_gradient(lambda x: CalibrationLoss()(x, jmap), logits)


def test_descent_on_qcc_finds_the_junctions():
    jmap = torch.zeros(1, 2, 4, 4)
    jmap[0, 0, 1, 2] = jmap[0, 1, 3, 0] = 1
    logits = descended(lambda x: CalibrationLoss()(x, jmap), torch.zeros(1, 2, 2, 4, 4))
    assert torch.allclose(logits.softmax(2)[:, :, 1], jmap, atol=0.05)


# lhr

def test_lhr_by_hand_and_its_minimum_is_the_map():
    logits, lmap = torch.tensor([[[2.0, -1.0], [0.0, 0.5]]]), torch.tensor([[[1.0, 0.0], [0.25, 0.5]]])
    terms = (softplus(-2), softplus(-1), math.log(2), 0.5 * (softplus(-0.5) + softplus(0.5)))
    assert LineMapLoss()(logits, lmap).item() == pytest.approx(sum(terms) / 4, rel=1e-6)
    assert LineMapLoss(loss_weight=20.0)(logits, lmap).item() == pytest.approx(5 * sum(terms), rel=1e-6)
    assert_gradient(lambda x: LineMapLoss()(x, lmap), logits)
    assert torch.allclose(descended(lambda x: LineMapLoss()(x, lmap), logits).sigmoid(), lmap, atol=0.02)


# off

def test_off_by_hand_and_only_at_junctions():
    raw, joff, jmap = torch.zeros(2, 1, 2, 2, 2), torch.zeros(2, 1, 2, 2, 2), torch.zeros(2, 1, 2, 2)
    jmap[0, 0, 0, 1] = jmap[0, 0, 1, 1] = jmap[1, 0, 1, 0] = 1
    raw[0, 0, :, 0, 1] = torch.tensor([logit(0.9), logit(0.2)])  # +0.4, -0.3
    joff[0, 0, :, 0, 1] = torch.tensor([0.1, 0.1])  # errors 0.3 and -0.4
    joff[1, 0, :, 1, 0] = torch.tensor([-0.5, 0.25])
    joff[0, 0, :, 0, 0] = 9.0  # no junction here
    expected = (0.3 ** 2 + 0.4 ** 2 + 0 + 0.5 ** 2 + 0.25 ** 2) / 3
    assert JunctionOffsetLoss()(raw, joff, jmap).item() == pytest.approx(expected, rel=1e-5)
    assert JunctionOffsetLoss(loss_weight=0.25)(raw, joff, jmap).item() == pytest.approx(expected / 4, rel=1e-5)
    assert_gradient(lambda x: JunctionOffsetLoss()(x, joff, jmap), raw)


def test_descent_on_off_finds_the_place_in_the_cell():
    torch.manual_seed(0)
    joff, jmap = torch.rand(2, 2, 2, 4, 4) * 0.9 - 0.45, (torch.rand(2, 2, 4, 4) < 0.4).float()
    raw = descended(lambda x: JunctionOffsetLoss()(x, joff, jmap), torch.randn(2, 2, 2, 4, 4), 1000)
    error = (raw.sigmoid() - 0.5 - joff).movedim(2, -1)[jmap > 0]
    assert error.abs().max() < 0.01


# lv

def test_lv_by_hand_balances_lines_and_others():
    logits, labels = torch.tensor([1.0, -2.0, 0.0, 3.0]), torch.tensor([1.0, 1.0, 0.0, 0.0])
    lines, others = (softplus(-1) + softplus(2)) / 2, (math.log(2) + softplus(3)) / 2
    assert LineVerificationLoss()(logits, labels).item() == pytest.approx(lines + others, rel=1e-6)
    assert LineVerificationLoss(loss_weight=2.0)(logits, labels).item() == pytest.approx(2 * (lines + others), rel=1e-6)
    weight = torch.tensor([3.0, 1.0, 0.0, 5.0])
    lines, others = (3 * softplus(-1) + softplus(2)) / 4, softplus(3)
    assert LineVerificationLoss()(logits, labels, weight).item() == pytest.approx(lines + others, rel=1e-6)
    assert_gradient(lambda x: LineVerificationLoss()(x, labels, weight), logits)


@pytest.mark.parametrize('others', [1, 10, 1000])
def test_lv_of_a_bias_alone_is_least_at_zero_however_many_negatives(others):
    labels = torch.cat((torch.ones(3), torch.zeros(others)))
    bias = descended(lambda b: LineVerificationLoss()(b.expand(len(labels)), labels), torch.tensor([1.5]))
    assert bias.item() == pytest.approx(0, abs=1e-3)  # a plain mean would have it at log(3 / others)


def test_lv_of_one_side_is_that_side():
    assert LineVerificationLoss()(torch.tensor([1.0]), torch.ones(1)).item() == pytest.approx(softplus(-1))
    assert LineVerificationLoss()(torch.tensor([1.0]), torch.zeros(1)).item() == pytest.approx(softplus(1))


# sf

def test_sf_by_hand_ignores_the_unknown():
    nan = math.nan
    predicted = torch.tensor([[0.2, 0.7], [0.5, 0.5], [0.1, 0.9], [0.3, 0.4]])
    target = torch.tensor([[0.3, 0.5], [nan, nan], [0.1, 0.4], [nan, 0.4]])
    expected = (0.1 ** 2 + 0.2 ** 2 + 0.5 ** 2) / 2
    assert OcclusionLoss()(predicted, target).item() == pytest.approx(expected, rel=1e-5)
    assert OcclusionLoss(loss_weight=0.5)(predicted, target).item() == pytest.approx(expected / 2, rel=1e-5)
    assert_gradient(lambda x: OcclusionLoss()(x, target), predicted)
    value = predicted.clone().requires_grad_()
    OcclusionLoss()(value, target).backward()
    assert torch.allclose(value.grad, torch.tensor([[-0.1, 0.2], [0, 0], [0, 0.5], [0, 0]]), atol=1e-6)
    found = descended(lambda x: OcclusionLoss()(x, target), predicted)
    assert torch.allclose(found[[0, 2]], target[[0, 2]], atol=0.01)
    assert torch.equal(found[[1, 3]], predicted[[1, 3]])


# All

def nothing_to_count():
    """Loss, its first argument, the rest: of images without lines."""
    empty = torch.zeros(2, 1, 4, 4)
    return [
        (FocalGaussianLoss(), torch.zeros(2, 1, 4, 4), (empty, empty)),
        (JunctionOffsetLoss(), torch.randn(2, 1, 2, 4, 4), (torch.zeros(2, 1, 2, 4, 4), empty)),
        (LineVerificationLoss(), torch.zeros(0), (torch.zeros(0),)),
        (LineVerificationLoss(), torch.randn(3), (torch.ones(3), torch.zeros(3))),
        (OcclusionLoss(), torch.zeros(0, 2), (torch.zeros(0, 2),)),
        (OcclusionLoss(), torch.rand(3, 2), (torch.full((3, 2), math.nan),)),
    ]


@pytest.mark.parametrize('case', range(6))
def test_nothing_to_count_is_exactly_zero_with_a_live_graph(case):
    loss, first, rest = nothing_to_count()[case]
    first.requires_grad_()
    value = loss(first, *rest)
    value.backward()
    assert value.shape == () and value.item() == 0
    assert first.grad is not None and not first.grad.any() and first.grad.isfinite().all()


def test_maps_of_an_image_without_lines_are_all_background():
    logits = torch.full((1, 4, 4), 1.0)
    assert LineMapLoss()(logits, torch.zeros(1, 4, 4)).item() == pytest.approx(softplus(1), rel=1e-6)
    logits = torch.tensor([0.0, 1.0]).view(1, 1, 2, 1, 1).expand(1, 1, 2, 4, 4)
    assert CalibrationLoss()(logits, torch.zeros(1, 1, 4, 4)).item() == pytest.approx(softplus(1), rel=1e-6)


def inputs_of_all():
    torch.manual_seed(5)
    jmap = (torch.rand(2, 2, 8, 8) < 0.1).float()
    gaussian = GaussianTarget()(jmap)
    return [
        (FocalGaussianLoss(), torch.rand(2, 2, 8, 8), (gaussian, jmap)),
        (CalibrationLoss(), torch.randn(2, 2, 2, 8, 8), (jmap,)),
        (LineMapLoss(), torch.randn(2, 8, 8), (torch.rand(2, 8, 8),)),
        (JunctionOffsetLoss(), torch.randn(2, 2, 2, 8, 8), (torch.rand(2, 2, 2, 8, 8) - 0.5, jmap)),
        (LineVerificationLoss(), torch.randn(40), ((torch.rand(40) < 0.3).float(),)),
        (OcclusionLoss(), torch.rand(40, 2), (torch.rand(40, 2),)),
    ]


@pytest.mark.parametrize('case', range(6))
def test_autocast_changes_nothing(case):
    loss, first, rest = inputs_of_all()[case]
    first = first.bfloat16().float()  # what half a precision can hold
    plain = loss(first, *rest)
    with torch.autocast('cpu', torch.bfloat16):
        cast = loss(first.bfloat16().requires_grad_(), *rest)
        target = GaussianTarget()((rest[-1] > 0.5).float()) if case == 0 else None
    assert cast.dtype == torch.float32
    assert torch.equal(plain, cast)
    assert target is None or torch.equal(target, rest[0])


@pytest.mark.parametrize('loss', LOSSES, ids=lambda one: one.__name__)
def test_configs_build_them_by_name(loss):
    assert MODELS.build(dict(type=loss.__name__, loss_weight=0.25)).loss_weight == 0.25
    assert not list(loss().parameters())
