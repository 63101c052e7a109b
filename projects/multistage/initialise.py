"""Begin a stage with another stage's weights, and know how many of them there were.

``load_from`` takes all weights or none. A stage whose network differs (a new head, further bands) says here what may
differ; everything else that does is an error.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmseg.registry import HOOKS
from torch import Tensor, nn

from projects.engine.checkpoints import KeyReport, check_classes, compare_keys, read_checkpoint
from projects.engine.config import nearest
from projects.engine.consistency import config_metainfo
from projects.engine.errors import UserError
from projects.engine.trained_network import trained_network


@dataclass(frozen=True)
class InitialisationReport:
    """How a checkpoint filled a model."""

    checkpoint: str
    keys: KeyReport  # without the keys that start anew
    new: tuple[str, ...]  # keys of the model that start anew, as asked
    share_of_keys: float
    share_of_elements: float

    @property
    def share(self) -> float:
        """The smaller of both shares."""
        return min(self.share_of_keys, self.share_of_elements)

    def __str__(self) -> str:
        anew = f'; {len(self.new)} more start anew' if self.new else ''
        return (f'{self.keys}: {100 * self.share_of_keys:.1f} % of the keys, '
                f'{100 * self.share_of_elements:.1f} % of the elements{anew}')

    def as_dict(self) -> dict[str, Any]:
        """Return plain values: the number of matched keys, the names of all others, both shares."""
        return {'checkpoint': self.checkpoint, 'matched': len(self.keys.matched), 'missing': list(self.keys.missing),
                'unexpected': list(self.keys.unexpected), 'reshaped': list(self.keys.reshaped),
                'new': list(self.new), 'share_of_keys': round(self.share_of_keys, 6),
                'share_of_elements': round(self.share_of_elements, 6)}


def initialise(model: nn.Module, checkpoint: str | Path, *, min_matched: float = 1.0, new: Sequence[str] = (),
               rename: Mapping[str, str | None] | None = None, reshape: str | Sequence[str] = 'error',
               classes: str | Sequence[str] = 'same', dataset_meta: dict | None = None) -> InitialisationReport:
    """Load from a checkpoint what fits a model; the model stays untouched when that is too little.

    A checkpoint with an average of weights (EMA) gives the average: it is the one that was validated.

    Args:
        model: The model, not wrapped for distribution.
        checkpoint: A local file.
        min_matched: Smallest share, in (0, 1], of the model's weights that must come from the file: of its keys and
            of its elements alike, parameters and buffers together, those that start anew left out.
        new: Prefixes of model keys that start anew, whatever the file holds for them (``decode_head.conv_seg``).
        rename: Prefixes in the file and what they become; None leaves those keys out. The longest one counts.
        reshape: ``'error'``, or prefixes of model keys that start anew where the file has another shape.
        classes: ``'same'`` compares the file's class order with the data set's unless the output layer is new;
            ``'ignore'`` does not; a sequence of names is what the file must have.
        dataset_meta: ``metainfo`` of the data set in use.

    Returns:
        What was loaded and what was not.

    Raises:
        UserError: The file cannot be read safely, too little matches, a shape or the class order differs, or a
            prefix matches nothing.
    """
    where = f'initialise: checkpoint {checkpoint}'
    if not 0 < min_matched <= 1:
        raise UserError(f'initialise.min_matched: expected a share in (0, 1], found {min_matched}')
    if isinstance(reshape, str) and reshape != 'error':
        raise UserError(f"initialise.reshape: expected 'error' or a list of prefixes, found {reshape!r}")
    if isinstance(classes, str) and classes not in ('same', 'ignore'):
        raise UserError(f"initialise.classes: expected 'same', 'ignore' or a list of names, found {classes!r}")
    loose = () if isinstance(reshape, str) else tuple(reshape)
    own = model.state_dict()
    for key, prefixes in (('new', tuple(new)), ('reshape', loose)):
        for prefix in prefixes:
            if not any(_below(name, (prefix,)) for name in own):
                known = {'.'.join(name.split('.')[:depth]) for name in own for depth in range(1, name.count('.') + 2)}
                raise UserError(f'initialise.{key}: no key of the model begins with {prefix!r}{nearest(prefix, known)}')
    read = read_checkpoint(checkpoint)
    anew = tuple(name for name in own if _below(name, tuple(new)))
    _check_classes(read['meta'].get('dataset_meta'), dataset_meta, classes,
                   _outputs_are_new(trained_network(model), anew), checkpoint)
    state_dict = {key: value for key, value in _renamed(read['state_dict'], rename or {}, where).items()
                  if not _below(key, tuple(new))}
    keys = compare_keys(model, state_dict)
    keys = KeyReport(keys.matched, tuple(name for name in keys.missing if name not in set(anew)), keys.unexpected,
                     keys.reshaped)
    wanted = [name for name in own if name not in set(anew)]
    elements = sum(own[name].numel() for name in wanted)
    report = InitialisationReport(
        str(checkpoint), keys, anew, len(keys.matched) / max(len(wanted), 1),
        sum(own[name].numel() for name in keys.matched) / max(elements, 1))
    if not keys.matched:
        raise UserError(f'{where}: no key matches this network: {report}')
    refused = [text for text in keys.reshaped if not _below(text.partition(':')[0], loose)]
    if refused:
        raise UserError(f'{where}: another shape: {"; ".join(refused[:2])}{"; …" if len(refused) > 2 else ""} (name '
                        'the keys in initialise.new, or in initialise.reshape, to let them start anew)')
    if report.share < min_matched:
        raise UserError(f'{where}: expected {100 * min_matched:g} % of the network (initialise.min_matched), found '
                        f'{report}')
    model.load_state_dict({name: state_dict[name] for name in keys.matched}, strict=False)
    return report


def _below(key: str, prefixes: tuple[str, ...]) -> bool:
    """Say whether a key is one of the prefixes or lies below it; ``conv`` does not match ``conv2.weight``."""
    return any(not prefix or key == prefix or key.startswith(prefix if prefix.endswith('.') else f'{prefix}.')
               for prefix in prefixes)


def _renamed(state_dict: Mapping[str, Tensor], rename: Mapping[str, str | None], where: str) -> dict[str, Tensor]:
    used, result = set(), {}
    for key, value in state_dict.items():
        key = key.removeprefix('module.')
        prefix = max((prefix for prefix in rename if key.startswith(prefix)), key=len, default=None)
        if prefix is not None:
            used.add(prefix)
            if rename[prefix] is None:
                continue
            key = rename[prefix] + key.removeprefix(prefix)
        if key in result:
            raise UserError(f'{where}: initialise.rename gives two keys the name {key}')
        result[key] = value
    if unused := [prefix for prefix in rename if prefix not in used]:
        raise UserError(f'{where}: initialise.rename: no key of the file begins with {unused[0]!r}; it has '
                        f'{", ".join(list(state_dict)[:3])}, …')
    return result


def _check_classes(found: dict | None, dataset_meta: dict | None, classes: str | Sequence[str], outputs_are_new: bool,
                   checkpoint: str | Path) -> None:
    if classes == 'ignore' or (classes == 'same' and outputs_are_new):
        return
    expected = dataset_meta if classes == 'same' else {'classes': tuple(classes)}
    if classes != 'same' and not (found or {}).get('classes'):
        raise UserError(f'initialise: checkpoint {checkpoint}: it names no classes, expected {", ".join(classes)}')
    try:
        check_classes(found, expected, checkpoint)
    except UserError as error:
        raise UserError(f'initialise: {error} (a head for other classes starts anew: name its output layer in '
                        "initialise.new, e.g. ['decode_head.conv_seg'])") from error


def _outputs_are_new(model: nn.Module, anew: tuple[str, ...]) -> bool:
    """Say whether every layer with an output per class starts anew: a head's ``conv_seg``, else the whole head."""
    heads = [(name, module) for name, module in model.named_modules() if name and hasattr(module, 'num_classes')]
    outputs = [f'{name}.conv_seg' if isinstance(getattr(module, 'conv_seg', None), nn.Module) else name
               for name, module in heads]
    keys = [name for name in model.state_dict() if _below(name, tuple(outputs))]
    return bool(keys) and set(keys) <= set(anew)


