"""Real trainings, read back from what W&B wrote and from what a server was sent."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest

from projects.engine.tracking.history import logged_rows
from projects.engine.tracking.offline import transcripts
from projects.engine.tracking.sync import repair, upload
from projects.landcover.taxonomy import get_taxonomy

ROOT = Path(__file__).resolve().parents[2]
SECRET = '-'.join(('planted', 'by', 'this', 'test'))  # the code that is saved holds no such text
OWN = re.compile(r'iter$|_|val/predictions|val/confusion|.*(time|samples_per_second|memory_resident)$')


def tracked(work_dir: Path) -> list:
    return transcripts(work_dir, (work_dir / 'run_id').read_text().strip())


def rows(work_dir: Path) -> list[dict]:
    return [row for file in tracked(work_dir) for row in file.history]


def of_kind(work_dir: Path, kind: str) -> list:
    return [getattr(record, kind) for file in tracked(work_dir) for record in file.records
            if record.WhichOneof('record_type') == kind]


def scalars_of(history: Iterable[dict]) -> dict:
    """Return the rows by what identifies them, without tables, W&B's own values and what differs when repeated."""
    found = {}
    for row in history:
        kind = 'train' if 'train/loss' in row else 'val' if 'val/mIoU' in row else None
        if kind is not None:
            assert (kind, row['iter']) not in found, f'{kind} {row["iter"]} is twice'
            found[kind, row['iter']] = {name: str(float(value)) for name, value in row.items()
                                        if isinstance(value, int | float) and not OWN.match(name)}
    return found


