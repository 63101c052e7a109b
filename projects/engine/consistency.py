"""What two places of a config say about the same thing must agree before anything is built."""

from mmengine.config import Config
from mmseg.registry import DATASETS

from projects.engine.errors import UserError


def check_consistency(config: Config) -> None:
    """Compare the network of a config with its data: number of classes, number of bands.

    Raises:
        UserError: They differ.
    """
    model = config.model.get('module', config.model)  # test-time views wrap the network
    classes = (config_metainfo(config) or {}).get('classes')
    found = (model.get('decode_head') or {}).get('num_classes')
    if classes and found is not None and found != len(classes):
        raise UserError(f'model.decode_head.num_classes: expected {len(classes)}, the classes of the data set '
                        f'({", ".join(classes)}), found {found}')
    reader = next(iter(config.get('test_pipeline') or ()), {})
    bands = reader.get('bands')
    if bands:
        mean = (model.get('data_preprocessor') or {}).get('mean')
        backbone, key_of_backbone = model.get('backbone') or {}, 'backbone'
        while isinstance(backbone.get('backbone'), dict):  # a wrapper around another
            backbone, key_of_backbone = backbone['backbone'], f'{key_of_backbone}.backbone'
        for key, number in (('data_preprocessor.mean', mean and len(mean)),
                            (f'{key_of_backbone}.in_channels', backbone.get('in_channels'))):
            if number and number != len(bands):
                raise UserError(f'model.{key}: expected {len(bands)}, one for each of bands={tuple(bands)}, '
                                f'found {number}')


def config_metainfo(cfg: Config) -> dict | None:
    """Return the ``metainfo`` of the config's data set without opening the data; None when there is no data set.

    The data set's class answers for its arguments through ``metainfo_of(**arguments)`` where it has that.
    """
    for key in ('test_dataloader', 'val_dataloader', 'train_dataloader'):
        dataset = (cfg.get(key) or {}).get('dataset')
        if dataset:
            target = DATASETS.get(dataset['type'])
            if hasattr(target, 'metainfo_of'):
                return target.metainfo_of(**{name: value for name, value in dataset.items() if name != 'type'})
            return dict(target.METAINFO) if getattr(target, 'METAINFO', None) else None
    return None
