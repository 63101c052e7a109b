"""The difficulty file, the seed's two files, the rules, and the scores of one image."""

import hashlib
import json

import numpy as np
import pytest

from projects.engine.errors import UserError
from projects.multistage.difficulty import (
    Difficulty,
    SampleDifficulty,
    checkpoint_facts,
    read_difficulty,
    read_weights,
    write_analysis,
    write_difficulty,
    write_weights,
)
from projects.multistage.difficulty_rules import FocalRule, QuantileRule, SeedRule, build_rule
from projects.multistage.difficulty_tables import class_rows, tables, weight_rows
from projects.multistage.scoring import evaluating, score_counts


def difficulty(*means, classes=('land', 'water')):
    return Difficulty(classes, {f'tile_{index}': SampleDifficulty(
        mean, {} if mean is None else {'land': mean}, {} if mean is None else {'land': 500})
        for index, mean in enumerate(means)}, {'file': 'best.pth', 'sha256': '0' * 64})


MIXED = Difficulty(('land', 'water'), {
    'easy': SampleDifficulty(0.9, {'land': 0.9}, {'land': 4096}),
    'hard': SampleDifficulty(0.5, {'land': 0.8, 'water': 0.2}, {'land': 4000, 'water': 96}),
    'unlabelled': SampleDifficulty(None, {}, {})}, None)


def test_the_file_says_what_was_scored(tmp_path):
    (tmp_path / 'best.pth').write_bytes(b'weights')
    facts = checkpoint_facts(tmp_path / 'best.pth')
    assert facts == {'file': 'best.pth', 'sha256': hashlib.sha256(b'weights').hexdigest()}
    found = Difficulty(MIXED.classes, MIXED.samples, facts)
    write_difficulty(tmp_path / 'difficulty.json', found)
    assert read_difficulty(tmp_path / 'difficulty.json') == found
    plain = json.loads((tmp_path / 'difficulty.json').read_text())
    assert plain['version'] == 1 and plain['checkpoint'] == facts and plain['classes'] == ['land', 'water']
    assert plain['samples']['easy'] == {
        'mIoU': 0.9, 'iou': {'land': 0.9, 'water': None}, 'pixels': {'land': 4096, 'water': 0}}
    assert plain['samples']['unlabelled'] == {'mIoU': None, 'iou': {'land': None, 'water': None}, 'pixels': {}}


def test_the_seed_s_analysis_is_written_and_read(tmp_path):
    path = tmp_path / 'hard_samples_analysis.json'
    write_analysis(path, MIXED, {'easy': 1.0, 'hard': 3.0, 'unlabelled': 1.0})
    first = json.loads(path.read_text())['samples'][0]
    assert first == {'image': 'hard', 'miou': 0.5, 'class_ious': {'land': 0.8, 'water': 0.2},
                     'class_pixels': {'land': 4000, 'water': 96}, 'weight': 3.0}
    assert read_difficulty(path) == MIXED
    path.write_text('{"samples": [{"image": "x", "miou": 0.5, "class_ious": {"water": 0.5}}]}')
    found = read_difficulty(path)
    assert found.classes == ('water',) and found.samples['x'] == SampleDifficulty(0.5, {'water': 0.5}, {})
    assert SeedRule()(found) == {'x': 3.0}
    with pytest.raises(UserError, match=r'SeedRule.focus: sample x has an IoU of water and not its number of pixels'):
        SeedRule(focus='water')(found)


