"""One expert a scale: who answers, what is learnt, what a state holds."""

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmseg.registry import MODELS
from point_batches import TINY, batch_of, patch

import projects.lidar.losses
import projects.lidar.models  # noqa: F401
from projects.engine.errors import UserError

EXPERT = dict(type='PointSegmentor', backbone=TINY, decode_head=dict(type='LidarPointHead'))


@pytest.fixture
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return MODELS.build(dict(type='ScaleExperts', experts={'150': EXPERT, '50': EXPERT, '100': EXPERT})).eval()


def test_borders_are_the_seeds(model):
    sizes = torch.tensor([45.0, 74.9, 75.1, 100.0, 124.9, 125.1, 165.0])
    context = torch.stack((torch.log2(sizes / 50), torch.zeros(7)), dim=1)
    assert model.chosen(context).tolist() == [0, 0, 1, 1, 1, 2, 2]


def test_each_patch_is_answered_by_its_expert(model):
    inputs, samples = batch_of([patch(300, 1), patch(500, 2), patch(200, 3), patch(400, 4)],
                               sizes=[150.0, 50.0, 100.0, 55.0])
    found = model(inputs)
    for row, size in enumerate(('150', '50', '100', '50')):
        own = {key: value[row:row + 1] for key, value in inputs.items() if key != 'graph'}
        own['graph'] = {key: [index[row:row + 1] for index in lists] for key, lists in inputs['graph'].items()}
        expected = model.experts[size](own)[0]
        valid = inputs['mask'][row]
        torch.testing.assert_close(found[row][:, valid], expected[:, valid], atol=1e-5, rtol=1e-4)
    answers = model(inputs, samples, mode='predict')
    assert [answer.pred_sem_seg.data.shape[-1] for answer in answers] == [300, 500, 200, 400]
    assert answers[2] is samples[2]
    assert torch.equal(answers[2].seg_logits.data, found[2][:, None, :200])


def test_a_loss_is_the_mean_over_patches_and_reaches_the_experts_asked(model):
    inputs, samples = batch_of([patch(400, 1), patch(400, 2), patch(400, 3)], 512, [50.0, 50.0, 150.0])
    losses = model(inputs, samples, mode='loss')
    single = []
    for row in range(3):
        own, truth = batch_of([patch(400, row + 1)], 512, [[50.0, 50.0, 150.0][row]])
        single.append(model(own, truth, mode='loss')['decode.loss_ce'].item())
    assert losses['decode.loss_ce'].item() == pytest.approx(sum(single) / 3, rel=1e-4)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    model.train_step(dict(inputs=inputs, data_samples=samples), OptimWrapper(torch.optim.SGD(model.parameters(), 0.1)))
    moved = {name.split('.')[1] for name, parameter in model.named_parameters()
             if not torch.equal(parameter, before[name])}
    assert moved == {'50', '150'}


def test_the_state_is_that_of_single_models_under_their_sizes(model):
    single = MODELS.build(EXPERT)
    assert set(model.state_dict()) == {
        f'experts.{size}.{name}' for size in (50, 100, 150) for name in single.state_dict()}
    assert model.decode_head.num_classes == 30
    other = MODELS.build(dict(type='ScaleExperts', experts={50: EXPERT, 100: EXPERT, 150: EXPERT})).eval()
    other.load_state_dict(model.state_dict(), strict=True)
    inputs, _ = batch_of([patch(300)], sizes=[100.0])
    assert torch.equal(other(inputs), model(inputs))


@pytest.mark.parametrize('options, told', [
    (dict(experts={}), 'at least one'), (dict(experts={'small': EXPERT}), 'expected patch sizes in metres'),
    (dict(experts={'50': EXPERT}, dispatch='density'), 'expected one of patch_size, found density'),
    (dict(experts={'50': EXPERT, '100': dict(EXPERT, decode_head=dict(type='LidarPointHead', num_classes=6))}),
     'one number of classes')])
def test_what_does_not_fit_is_refused(options, told):
    with pytest.raises(UserError, match=told):
        MODELS.build(dict(type='ScaleExperts', **options))
