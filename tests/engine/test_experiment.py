"""Names of runs."""

import pytest
from mmengine.config import Config

from projects.engine.errors import UserError
from projects.engine.experiment import experiment_of, run_id


def named(tmp_path, place, **values):
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('\n'.join(f'{key} = {value!r}' for key, value in values.items()))
    return Config.fromfile(path)


def test_the_file_name_tells(tmp_path):
    found = experiment_of(named(tmp_path, 'configs/landcover/ftunetformer_s0-baseline_45e_loveda-512.py'))
    assert (found.task, found.chain, found.stage) == ('landcover', 'ftunetformer_45e_loveda-512', 'baseline')
    assert found.name == 'ftunetformer_s0-baseline_45e_loveda-512' and found.tags == ()
    plain = experiment_of(named(tmp_path, 'mine.py'))
    assert (plain.task, plain.chain, plain.stage) == ('terrace', 'mine', 'train')


def test_the_config_is_stronger(tmp_path):
    said = dict(task='roofs', chain='paris', stage='second', tags=['a'])
    found = experiment_of(named(tmp_path, 'configs/landcover/x_s1-pretrain.py', experiment=said))
    assert (found.task, found.chain, found.stage, found.tags) == ('roofs', 'paris', 'second', ('a',))


def test_the_id_stays(tmp_path):
    first = run_id(tmp_path)
    assert len(first) == 8 and run_id(tmp_path) == first
    (tmp_path / 'run_id').write_text('../evil')
    with pytest.raises(UserError, match='run_id: expected a run id'):
        run_id(tmp_path)
