"""From a training to a published model and on to the next stage: the same bits, the same scores, one chain."""

import hashlib
import json
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from projects.engine.checkpoints import read_checkpoint
from projects.engine.config import load_config
from projects.engine.errors import UserError
from projects.engine.files import sha256_of
from projects.engine.inference import load_model
from projects.engine.lineage_record import read_lineage
from projects.multistage import publish as module
from projects.multistage.lineage import check, tree
from projects.multistage.publish import FILES, parse_config, publish, published_config

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """The folder that the tests fill one after the other: `run`, `out`, `scores`, `next`."""
    return tmp_path_factory.mktemp('runs')


@pytest.fixture(scope='module')
def child(place, config, repository):
    """The config, with an average of the weights."""
    path = place / 'tiny_s1-pretrain_village.py'
    path.write_text(f"_base_ = [{str(config)!r}, {str(repository / 'configs/_base_/ema.py')!r}]\n")
    return path


def test_a_training_and_a_test_leave_one_record(tool, child, place, prepared):
    tool('train.py', child, '--work-dir', place / 'run', options=[])
    tool('test.py', child, place / 'run/iter_4.pth', '--work-dir', place / 'run', options=[])
    record = read_lineage(place / 'run')
    assert (record['chain'], record['stage'], record['parents']) == ('tiny_village', 'pretrain', [])
    assert record['data'][0]['sha256'] == sha256_of(prepared / 'manifest.json')
    assert record['data'][0]['splits'] == {'train': 6, 'val': 3, 'test': 3}
    (start,) = record['starts']
    assert (start['status'], start['from_iteration'], start['to_iteration']) == ('finished', 0, 4)
    assert start['seconds'] > 0 and start['ended'] > start['started']
    files = {path.name: sha256_of(path) for path in (place / 'run').glob('*.pth')}
    assert {name: entry['sha256'] for name, entry in record['checkpoints'].items()} == files
    assert record['checkpoints']['iter_4.pth']['aliases'] == ['last'] and 'iter_4.pth' in files
    (best,) = (name for name in files if name.startswith('best_'))
    assert record['checkpoints'][best]['aliases'] == ['best']
    assert record['checkpoints'][best]['metrics']['mIoU'] == record['metrics']['best']['mIoU']
    assert record['metrics']['val']['step'] == 4
    assert record['metrics']['tested']['sha256'] == files['iter_4.pth']
    meta = read_checkpoint(place / 'run/iter_4.pth')['meta']['lineage']
    assert meta['run_id'] == record['run_id'] and meta['config_sha256'] == record['config']['sha256']


def test_published_weights_give_the_same_bits(child, place, prepared):
    checkpoint, out = place / 'run/iter_4.pth', place / 'out'
    assert publish(checkpoint, out) == out
    assert {path.name for path in out.iterdir()} == set(FILES) and len(list(place.glob('.out*'))) == 0
    for line in (out / 'SHA256SUMS').read_text().splitlines():
        digest, name = line.split('  ')
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    source, tensors = read_checkpoint(checkpoint), load_file(out / 'model.safetensors')
    assert tensors.keys() == source['state_dict'].keys()
    assert all(torch.equal(value, source['state_dict'][key]) for key, value in tensors.items())
    key = 'decode_head.conv_seg.weight'
    assert not torch.equal(tensors[key], source['ema_state_dict'][f'module.{key}'])  # the average, not the last step
    torch.manual_seed(0)
    inputs = torch.randn(1, 3, 64, 64)
    logits = []
    for config, weights in ((child, checkpoint), (out / 'config.py', out / 'model.safetensors')):
        model, _ = load_model(config, weights, device='cpu')
        with torch.inference_mode():
            logits.append(model(inputs))
    assert torch.equal(*logits) and logits[0].std() > 0


def test_the_header_tells_what_a_checkpoint_tells(place):
    source, read = (read_checkpoint(place / name)['meta'] for name in ('run/iter_4.pth', 'out/model.safetensors'))
    assert read['dataset_meta'] == json.loads(json.dumps(source['dataset_meta']))
    assert (read['iter'], read['seed']) == (4, 0) and read['lineage']['run_id'] == source['lineage']['run_id']
    assert read['lineage']['data'][0]['name'] == 'prepared' and len(read['dataset_meta']['taxonomy_hash']) == 64
    assert read['cfg'] == (place / 'out/config.py').read_text()
    assert read['config_sha256'] == hashlib.sha256(read['cfg'].encode()).hexdigest()
    with safe_open(place / 'out/model.safetensors', framework='pt') as file:
        assert file.metadata()['format'] == 'pt' and file.metadata()['terrace_format'] == '1'


