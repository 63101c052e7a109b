"""The grammar of policies, whom a single one is for, and what is drawn."""

import pytest
import torch

from projects.engine.errors import UserError
from projects.multiscale.scale_policy import ScalePolicy, parse_policies, parse_policy


@pytest.mark.parametrize('text, mode, probability', [
    ('grad', 'grad', 1), ('checkpoint', 'checkpoint', 1), ('no_grad', 'no_grad', 1),
    ('stochastic(0.25)', 'grad', 0.25), ('stochastic( .5 , checkpoint )', 'checkpoint', 0.5),
    ('stochastic(0)', 'grad', 0), ('stochastic(1, checkpoint)', 'checkpoint', 1), ('stochastic(1e-1)', 'grad', 0.1)])
def test_the_grammar(text, mode, probability):
    policy = parse_policy(text)
    assert policy == ScalePolicy(mode, probability)
    assert parse_policy(str(policy)) == policy  # what it prints can be read again


@pytest.mark.parametrize('text, message', [
    ('checkpiont', 'did you mean checkpoint?'), ('nograd', 'did you mean no_grad?'),
    ('stochastik(0.5)', 'did you mean stochastic?'), ('stochastic', "found 'stochastic'"),
    ('stochastic(1.5)', 'expected a probability in [0, 1]'), ('stochastic(-0.1)', 'expected a probability in [0, 1]'),
    ('stochastic(nan)', 'expected a probability in [0, 1]'), ('stochastic(half)', "found 'half'"),
    ('stochastic(0.5, no_grad)', "found 'no_grad'"), ('stochastic(0.5, chekpoint)', 'did you mean checkpoint?'),
    ('stochastic(0.5, grad, grad)', 'expected'), ('', 'expected'), (0.5, 'found 0.5'), (None, 'found None')])
def test_what_is_no_policy_is_refused(text, message):
    with pytest.raises(UserError) as error:
        parse_policy(text, 'policy[2]')
    assert message in str(error.value) and str(error.value).startswith('policy[2]: ')


@pytest.mark.parametrize('scales, reference, expected', [
    ((0.5, 1.0, 1.5), 1, 'grad grad no_grad'), ((1.5, 1.0, 0.5), 1, 'no_grad grad grad'),
    ((0.5, 1.0, 1.5), 0, 'grad no_grad no_grad'), ((0.5, 1.0), 1, 'grad grad'),
    ((0.25, 0.5, 1.0, 1.5, 2.0), 2, 'grad grad grad no_grad no_grad')])
def test_one_policy_is_for_the_scales_above_the_reference(scales, reference, expected):
    assert ' '.join(map(str, parse_policies('no_grad', scales, reference))) == expected


def test_one_for_each_scale():
    found = parse_policies(['no_grad', 'checkpoint', 'stochastic(0.5)'], (0.5, 1.0, 1.5), 1)
    assert found == (ScalePolicy('no_grad'), ScalePolicy('checkpoint'), ScalePolicy('grad', 0.5))


@pytest.mark.parametrize('policy, message', [
    (['grad', 'grad'], 'one for each of 3 scales, found 2'), (3, 'found 3'),
    (['grad', 'no_grad', 'grad'], "policy[1]: expected 'grad' or 'checkpoint' for the reference scale 1, "
                                  "found 'no_grad'"),
    (['grad', 'stochastic(0.5)', 'grad'], "found 'stochastic(0.5)'"),
    (['grad', 'grad', 'gard'], 'policy[2]: ')])
def test_what_does_not_fit_the_scales_is_refused(policy, message):
    with pytest.raises(UserError) as error:
        parse_policies(policy, (0.5, 1.0, 1.5), 1)
    assert message in str(error.value)


@pytest.mark.parametrize('inside', ['grad', 'checkpoint'])
def test_draws_follow_the_probability_and_the_generator(inside):
    policy = parse_policy(f'stochastic(0.25, {inside})')
    first = [policy.draw(generator) for generator in [torch.Generator().manual_seed(1)] for _ in range(2000)]
    again = [policy.draw(generator) for generator in [torch.Generator().manual_seed(1)] for _ in range(2000)]
    assert first == again and set(first) == {inside, 'no_grad'}
    assert 0.22 < first.count(inside) / 2000 < 0.28  # three standard deviations


def test_what_is_certain_draws_no_number():
    state = torch.get_rng_state()
    for text in ('grad', 'checkpoint', 'no_grad', 'stochastic(1)'):
        assert parse_policy(text).draw() == parse_policy(text).mode
    assert torch.equal(torch.get_rng_state(), state)
    assert parse_policy('stochastic(0)').draw() == 'no_grad'
