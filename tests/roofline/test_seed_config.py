"""The seed's config.yaml: every key has an outcome, differences alone are written, nothing is guessed."""

import re
import runpy
import sys

import pytest
from mmengine.config import Config

from projects.engine.errors import UserError
from projects.roofline.seed_config import (
    BASE,
    OUTCOMES,
    TEXT_WEIGHTS,
    child_config,
    read_seed_config,
    write_child_config,
)

# The keys of the seed's text, with its values.
TEXT = """
io:
  logdir: logs/
  datadir: /data/roofmapset/
  num_workers: 8
  validation_interval: 1000
model:
  batch_size: 8
  batch_size_eval: 1
  depth: 4
  num_stacks: 2
  num_blocks: 1
  n_stc_posl: 300
  n_stc_negl: 40
  n_dyn_junc: 300
  dim_loi: 128
  dim_fc: 1024
optim:
  name: Adam
  lr: 0.001
  weight_decay: 0
  amsgrad: True
  max_epoch: 30
  lr_decay_epoch: 10
"""


def written(folder, text):
    path = folder / 'config.yaml'
    path.write_text(text)
    return path


def changed(**values):
    text = TEXT
    for key, value in values.items():
        text, count = re.subn(rf'(?m)^(  {key}:).*$', rf'\1 {value}', text)
        assert count == 1
    return text


def test_the_text_as_it_stands_changes_only_where_the_data_lie(tmp_path):
    config = read_seed_config(written(tmp_path, TEXT))
    assert (config.changes, config.notes) == ({'data_root': '/data/roofmapset/'}, ())
    assert child_config({}, 'config.yaml', './base.py') == (
        "# config.yaml: what differs from the seed's text.\n_base_ = './base.py'\n")


def test_every_key_goes_to_its_place(tmp_path):
    config = read_seed_config(written(tmp_path, changed(
        datadir='roofs', num_workers=2, validation_interval=500, batch_size=4, batch_size_eval=2, depth=3, num_stacks=1,
        num_blocks=2, n_stc_posl=100, n_stc_negl=20, n_dyn_junc=150, dim_loi=64, dim_fc=512, lr='4e-4',
        weight_decay='1e-4', amsgrad='false', max_epoch=60, lr_decay_epoch=20, logdir='runs/roofs')))
    assert config.changes == {
        'work_dir': 'runs/roofs', 'data_root': 'roofs', 'num_workers': 2, 'val_steps': 500, 'batch_size': 4,
        'batch_size_eval': 2, 'model.backbone.depth': 3, 'model.backbone.num_stacks': 1,
        'model.backbone.num_blocks': 2, 'model.samples.static_positives': 100, 'model.samples.static_negatives': 20,
        'model.samples.dynamic_junctions': 150, 'model.line_head.channels': 64, 'model.line_head.hidden': 512,
        'optim_wrapper.optimizer.lr': 4e-4, 'optim_wrapper.optimizer.weight_decay': 1e-4,
        'optim_wrapper.optimizer.amsgrad': False, 'train_cfg.max_epochs': 60, 'decay_epoch': 20}


def test_weights_of_losses(tmp_path):
    text = TEXT + 'loss_weights: {gauss: 8, qcc: 10, lhr: 20, off: 1, lv: 1, sf: 0.5}\n'
    config = read_seed_config(written(tmp_path, text))
    assert config.changes['loss_weights'] == dict(gauss=8, qcc=10, lhr=20, off=1, lv=1)  # sf is as in the text
    assert list(TEXT_WEIGHTS.values()) == [1, 1, 1, 0.25, 2, 0.5]
    with pytest.raises(UserError, match='loss_weights.gaus: unknown loss; did you mean gauss?'):
        read_seed_config(written(tmp_path, 'loss_weights: {gaus: 1}'))
    with pytest.raises(UserError, match='loss_weights.lv: expected a number of at least 0, found -1'):
        read_seed_config(written(tmp_path, 'loss_weights: {lv: -1}'))
    assert read_seed_config(written(tmp_path, 'model: {loss_weight: {lv: 1, off: 1}}')).changes == {
        'loss_weights': dict(lv=1, off=1)}
    with pytest.raises(UserError, match=re.escape(
            "model.loss_weight: expected weights of gauss, qcc, lhr, off, lv, sf (as loss_weights), found other losses "
            "(L-CNN's?): jmap, lmap, joff, lpos, lneg")):
        read_seed_config(written(tmp_path, 'model: {loss_weight: {jmap: 8, lmap: 0.5, joff: 0.25, lpos: 1, lneg: 1}}'))
    with pytest.raises(UserError, match='optim.loss_weights: expected loss_weights once, found model.loss_weights too'):
        read_seed_config(written(tmp_path, 'model: {loss_weights: {lv: 1}}\noptim: {loss_weights: {lv: 2}}'))


