"""What a complete stage gives to others: checkpoints, outputs, and its measured scores with what they are of."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from projects.engine.errors import UserError
from projects.engine.files import sha256_of
from projects.engine.lineage_record import read_lineage
from projects.engine.saving import checkpoints_of, iteration_of
from projects.multistage.chain.contents import loader_identity


def best_checkpoint(work_dir: str | Path, save_best: Any = None) -> Path | None:
    """Return the best checkpoint of a run, else the last one; None where it has none.

    Args:
        work_dir: The run's work directory.
        save_best: The metric or metrics of the config; of several the first counts.

    The lineage knows which of several is the best; without it the latest one is, since each was better than those
    before it.
    """
    work_dir = Path(work_dir)
    metrics = [save_best] if isinstance(save_best, str) else list(save_best or ())
    found = sorted(work_dir.glob(f'best_{metrics[0].replace("/", "_") if metrics else "*"}_iter_*.pth'),
                   key=iteration_of, reverse=True)
    entries = _lineage(work_dir).get('checkpoints') or {}
    named = [path for path in found if 'best' in ((entries.get(path.name) or {}).get('aliases') or ())]
    return next(iter([*named, *found, *checkpoints_of(work_dir)]), None)


def training_result(work_dir: Path, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what a finished training gives; None where it has left no checkpoint.

    Args:
        work_dir: The run's work directory.
        config: Its resolved config.
    """
    save_best = ((config.get('default_hooks') or {}).get('checkpoint') or {}).get('save_best')
    best = best_checkpoint(work_dir, save_best)
    last = next(iter(checkpoints_of(work_dir)), None)
    if best is None or last is None:
        return None
    lineage = _lineage(work_dir)
    _, _, images = loader_identity(config.get('train_dataloader'))
    data, split, samples = loader_identity(config.get('val_dataloader'))
    own = ((lineage.get('checkpoints') or {}).get(best.name) or {}).get('metrics')
    recorded = own or (lineage.get('metrics') or {}).get('val') or {}
    metrics = {key: value for key, value in recorded.items() if key != 'step'}
    measure = {'metrics': metrics, 'data': data, 'split': split, 'samples': samples, 'of': best.name}
    processes = (lineage.get('hardware') or {}).get('processes') or 1
    return {'best': best.name, 'last': last.name, 'files': {path.name: file_record(path) for path in {best, last}},
            'measures': {'val': measure} if metrics else {}, 'images': images,
            'budget': budget(config, images, processes)}


def budget(config: Mapping[str, Any], images: int | None, processes: int = 1) -> int | None:
    """Return how many samples a training sees: iterations x batch, or epochs x images; None where that is unknown."""
    plan, loader = config.get('train_cfg') or {}, config.get('train_dataloader') or {}
    if plan.get('max_iters') is not None and loader.get('batch_size') is not None:
        return int(plan['max_iters']) * int(loader['batch_size']) * processes
    if plan.get('max_epochs') is not None and images is not None:
        return int(plan['max_epochs']) * images
    return None


def tool_result(folder: Path, config: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what a finished tool gives.

    Args:
        folder: The stage's directory.
        config: The config of its command, where it has one: its test data are what its scores are of.
    """
    measures: dict[str, Any] = {}
    for path in sorted(folder.glob('evaluation/*/scores.json')):
        try:
            scores = json.loads(path.read_text(encoding='utf-8'))['scores']
        except (OSError, ValueError, KeyError, TypeError):
            continue  # another tool's file
        data, split, samples = loader_identity((config or {}).get('test_dataloader'))
        kind = split if split in ('val', 'test') else path.parent.name
        measures[kind] = {'metrics': {key: value for key, value in scores.items() if _number(value)},
                          'data': data, 'split': split, 'samples': samples, 'of': path.parent.name}
    return {'measures': measures, 'images': None, 'budget': None}


def file_record(path: Path) -> dict[str, Any]:
    """Return a file's hash, and the size and time by which it is taken for the same again."""
    status = path.stat()
    return {'sha256': sha256_of(path), 'size': status.st_size, 'mtime_ns': status.st_mtime_ns}


def file_hash(path: Path, record: Mapping[str, Any] | None) -> str | None:
    """Return a file's SHA-256, read again only where size or time are not what its record says."""
    if not path.is_file():
        return None
    status = path.stat()
    if record and (record.get('size'), record.get('mtime_ns')) == (status.st_size, status.st_mtime_ns):
        return record['sha256']
    return sha256_of(path)


def _lineage(work_dir: Path) -> dict[str, Any]:
    try:
        return read_lineage(work_dir) or {}
    except UserError:
        return {}


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
