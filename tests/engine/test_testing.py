"""Which hook writes the predictions of a test."""

import pytest

from projects.engine import testing
from projects.engine.config import load_config
from projects.engine.errors import UserError


@pytest.fixture
def hooks(tmp_path, monkeypatch):
    """Run a test of a config with one more line, and return the hooks of its runner."""

    class Runner:
        def test(self):
            return {}

    def run(line='', out=tmp_path / 'out'):
        path, weights = tmp_path / 'config.py', tmp_path / 'weights.pth'
        path.write_text(f"test_dataloader = dict(batch_size=1)\ncustom_hooks = [dict(type='EMAHook')]\n{line}\n")
        weights.touch()
        seen = []
        monkeypatch.setattr(testing, 'build_runner', lambda cfg, *_: seen.append(cfg.custom_hooks) or Runner())
        assert testing.test(path, weights, out=out) == {}
        return [dict(hook) for hook in seen[0]]

    return run


def test_masks_unless_the_config_names_another_writer(hooks, tmp_path):
    out = str(tmp_path / 'out')
    assert hooks() == [dict(type='EMAHook'), dict(type='MaskWriterHook', out_dir=out)]
    assert hooks("mask_writer = dict(type='IterTimerHook')")[1] == dict(type='IterTimerHook', out_dir=out)
    assert hooks("mask_writer = dict(type='IterTimerHook')", out=None) == [dict(type='EMAHook')]


def test_a_misspelled_writer_is_refused(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text("mask_writer = dict(type='IterTimerHok')\n")
    with pytest.raises(UserError, match=r"mask_writer.type: 'IterTimerHok' is not registered; did you mean"):
        load_config(path)
    path.write_text("mask_write = dict(type='IterTimerHook')\n")
    with pytest.raises(UserError, match='unknown key mask_write; did you mean mask_writer'):
        load_config(path)