@pytest.mark.parametrize(('text', 'message'), [
    ('optim: {learning_rate: 1}', 'optim.learning_rate: unknown key'),
    ('model: {num_stack: 2}', 'model.num_stack: unknown key; did you mean model.num_stacks'),
    ('optim: {batch_size: 2}', 'optim.batch_size: unknown key; did you mean model.batch_size'),
    ('modell: {depth: 2}', 'modell: unknown key'),
    ('batch_size: 2', 'batch_size: unknown key; did you mean model.batch_size'),
    ('model: 3', 'model: expected a section of keys, found 3'),
    ('model: {depth: 0}', 'model.depth: expected a whole number of at least 1, found 0'),
    ('model: {depth: 2.5}', 'model.depth: expected a whole number of at least 1, found 2.5'),
    ('model: {depth: true}', 'model.depth: expected a whole number'),
    ('optim: {lr: 0}', 'optim.lr: expected a number above 0, found 0'),
    ('optim: {lr: fast}', "optim.lr: expected a number above 0, found 'fast'"),
    ('optim: {lr: .nan}', 'optim.lr: expected a number above 0, found nan'),
    ('optim: {name: SGD}', "optim.name: expected Adam, found 'SGD'"),
    ('optim: {amsgrad: 1}', 'optim.amsgrad: expected true or false, found 1'),
    ('model: {backbone: resnet}', "model.backbone: expected stacked_hourglass, found 'resnet'"),
    ('model: {n_pts0: 60}', 'model.n_pts0: expected a multiple of model.n_pts1, found 60 and 8'),
    ('model: {n_pts1: 7}', 'model.n_pts0: expected a multiple of model.n_pts1, found 64 and 7'),
    ('model: {n_out_line: 0}', 'model.n_out_line: expected a whole number of at least 1, found 0'),
    ('model: {eval_junc_thres: 1}', 'model.eval_junc_thres: expected a number from 0 to below 1, found 1'),
    ('model: {eval_junc_thres: .nan}', 'model.eval_junc_thres: expected a number from 0 to below 1, found nan'),
    ('model: {image: {mean: [1, 2]}}', 'model.image.mean: expected three numbers'),
    ('io: {datadir: 3}', 'io.datadir: expected a text, found 3'),
    ('optim: {lr: 0.1, name: Adam, lr: 0.2}', 'config.yaml: lr: expected once, found on line 1 and on line 1'),
    ('model: {depth: 4}\nio: {}\nmodel: {depth: 2}',
     'config.yaml: model: expected once, found on line 1 and on line 3'),
    ('[1]', 'expected keys and values, found list'), ('{', 'expected YAML'),
])
def test_what_is_refused(tmp_path, text, message):
    with pytest.raises(UserError, match=re.escape(message)):
        read_seed_config(written(tmp_path, text))
    assert '\n' not in str(pytest.raises(UserError, read_seed_config, tmp_path / 'config.yaml').value)


def test_what_upstream_has_besides_is_known(tmp_path):
    config = read_seed_config(written(tmp_path, """
io: {resume_from: last.ckpt, tensorboard_port: 0}
model:
  image: {mean: [109.730, 103.832, 98.681], stddev: [1, 2, 3]}
  head_size: [[2], [1], [2]]
  n_dyn_posl: 300
  n_dyn_negl: 100
  n_pts1: 8
  n_out_junc: 250
  use_cood: 0
  eval_junc_thres: 0.008
"""))
    assert config.changes == {'model.data_preprocessor.std': [1.0, 2.0, 3.0], 'model.samples.dynamic_negatives': 100}
    assert len(config.notes) == 1
    assert '--resume' in config.notes[0]
    late = read_seed_config(written(tmp_path, 'optim: {max_epoch: 5}'))
    assert 'the learning rate never decays' in late.notes[0]


def test_what_is_detected_and_read_along_a_line(tmp_path):
    config = read_seed_config(written(tmp_path, 'model: {n_out_junc: 200, n_out_line: 1000, eval_junc_thres: 2e-2, '
                                                'n_pts0: 32, n_pts1: 4}'))
    assert config.changes == {'model.detection.junction_threshold': 0.02, 'model.line_head.points': 32,
                              'model.line_head.pooled': 4}
    assert ['detection.junctions' in config.notes[0], 'detection.line_limit' in config.notes[1]] == [True, True]
    as_it_is = 'model: {n_out_junc: 250, n_out_line: 2500, eval_junc_thres: 0.008, n_pts0: 64, n_pts1: 8}'
    found = read_seed_config(written(tmp_path, as_it_is))
    assert (found.changes, found.notes) == ({}, ())


