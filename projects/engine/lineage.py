"""The hook that writes ``lineage.json``: what a run was made from, what it cost, what came out.

The record is rewritten whole and atomically at the start, after each checkpoint, after each validation and at the
end, never in an iteration. A run that is killed leaves the status ``running``; its next start closes that one as
``failed``, reason ``killed``.
"""

import functools
import itertools
import os
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmseg.registry import HOOKS

from projects.engine.config_text import changed_keys
from projects.engine.energy import EnergyMeter
from projects.engine.errors import UserError
from projects.engine.experiment import experiment_of, run_id
from projects.engine.files import sha256_of, write_json
from projects.engine.lineage_record import (
    LINEAGE_NAME,
    META_KEYS,
    VERSION,
    code_record,
    data_records,
    experiment_config,
    file_records,
    known_weights,
    lineage_of_checkpoint,
    parent_files,
    parent_record,
    peak_memory_mib,
    plain_numbers,
    processor,
    read_lineage,
    scrub,
    text_sha256,
    versions,
)

BEST = re.compile(r'best_(?P<metric>.+)_iter_\d+\.pth')


def lineage_meta(runner: Any) -> dict[str, Any]:
    """Return what a checkpoint's ``meta['lineage']`` says: run id, names, hash of the config."""
    return {**_names(runner), 'config_sha256': config_record(runner.cfg)['sha256']}


def _names(runner: Any) -> dict[str, str]:
    experiment = experiment_of(runner.cfg)
    return {'run_id': run_id(runner.work_dir), 'name': experiment.name, 'task': experiment.task,
            'chain': experiment.chain, 'stage': experiment.stage}


def config_record(config: Config) -> dict[str, str]:
    """Return file name, resolved text and the text's hash; a resume of the same experiment has the same hash."""
    text = Config(scrub(experiment_config(config.to_dict()))).pretty_text
    return {'file': Path(config.filename or 'config.py').name, 'text': text, 'sha256': text_sha256(text)}


def _on_rank_0_and_never_fatal(method: Callable) -> Callable:
    @functools.wraps(method)
    def guarded(self: 'LineageHook', runner: Any, *args: Any, **kwargs: Any) -> None:
        if not is_main_process():
            return
        try:
            method(self, runner, *args, **kwargs)
        except Exception as error:  # a run of days is worth more than its record
            runner.logger.error(f'{Path(runner.work_dir) / LINEAGE_NAME}: not written: {type(error).__name__}: '
                                f'{" ".join(str(error).split())}')

    return guarded