@pytest.mark.parametrize('change, told', [
    (lambda d: d.update(version=2), 'version: expected 1, found 2'),
    (lambda d: d.update(classes=['land', 'land']), 'classes: expected a list of different names'),
    (lambda d: d.update(checkpoint='best.pth'), "checkpoint: expected file and sha256, found 'best.pth'"),
    (lambda d: d.update(samples=None), 'samples: expected a dict by sample id, found NoneType'),
    (lambda d: d['samples']['easy'].update(mIoU=90), 'sample easy: mIoU: expected null or a number in 0..1, found 90'),
    (lambda d: d['samples']['easy'].update(mIoU=float('nan')), 'sample easy: mIoU: expected null or a number'),
    (lambda d: d['samples']['easy'].pop('iou'), 'sample easy: expected mIoU, iou and pixels, found mIoU, pixels'),
    (lambda d: d['samples']['easy']['iou'].update(road=0.1), "'road' is none of the classes .land, water."),
    (lambda d: d['samples']['easy']['pixels'].update(land=-1), 'pixels of land: expected a number of pixels, found -1'),
])
def test_a_file_that_is_wrong_is_told_by_file_and_sample(tmp_path, change, told):
    write_difficulty(tmp_path / 'd.json', MIXED)
    found = json.loads((tmp_path / 'd.json').read_text())
    change(found)
    (tmp_path / 'd.json').write_text(json.dumps(found))
    with pytest.raises(UserError, match=told) as error:
        read_difficulty(tmp_path / 'd.json')
    assert str(tmp_path / 'd.json') in str(error.value) and '\n' not in str(error.value)


def test_files_that_are_no_difficulty_at_all(tmp_path):
    path = tmp_path / 'd.json'
    with pytest.raises(UserError, match='No such file'):
        read_difficulty(path)
    for text, told in (('{', 'no JSON'), ('[]', 'expected a JSON object, found list'),
                       ('{"samples": {"a": 1, "a": 2}}', 'occurs twice: a'),
                       ('{"samples": [{"miou": 0.5}]}', 'sample number 0: expected image, miou and class_ious'),
                       ('{"samples": [{"image": "a", "miou": 0, "class_ious": {"x": 0}}, '
                        '{"image": "a", "miou": 0, "class_ious": {"x": 0}}]}', 'images that occur twice: a')):
        path.write_text(text)
        with pytest.raises(UserError, match=told):
            read_difficulty(path)


def test_weights_stand_one_a_line_and_belong_to_ids(tmp_path):
    path = tmp_path / 'sample_weights.txt'
    weights = {'b': 4.5, 'a': 1.0, 'c': 1 / 3}
    write_weights(path, weights)
    assert path.read_text().splitlines()[1:] == ['4.5', '1.0', '0.3333333333333333'] and path.read_text()[0] == '#'
    assert read_weights(path) == weights  # the ids beside it
    path.write_text('3\n4.5\n1.0\n2\n')  # as many lines more than images as the seed's file has
    assert read_weights(path, ['x', 'y', 'z']) == {'x': 4.5, 'y': 1.0, 'z': 2.0}
    path.write_text('4.5\n1.0\n2\n')
    assert read_weights(path, ['x', 'y', 'z']) == {'x': 4.5, 'y': 1.0, 'z': 2.0}
    for text, told in (('9\n1\n1\n1\n', 'expected 3 weights, one for each sample id, found 4'),
                       ('1\n1\n', 'expected 3 weights, one for each sample id, found 2'),
                       ('1\n1\n-1\n', "sample z: expected a number of at least 0, found '-1'"),
                       ('1\none\n1\n', "sample y: expected a number of at least 0, found 'one'")):
        path.write_text(text)
        with pytest.raises(UserError, match=told):
            read_weights(path, ['x', 'y', 'z'])
    with pytest.raises(UserError, match='1 sample ids occur twice: x'):
        read_weights(path, ['x', 'x', 'z'])
    (tmp_path / 'sample_weights.ids.txt').unlink()
    with pytest.raises(UserError, match='whose they are is not known.*sample_weights.ids.txt'):
        read_weights(path)


def test_the_seed_rule():
    means = difficulty(0.7, 0.69, 0.6, 0.59, 0.0, 1.0, None)
    assert list(SeedRule()(means).values()) == [1.0, 2.0, 2.0, 3.0, 3.0, 1.0, 1.0]
    one = {'land': 0.95, 'water': 0.59, 'road': 0.59}

    def weight(mean, pixels, focus=('water', 'road')):
        sample = SampleDifficulty(mean, one, pixels)
        return SeedRule(focus=focus)(Difficulty(('land', 'water', 'road'), {'x': sample}))['x']

    assert weight(0.71, {'land': 1000, 'water': 101, 'road': 100}) == 1.5  # 100 px are not more than 100
    assert weight(0.65, {'land': 1000, 'water': 101, 'road': 100}) == 3.0
    assert weight(0.5, {'land': 1000, 'water': 101, 'road': 100}) == 4.5
    assert weight(0.5, {'land': 1000, 'water': 101, 'road': 101}) == 6.0  # 6.75, cut off: the seed's hardest 38
    assert weight(0.71, {'land': 1000, 'water': 101, 'road': 101}, focus='land') == 1.0
    with pytest.raises(UserError, match="SeedRule.focus: 'wter' is none of the classes.*did you mean water"):
        weight(0.7, {}, focus=['wter'])


