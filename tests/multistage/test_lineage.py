"""The chain of stages: printed, and checked against what still lies on the disk."""

import copy
import json
import os
import runpy
import sys

import pytest
import torch

from projects.engine.errors import UserError
from projects.engine.files import sha256_of, write_json
from projects.engine.lineage_record import text_sha256
from projects.multistage.lineage import check, find_lineage, tree


def record_of(stage, run, **changes):
    return {
        'version': 1, 'run_id': run, 'name': f'net_s0-{stage}', 'task': 'landcover', 'chain': 'net', 'stage': stage,
        'tags': [], 'config': {'file': f'net_s0-{stage}.py', 'text': 'a = 1', 'sha256': text_sha256('a = 1')},
        'code': {'commit': 'c' * 40, 'dirty': False, 'diff_sha256': None}, 'data': [], 'parents': [], 'seed': 0,
        'versions': {'torch': '2.13.0', 'python': '3.11'},
        'hardware': {'cpu': 'CPU', 'gpus': [], 'processes': 2},
        'starts': [{'started': '2026-01-02T03:04:05+00:00', 'ended': None, 'from_iteration': 0, 'to_iteration': 40,
                    'status': 'failed', 'reason': 'killed', 'seconds': 3725.0, 'peak_memory_mib': 512.5,
                    'gpu_memory_mib': None, 'energy_wh': 1.5}],
        'checkpoints': {}, 'metrics': {'val': {'mIoU': 0.5, 'IoU/a': 0.1, 'step': 40}}, **changes}


@pytest.fixture
def chain(tmp_path):
    """Two work directories: `finetune` began with the weights of `pretrain`, which learned from `data`."""
    for name in ('data', 'pretrain', 'finetune'):
        (tmp_path / name).mkdir()
    (tmp_path / 'data/manifest.json').write_text('{}')
    weights = tmp_path / 'pretrain/iter_40.pth'
    torch.save({'state_dict': {'w': torch.ones(2)}}, weights)
    data = {'name': 'village', 'root': str(tmp_path / 'data'), 'manifest': 'manifest.json',
            'sha256': sha256_of(tmp_path / 'data/manifest.json'), 'splits': {'train': 6, 'val': 3}}
    parent = record_of('pretrain', 'aaaa1111', data=[data], checkpoints={
        'iter_40.pth': {'sha256': sha256_of(weights), 'step': 40, 'aliases': ['last'], 'metrics': None}})
    child = record_of('finetune', 'bbbb2222', data=[data], code={
        'commit': 'd' * 40, 'dirty': True, 'diff_sha256': 'e' * 64}, parents=[
        {'role': 'initialise', 'file': 'iter_40.pth', 'path': '../pretrain/iter_40.pth', 'sha256': sha256_of(weights),
         'lineage': parent, 'report': {'share_of_keys': 0.9, 'share_of_elements': 0.95, 'new': ['a.weight']}}])
    write_json(tmp_path / 'pretrain/lineage.json', parent)
    write_json(tmp_path / 'finetune/lineage.json', child)
    return tmp_path


