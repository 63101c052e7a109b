"""Strict configs: unknown names are errors that name the nearest known one."""

import pytest

from projects.engine.config import load_config
from projects.engine.errors import UserError

TEXT = """
num_classes = 6
rate = 0.1
model = dict(
    type='FCNHead', in_channels=8, channels=4, num_classes='${num_classes}', dropout_ratio='${rate}',
    loss_decode=[dict(type='CrossEntropyLoss', loss_weight=1.0)])
optim_wrapper = dict(
    type='OptimWrapper', clip_grad=dict(type='norm', max_norm=1.0),
    optimizer=dict(type='AdamW', lr=1e-3))
train_cfg = dict(by_epoch=False, max_iters=10)
param_scheduler = [dict(type='CosineAnnealingLR', begin=0, end='${train_cfg.max_iters}', by_epoch=False)]
load_from = None
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text(TEXT)
    return path


def refused(path, options=None):
    with pytest.raises(UserError) as caught:
        load_config(path, options)
    return str(caught.value)


def test_references_follow_inheritance_and_options(config, tmp_path):
    child = tmp_path / 'child.py'
    child.write_text("_base_ = './config.py'\nnum_classes = 4\n")
    assert load_config(config).model.num_classes == 6
    assert load_config(child).model.num_classes == 4
    cfg = load_config(child, {'num_classes': 3, 'train_cfg.max_iters': 7})
    assert (cfg.model.num_classes, cfg.param_scheduler[0].end) == (3, 7)
    assert isinstance(cfg.model.dropout_ratio, float)


def test_a_reference_to_nothing_and_a_circle(config):
    config.write_text(TEXT + "a = '${numclasses}'\n")
    assert 'did you mean num_classes?' in refused(config)
    config.write_text(TEXT + "a = '${b}'\nb = '${a}'\n")
    assert 'circle' in refused(config)


@pytest.mark.parametrize('option, value, hint', [
    ('optim_wraper.optimizer.lr', 1, 'did you mean optim_wrapper?'),
    ('optim_wrapper.optimizer.learning', 1, "has no key 'learning'"),
    ('model.num_clases', 1, 'did you mean num_classes?'),
    ('model.loss_decode.1.loss_weight', 1, 'is a list of 1'),
    ('model.loss_decode.first.loss_weight', 1, 'is a list of 1'),
    ('train_cfg.max_iters.x', 1, 'it has no key'),
    ('train_cfg.max_itres', 1, 'did you mean max_iters?'),
    ('train_cfg.max_iters', 'abc', "expected a number like 10, found 'abc'"),
    ('optim_wrapper.clip_grad', 'dict(max_norm=1)', 'it is a dict'),
    ('param_scheduler.0.end.x', 1, 'set train_cfg.max_iters.x instead'),
    ('param_scheduler.-1.end', 1, 'is a list of 1'),
])
def test_an_unknown_option_is_refused(config, option, value, hint):
    assert hint in refused(config, {option: value})


def test_an_argument_that_the_type_takes_may_be_added(config):
    cfg = load_config(config, {'optim_wrapper.optimizer.weight_decay': 0.5, 'model.loss_decode.0.loss_weight': 2.0,
                               'load_from': 'a.pth'})
    assert cfg.optim_wrapper.optimizer.weight_decay == 0.5
    assert cfg.model.loss_decode[0].loss_weight == 2.0
    assert cfg.load_from == 'a.pth'


def test_an_unknown_type_argument_or_key_is_refused(config):
    config.write_text(TEXT.replace("'AdamW'", "'AdamV'"))
    assert "optim_wrapper.optimizer.type: 'AdamV' is not registered; did you mean Adam" in refused(config)
    config.write_text(TEXT.replace('in_channels=', 'in_chanels='))
    assert "FCNHead takes no 'in_chanels'; did you mean in_channels?" in refused(config)
    config.write_text(TEXT.replace('optim_wrapper =', 'optim_wraper ='))
    assert 'unknown key optim_wraper; did you mean optim_wrapper?' in refused(config)


@pytest.mark.parametrize('line, hint', [
    ('num_clases = 4', 'unknown key num_clases; did you mean num_classes?'),
    ('resum = True', 'unknown key resum; did you mean resume?'),
    ('train_cfg = dict(max_itres=3)', "train_cfg.max_itres: it takes no 'max_itres'; did you mean max_iters?"),
    ('train_dataloader = dict(batch_sizee=3)', 'did you mean batch_size?'),
    ('env_cfg = dict(cudnn_benchmrk=True)', 'did you mean cudnn_benchmark?'),
    ('precision = dict(cpu=dict(ampp=True))', 'did you mean amp?'),
    ('randomness = dict(sed=3)', 'did you mean seed?'),
    ('log_processor = dict(windw_size=3)', 'did you mean window_size?'),
    ("default_hooks = dict(chekpoint=dict(type='CheckpointHook'))", 'did you mean checkpoint?'),
    ('optim_wrapper = dict(clip_grad=dict(max_nrm=1.0))', 'did you mean max_norm?'),
    ("model = dict(init_cfg=dict(type='Pretrained', checkpoint='a.pth'))", 'PretrainedFile'),
    ("data_root = '${num_classes}/train'", "expected a reference '${path}' alone"),
])
def test_a_misspelled_line_of_a_child_is_refused(config, tmp_path, line, hint):
    child = tmp_path / 'child.py'
    child.write_text(f"_base_ = './config.py'\n{line}\n")
    assert hint in refused(child)


@pytest.mark.parametrize('option, value', [
    ('optim_wrapper.paramwise_cfg.layer_decay', 0.9), ('train_cfg.val_begin', 2), ('log_processor.window_size', 5),
    ('train_dataloader.pin_memory', True), ('optim_wrapper.clip_grad.norm_type', 1), ('auto_scale_lr.enable', True),
    ('randomness.seed', 3)])
def test_what_mmengine_takes_may_be_set(config, option, value):
    found = load_config(config, {option: value})
    for key in option.split('.'):
        found = found[key]
    assert found == value


def test_helper_variables_and_norms_are_in_order(config):
    config.write_text(TEXT + "crop = 3\nbackbone_norm_cfg = dict(type='LN', requires_grad=True)\n")
    load_config(config)


def test_files_that_cannot_be_read(config, tmp_path):
    assert 'no such file' in refused(tmp_path / 'none.py')
    config.write_text('a = (\n')
    assert 'syntax error in line' in refused(config)
    config.write_text("_base_ = './missing.py'\n")
    assert 'missing' in refused(config)
    (tmp_path / 'config.yaml').write_text('a: 1')
    assert 'expected a Python config' in refused(tmp_path / 'config.yaml')
