"""Network and data must agree before anything is built."""

import pytest

from projects.engine.config import load_config
from projects.engine.consistency import check_consistency
from projects.engine.errors import UserError

CONFIG = 'configs/landcover/ftunetformer-tiny_s0-baseline_village-256.py'
FOUR = {'bands': (1, 2, 3, 4), 'model.backbone.in_channels': 4, 'model.data_preprocessor.mean': [100.0] * 4,
        'model.data_preprocessor.std': [50.0] * 4}


def test_agreement_passes(repository):
    check_consistency(load_config(repository / CONFIG))
    check_consistency(load_config(repository / CONFIG, FOUR))


def test_a_backbone_inside_another_is_looked_at(repository):
    config = load_config(repository / CONFIG, FOUR)
    config.model.backbone = dict(type='Wrapper', backbone=config.model.backbone)
    check_consistency(config)
    config.model.backbone.backbone.in_channels = 3
    with pytest.raises(UserError, match='model.backbone.backbone.in_channels: expected 4'):
        check_consistency(config)


@pytest.mark.parametrize('options, hint', [
    ({'num_classes': 7}, 'num_classes: expected 6, the classes of the data set'),
    ({'taxonomy': 'loveda'}, 'num_classes: expected 7'),
    ({'bands': (1, 2, 3, 4)}, 'data_preprocessor.mean: expected 4'),
    ({**FOUR, 'model.backbone.in_channels': 3}, 'backbone.in_channels: expected 4'),
])
def test_disagreement_is_named(repository, options, hint):
    with pytest.raises(UserError, match=hint):
        check_consistency(load_config(repository / CONFIG, options))