def test_the_quantile_rule_goes_by_rank():
    weights = QuantileRule(steps=((0.5, 2.0), (0.8, 4.0)))(difficulty(*[0.9 + index / 1000 for index in range(10)]))
    assert list(weights.values()) == [4.0] * 2 + [2.0] * 3 + [1.0] * 5
    assert set(QuantileRule()(difficulty(0.5, 0.5, 0.5, None)).values()) == {1.0}
    assert QuantileRule()(difficulty(None)) == {'tile_0': 1.0}


def test_the_focal_rule_has_no_steps():
    weights = FocalRule(gamma=2, scale=8, floor=0.5)(difficulty(0.0, 0.5, 0.9, None))
    assert list(weights.values()) == [8.0, 2.0, 0.5, 0.5]


def test_rules_are_built_from_configs():
    assert build_rule(dict(type='FocalRule', gamma=1.0)).gamma == 1.0 and build_rule(None).focus == ()
    for rule, told in ((dict(type='SeedRul'), "'SeedRul' is not registered; did you mean SeedRule"),
                       (dict(focus=()), 'None is not registered'),
                       (dict(type='SeedRule', gama=1), 'rule SeedRule: .*gama'),
                       (dict(type='FocalRule', floor=0), 'FocalRule.floor: expected a number above 0, found 0'),
                       (dict(type='QuantileRule', steps=[0.5]), 'QuantileRule.steps: expected pairs'),
                       (dict(type='QuantileRule', steps=[(80, 2)]), 'QuantileRule.steps: expected bounds in 0..1')):
        with pytest.raises(UserError, match=told):
            build_rule(rule)


def test_an_image_is_scored_over_the_classes_of_its_truth():
    found = score_counts(np.array([[60, 20, 20], [0, 0, 0], [5, 5, 90]]), ('land', 'water', 'road'))
    assert found.iou == {'land': 60 / 105, 'road': 90 / 120} and found.pixels == {'land': 100, 'road': 100}
    assert found.mean_iou == (60 / 105 + 90 / 120) / 2  # water is in the prediction only
    assert score_counts(np.zeros((3, 3), int), ('land', 'water', 'road')) == SampleDifficulty(None, {}, {})


def test_scoring_leaves_modes_and_generators_as_they_were():
    import torch
    model = torch.nn.Sequential(torch.nn.BatchNorm2d(2), torch.nn.Dropout())
    model[0].eval()
    before = torch.get_rng_state(), np.random.get_state()[2], model.training
    with pytest.raises(KeyError), evaluating(model):
        assert not any(module.training for module in model.modules())
        torch.rand(3), np.random.rand(3)
        raise KeyError
    assert torch.equal(before[0], torch.get_rng_state()) and before[1] == np.random.get_state()[2]
    assert [module.training for module in model.modules()] == [True, False, True]


def test_the_seed_s_tables():
    weights = {'easy': 1.0, 'hard': 4.5, 'unlabelled': 1.0}
    assert weight_rows(weights) == [('1.0x', 2, 2 / 3), ('4.5x', 1, 1 / 3)]
    assert class_rows(MIXED, weights) == [('water', 1, 1, 1.0, 4.5), ('land', 0, 2, 0.0, 2.75)]
    text = tables(MIXED, weights)
    assert 'Effective samples per epoch: 7 (2.17x multiplication)' in text and 'Unique images: 3' in text
    assert [line.split() for line in text.splitlines() if line.startswith('water')] == [
        ['water', '1/1', '1', '100.0', '%', '4.50x']]
    many = {str(index): 1 + index / 7 for index in range(36)}  # a rule without steps: ranges
    assert [row[:2] for row in weight_rows(many)] == [
        ('1–2x', 7), ('2–3x', 7), ('3–4x', 7), ('4–5x', 7), ('5–6x', 8)]
