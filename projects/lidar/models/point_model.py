"""What the models of points share: where a batch goes first, and a plain word to whoever brings images."""

from collections.abc import Mapping
from typing import Any, NoReturn

from mmengine.model import BaseModel
from mmseg.registry import MODELS

from projects.engine.errors import UserError

MODES = ('loss', 'predict', 'tensor')


class PointModel(BaseModel):
    """A model whose ``forward`` takes patches of points, see :class:`PointSegmentor`.

    Args:
        data_preprocessor: Default :class:`PointPreprocessor`.
        init_cfg: As for every mmengine module.
    """

    def __init__(self, data_preprocessor: dict | None = None, init_cfg: dict | None = None) -> None:
        super().__init__(data_preprocessor=MODELS.build(data_preprocessor or dict(type='PointPreprocessor')),
                         init_cfg=init_cfg)

    @property
    def out_channels(self) -> NoReturn:
        """Asked for by what predicts images with mmseg's segmentors: test-time views, ensembles, windows.

        Raises:
            UserError: Always.
        """
        raise UserError(f'{type(self).__name__}: expected a network of images, found one of points, without views or '
                        'ensembles of them: tools/lidar/classify.py predicts tiles and merges scales')

    def check(self, inputs: Any, mode: str) -> None:
        """Refuse images, and modes that there are not.

        Raises:
            UserError: The inputs are no batch of patches, or the mode is unknown.
        """
        name = type(self).__name__
        if mode not in MODES:
            raise UserError(f'{name}: mode: expected one of {", ".join(MODES)}, found {mode}')
        if not isinstance(inputs, Mapping):
            raise UserError(f'{name}: inputs: expected patches of points (a dict, of collate_points), found '
                            f'{type(inputs).__name__}')