def test_a_changed_key_is_never_dropped_without_a_word(tmp_path):
    others = {'io.tensorboard_port': '6006', 'io.resume_from': 'last.ckpt'}
    for key, outcome in OUTCOMES.items():
        if outcome.target is None:
            section, _, name = key.partition('.')
            try:
                config = read_seed_config(written(tmp_path, f'{section}: {{{name}: {others.get(key, 7)}}}'))
            except UserError as error:
                assert key in str(error)
            else:
                assert len(config.notes) == 1 and key in config.notes[0]


def test_the_network_takes_what_is_written(repository, tmp_path):
    from mmseg.registry import MODELS

    import projects.roofline.register  # noqa: F401
    from projects.engine.config import load_config

    config = read_seed_config(written(tmp_path, 'model: {eval_junc_thres: 2e-2, n_pts0: 32, n_pts1: 4, depth: 1, '
                                                'num_stacks: 1}'))
    write_child_config(config, 'config.yaml', tmp_path / 'child.py', repository / BASE)
    found = load_config(tmp_path / 'child.py')
    assert found.test_split == found.test_dataloader.dataset.split == 'val'
    model = MODELS.build(found.model)
    assert (model.line_head.points, model.line_head.pooled) == (32, 4)
    assert model.detection['junction_threshold'] == 0.02


def test_the_child_config_is_read_by_mmengine(tmp_path):
    base = tmp_path / 'configs/base.py'
    base.parent.mkdir()
    base.write_text("batch_size = 8\nmodel = dict(type='R', backbone=dict(type='H', depth=4, num_stacks=2))\n"
                    'loss_weights = dict(gauss=1.0, lv=2.0)\n'
                    "optim_wrapper = dict(optimizer=dict(type='Adam', lr=1e-3))")
    config = read_seed_config(written(tmp_path, changed(batch_size=2, depth=3, lr='5e-4', datadir='roofs')
                                      + 'loss_weights: {gauss: 8}\n'))
    out = tmp_path / 'mine/child.py'
    text = write_child_config(config, 'runs/config.yaml', out, base)
    assert text == ("# config.yaml: what differs from the seed's text.\n_base_ = '../configs/base.py'\n"
                    "data_root = 'roofs'\nbatch_size = 2\n"
                    'model = dict(backbone=dict(depth=3))\noptim_wrapper = dict(optimizer=dict(lr=0.0005))\n'
                    'loss_weights = dict(gauss=8.0)\n')
    found = Config.fromfile(out)
    assert found.model.to_dict() == dict(type='R', backbone=dict(type='H', depth=3, num_stacks=2))
    assert found.loss_weights.to_dict() == dict(gauss=8.0, lv=2.0)
    assert (found.batch_size, found.optim_wrapper.optimizer.lr) == (2, 5e-4)
    with pytest.raises(UserError, match='expected a new file'):
        write_child_config(config, 'config.yaml', out, base)
    with pytest.raises(UserError, match=r'expected a config \(.py\)'):
        write_child_config(config, 'config.yaml', tmp_path / 'child.yaml', base)


def test_the_base_has_the_values(repository):
    """What is not written is what the base has."""
    path = repository / BASE
    if not path.is_file():
        pytest.skip(f'no {BASE} yet')
    from projects.engine.config import load_config

    config = load_config(path)
    for key, outcome in OUTCOMES.items():
        if outcome.target is None or outcome.target in ('work_dir', 'data_root'):
            continue
        here = config
        for name in outcome.target.split('.'):
            assert name in here, f'{key}: {BASE} has no {outcome.target}'
            here = here[name]
        if outcome.target == 'loss_weights':
            assert dict(here) == TEXT_WEIGHTS
        else:
            assert here == outcome.base, f'{key}: {outcome.target}'


def test_the_tool(repository, tmp_path, monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['read_yaml.py', *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(repository / 'tools/roofline/read_yaml.py'), run_name='__main__')
        return stop.value.code, *capsys.readouterr()

    path = written(tmp_path, changed(max_epoch=60))
    status, out, _ = run(path, '--out', tmp_path / 'child.py')
    assert (status, out) == (0, f"{tmp_path / 'child.py'}: data_root='/data/roofmapset/', train_cfg.max_epochs=60\n")
    assert 'train_cfg = dict(max_epochs=60)' in (tmp_path / 'child.py').read_text()
    status, out, err = run(path, '--out', tmp_path / 'child.py')
    assert (status, out, err.count('\n')) == (2, '', 1)
    status, out, _ = run('--help')
    assert status == 0
    assert all(key in out for key in OUTCOMES)
