"""Checkpoints: nothing in a file is executed, and weights are loaded all or not at all."""

import pickle

import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader
from safetensors.torch import save_file
from torch import nn

from projects.engine.checkpoints import (
    check_classes,
    compare_keys,
    load_weights,
    read_checkpoint,
    register_safe_loading,
)
from projects.engine.errors import UserError


class Bomb:
    """Pickles to a call that leaves a mark on the disk."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (open, (str(self.mark), 'w'))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


def save(path, network, **meta):
    torch.save({'state_dict': network.state_dict(), 'meta': meta}, path)
    return path


def test_a_malicious_pickle_is_refused_and_not_executed(tmp_path):
    mark = tmp_path / 'executed'
    path = tmp_path / 'evil.pth'
    torch.save({'state_dict': {'weight': torch.ones(1)}, 'meta': {'note': Bomb(mark)}}, path)
    with pytest.raises(UserError, match='refused'):
        read_checkpoint(path)
    assert not mark.exists()


def test_getattr_is_not_an_allowed_global(tmp_path):
    # MMEngine's own list allows it: getattr on an allowed function reaches its __globals__, and from there anything.
    class Reach:
        def __reduce__(self):
            return (getattr, (HistoryBuffer.mean, '__globals__'))

    path = tmp_path / 'reach.pth'
    torch.save({'state_dict': {}, 'meta': {'note': Reach()}}, path)
    with pytest.raises(UserError, match='refused'):
        read_checkpoint(path)


def test_a_plain_pickle_is_refused(tmp_path):
    mark = tmp_path / 'executed'
    path = tmp_path / 'plain.pth'
    path.write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(UserError):
        read_checkpoint(path)
    assert not mark.exists()


def test_what_mmengine_saves_beside_tensors_can_be_read(tmp_path):
    history = HistoryBuffer()
    for value in (1.0, 2.5):
        history.update(value)
    path = tmp_path / 'run.pth'
    torch.save({'state_dict': {'w': torch.ones(2)}, 'message_hub': {'log_scalars': {'train/loss': history}},
                'meta': {'iter': 2}}, path)
    read = read_checkpoint(path)
    assert read['message_hub']['log_scalars']['train/loss'].mean() == 1.75


def test_the_config_text_that_mmengine_would_execute_is_dropped(tmp_path, network):
    read = read_checkpoint(save(tmp_path / 'a.pth', network, config='import os', iter=3))
    assert 'config' not in read['meta'] and read['meta']['iter'] == 3


@pytest.mark.parametrize('keep', [0, 10, 0.5, -1])
def test_a_truncated_file_is_named(tmp_path, network, keep):
    path = save(tmp_path / 'cut.pth', network)
    data = path.read_bytes()
    path.write_bytes(data[:int(len(data) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(UserError, match='cut.pth'):
        read_checkpoint(path)


def test_missing_file_and_foreign_content(tmp_path):
    with pytest.raises(UserError, match='no such file'):
        read_checkpoint(tmp_path / 'nothing.pth')
    torch.save([1, 2], tmp_path / 'list.pth')
    with pytest.raises(UserError, match='expected a dict of weights, found list'):
        read_checkpoint(tmp_path / 'list.pth')
    torch.save({'epoch': 3}, tmp_path / 'no_weights.pth')
    with pytest.raises(UserError, match='expected a key state_dict'):
        read_checkpoint(tmp_path / 'no_weights.pth')


def test_a_bare_state_dict_and_safetensors_load(tmp_path, network):
    torch.save(network.state_dict(), tmp_path / 'bare.pth')
    save_file(network.state_dict(), tmp_path / 'bare.safetensors')
    for name in ('bare.pth', 'bare.safetensors'):
        other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
        load_weights(other, tmp_path / name)
        assert torch.equal(other[0].weight, network[0].weight)


def test_mmengine_loads_through_the_safe_reader_and_never_from_the_network(tmp_path):
    register_safe_loading()
    path = tmp_path / 'evil.pth'
    torch.save({'state_dict': {}, 'meta': {'note': Bomb(tmp_path / 'executed')}}, path)
    with pytest.raises(UserError, match='refused'):
        CheckpointLoader.load_checkpoint(str(path), map_location='cpu')
    for url in ('https://example.org/a.pth', 'torchvision://resnet18', 'open-mmlab://resnet18'):
        with pytest.raises(UserError, match='nothing is downloaded'):
            CheckpointLoader.load_checkpoint(url, map_location='cpu')


def test_key_report_counts_each_kind(network):
    state = dict(network.state_dict())
    state['0.weight'] = torch.zeros(5, 3, 3, 3)
    state['extra'] = state.pop('2.bias')
    report = compare_keys(network, state)
    assert (len(report.matched), report.missing, report.unexpected) == (7, ('2.bias',), ('extra',))
    assert report.reshaped == ('0.weight: (5, 3, 3, 3) in the file, (4, 3, 3, 3) in the model',)
    assert not report.fits


def test_another_network_is_refused_and_nothing_is_loaded(tmp_path, network):
    before = {key: value.clone() for key, value in network.state_dict().items()}
    torch.save({'state_dict': {'other.weight': torch.ones(1)}}, tmp_path / 'other.pth')
    with pytest.raises(UserError, match='no key matches'):
        load_weights(network, tmp_path / 'other.pth')
    partly = {key: torch.zeros_like(value) for key, value in before.items() if not key.startswith('2')}
    torch.save({'state_dict': partly}, tmp_path / 'partly.pth')
    with pytest.raises(UserError, match='does not fit'):
        load_weights(network, tmp_path / 'partly.pth')
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_the_class_order_is_compared(tmp_path, network):
    path = save(tmp_path / 'a.pth', network, dataset_meta={'classes': ['water', 'forest']})
    load_weights(network, path, {'classes': ('water', 'forest')})
    with pytest.raises(UserError, match='the same classes in another order'):
        load_weights(network, path, {'classes': ('forest', 'water')})
    with pytest.raises(UserError, match='other classes'):
        load_weights(network, path, {'classes': ('forest', 'road')})
    check_classes(None, {'classes': ('a', 'b')}, path)  # a converted checkpoint carries no meta