@pytest.fixture(scope='module')
def stand_in():
    spec = importlib.util.spec_from_file_location('stand_in', ROOT / 'tests/engine/tracking/stand_in.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.StandIn() as server:
        yield server


@pytest.mark.slow
def test_a_training_is_killed_repaired_resumed_tested_and_uploaded(prepared, tool, config, stand_in, monkeypatch,
                                                                        tmp_path):
    home, work_dir = tmp_path / 'home' / 'alice', tmp_path / 'work' / 'run'
    home.mkdir(parents=True)
    offline = dict(WANDB_MODE='offline', HOME=str(home), HUB_TOKEN=SECRET)
    options = ['crop_size=(64,64)', 'batch_size=2', 'num_workers=1', 'default_hooks.logger.interval=1',
               'train_cfg.max_iters=30', 'train_cfg.val_interval=15', 'warmup_iters=1', f'data_root={prepared}',
               f'experiment.tags=[{SECRET},quick]', 'optim_wrapper.paramwise_cfg.backbone_lr_mult=0.5']

    # Killed; W&B's process and the workers end by themselves; what was lost comes back.
    with open(tmp_path / 'log', 'w') as log:
        training = subprocess.Popen(
            [sys.executable, ROOT / 'tools/train.py', config, '--work-dir', work_dir, '--cfg-options', *options],
            env={**os.environ, **offline, 'OMP_NUM_THREADS': '1'}, stdout=log, stderr=log, cwd='/')
    try:
        while not (work_dir.is_dir() and len(logged_rows(work_dir)) >= 20):
            assert training.poll() is None, (tmp_path / 'log').read_text()[-2000:]
            time.sleep(0.02)
        started = _descendants(training.pid)
    finally:
        training.kill()
        training.wait()
    assert any('wandb-core' in command for command in started.values()) and len(started) > 2
    deadline = time.monotonic() + 20
    while left := {pid: command for pid, command in started.items() if _command(pid) == command}:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
    logged = logged_rows(work_dir)
    assert 20 <= len(logged) < 32
    for name, value in offline.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv('WANDB_DATA_DIR', str(work_dir / 'wandb' / 'data'))
    repair(work_dir)
    assert scalars_of(rows(work_dir)) == scalars_of(logged.values())
    assert not any(file.torn for file in tracked(work_dir))

    # Resumed: the same run, no iteration twice; one line of a child's config adds TensorBoard.
    child = tmp_path / config.name
    child.write_text(f"_base_ = '{config}'\nvis_backends = [dict(type='LocalVisBackend'), "
                     "dict(type='TerraceWandbBackend'), dict(type='TensorboardVisBackend')]\n")
    tool('train.py', child, '--work-dir', work_dir, '--resume', '--cfg-options', *options, 'experiment.task=landcover',
         **offline)
    assert len({file.run.run_id for file in tracked(work_dir)}) == 1
    logged = logged_rows(work_dir)
    assert list(logged) == sorted([('train', index) for index in range(1, 31)] + [('val', 15), ('val', 30)],
                                  key=lambda key: (key[1], key[0]))
    assert scalars_of(rows(work_dir)) == scalars_of(logged.values())
    assert [row['_step'] for row in rows(work_dir)] == list(range(32))
    first, validated = logged['train', 1], logged['val', 30]
    assert {'train/loss', 'train/decode.loss_ce', 'train/decode.loss_dice', 'train/lr', 'train/samples_per_second',
            'train/memory_resident'} <= set(first)
    assert first['train/lr/backbone'] == pytest.approx(0.5 * first['train/lr/rest'])
    assert {'val/mIoU', 'val/IoU/Settlement', 'val/IoU/Forest Land'} <= set(validated)
    _check_tensorboard(work_dir, logged)

    # Tables, config, names, code, lineage.
    run = tracked(work_dir)[0].run
    assert (run.project, run.run_group, run.job_type, list(run.tags)) == (
        'landcover', 'ftunetformer-tiny_village-256', 'baseline', ['***', 'quick'])
    values = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert values['train_cfg']['val_interval'] == 15 and values['model']['type'] == 'EncoderDecoder'
    assert values['work_dir'] == str(work_dir)
    files = tracked(work_dir)[-1].path.parent / 'files'  # of the resume: the last validation's
    confusion = json.loads(next(files.glob('media/table/val/confusion_table_*')).read_text())
    scores = json.loads((work_dir / 'evaluation/val/scores.json').read_text())
    assert len(confusion['data']) == 36 and sum(row[2] for row in confusion['data']) == scores['pixels']
    held = {entry.path: Path(entry.local_path) for artifact in of_kind(work_dir, 'artifact')
            if 'valpredictions' in artifact.name for entry in artifact.manifest.contents}
    assert all(path.is_relative_to(work_dir) for path in held.values())  # it moves with the run, the home stays clean
    table = json.loads(held['val/predictions.table.json'].read_text())
    assert table['columns'] == ['sample', 'image', 'truth', 'prediction', 'error', 'wrong %']
    assert [cell['_type'] for row in table['data'] for cell in row[1:5]] == 12 * ['image-file']
    sample, image, truth, prediction, error, wrong = table['data'][0]
    red = (cv2.imread(str(held[error['path']]))[..., ::-1] == (203, 32, 39)).all(axis=-1)
    assert red.shape == (64, 64) and 100 * red.mean() == pytest.approx(wrong)
    source = next((prepared / 'images').glob(f'{Path(sample).stem}.*'))
    assert (cv2.imread(str(held[image['path']])) == cv2.imread(str(source))).all()
    colours = [np.unique(cv2.imread(str(held[cell['path']])).reshape(-1, 3), axis=0) for cell in (truth, prediction)]
    palette = np.array(get_taxonomy('landcover6').palette)[:, ::-1].tolist()
    assert all(colour.tolist() in palette for found in colours for colour in found) and len(colours[0]) <= 2
    artifacts = {(found.type, found.name.partition('-')[0]): found for found in of_kind(work_dir, 'artifact')}
    code = artifacts['code', 'terrace']
    names = {entry.path for entry in code.manifest.contents}
    assert 'projects/engine/runner.py' in names and not any('.venv' in name for name in names)
    assert len(json.loads(code.metadata)['commit']) == 40
    data = artifacts['dataset', 'data']
    assert data.use_after_commit and [entry.path for entry in data.manifest.contents] == ['manifest.json']
    checkpoints = [artifact for artifact in of_kind(work_dir, 'artifact') if artifact.name.startswith('checkpoint-')]
    assert {alias for artifact in checkpoints for alias in artifact.aliases} == {'baseline', 'best', 'last'}
    assert of_kind(work_dir, 'exit')[-1].exit_code == 0

    time.sleep(1.1)
    tool('test.py', config, work_dir / 'iter_30.pth', '--work-dir', work_dir, '--cfg-options', *options, **offline)

    # No key and no home in any file of the run; then the upload, to a server that has to know nothing of them either.
    for path in (work_dir / 'wandb').rglob('*'):
        if path.is_file():
            content = path.read_bytes()
            assert SECRET.encode() not in content and str(home).encode() not in content, path
    for name, value in stand_in.environment().items():
        monkeypatch.setenv(name, value)
    repaired = repair(work_dir)
    assert (repaired.rows, repaired.missing, repaired.torn, repaired.moved) == (32, 0, 0, 0)
    upload([repaired])
    name = run.run_id
    assert scalars_of(stand_in.history(name)) == scalars_of(logged.values())
    assert stand_in.config(name)['train_cfg']['val_interval'] == 15
    assert stand_in.summary(name)['test/mIoU'] == pytest.approx(
        json.loads((work_dir / 'evaluation/test/scores.json').read_text())['scores']['mIoU'])
    assert (stand_in.summary(name)['test/checkpoint'], stand_in.summary(name)['iter']) == ('iter_30.pth', 30)
    assert stand_in.summary(name)['train/loss'] == logged['train', 30]['train/loss']
    assert stand_in.summary(name)['best/mIoU'] == pytest.approx(max(
        row['val/mIoU'] for row in logged.values() if 'val/mIoU' in row))
    assert all(artifact['committed'] for artifact in stand_in.artifacts.values())
    sent = ''.join(stand_in.received)
    assert SECRET not in sent and str(home) not in sent and str(ROOT) not in sent
    assert not [path for path in home.rglob('*') if path.is_file() and path.suffix in ('.py', '.png')]


def _check_tensorboard(work_dir: Path, logged: dict) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(next(work_dir.rglob('events.out.*')).parent))
    events.Reload()
    found = {event.step: event.value for event in events.Scalars('loss')}
    assert max(found) == 30 and found == {step: pytest.approx(logged['train', step]['train/loss']) for step in found}
    assert events.Scalars('mIoU')[-1].step == 30


def _command(pid: int) -> str | None:
    try:
        return Path('/proc', str(pid), 'cmdline').read_text() or None
    except OSError:
        return None


def _descendants(pid: int) -> dict[int, str]:
    found = {}
    for path in Path('/proc', str(pid), 'task').glob('*/children'):
        for child in map(int, path.read_text().split()):
            found |= {child: _command(child) or '', **_descendants(child)}
    return found