@HOOKS.register_module()
class LineageHook(Hook):
    """Keep ``WORK_DIR/lineage.json`` up to date and put its short form into every checkpoint's meta.

    Memory and energy are those of the first process and its node.
    """

    priority = 'VERY_HIGH'  # a hook that fails later finds the start recorded

    def __init__(self) -> None:
        self._record: dict[str, Any] | None = None
        self._meta: dict[str, Any] | None = None
        self._begun = 0.0
        self._energy: EnergyMeter | None = None

    @_on_rank_0_and_never_fatal
    def before_train(self, runner: Any) -> None:
        """Append a start; close one that was killed."""
        before = self._read(runner)
        record = _describe(runner)
        starts, changed = before['starts'] if before else [], []
        if starts and runner._resume:  # it loads itself: what the first start began with stays the parent
            record.update({key: before[key] for key in ('parents', 'checkpoints', 'metrics')})
            record['past_checkpoints'] = before.get('past_checkpoints') or []
            changed = _changes(before, record)
            if changed:
                runner.logger.warning(f'{Path(runner.work_dir) / LINEAGE_NAME}: this run goes on with what has changed '
                                      f'since its last start: {", ".join(changed)}')
        else:
            if not _loads_itself(runner):  # else the same run, whose record was lost
                starts = _set_aside(Path(runner.work_dir), before, record['run_id'])
            record['parents'] = _parents(runner, record['run_id'])
        for start in starts:
            if start['status'] == 'running':
                start.update(status='failed', reason='killed')
        record['starts'] = starts
        starts.append({
            'started': _now(), 'ended': None, 'from_iteration': runner.iter, 'to_iteration': runner.iter,
            'status': 'running', 'reason': None, 'seconds': 0.0, 'peak_memory_mib': None, 'gpu_memory_mib': None,
            'energy_wh': None, 'commit': record['code']['commit'], 'config_sha256': record['config']['sha256'],
            'data_sha256': [data['sha256'] for data in record['data']], 'changed': changed})
        self._begun = time.monotonic()
        self._energy = EnergyMeter([f'GPU-{torch.cuda.get_device_properties(gpu).uuid}' for gpu in _gpus()])
        self._record = record
        self._meta = {**{key: record[key] for key in META_KEYS}, 'config_sha256': record['config']['sha256']}
        self._write(runner)

    @_on_rank_0_and_never_fatal
    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Put the short form into the checkpoint's meta."""
        if self._meta is None:
            self._meta = lineage_meta(runner)
        checkpoint.setdefault('meta', {})['lineage'] = dict(self._meta)

    @_on_rank_0_and_never_fatal
    def after_checkpoint(self, runner: Any, path: Path, aliases: tuple[str, ...] = (), step: int = 0,
                         metrics: dict | None = None) -> None:
        """Record a checkpoint's hash; an alias belongs to its newest bearer."""
        if self._record is None:
            return
        path, numbers = Path(path), plain_numbers(metrics)
        entries = self._record['checkpoints']
        best = BEST.fullmatch(path.name)
        for name, entry in entries.items():
            other = BEST.fullmatch(name)
            lost = {'last', 'best'} if best and other and best['metric'] == other['metric'] else {'last'}
            entry['aliases'] = [alias for alias in entry['aliases'] if alias not in lost.intersection(aliases)]
        self._forget(path.name)
        entries[path.name] = {'sha256': sha256_of(path), 'step': step, 'aliases': list(aliases),
                              'metrics': numbers or None}
        if best and 'best' in aliases:
            self._record_best(best['metric'], step, numbers)
        self._write(runner)

    def _forget(self, name: str) -> None:
        # A score of weights that are gone is still a score of this run: their hash stays.
        if entry := self._record['checkpoints'].pop(name, None):
            self._record['past_checkpoints'].append(entry['sha256'])

    def _record_best(self, name: str, step: int, numbers: dict[str, float | None]) -> None:
        # The file's name has '_' where the metric has what a file name may not have.
        metric = next((key for key in numbers if re.sub(r'[^\w.-]', '_', key) == re.sub(r'[^\w.-]', '_', name)), None)
        known = self._record['metrics'].get('best') or {}
        if metric is not None and (not known or metric in known):  # of several, the first named one
            self._record['metrics']['best'] = {metric: numbers[metric], 'step': step}

    @_on_rank_0_and_never_fatal
    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Record the metrics of a validation within a training."""
        if self._record is not None:
            self._record['metrics']['val'] = {**plain_numbers(metrics), 'step': runner.iter}
            self._write(runner)

    @_on_rank_0_and_never_fatal
    def after_test_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Record a test: in the run's own record, or as a record without a start in a directory of its own."""
        record = self._read(runner)
        if record is None or not record['starts']:
            record = _describe(runner)
            record['parents'] = _parents(runner, record['run_id'])
        record['metrics']['test'] = plain_numbers(metrics)
        record['metrics']['tested'] = None
        if runner._load_from:
            file = Path(runner._load_from)
            tested = {'file': file.name, 'sha256': sha256_of(file)}
            if record['starts'] and tested['sha256'] not in known_weights(record):  # of a killed start, or foreign
                tested['run_id'] = (lineage_of_checkpoint(file, tested['sha256']) or {}).get('run_id')
            record['metrics']['tested'] = tested
        write_json(Path(runner.work_dir) / LINEAGE_NAME, record)

    @_on_rank_0_and_never_fatal
    def on_exit(self, runner: Any, status: str, reason: str | None = None) -> None:
        """Close the start."""
        if self._record is None:
            return
        self._record['starts'][-1].update(
            ended=_now(), status=status, reason=scrub(' '.join(str(reason).split()))[:500] if reason else None)
        self._write(runner)
        self._energy.close()

    def _read(self, runner: Any) -> dict[str, Any] | None:
        try:
            return read_lineage(runner.work_dir)
        except UserError as error:
            path = Path(runner.work_dir) / LINEAGE_NAME
            aside = path.with_suffix('.damaged.json')
            runner.logger.error(f'{error}; kept as {aside.name}, a new one begins')
            os.replace(path, aside)
            return None

    def _write(self, runner: Any) -> None:
        work_dir = Path(runner.work_dir)
        record, start = self._record, self._record['starts'][-1]
        start['to_iteration'] = runner.iter
        start['seconds'] = round(time.monotonic() - self._begun, 1)
        start['peak_memory_mib'] = peak_memory_mib()
        if torch.cuda.is_available():
            start['gpu_memory_mib'] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
        start['energy_wh'] = self._energy.watt_hours()
        for name in [name for name in record['checkpoints'] if not (work_dir / name).is_file()]:
            self._forget(name)
        on_disk = (read_lineage(work_dir) or {}).get('metrics', {})  # a test may have been recorded meanwhile
        record['metrics'].update({key: on_disk[key] for key in ('test', 'tested') if key in on_disk})
        write_json(work_dir / LINEAGE_NAME, record)