@pytest.fixture
def tool(repository, capsys, monkeypatch):
    """Run tools/lineage.py in this process; return its status and what it printed."""

    def call(*arguments):
        monkeypatch.setattr(sys, 'argv', ['lineage.py', *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(repository / 'tools/lineage.py'), run_name='__main__')
        printed = capsys.readouterr()
        return stop.value.code, printed.out, printed.err

    return call


def test_the_tree_goes_back_to_the_data(chain, tool):
    status, printed, _ = tool(chain / 'finetune')
    assert status == 0
    sha = sha256_of(chain / 'pretrain/iter_40.pth')[:12]
    manifest = sha256_of(chain / 'data/manifest.json')[:12]
    assert printed.splitlines() == [
        'landcover · net · stage finetune   (run bbbb2222)',
        f'│ config  net_s0-finetune.py  sha256 {text_sha256("a = 1")[:12]}',
        '│ code    commit dddddddddddd with local changes (git diff sha256 eeeeeeeeeeee)',
        f'│ data    village  6 train, 3 val  manifest sha256 {manifest}',
        '│ start   2026-01-02 03:04:05 UTC, iterations 0 to 40, 1:02:05, failed (killed), 512.5 MiB, 1.5 Wh',
        '│ val     mIoU 0.5000  at 40',
        '│ on      CPU, 2 processes, torch 2.13.0, python 3.11, seed 0',
        f'└─ initialise: ../pretrain/iter_40.pth  sha256 {sha}  90.0 % matched, anew: 1 keys',
        '   landcover · net · stage pretrain   (run aaaa1111)',
        f'     config  net_s0-pretrain.py  sha256 {text_sha256("a = 1")[:12]}',
        '     code    commit cccccccccccc',
        f'     data    village  6 train, 3 val  manifest sha256 {manifest}',
        '     start   2026-01-02 03:04:05 UTC, iterations 0 to 40, 1:02:05, failed (killed), 512.5 MiB, 1.5 Wh',
        f'     saved   iter_40.pth (last)  sha256 {sha}',
        '     val     mIoU 0.5000  at 40',
        '     on      CPU, 2 processes, torch 2.13.0, python 3.11, seed 0']
    assert json.loads(tool(chain / 'finetune', '--json')[1])['parents'][0]['lineage']['run_id'] == 'aaaa1111'
    assert tool(chain / 'pretrain/iter_40.pth')[1].splitlines()[0].endswith('stage pretrain   (run aaaa1111)')


def test_everything_is_verified_and_what_is_gone_is_said(chain, tool):
    status, printed, _ = tool(chain / 'finetune', '--check')
    assert status == 0 and printed.splitlines()[-1] == '6 same, 0 absent, 0 differs'
    (chain / 'pretrain/iter_40.pth').unlink()
    status, printed, _ = tool(chain / 'finetune', '--check')
    assert status == 0 and printed.splitlines()[-1] == '4 same, 2 absent, 0 differs'
    assert 'not here any more' in printed


def test_a_changed_file_is_found(chain, tool):
    manifest = chain / 'data/manifest.json'
    expected = sha256_of(manifest)[:12]
    manifest.write_text('{"items": []}')
    status, printed, _ = tool(chain / 'finetune', '--check')
    assert status == 1
    differing = [line for line in printed.splitlines() if line.startswith('differs')]
    assert len(differing) == 2 and all('manifest.json' in line and f'expected sha256 {expected}' in line
                                       and f'found {sha256_of(manifest)[:12]}' in line for line in differing)
    with open(chain / 'pretrain/iter_40.pth', 'ab') as file:
        file.write(b'x')
    assert sum(finding.status == 'differs' for finding in check(*find_lineage(chain / 'finetune'))) == 4


def test_a_changed_config_text_is_found(chain):
    record = json.loads((chain / 'pretrain/lineage.json').read_text())
    record['config']['text'] = 'a = 2'
    assert [finding.subject for finding in check(record, chain / 'pretrain') if finding.status == 'differs'] == [
        'pretrain (aaaa1111) config text']


def test_moved_runs_are_still_verified(chain, tmp_path_factory):
    moved = tmp_path_factory.mktemp('elsewhere') / 'runs'
    os.rename(chain, moved)
    found = [(finding.status, finding.subject.split()[2]) for finding in check(*find_lineage(moved / 'finetune'))]
    assert found == [('same', 'config'), ('absent', 'data'), ('same', 'initialise'), ('same', 'config'),
                     ('same', 'checkpoint'), ('absent', 'data')]  # the data's root was absolute


def test_nothing_is_looked_for_below_the_current_directory(chain, tool, tmp_path_factory, monkeypatch):
    elsewhere = tmp_path_factory.mktemp('elsewhere')
    (elsewhere / 'pretrain').mkdir()
    (elsewhere / 'here').mkdir()
    (elsewhere / 'pretrain/iter_40.pth').write_text('another run')
    (chain / 'pretrain/iter_40.pth').unlink()
    monkeypatch.chdir(elsewhere / 'here')
    status, printed, _ = tool(chain / 'finetune', '--check')
    assert status == 0 and printed.splitlines()[-1] == '4 same, 2 absent, 0 differs'


def test_foreign_scores_and_changes_are_said(chain, tool):
    record = json.loads((chain / 'finetune/lineage.json').read_text())
    record['metrics'].update(test={'mIoU': 0.9}, tested={'file': 'other.pth', 'sha256': 'f' * 64})
    record['starts'][0]['changed'] = ['config model.depth', 'data village']
    write_json(chain / 'finetune/lineage.json', record)
    printed = tool(chain / 'finetune')[1]
    assert '│ test    mIoU 0.9000  of other.pth: weights that this run did not write' in printed
    assert ', changed since the start before: config model.depth; data village' in printed


@pytest.mark.parametrize('arguments', [(), ('--check',), ('--json',)])
def test_an_edited_record_is_one_line(chain, tool, arguments):
    record = json.loads((chain / 'finetune/lineage.json').read_text())
    record['parents'][0]['lineage']['starts'] = [{'seconds': 'x'}]
    write_json(chain / 'finetune/lineage.json', record)
    status, printed, error = tool(chain / 'finetune', *arguments)
    assert status == 2 and printed == '' and len(error.splitlines()) == 1
    assert "key parents.0.lineage.starts.0.seconds: expected seconds, found 'x'" in error


def test_a_run_that_is_its_own_ancestor_does_not_hang(chain):
    record, folder = find_lineage(chain / 'finetune')
    record['parents'][0]['lineage']['parents'] = [dict(record['parents'][0], lineage=copy.deepcopy(record))]
    lines = tree(record).splitlines()
    assert 'stage finetune   (run bbbb2222)   above already' in lines[-1] and len(lines) < 30
    endless = record_of('loop', 'cccc3333')
    endless['parents'] = [{'role': 'load_from', 'file': 'a', 'path': 'a', 'sha256': '0', 'lineage': endless}]
    assert len(tree(endless).splitlines()) < 20
    assert {finding.status for finding in check(endless, folder)} == {'same', 'absent'}


def test_what_has_no_lineage_is_one_line(chain, tool):
    (chain / 'empty').mkdir()
    torch.save({'state_dict': {'w': torch.ones(2)}}, chain / 'bare.pth')
    for name, reason in (('empty', 'no lineage.json'), ('bare.pth', 'no lineage in its meta'), ('none', 'no such')):
        status, _, printed = tool(chain / name)
        assert status == 2 and len(printed.splitlines()) == 1 and name in printed and reason in printed


def test_a_checkpoint_alone_tells_what_it_knows(chain):
    torch.save({'state_dict': {'w': torch.ones(2)}, 'meta': {'seed': 4, 'cfg': 'a = 1', 'lineage': {
        'run_id': 'dddd4444', 'name': 'net', 'task': 'landcover', 'chain': 'net', 'stage': 'distil',
        'config_sha256': 'f' * 64}}}, chain / 'alone.pth')
    record, _ = find_lineage(chain / 'alone.pth')
    assert tree(record).splitlines() == [
        'landcover · net · stage distil   (run dddd4444)', '  config  net  sha256 ffffffffffff',
        '  note    only what the checkpoint itself tells: its lineage.json was not beside it']
    assert check(record, chain) == []


def test_a_deep_chain_is_read_or_refused_in_one_line(chain):
    text = '{"parents":' * 100000
    (chain / 'finetune/lineage.json').write_text(text)
    with pytest.raises(UserError, match='not readable as JSON'):
        find_lineage(chain / 'finetune')
