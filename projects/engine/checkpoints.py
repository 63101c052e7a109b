"""Reading checkpoints: weights only, whole, and only where they belong.

MMEngine falls back to a full unpickle when the safe one fails, allows ``getattr`` in the safe one, executes a config
text that it finds in a checkpoint's meta, downloads whatever looks like a URL, and only warns when no key matches.
Everything here exists to stop one of these.
"""

import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from projects.engine.checkpoint_files import verify_checkpoint
from projects.engine.errors import UserError


def _history_statistic(owner: Any, name: str) -> Any:
    """Stand in for ``getattr`` in a checkpoint: MMEngine pickles the four statistics of its history by it."""
    if owner is HistoryBuffer and name in ('min', 'max', 'current', 'mean'):
        return getattr(HistoryBuffer, name)
    raise pickle.UnpicklingError('GLOBAL getattr was not an allowed global')


# What an MMEngine training checkpoint holds beside tensors: the message hub's history, as numpy arrays. MMEngine's own
# list has the real getattr, by which a crafted file reaches any function's __globals__.
ALLOWED_GLOBALS = [
    (_history_statistic, 'builtins.getattr'),
    (_history_statistic, '__builtin__.getattr'),
    HistoryBuffer,
    np.ndarray,
    np.dtype,
    np._core.multiarray._reconstruct,
    np._core.multiarray.scalar,
    *(type(np.dtype(name)) for name in ('float64', 'float32', 'int64', 'int32', 'uint8', 'bool')),
]
REMOTE = ('http://', 'https://', 's3://', 'petrel://', 'pavi://', 'modelzoo://', 'torchvision://', 'open-mmlab://',
          'openmmlab://', 'mmcls://')