@HOOKS.register_module()
class InitialiseHook(Hook):
    """Fill the model from another stage's checkpoint before the first iteration; a resume leaves it out.

    Config: ``initialise = dict(checkpoint=…, …)``, the arguments of :func:`initialise`. The report is logged and
    stands in ``lineage.json`` beside the parent.
    """

    priority = 'HIGHEST'  # before the lineage, which records the report

    def __init__(self, checkpoint: str, min_matched: float = 1.0, new: Sequence[str] = (),
                 rename: Mapping[str, str | None] | None = None, reshape: str | Sequence[str] = 'error',
                 classes: str | Sequence[str] = 'same') -> None:
        self.checkpoint = checkpoint
        self.arguments = dict(min_matched=min_matched, new=new, rename=rename, reshape=reshape, classes=classes)
        self.initialisation: dict[str, Any] | None = None

    def before_train(self, runner: Any) -> None:
        """Load, unless the run resumes."""
        if runner._resume:
            return
        if runner._load_from:
            raise UserError('load_from and initialise: expected one of them, found both')
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        report = initialise(model, self.checkpoint, dataset_meta=config_metainfo(runner.cfg), **self.arguments)
        # What keeps a copy of the weights (an average) takes the new ones.
        runner.call_hook('after_load_checkpoint', checkpoint={'state_dict': model.state_dict(), 'meta': {}})
        self.initialisation = report.as_dict()
        print_log(f'initialised from {self.checkpoint}: {report}', logger='current')