def test_the_config_is_strict_and_the_data_is_set_in_one_place(place):
    config = load_config(place / 'out/config.py', {'data_root': '/my/data'})
    assert {config[f'{split}_dataloader'].dataset.data_root for split in ('train', 'val', 'test')} == {'/my/data'}
    assert load_config(place / 'out/config.py').data_root == 'data/prepared'
    assert config.experiment.chain == 'tiny_village' and config.experiment.stage == 'pretrain'
    assert not {'work_dir', 'load_from', 'resume', 'custom_hooks', 'tracking'} & set(config)


def test_the_card_says_what_the_records_say(place):
    card = (place / 'out/MODEL_CARD.md').read_text()
    record = read_lineage(place / 'run')
    scores = json.loads((place / 'run/evaluation/test/scores.json').read_text())
    worst = min((row for row in scores['per_class'] if row['truth_pixels']), key=lambda row: row['IoU'])
    for text in (
            record['data'][0]['sha256'], record['config']['sha256'], record['run_id'],
            f'| {record["data"][0]["source"]} | 6 | 3 | 3 |',
            '| :-- | --: | --: | --: | :-- |', ', 1 process\n',
            '--work-dir OUT/scores',
            f'| {worst["class"]} | {100 * worst["IoU"]:.1f} % |',
            f'**Test split**, 3 images: mIoU {100 * scores["scores"]["mIoU"]:.1f} %', '**Validation split**, 3 images',
            f'weakest class on the test split is {worst["class"]}', '| 1 | Forest Land | #fa3e77 |',
            'It began with no other weights.', 'tools/test.py config.py model.safetensors'):
        assert text in card, text
    assert 'no recorded score' not in card


def test_the_published_model_scores_the_same(tool, place, prepared):
    tool('test.py', place / 'out/config.py', place / 'out/model.safetensors', '--work-dir', place / 'scores',
         '--cfg-options', f'data_root={prepared}')
    found, expected = (read_lineage(place / name)['metrics']['test'] for name in ('scores', 'run'))
    assert found == expected
    (parent,) = read_lineage(place / 'scores')['parents']
    assert parent['path'] == '../out/model.safetensors' and parent['lineage'] == read_lineage(place / 'out')


def test_another_class_order_is_refused(place, child, tmp_path):
    with safe_open(place / 'out/model.safetensors', framework='pt') as file:
        header = file.metadata()
    meta = json.loads(header['dataset_meta'])
    meta['classes'].reverse()
    path = tmp_path / 'model.safetensors'
    save_file(load_file(place / 'out/model.safetensors'), path, dict(header, dataset_meta=json.dumps(meta)))
    with pytest.raises(UserError, match='the same classes in another order'):
        load_model(child, path)
    save_file(load_file(place / 'out/model.safetensors'), path, dict(header, dataset_meta='{"classes": ['))
    with pytest.raises(UserError, match='not a readable safetensors file'):
        read_checkpoint(path)


def test_the_next_stage_begins_with_it_and_the_chain_is_whole(tool, place, child, prepared, repository):
    path = place / 'tiny_s2-finetune_village.py'
    path.write_text(f"_base_ = {str(child)!r}\ninitialise = dict(checkpoint={str(place / 'out/model.safetensors')!r}, "
                    "new=['decode_head.conv_seg'])\n")
    printed = tool('train.py', path, '--work-dir', place / 'next', options=['train_cfg.max_iters=2'])
    assert 'initialised from' in printed and '100.0 % of the keys' in printed
    record = read_lineage(place / 'next')
    (parent,) = record['parents']
    assert (parent['role'], parent['path']) == ('initialise', '../out/model.safetensors')
    assert parent['report']['new'] == ['decode_head.conv_seg.weight']
    assert parent['report']['share_of_elements'] == 1.0 and parent['lineage']['stage'] == 'pretrain'
    # The average began with the published weights, too: a rate of 0.002 has moved it little.
    begun, weights = load_file(place / 'out/model.safetensors'), read_checkpoint(place / 'next/iter_2.pth')
    key = 'backbone.layer1.0.conv1.weight'
    assert torch.allclose(weights['state_dict'][key], begun[key], atol=1e-4)
    text = tree(record)
    assert 'stage finetune' in text and 'stage pretrain' in text and text.count('data    prepared') == 2
    assert {finding.status for finding in check(record, place / 'next')} == {'same'}
    manifest = prepared / 'manifest.json'
    content = manifest.read_text()
    try:
        manifest.write_text(content + '\n')
        done = subprocess.run([sys.executable, str(repository / 'tools/lineage.py'), str(place / 'next'), '--check'],
                              capture_output=True, text=True)
    finally:
        manifest.write_text(content)
    assert done.returncode == 1 and done.stdout.count('differs  ') == 2 and 'manifest.json' in done.stdout


