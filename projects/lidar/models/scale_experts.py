"""One network a scale, and who answers for which patch."""

from collections.abc import Mapping, Sequence

import torch
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from projects.engine.errors import UserError
from projects.lidar.models.point_model import PointModel
from projects.lidar.models.point_segmentor import predicted

DISPATCHES = ('patch_size',)
REFERENCE = 50.0  # metres; context holds log2(size / 50 m)


@MODELS.register_module()
class ScaleExperts(PointModel):
    """Send every patch to the expert of its size.

    The borders lie halfway between the experts' sizes: of 50, 100 and 150 m below 75 m, below 125 m, and the rest, as
    the seed has it. A patch goes to one expert, whose weights lie under ``experts.<size>.``; averages over scales and
    the gate are a matter of whole tiles (``projects.lidar.prediction``).

    A batch without patches of some size leaves that expert without gradients: trained as a whole in several processes
    it wants ``find_unused_parameters = True`` in its config.

    Args:
        experts: Patch size in metres to the config of a :class:`PointSegmentor`.
        dispatch: ``patch_size``, the only one.
        data_preprocessor: Default :class:`PointPreprocessor`.
        init_cfg: As for every mmengine module.

    Raises:
        UserError: No expert, a key that is no size, another dispatch, or experts of different classes.
    """

    def __init__(self, experts: Mapping[str | int, dict], dispatch: str = 'patch_size',
                 data_preprocessor: dict | None = None, init_cfg: dict | None = None) -> None:
        super().__init__(data_preprocessor, init_cfg)
        if dispatch not in DISPATCHES:
            raise UserError(f'ScaleExperts: dispatch: expected one of {", ".join(DISPATCHES)}, found {dispatch}')
        try:
            by_size = sorted((int(size), expert) for size, expert in experts.items())
        except ValueError as error:
            raise UserError(f'ScaleExperts: experts: expected patch sizes in metres as keys, found '
                            f'{", ".join(map(str, experts))}') from error
        if not by_size:
            raise UserError('ScaleExperts: experts: expected at least one, found none')
        self.dispatch = dispatch
        self.sizes = tuple(size for size, _ in by_size)
        self.experts = nn.ModuleDict({str(size): MODELS.build(expert) for size, expert in by_size})
        classes = {name: expert.decode_head.num_classes for name, expert in self.experts.items()}
        if len(set(classes.values())) > 1:
            raise UserError(f'ScaleExperts: experts: expected one number of classes, found {classes}')

    @property
    def decode_head(self) -> nn.Module:
        """The head of the first expert, which tells the number of classes."""
        return next(iter(self.experts.values())).decode_head

    def chosen(self, context: Tensor) -> Tensor:
        """Return the number of each patch's expert (B,) int64, by size, for contexts (B, 2)."""
        borders = [(small + large) / 2 for small, large in zip(self.sizes, self.sizes[1:])]
        size = REFERENCE * torch.exp2(context[:, 0].float())
        return torch.bucketize(size, size.new_tensor(borders), right=True)

    def forward(self, inputs: dict, data_samples: Sequence[SegDataSample] | None = None,
                mode: str = 'tensor') -> Tensor | dict[str, Tensor] | list[SegDataSample]:
        """Run each expert on its patches; see :class:`PointSegmentor`. A loss is the mean over the patches."""
        self.check(inputs, mode)
        chosen = self.chosen(inputs['context'])
        logits: Tensor | None = None
        losses: dict[str, Tensor] = {}
        for number, expert in enumerate(self.experts.values()):
            rows = (chosen == number).nonzero().squeeze(1)
            if len(rows) == 0:
                continue
            own = _rows_of(inputs, rows)
            if mode == 'loss':
                samples = data_samples and [data_samples[row] for row in rows.tolist()]
                for name, value in expert(own, samples, mode='loss').items():
                    losses[name] = losses.get(name, 0) + value * (len(rows) / len(chosen))
                continue
            answer = expert(own)
            logits = answer.new_zeros(len(chosen), *answer.shape[1:]) if logits is None else logits
            logits = logits.index_copy(0, rows, answer.to(logits.dtype))
        if mode == 'loss':
            return losses
        return logits if mode == 'tensor' else predicted(logits, inputs['mask'], data_samples)


def _rows_of(inputs: dict, rows: Tensor) -> dict:
    """Take some patches out of a batch."""
    return {key: {name: [index[rows] for index in lists] for name, lists in value.items()} if key == 'graph'
            else value[rows] for key, value in inputs.items()}
