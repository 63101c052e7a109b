"""A stage begins with another stage's weights: all that were meant, or none."""

import re
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import EMAHook
from torch import nn

from projects.engine.errors import UserError
from projects.multistage.initialise import InitialiseHook, initialise

META = {'classes': ('water', 'forest')}


class Head(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.num_classes = classes
        self.mix = nn.Conv2d(4, 4, 1)
        self.conv_seg = nn.Conv2d(4, classes, 1)


class Network(nn.Module):
    """Keys: backbone.{0,1,2}.* (conv 3->4, norm, conv 4->4), decode_head.{mix,conv_seg}.*: 13 keys."""

    def __init__(self, classes: int = 2, bands: int = 3, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.backbone = nn.Sequential(nn.Conv2d(bands, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3))
        self.decode_head = Head(classes)


@pytest.fixture
def make_checkpoint(tmp_path):
    def make(network=None, classes=('water', 'forest'), **changes):
        state_dict = dict((network or Network(seed=1)).state_dict(), **changes)
        torch.save({'state_dict': {key: value for key, value in state_dict.items() if value is not None},
                    'meta': {'dataset_meta': {'classes': list(classes)}} if classes else {}}, tmp_path / 'stage.pth')
        return tmp_path / 'stage.pth'

    return make


def copies(network):
    return {key: value.clone() for key, value in network.state_dict().items()}


def refused(model, message, *arguments, **keywords):
    """The model stays as it was."""
    before = copies(model)
    with pytest.raises(UserError, match=message):
        initialise(model, *arguments, **keywords)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_all_weights_are_taken(make_checkpoint):
    source, model = Network(seed=1), Network()
    report = initialise(model, make_checkpoint(source), dataset_meta=META)
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in model.state_dict().items())
    assert (report.share, len(report.keys.matched), report.new) == (1.0, 13, ())
    assert report.as_dict()['matched'] == 13 and report.as_dict()['missing'] == []


def test_a_new_head_starts_anew_and_must_be_named(make_checkpoint):
    source, model = Network(seed=1), Network(classes=5)
    path, meta = make_checkpoint(source), {'classes': tuple('abcde')}
    refused(model, r"other classes: .*initialise.new, e.g. \['decode_head.conv_seg'\]", path, dataset_meta=meta)
    refused(model, 'other classes', path, dataset_meta=meta, new=['decode_head.mix'])
    before = copies(model)
    report = initialise(model, path, dataset_meta=meta, new=['decode_head.conv_seg'])
    assert report.new == ('decode_head.conv_seg.weight', 'decode_head.conv_seg.bias')
    assert report.share == 1.0 and report.keys.reshaped == () and report.keys.unexpected == ()
    after = model.state_dict()
    assert torch.equal(after['decode_head.mix.weight'], source.decode_head.mix.weight)
    assert torch.equal(after['decode_head.conv_seg.weight'], before['decode_head.conv_seg.weight'])


def test_a_new_layer_starts_anew_although_the_file_would_fit(make_checkpoint):
    source, model = Network(seed=1), Network()
    before = copies(model)
    initialise(model, make_checkpoint(source), new=['decode_head'])
    assert torch.equal(model.decode_head.mix.weight, before['decode_head.mix.weight'])
    assert torch.equal(model.backbone[0].weight, source.backbone[0].weight)


def test_another_shape_is_an_error_unless_it_is_named(make_checkpoint):
    path = make_checkpoint(Network(bands=4))
    refused(Network(), r'backbone.0.weight: \(4, 4, 3, 3\) in the file, \(4, 3, 3, 3\) in the model', path,
            min_matched=0.1)
    refused(Network(), 'backbone.0.weight', path, min_matched=0.1, reshape=['backbone.2'])
    report = initialise(Network(), path, min_matched=0.1, reshape=['backbone.0'])
    assert len(report.keys.matched) == 12 and len(report.keys.reshaped) == 1


def test_the_share_counts_keys_and_elements(make_checkpoint):
    path = make_checkpoint(**{'backbone.2.weight': None})  # 1 of 13 keys, but 144 of 307 elements
    refused(Network(), r'expected 100 % .*min_matched.*1 missing \(backbone.2.weight\)', path)
    refused(Network(), r'92.3 % of the keys, 53.1 % of the elements', path, min_matched=0.6)
    report = initialise(Network(), path, min_matched=0.5)
    assert (report.share_of_keys, report.share_of_elements) == (12 / 13, 163 / 307) and report.share == 163 / 307


def test_what_the_network_has_no_place_for_is_told(make_checkpoint):
    report = initialise(Network(), make_checkpoint(**{'decoder.weight': torch.ones(1)}))
    assert report.keys.unexpected == ('decoder.weight',) and '1 unexpected (decoder.weight)' in str(report)


def test_nothing_in_common_is_an_error_at_any_share(make_checkpoint):
    path = make_checkpoint(nn.Linear(2, 2), classes=None)
    refused(Network(), 'no key matches this network', path, min_matched=1e-9)


def test_keys_are_renamed_by_their_prefix(make_checkpoint, tmp_path):
    source = Network(seed=1)
    state = {f'module.encoder.{key.removeprefix("backbone.")}': value for key, value in source.state_dict().items()
             if key.startswith('backbone.')}
    state['module.encoder.extra'] = state['module.decoder.w'] = torch.ones(1)
    path = tmp_path / 'a.pth'
    torch.save(state, path)
    model = Network()
    rename = {'encoder.': 'backbone.', 'encoder.extra': 'other', 'decoder.': None}
    report = initialise(model, path, rename=rename, new=['decode_head'])
    assert report.share == 1.0 and report.keys.unexpected == ('other',)
    assert torch.equal(model.backbone[2].weight, source.backbone[2].weight)
    refused(Network(), "no key of the file begins with 'encodr.'", path, rename={'encodr.': 'backbone.'})
    refused(Network(), 'gives two keys the name x', path, rename={'encoder.extra': 'x', 'decoder.w': 'x'})


@pytest.mark.parametrize('arguments, message', [
    (dict(new=['decode_head.conv_sge']), "'decode_head.conv_sge'; did you mean decode_head.conv_seg?"),
    (dict(reshape=['backbone.7']), r"initialise.reshape: no key of the model begins with 'backbone.7'"),
    (dict(reshape='ignore'), "initialise.reshape: expected 'error' or a list"),
    (dict(min_matched=0.0), r'initialise.min_matched: expected a share in \(0, 1\], found 0.0'),
    (dict(classes='some'), "initialise.classes: expected 'same', 'ignore'"),
])
def test_arguments_are_checked(make_checkpoint, arguments, message):
    refused(Network(), re.escape(message) if '\\' not in message else message, make_checkpoint(), **arguments)


def test_a_prefix_ends_at_a_dot(make_checkpoint):
    refused(Network(), "begins with 'decode_head.conv'", make_checkpoint(), new=['decode_head.conv'])


def test_the_class_order_is_compared(make_checkpoint):
    other = {'classes': ('forest', 'water')}
    path = make_checkpoint()
    refused(Network(), 'the same classes in another order', path, dataset_meta=other)
    refused(Network(), 'other classes: expected a, b; found water, forest', path, classes=('a', 'b'))
    initialise(Network(), path, dataset_meta=other, classes='ignore')
    initialise(Network(), path, dataset_meta=other, classes=('water', 'forest'))
    refused(Network(), 'it names no classes, expected a, b', make_checkpoint(classes=None), classes=('a', 'b'))


def runner_of(model, *hooks, resume=False, load_from=None):
    runner = SimpleNamespace(model=model, cfg=Config(), _resume=resume, _load_from=load_from, hooks=hooks)
    runner.call_hook = lambda name, **keywords: [
        getattr(hook, name)(runner, **keywords) for hook in hooks if hasattr(hook, name)]
    return runner


def test_the_hook_loads_before_the_first_iteration_and_the_average_follows(make_checkpoint):
    source, model = Network(seed=1), Network()
    path = make_checkpoint(source)
    average, hook = EMAHook(), InitialiseHook(str(path))
    runner = runner_of(model, hook, average)
    average.before_run(runner)
    hook.before_train(runner)
    for network in (model, average.ema_model.module):
        assert torch.equal(network.backbone[0].weight, source.backbone[0].weight)
    assert hook.initialisation['checkpoint'] == str(path) and hook.initialisation['share_of_keys'] == 1.0


def test_the_hook_leaves_a_resume_alone_and_wants_one_source(make_checkpoint):
    source, model = Network(seed=1), Network()
    hook = InitialiseHook(str(make_checkpoint(source)))
    hook.before_train(runner_of(model, resume=True, load_from='iter_4.pth'))
    assert not torch.equal(model.backbone[0].weight, source.backbone[0].weight) and hook.initialisation is None
    with pytest.raises(UserError, match='load_from and initialise: expected one'):
        hook.before_train(runner_of(model, load_from='other.pth'))
