"""The hook that gives tracking what the logger's lines do not hold: rates, artifacts, alerts, and how the run ended."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook, LoggerHook
from mmseg.registry import HOOKS

from projects.engine.files import sha256_of
from projects.engine.lineage_record import peak_memory_mib
from projects.engine.lock import is_locked
from projects.engine.loops import trains
from projects.engine.tracking.backend import TerraceWandbBackend
from projects.engine.tracking.session import Session, say
from projects.engine.tracking.source import read_source

LINEAGE = 'lineage.json'
PREEMPTED_SECONDS = 10.0  # a scheduler does not wait long


@HOOKS.register_module()
class TrackingHook(Hook):
    """Track a run beyond its scalars; the top-level key ``tracking`` of a config makes it.

    With any backend, training lines get ``samples_per_second``, the rate of each named group of parameters
    (``lr/backbone``) once they differ, and without CUDA ``memory_resident``, the largest so far in MiB. With a
    :class:`TerraceWandbBackend` the run also gets its code from git, its parents and data manifests as used
    artifacts, its checkpoints as artifacts with the aliases ``<stage>``, ``last`` and ``best``, alerts, the metrics of
    the best checkpoint and of tests in the summary, and its exit status. Everything happens on rank 0, and nothing in
    it ends a run.

    Args:
        upload: Also upload the best checkpoints; otherwise an artifact holds name, hash and metrics of a file.
        code: Save the code.
    """

    # After IterTimerHook (NORMAL, but registered earlier) and before LoggerHook (BELOW_NORMAL).
    priority = 'NORMAL'

    def __init__(self, upload: bool = False, code: bool = True) -> None:
        self.upload, self.code = upload, code
        self.interval = 0
        self.tested: int | None = None  # the iteration of the weights that were loaded
        self._rates_differ = False

    def before_train(self, runner: Any) -> None:
        """Open the run."""
        if not is_main_process():
            return
        self.interval = next((hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)), 0)
        backend = backend_of(runner)
        if backend is None:
            return
        backend.kept_open = True
        session = backend.start()
        if session.run is None:
            return
        self._send_origin(session, _lineage(runner))

    def _send_origin(self, session: Session, lineage: Mapping[str, Any]) -> None:
        source = read_source() if self.code else None
        if source is not None:
            session.save_source(source)
        for data in lineage.get('data') or ():
            if data.get('sha256'):
                session.reference(
                    'dataset', f'data-{data["name"]}', data.get('manifest') or 'manifest.json', data['sha256'],
                    {key: data.get(key) for key in ('root', 'splits', 'taxonomy_hash')}, used=True)
        for parent in lineage.get('parents') or ():
            if parent.get('sha256'):
                own = parent.get('lineage') or {}
                session.reference(
                    'model', f'checkpoint-{own.get("run_id") or Path(parent["file"]).stem}', parent['file'],
                    parent['sha256'], {'role': parent.get('role'), 'stage': own.get('stage')}, used=True)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Put rates and memory where the logger takes its numbers from, in the iterations it logs."""
        if not self.interval or (batch_idx + 1) % self.interval:
            return
        hub = runner.message_hub
        if 'train/time' in hub.log_scalars:
            seconds = hub.get_scalar('train/time').mean(self.interval)
            samples = runner.cfg.train_dataloader.get('batch_size', 1) * get_world_size()
            if seconds > 0:
                hub.update_scalar('train/samples_per_second', samples / seconds)
        if not torch.cuda.is_available() and (memory := peak_memory_mib()) is not None:  # else the logger tells it
            hub.update_scalar('train/memory_resident', memory)
        rates = _rates(runner)
        # What the hub was given once it goes on showing: equal rates are kept up to date when they once differed.
        self._rates_differ = self._rates_differ or len(set(rates.values())) > 1
        if self._rates_differ:
            for name, rate in rates.items():
                hub.update_scalar(f'train/lr/{name}', rate)

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Tell the backend where in the training the validation stands; the logger's line does not say."""
        backend = backend_of(runner)
        if backend is not None and is_main_process():
            self.locate(runner, backend)

    @staticmethod
    def locate(runner: Any, backend: TerraceWandbBackend) -> None:
        """Set the backend's clock. A runner that only validates has none: asking for it would build its loop."""
        if trains(runner):
            backend.iteration = runner.iter
            backend.epoch = runner.epoch if runner.log_processor.by_epoch else None

    def after_load_checkpoint(self, runner: Any, checkpoint: Mapping[str, Any]) -> None:
        """Keep the iteration that weights are from, for a test's row."""
        iteration = (checkpoint.get('meta') or {}).get('iter')
        self.tested = iteration if isinstance(iteration, int) else None

    def after_test_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Put the test's scores into the summary of the run whose work directory this is.

        While a training runs there nothing is sent: the run is its. The scores are in ``evaluation/test``.
        """
        backend = backend_of(runner)
        if backend is None or not is_main_process():
            return
        if backend.session is None:  # a test of its own: the process that trains has one, and may not ask
            if is_locked(runner.work_dir):
                say(f'{runner.work_dir}: a training runs here; the scores of this test are not sent, they stay in its '
                    'folder evaluation')
                return
            backend.start(send_config=not (Path(runner.work_dir) / 'wandb').is_dir(), send_missing=False)
        checkpoint = Path(runner._load_from).name if getattr(runner, '_load_from', None) else None
        backend.session.summarise({f'test/{name}': value for name, value in (metrics or {}).items()} | (
            {'test/checkpoint': checkpoint} if checkpoint else {}))

    def after_checkpoint(self, runner: Any, path: Path, aliases: tuple[str, ...], step: int,
                         metrics: dict | None = None) -> None:
        """Record a checkpoint as an artifact; upload it where that is asked for and it is among the best."""
        session = session_of(runner)
        if session is None:
            return
        lineage = _lineage(runner)
        known = (lineage.get('checkpoints') or {}).get(path.name) or {}
        facts = {'step': step, 'metrics': metrics, 'stage': session.names.job_type, 'run_id': session.names.id}
        names = {*aliases, session.names.job_type or 'train'}
        try:
            sha256 = known.get('sha256') or sha256_of(path)
        except OSError as error:  # deleted meanwhile
            say(f'{path.name}: not recorded ({error})')
            return
        session.reference('model', f'checkpoint-{session.names.id}', path.name, sha256, facts, names)
        if 'best' not in aliases:
            return
        session.summarise({'best/iter': step, **{f'best/{name}': value for name, value in (metrics or {}).items()}})
        if self.upload:
            session.upload(f'weights-{session.names.id}', path, facts, names)

    def on_alert(self, runner: Any, title: str, text: str) -> None:
        """Send an alert."""
        session = session_of(runner)
        if session is not None:
            session.alert(title, text)

    def on_exit(self, runner: Any, status: str, reason: str | None = None) -> None:
        """End the run with its status: ``finished``, ``preempted`` or ``failed``."""
        session = session_of(runner)
        if session is None:
            return
        if reason:
            session.summarise({'exit_reason': reason})
        if status == 'preempted':
            session.preempted()
            session.finish(1, PREEMPTED_SECONDS)
        else:
            session.finish(0 if status == 'finished' else 1)


def backend_of(runner: Any) -> TerraceWandbBackend | None:
    """Return the runner's backend for W&B; None where it has none."""
    backends = getattr(runner.visualizer, '_vis_backends', None) or {}
    return next((backend for backend in backends.values() if isinstance(backend, TerraceWandbBackend)), None)


def session_of(runner: Any) -> Session | None:
    """Return the session of a run that is tracked and still open, on rank 0."""
    backend = backend_of(runner) if is_main_process() else None
    return backend.session if backend is not None and backend.experiment is not None else None


def _rates(runner: Any) -> dict[str, float]:
    """Return the learning rate of each named place of the network, where there is more than one place."""
    groups = getattr(runner.optim_wrapper, 'param_groups', None) or ()
    rates = {str(group['name']).removesuffix(' without decay'): group['lr'] for group in groups if 'name' in group}
    return rates if len(rates) > 1 else {}


def _lineage(runner: Any) -> Mapping[str, Any]:
    path = Path(runner.work_dir) / LINEAGE
    try:
        found = json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        say(f'{path.name} not readable: {error}', logging.WARNING)
        return {}
    return found if isinstance(found, dict) else {}