def read_checkpoint(path: str | Path, map_location: Any = 'cpu') -> dict:
    """Read a checkpoint file without executing anything in it.

    Args:
        path: A local file: a PyTorch archive (weights only, plus :data:`ALLOWED_GLOBALS`) or ``.safetensors``.
        map_location: Where tensors go, as for :func:`torch.load`.

    Returns:
        A dict with at least ``state_dict``; a bare state dict is wrapped into one.

    Raises:
        UserError: The file is missing, truncated, not a checkpoint, does not agree with its checksum, or holds objects
            that are not on the list.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f'checkpoint {path}: no such file')
    try:
        verified = verify_checkpoint(path)
    except OSError as error:
        raise UserError(f'checkpoint {path}: not readable ({error.strerror or error})') from error
    if path.suffix == '.safetensors':
        from safetensors import SafetensorError, safe_open
        from safetensors.torch import load_file
        try:
            with safe_open(path, framework='pt') as file:
                header = file.metadata() or {}  # of tools/publish.py: every value but these two is JSON
            meta = {key: json.loads(value) for key, value in header.items()
                    if 'terrace_format' in header and key not in ('format', 'terrace_format')}
            return {'state_dict': load_file(path, device=str(map_location or 'cpu')), 'meta': meta}
        except (SafetensorError, OSError, ValueError, RecursionError) as error:
            raise UserError(f'checkpoint {path}: not a readable safetensors file ({error})') from error
    try:
        with torch.serialization.safe_globals(ALLOWED_GLOBALS):
            checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error)
        if 'Unsupported' in reason or 'GLOBAL' in reason or 'allowed' in reason:
            name = reason.split('GLOBAL ')[-1].split(' was')[0].split()[0] if 'GLOBAL ' in reason else 'an object'
            raise UserError(f'checkpoint {path}: refused, it holds {name}, which is not plain weights '
                            '(nothing in it was executed)') from error
        raise UserError(f'checkpoint {path}: not a PyTorch checkpoint, or a damaged one') from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, TypeError, IndexError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f'checkpoint {path}: truncated or damaged ({reason})') from error
    if not isinstance(checkpoint, dict):
        raise UserError(f'checkpoint {path}: expected a dict of weights, found {type(checkpoint).__name__}')
    if 'state_dict' not in checkpoint and isinstance(checkpoint.get('model'), dict):
        checkpoint = {'state_dict': checkpoint['model'], 'meta': {}}  # the official Swin release
    if 'state_dict' not in checkpoint:
        if not checkpoint or not all(isinstance(value, torch.Tensor) for value in checkpoint.values()):
            raise UserError(f'checkpoint {path}: expected a key state_dict, found {sorted(map(str, checkpoint))[:5]}')
        checkpoint = {'state_dict': checkpoint, 'meta': {}}
    if not isinstance(checkpoint.setdefault('meta', {}), dict):
        raise UserError(f'checkpoint {path}: key meta: expected a dict, found {type(checkpoint["meta"]).__name__}')
    if checkpoint['meta'].get('checksum') and not verified:
        raise UserError(f'checkpoint {path}: damaged, its checksum is missing')
    state_dict = checkpoint['state_dict']
    if not isinstance(state_dict, dict) or not all(isinstance(value, torch.Tensor) for value in state_dict.values()):
        raise UserError(f'checkpoint {path}: key state_dict: expected a dict of tensors')
    checkpoint['meta'].pop('config', None)  # Runner.resume executes this text as Python
    return checkpoint


def register_safe_loading() -> None:
    """Make MMEngine itself read checkpoints through :func:`read_checkpoint`, and never from the network."""

    def load_from_safe(filename: str, map_location: Any = None, **_: Any) -> dict:
        return read_checkpoint(filename, map_location)

    def load_from_refused(filename: str, map_location: Any = None, **_: Any) -> dict:
        raise UserError(f'checkpoint {filename}: nothing is downloaded; fetch the file and give its local path')

    CheckpointLoader.register_scheme(prefixes='', loader=load_from_safe, force=True)
    CheckpointLoader.register_scheme(prefixes=REMOTE, loader=load_from_refused, force=True)


@dataclass(frozen=True)
class KeyReport:
    """How a state dict fits a model, by key."""

    matched: tuple[str, ...]
    missing: tuple[str, ...]  # in the model only
    unexpected: tuple[str, ...]  # in the file only
    reshaped: tuple[str, ...]  # in both, with different shapes

    @property
    def fits(self) -> bool:
        return not (self.missing or self.unexpected or self.reshaped)

    def __str__(self) -> str:
        def some(label: str, keys: tuple[str, ...]) -> str:
            shown = ', '.join(keys[:2]) + (', …' if len(keys) > 2 else '')
            return f'{len(keys)} {label}' + (f' ({shown})' if keys else '')

        return ', '.join((f'{len(self.matched)} keys match', some('missing', self.missing),
                          some('unexpected', self.unexpected), some('of another shape', self.reshaped)))


def compare_keys(model: nn.Module, state_dict: dict[str, torch.Tensor]) -> KeyReport:
    """Compare a model's keys and shapes with a state dict's."""
    own = {key: value.shape for key, value in model.state_dict().items()}
    shared = [key for key in own if key in state_dict]
    return KeyReport(
        matched=tuple(key for key in shared if own[key] == state_dict[key].shape),
        missing=tuple(key for key in own if key not in state_dict),
        unexpected=tuple(key for key in state_dict if key not in own),
        reshaped=tuple(f'{key}: {tuple(state_dict[key].shape)} in the file, {tuple(own[key])} in the model'
                       for key in shared if own[key] != state_dict[key].shape))


def check_classes(found: dict | None, expected: dict | None, path: str | Path) -> None:
    """Compare the class names, in order, of a checkpoint's meta with those of a data set.

    Raises:
        UserError: Both are known and differ. A checkpoint without meta (a converted one) passes.
    """
    found_classes = tuple((found or {}).get('classes') or ())
    expected_classes = tuple((expected or {}).get('classes') or ())
    if not found_classes or not expected_classes or found_classes == expected_classes:
        return
    if sorted(found_classes) == sorted(expected_classes):
        problem = 'the same classes in another order'
    else:
        problem = 'other classes'
    raise UserError(f'checkpoint {path}: {problem}: expected {", ".join(expected_classes)}; '
                    f'found {", ".join(found_classes)}')


def read_weights(model: nn.Module, path: str | Path, dataset_meta: dict | None = None,
                 map_location: Any = 'cpu') -> dict:
    """Read a checkpoint and check that it belongs to a model; the model is not touched.

    Args:
        model: The model, not wrapped for distribution.
        path: The checkpoint file.
        dataset_meta: ``metainfo`` of the data set in use; its class order is compared with the checkpoint's.
        map_location: As for :func:`torch.load`.

    Returns:
        The checkpoint (with ``meta``, and what else it holds); its ``state_dict`` fits the model.

    Raises:
        UserError: A key is missing, unexpected or of another shape, or the class order differs.
    """
    checkpoint = read_checkpoint(path, map_location)
    state_dict = {key.removeprefix('module.'): value for key, value in checkpoint['state_dict'].items()}
    checkpoint['state_dict'] = state_dict
    check_classes(checkpoint['meta'].get('dataset_meta'), dataset_meta, path)
    report = compare_keys(model, state_dict)
    if not report.matched:
        raise UserError(f'checkpoint {path}: no key matches this network ({len(state_dict)} in the file, '
                        f'{len(report.missing)} in the model): it belongs to another network')
    if not report.fits:
        raise UserError(f'checkpoint {path}: it does not fit this network: {report}')
    return checkpoint


def load_weights(model: nn.Module, path: str | Path, dataset_meta: dict | None = None,
                 map_location: Any = 'cpu') -> dict:
    """Load a checkpoint's weights into a model, all of them or none; see :func:`read_weights`."""
    checkpoint = read_weights(model, path, dataset_meta, map_location)
    model.load_state_dict(checkpoint['state_dict'], strict=True)
    return checkpoint
