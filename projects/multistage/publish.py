"""Give a model away: its weights without the training's state, and everything that is known about them."""

import ast
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from safetensors.torch import load_file, save_file

from projects.engine.checkpoints import read_checkpoint
from projects.engine.config import KNOWN_KEYS
from projects.engine.errors import UserError
from projects.engine.files import atomic_path, sha256_of, write_json, write_text
from projects.engine.lineage_record import (
    LINEAGE_NAME,
    META_KEYS,
    experiment_config,
    lineage_of_checkpoint,
    scrub,
    text_sha256,
)
from projects.multistage.card import model_card

FORMAT = 1
WEIGHTS, CONFIG, CARD, SUMS = 'model.safetensors', 'config.py', 'MODEL_CARD.md', 'SHA256SUMS'
FILES = (WEIGHTS, CONFIG, LINEAGE_NAME, CARD, SUMS)
# The trainer's account; weights that are in the file now; a teacher and when it taught: the file is the plain student.
PRIVATE_KEYS = ('tracking', 'initialise', 'distil')


def publish(checkpoint: str | Path, out: str | Path, force: bool = False) -> Path:
    """Write a folder with :data:`FILES`: weights as safetensors, config, lineage, model card, checksums.

    The weights of a checkpoint with an average (EMA) are the average. The folder appears whole or not at all.

    Args:
        checkpoint: A checkpoint of a training with this project.
        out: The folder to make.
        force: Replace what an earlier call has made; other files in the folder stay.

    Returns:
        The folder.

    Raises:
        UserError: The checkpoint cannot be read safely or tells too little, its config is more than plain values, or
            the folder exists.
    """
    checkpoint, out = Path(checkpoint).expanduser(), Path(out).expanduser()
    _check_free(out, force)
    read = read_checkpoint(checkpoint)
    meta = read['meta']
    missing = [key for key in ('dataset_meta', 'cfg', 'lineage', 'iter') if meta.get(key) is None]
    if missing or not isinstance(meta['dataset_meta'], dict) or not meta['dataset_meta'].get('classes'):
        raise UserError(f'checkpoint {checkpoint}: its meta has no {missing[0] if missing else "classes"}: expected a '
                        'checkpoint of a training with lineage')
    tensors = {key.removeprefix('module.'): value.detach().cpu().contiguous().clone()
               for key, value in read['state_dict'].items()}
    sha256 = sha256_of(checkpoint)
    lineage = lineage_of_checkpoint(checkpoint, sha256)
    config = scrub(published_config(parse_config(meta['cfg'], f'checkpoint {checkpoint}: its config'), meta['lineage']))
    text = Config(config).pretty_text
    entry = lineage['checkpoints'].get(checkpoint.name) or {}
    metadata = {
        'dataset_meta': meta['dataset_meta'], 'iter': meta['iter'], 'epoch': meta.get('epoch'),
        'seed': meta.get('seed'), 'experiment_name': meta.get('experiment_name'), 'cfg': text,
        'config_sha256': text_sha256(text), 'metrics': entry.get('metrics'),
        'lineage': _summary(lineage, meta['lineage'])}
    try:
        header = {key: json.dumps(value, ensure_ascii=False) for key, value in metadata.items()}
    except (TypeError, ValueError) as error:
        raise UserError(f'checkpoint {checkpoint}: its meta holds more than plain values ({error})') from error

    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f'.{out.name}.', dir=out.parent))
    try:
        with atomic_path(folder / WEIGHTS) as temporary:
            save_file(tensors, temporary, metadata={'format': 'pt', 'terrace_format': str(FORMAT), **header})
        _check_written(folder / WEIGHTS, tensors)
        write_text(folder / CONFIG, text)
        published = {'sha256': sha256_of(folder / WEIGHTS), 'step': meta['iter'], 'aliases': ['published'],
                     'metrics': entry.get('metrics'), 'source': {'file': checkpoint.name, 'sha256': sha256}}
        lineage = {**lineage, 'checkpoints': {WEIGHTS: published}}
        write_json(folder / LINEAGE_NAME, lineage)
        write_text(folder / CARD, model_card(
            lineage, config, meta['dataset_meta'], published, scores_of(checkpoint, meta['iter'], sha256, lineage),
            numbers=sum(value.numel() for value in tensors.values())))
        write_text(folder / SUMS, ''.join(f'{sha256_of(folder / name)}  {name}\n' for name in sorted(FILES[:-1])))
        umask = os.umask(0)  # mkdtemp makes private folders
        os.umask(umask)
        folder.chmod(0o777 & ~umask)
        _move_in_place(folder, out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return out


def parse_config(text: str, where: str) -> dict[str, Any]:
    """Read a config's resolved text without executing it: assignments of plain values, nothing else.

    Raises:
        UserError: The text holds anything that is no plain value.
    """

    def value(node: ast.expr) -> Any:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict':
            found: dict[Any, Any] = {}
            for argument in node.args:
                found.update(value(argument))
            for keyword in node.keywords:
                found.update({keyword.arg: value(keyword.value)} if keyword.arg else value(keyword.value))
            return found
        if isinstance(node, ast.Dict) and None not in node.keys:
            return {value(key): value(item) for key, item in zip(node.keys, node.values)}
        if isinstance(node, ast.List):
            return [value(item) for item in node.elts]
        if isinstance(node, ast.Tuple):
            return tuple(value(item) for item in node.elts)
        return ast.literal_eval(node)

    try:
        config = {}
        for statement in ast.parse(text).body:
            if not (isinstance(statement, ast.Assign) and len(statement.targets) == 1
                    and isinstance(statement.targets[0], ast.Name)):
                raise ValueError(f'line {statement.lineno} is no assignment')
            config[statement.targets[0].id] = value(statement.value)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise UserError(f'{where}: refused, it is more than plain values (nothing in it was executed): '
                        f'{str(error).splitlines()[0] if str(error) else type(error).__name__}') from error
    return config


def published_config(config: dict[str, Any], names: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config for others: what Terrace reads, without the run's own paths; ``data_root`` is set in one place.

    Args:
        config: The resolved config.
        names: ``meta['lineage']``, which the names of the experiment come from.
    """
    plain = {key: value for key, value in experiment_config(config).items()
             if key in KNOWN_KEYS and key not in PRIVATE_KEYS}
    if config.get('distil'):
        plain.pop('loss_schedule', None)  # it names weights that only a student with a teacher has
    plain['experiment'] = {'task': names.get('task'), 'chain': names.get('chain'), 'stage': names.get('stage'),
                           'tags': list((config.get('experiment') or {}).get('tags') or [])}
    loaders = [plain[key] for key in ('train_dataloader', 'val_dataloader', 'test_dataloader') if plain.get(key)]
    roots = set()
    _each_root(loaders, roots.add)
    if len(roots) == 1:
        plain['data_root'] = f'data/{Path(roots.pop()).name}'  # where it lay is the trainer's own affair
        _each_root(loaders, lambda _: '${data_root}')
    elif len({Path(root).name for root in roots}) == len(roots):
        _each_root(loaders, lambda root: f'data/{Path(root).name}' if Path(root).is_absolute() else root)
    sampler = (plain.get('train_dataloader') or {}).get('sampler') or {}
    if sampler.get('difficulty'):
        sampler['difficulty'] = Path(sampler['difficulty']).name
    return plain


def _each_root(value: Any, change: Any) -> None:
    """Call ``change`` with every ``data_root`` below a value, also of a list or dict; what it returns takes its place.
    """
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ():
        _each_root(item, change)
    if isinstance(value, dict) and 'data_root' in value:
        root = value['data_root']
        if isinstance(root, str):
            value['data_root'] = change(root) or root
        elif isinstance(root, (list, tuple)):
            value['data_root'] = [change(one) or one if isinstance(one, str) else one for one in root]
        elif isinstance(root, dict):
            value['data_root'] = {name: change(one) or one if isinstance(one, str) else one
                                  for name, one in root.items()}


def scores_of(checkpoint: Path, step: int, sha256: str, lineage: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return ``scores.json`` of the test and the validation that scored this very checkpoint, by split."""
    found = {}
    for split in ('test', 'val'):
        path = checkpoint.parent / 'evaluation' / split / 'scores.json'
        try:
            scores = json.loads(path.read_text(encoding='utf-8'))
        except (OSError, ValueError):
            continue
        tested = ((lineage.get('metrics') or {}).get('tested') or {}).get('sha256')
        if (split == 'test' and scores.get('checkpoint') == checkpoint.name and tested == sha256) or (
                split == 'val' and scores.get('step') == f'iter_{step}'):
            found[split] = scores
    return found


def _summary(lineage: Mapping[str, Any], names: Mapping[str, Any]) -> dict[str, Any]:
    """Return the lineage in short: names, hashes of config, code and data, and the parents' hashes."""
    return {**{key: names.get(key) for key in (*META_KEYS, 'config_sha256')}, 'code': lineage.get('code'),
            'data': [{key: data.get(key) for key in ('name', 'sha256')} for data in lineage.get('data') or ()],
            'parents': [{key: parent.get(key) for key in ('role', 'file', 'sha256')}
                        for parent in lineage.get('parents') or ()]}


def _check_free(out: Path, force: bool) -> None:
    for above in out.parents:
        if above.exists() and not above.is_dir():
            raise UserError(f'{out}: cannot be made, {above} is a file')
    if not out.exists() and not out.is_symlink():
        return
    held = {path.name for path in out.iterdir()} if out.is_dir() and not out.is_symlink() else None
    if held is None or not (held <= set(FILES) or {WEIGHTS, SUMS} <= held):
        other = 'it is no folder' if held is None else f'it holds {sorted(held - set(FILES))[0]}'
        raise UserError(f'{out}: exists and was not made by publishing ({other}); choose another folder')
    if held and not force:
        raise UserError(f'{out}: exists; choose another folder, or replace it with --force')


def _check_written(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    written = load_file(path)
    if written.keys() != tensors.keys() or any(
            written[key].dtype != value.dtype or written[key].shape != value.shape
            or not torch.equal(written[key].reshape(-1).view(torch.uint8), value.reshape(-1).view(torch.uint8))
            for key, value in tensors.items()):  # bytes: a NaN equals itself
        raise UserError(f'{path}: what was written is not what was read; is the disk in order?')


def _move_in_place(folder: Path, out: Path) -> None:
    if not out.exists():
        os.replace(folder, out)
        return
    if {path.name for path in out.iterdir()} - set(FILES):
        for name in FILES:  # somebody's files lie there, too; the checksums come last and tell of an interruption
            os.replace(folder / name, out / name)
        return
    old = Path(tempfile.mkdtemp(prefix=f'.{out.name}.', dir=out.parent))
    os.replace(out, old)  # over the empty folder
    try:
        os.replace(folder, out)
    except OSError:
        os.replace(old, out)
        raise
    shutil.rmtree(old, ignore_errors=True)
