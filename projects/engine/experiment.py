"""What a run is called: its task, its chain of stages, its stage, and an id that a resume keeps."""

import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from projects.engine.errors import UserError
from projects.engine.files import write_text

NAME = re.compile(r'(?P<model>[^_]+)_s\d+-(?P<stage>[^_]+)(?:_(?P<rest>.+))?$')
ALPHABET = 'abcdefghijklmnopqrstuvwxyz0123456789'


@dataclass(frozen=True)
class Experiment:
    """Where a run belongs. Weights & Biases calls the task project, the chain group and the stage job type."""

    name: str  # the config's file name
    task: str
    chain: str
    stage: str
    tags: tuple[str, ...]


def experiment_of(config: Config) -> Experiment:
    """Return what ``experiment = dict(task=…, chain=…, …)`` says, and the file's name where it is silent.

    ``configs/landcover/ftunetformer_s0-baseline_45e_loveda-512.py`` is task ``landcover``, stage ``baseline`` and
    chain ``ftunetformer_45e_loveda-512``: the stages of one chain differ in the stage alone. A config that is named
    otherwise is its own chain, with the stage ``train``.
    """
    path = Path(config.filename or 'config.py')
    said = config.get('experiment') or {}
    match = NAME.fullmatch(path.stem)
    folders = path.resolve().parts
    below = folders[folders.index('configs') + 1:-1] if 'configs' in folders else ()
    chain = '_'.join(part for part in (match['model'], match['rest']) if part) if match else path.stem
    return Experiment(
        name=path.stem,
        task=said.get('task') or (below[0] if below else 'terrace'),
        chain=said.get('chain') or chain,
        stage=said.get('stage') or (match['stage'] if match else 'train'),
        tags=tuple(said.get('tags') or ()))


def run_id(work_dir: str | Path) -> str:
    """Return the id of a work directory's run, eight letters and digits; the first call makes it.

    It lies in ``WORK_DIR/run_id`` and moves with the directory, so that a resume is the same run.

    Raises:
        UserError: The file holds something else.
    """
    path = Path(work_dir) / 'run_id'
    if path.is_file():
        found = path.read_text(encoding='utf-8').strip()
        if not re.fullmatch(r'[a-z0-9]{4,64}', found):
            raise UserError(f'{path}: expected a run id of small letters and digits, found {found[:40]!r}')
        return found
    made = ''.join(secrets.choice(ALPHABET) for _ in range(8))
    write_text(path, made + '\n')
    return made