def test_a_folder_is_replaced_only_when_asked_and_only_when_it_is_ours(place, tmp_path):
    checkpoint, out = place / 'run/iter_4.pth', tmp_path / 'out'
    out.mkdir()  # empty: made for us
    publish(checkpoint, out)
    before = (out / 'SHA256SUMS').stat().st_ino
    with pytest.raises(UserError, match='exists; .*--force'):
        publish(checkpoint, out)
    assert (out / 'SHA256SUMS').stat().st_ino == before
    publish(checkpoint, out, force=True)
    assert (out / 'SHA256SUMS').stat().st_ino != before
    (out / 'thesis.tex').write_text('years of work')
    (out / 'scores').mkdir()
    (out / 'scores/scores.json').write_text('{}')
    before = (out / 'SHA256SUMS').stat().st_ino
    publish(checkpoint, out, force=True)
    assert (out / 'SHA256SUMS').stat().st_ino != before
    assert {path.name for path in out.iterdir()} == {*FILES, 'thesis.tex', 'scores'}
    assert (out / 'thesis.tex').read_text() == 'years of work' and (out / 'scores/scores.json').is_file()
    assert [path.name for path in tmp_path.iterdir()] == ['out']
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other/lineage.json').write_text('{}')
    (tmp_path / 'other/thesis.tex').write_text('years of work')
    with pytest.raises(UserError, match='was not made by publishing .it holds thesis.tex'):
        publish(checkpoint, tmp_path / 'other', force=True)
    with pytest.raises(UserError, match='thesis.tex/x: cannot be made, .*thesis.tex is a file'):
        publish(checkpoint, out / 'thesis.tex/x')


def test_a_failure_leaves_nothing_half_written(place, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(module, 'model_card', broken)
    with pytest.raises(OSError, match='No space'):
        publish(place / 'run/iter_4.pth', tmp_path / 'out')
    assert list(tmp_path.iterdir()) == []


def test_bare_weights_tell_too_little(place, tmp_path):
    torch.save({'w': torch.ones(2)}, tmp_path / 'bare.pth')
    with pytest.raises(UserError, match='bare.pth: its meta has no dataset_meta'):
        publish(tmp_path / 'bare.pth', tmp_path / 'out')


def test_the_weights_of_an_earlier_step_do_not_get_later_scores(place, tmp_path):
    publish(place / 'run/iter_2.pth', tmp_path / 'out')
    card = (tmp_path / 'out/MODEL_CARD.md').read_text()
    assert 'None recorded for these weights.' in card and 'no recorded score on a test split' in card


@pytest.mark.parametrize('text', [
    'import os', 'a = __import__("os")', 'a = dict(b=open("x"))', 'a = [1 for _ in b]', 'a = b = 1', 'a = f"{1}"',
    'a = {**b}', 'a = (', 'a = ' + '(' * 9999])
def test_a_config_text_that_is_more_than_values_is_refused(text):
    with pytest.raises(UserError, match='here: refused'):
        parse_config(text, 'here')


def test_a_config_text_is_read_as_it_is_written():
    text = ("a = dict(b=[1, -2.5, (None, True)], c={'x-y': dict()}, d=dict({'1.2': 'text'}))\n"
            "data_root = 'old'\ntrain_dataloader = dict(dataset=dict(data_root='d'))\n"
            "val_dataloader = dict(dataset=dict(datasets=[dict(data_root='e')]))\n")
    parsed = parse_config(text, 'here')
    assert parsed['a'] == {'b': [1, -2.5, (None, True)], 'c': {'x-y': {}}, 'd': {'1.2': 'text'}}
    kept = published_config(parsed, {})
    assert 'a' not in kept and 'data_root' not in kept  # nobody reads it; two roots stay two
    assert kept['train_dataloader']['dataset']['data_root'] == 'd'


def test_a_directory_that_was_tested_before_the_training_gets_no_foreign_score(tool, child, place):
    again = place / 'again'
    tool('test.py', child, place / 'run/iter_4.pth', '--work-dir', again, options=[])
    tool('train.py', child, '--work-dir', again, options=['train_cfg.max_iters=2'])
    record = read_lineage(again)
    assert 'test' not in record['metrics'] and [start['status'] for start in record['starts']] == ['finished']
    assert not (again / 'evaluation/test').exists()
    assert len(list(again.glob('lineage.*.json'))) == len(list(again.glob('evaluation.*/test'))) == 1
    tool('test.py', child, place / 'run/iter_4.pth', '--work-dir', again, options=[])
    assert 'of iter_4.pth: weights that this run did not write' in tree(read_lineage(again))
    tool('report.py', again)
    assert 'left out: of iter_4.pth, weights that this run did not write' in (again / 'report.html').read_text()