def _describe(runner: Any) -> dict[str, Any]:
    """Return a record of the run as it stands, without starts and results."""
    cfg = runner.cfg
    return {
        'version': VERSION,
        **_names(runner),
        'tags': [str(tag) for tag in experiment_of(cfg).tags],
        'config': config_record(cfg),
        'code': code_record(),
        'data': data_records(cfg, runner.work_dir),
        'files': file_records(cfg, runner.work_dir),
        'parents': [],
        'seed': runner.seed,
        'versions': versions(),
        'hardware': {**processor(), 'gpus': [torch.cuda.get_device_name(gpu) for gpu in _gpus()],
                     'processes': get_world_size()},
        'starts': [],
        'checkpoints': {},
        'past_checkpoints': [],
        'metrics': {},
    }


def _changes(before: dict[str, Any], record: dict[str, Any]) -> list[str]:
    """Name the config keys, data sets and other files that are not what the record before says."""
    found = [f'config {key}' for key in changed_keys(before['config'].get('text') or '', record['config']['text'])]
    for kind, key in (('data', 'name'), ('files', 'file')):
        if before.get(kind) is None:  # files: a record from before there were any
            continue
        old, new = ([(item.get(key), item.get('sha256')) for item in one[kind]] for one in (before, record))
        found += [f'{kind.removesuffix("s")} {name}' for name in dict.fromkeys(
            pair[0] for pair in (*old, *new) if (pair in old) != (pair in new))]
    return found


def _set_aside(work_dir: Path, before: dict[str, Any] | None, own_id: str) -> list[dict[str, Any]]:
    """Keep record and evaluations of an earlier run beside those of a run that begins anew.

    Returns:
        The earlier starts of this very run, which was killed before there was anything to resume.
    """
    old = before['run_id'] if before else 'before'
    if (work_dir / 'evaluation').is_dir():
        os.replace(work_dir / 'evaluation', _free(work_dir / f'evaluation.{old}'))
    same = before is not None and old == own_id
    if before and (not same or before['metrics']):
        os.replace(work_dir / LINEAGE_NAME, _free(work_dir / f'lineage.{old}.json'))
    return before['starts'] if same else []


def _free(path: Path) -> Path:
    numbered = (path.with_stem(f'{path.stem}-{number}') for number in itertools.count(2))
    return path if not path.exists() else next(other for other in numbered if not other.exists())


def _loads_itself(runner: Any) -> bool:
    work_dir = Path(runner.work_dir).resolve()
    return bool(runner._resume and runner._load_from) and Path(runner._load_from).resolve().parent == work_dir


def _parents(runner: Any, own_id: str) -> list[dict[str, Any]]:
    work_dir = Path(runner.work_dir)
    files = list(parent_files(runner.cfg.to_dict()))
    loaded = runner._load_from
    if loaded and not _loads_itself(runner):
        files.insert(0, ('resume' if runner._resume else 'load_from', str(loaded)))
    parents = [parent_record(role, path, work_dir, own_id) for role, path in files]
    reports = {found['checkpoint']: found for hook in runner.hooks
               if (found := getattr(hook, 'initialisation', None))}
    for parent, (_, path) in zip(parents, files):
        if path in reports:
            parent['report'] = {key: value for key, value in reports[path].items() if key != 'checkpoint'}
    return parents


def _gpus() -> list[int]:
    """Return the CUDA devices that the run uses on this node."""
    if not torch.cuda.is_available():
        return []
    processes = int(os.environ.get('LOCAL_WORLD_SIZE', os.environ.get('SLURM_NTASKS_PER_NODE', '1')))
    if processes > 1:
        return list(range(min(processes, torch.cuda.device_count())))
    return [torch.cuda.current_device()]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec='seconds')
