"""Three networks of one scale each as one checkpoint of `ScaleExperts`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmseg.registry import MODELS

from projects.engine.checkpoint_files import write_checkpoint
from projects.engine.checkpoints import load_weights, read_checkpoint
from projects.engine.config import load_config
from projects.engine.consistency import config_metainfo
from projects.engine.errors import UserError
from projects.engine.experiment import experiment_of, run_id
from projects.engine.files import sha256_of, write_json
from projects.engine.lineage import config_record
from projects.engine.lineage_record import (
    LINEAGE_NAME,
    VERSION,
    code_record,
    parent_record,
    processor,
    read_lineage,
    versions,
)

MODEL = 'ScaleExperts'


def assemble_experts(config: str | Path, experts: Mapping[str, str | Path], out: str | Path,
                     cfg_options: dict[str, Any] | None = None) -> Path:
    """Put the weights of one checkpoint for each scale into one checkpoint, with its lineage beside it.

    The folder of ``out`` becomes a run's directory of its own: ``run_id`` and ``lineage.json``, whose parents are the
    experts. So what is made can be tested, published and asked where it comes from, like any other checkpoint.

    Args:
        config: Path of a config whose model is `ScaleExperts`.
        experts: Patch size, as the config names it, to checkpoint.
        out: The ``.pth`` file to write; replaced where an earlier call made it.
        cfg_options: Dotted paths and their values.

    Returns:
        ``out``.

    Raises:
        UserError: The config's model is another, an expert is missing or not of the config, weights do not fit
            strictly, classes differ, or the folder belongs to another run.
    """
    cfg, out = load_config(config, cfg_options), Path(out)
    if cfg.model.get('type') != MODEL:
        raise UserError(f'config {config}: model.type: expected {MODEL}, found {cfg.model.get("type")}')
    wanted = [str(key) for key in cfg.model.experts]
    if sorted(wanted) != sorted(experts):
        raise UserError(f'config {config}: model.experts: expected a checkpoint for each of {", ".join(wanted)}, found '
                        f'{", ".join(experts) or "none"}')
    if out.suffix != '.pth':
        raise UserError(f'{out}: expected the name of a checkpoint (.pth)')
    _check_folder(out)
    model = MODELS.build(cfg.model)
    expected, metas = config_metainfo(cfg), {}
    for size in wanted:
        metas[size] = load_weights(model.experts[size], experts[size], expected)['meta']
    dataset_meta = expected or next((meta['dataset_meta'] for meta in metas.values() if meta.get('dataset_meta')), None)
    if not dataset_meta or not dataset_meta.get('classes'):
        raise UserError(f'config {config}: neither it nor a checkpoint names the classes')
    iteration = max(int(meta.get('iter') or 0) for meta in metas.values())
    record = _lineage(cfg, {size: experts[size] for size in wanted}, out)
    names = {key: record[key] for key in ('run_id', 'name', 'task', 'chain', 'stage')}
    write_checkpoint({
        'meta': {'dataset_meta': dict(dataset_meta), 'cfg': cfg.pretty_text, 'iter': iteration,
                 'epoch': max(int(meta.get('epoch') or 0) for meta in metas.values()),
                 'experiment_name': out.parent.resolve().name,
                 'lineage': {**names, 'config_sha256': record['config']['sha256']},
                 'experts': {size: {'file': Path(experts[size]).name, 'sha256': sha256_of(experts[size])}
                             for size in wanted}},
        'state_dict': model.state_dict()}, out)
    record['checkpoints'] = {out.name: {'sha256': sha256_of(out), 'step': iteration, 'aliases': ['last'],
                                        'metrics': None}}
    write_json(out.parent / LINEAGE_NAME, record)
    return out


def read_pairs(pairs: list[str]) -> dict[str, str]:
    """Read ``SIZE=CHECKPOINT`` arguments.

    Raises:
        UserError: One has no ``=``, or a size occurs twice.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        size, sign, path = pair.partition('=')
        if not (sign and size and path):
            raise UserError(f'expected SIZE=CHECKPOINT, found {pair!r}')
        if size in found:
            raise UserError(f'{size}: expected one checkpoint, found {found[size]} and {path}')
        found[size] = path
    for path in found.values():
        read_checkpoint(path)  # a wrong name shows before anything is built
    return found


def _check_folder(out: Path) -> None:
    record = read_lineage(out.parent)
    if record is not None and out.name not in record['checkpoints']:
        raise UserError(f'{out.parent}: expected a folder of its own for {out.name}, found that of the run '
                        f'{record.get("name")}')
    if record is None and out.exists():
        raise UserError(f'{out}: exists already, and was not made by this tool')


def _lineage(cfg: Config, experts: Mapping[str, str | Path], out: Path) -> dict[str, Any]:
    experiment = experiment_of(cfg)
    out.parent.mkdir(parents=True, exist_ok=True)
    return {
        'version': VERSION, 'run_id': run_id(out.parent), 'name': experiment.name, 'task': experiment.task,
        'chain': experiment.chain, 'stage': experiment.stage, 'tags': [str(tag) for tag in experiment.tags],
        'config': config_record(cfg), 'code': code_record(), 'data': [], 'files': [],
        'parents': [parent_record(f'expert {size}', str(path), out.parent) for size, path in experts.items()],
        'seed': None, 'versions': versions(), 'hardware': {**processor(), 'gpus': [], 'processes': 1}, 'starts': [],
        'checkpoints': {}, 'past_checkpoints': [], 'metrics': {}}
