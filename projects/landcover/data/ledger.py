"""The ledger of replaced labels: which mask was replaced by what, on whose decision, and where the original is kept.

``ROOT/corrections/ledger.jsonl`` has a row a replacement, in the order in which they were made, and
``ROOT/corrections/originals/<SHA-256>.png`` every mask that was replaced.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from projects.engine.errors import UserError
from projects.engine.files import sha256_of
from projects.landcover.data.changes import is_pending
from projects.landcover.data.manifest import MANIFEST_NAME, read_manifest

FOLDER = 'corrections'
LEDGER = f'{FOLDER}/ledger.jsonl'
ORIGINALS = f'{FOLDER}/originals'
KEPT_MANIFEST = f'{FOLDER}/{MANIFEST_NAME}'  # as it was before the first correction
CORRECTIONS = 'corrections'  # key of the manifest


@dataclass(frozen=True)
class Row:
    """One replaced mask.

    Args:
        sample_id: Id of the image.
        split: Its split: train or val.
        mask: Its mask, relative to the root.
        old_sha256, new_sha256: Hashes of the mask before and after.
        decision: Letter of the model whose prediction was taken.
        model: Name of that model.
        checkpoint: File name of its checkpoint.
        checkpoint_sha256: Hash of that file.
        candidates_sha256: Hash of the list of candidates that was decided upon.
        note: What the person wrote.
        decided: When the person decided, as the decisions say.
        time: When the mask was replaced, UTC.
        by: Who replaced it.
    """

    sample_id: str
    split: str
    mask: str
    old_sha256: str
    new_sha256: str
    decision: str
    model: str
    checkpoint: str
    checkpoint_sha256: str
    candidates_sha256: str
    note: str
    decided: str
    time: str
    by: str


def read_ledger(root: str | Path) -> list[Row]:
    """Return the rows of a data set's ledger, in order; none where nothing was corrected.

    Raises:
        UserError: a row is not readable, or the masks of a sample do not follow each other.
    """
    path = Path(root) / LEDGER
    if not path.is_file():
        return []
    rows, last = [], {}
    for number, line in enumerate(path.read_text(encoding='utf-8').splitlines(), start=1):
        try:
            row = Row(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise UserError(f'{path}: line {number}: not a row of a ledger ({error})') from error
        if last.get(row.sample_id, row.old_sha256) != row.old_sha256:
            raise UserError(f'{path}: line {number}: {row.sample_id}: old_sha256 is not the new_sha256 before')
        last[row.sample_id] = row.new_sha256
        rows.append(row)
    return rows


def ledger_bytes(rows: list[Row]) -> bytes:
    """Return a ledger as it is written: a JSON object a line."""
    return ''.join(json.dumps(asdict(row), ensure_ascii=False) + '\n' for row in rows).encode('utf-8')


def first_rows(rows: list[Row]) -> dict[str, Row]:
    """Return the first row of each sample: its `old_sha256` is the mask that the data came with."""
    return {row.sample_id: row for row in reversed(rows)}


def last_rows(rows: list[Row]) -> dict[str, Row]:
    """Return the last row of each sample: its `new_sha256` is the mask in use."""
    return {row.sample_id: row for row in rows}


def original_path(digest: str) -> str:
    """Return where the original of this hash is kept, relative to the root."""
    return f'{ORIGINALS}/{digest}.png'


def original_masks(root: str | Path) -> dict[str, Path]:
    """Return {sample id: the mask that the data came with} for every sample whose label was replaced.

    Raises:
        UserError: the ledger is not readable, or an original is missing.
    """
    root = Path(root)
    masks = {name: root / original_path(row.old_sha256) for name, row in first_rows(read_ledger(root)).items()}
    for path in masks.values():
        if not path.is_file():
            raise UserError(f'{path}: missing: the ledger {root / LEDGER} names it')
    return masks


def verify_corrections(root: str | Path) -> list[str]:
    """Prove every byte of the corrected labels against the ledger; return one line a problem.

    Every original is there with its hash, nothing else lies beside them, every mask in use has the hash of its last
    row (of its original, where the ledger has no row), and the manifest says the same.

    Raises:
        UserError: there is no manifest.
    """
    root = Path(root)
    manifest = read_manifest(root)
    if is_pending(root):
        return [f'{root}: a correction was interrupted: tools/landcover/correct.py recover finishes it']
    try:
        rows = read_ledger(root)
    except UserError as error:
        return [str(error)]
    problems = []
    recorded = manifest.get(CORRECTIONS)
    if bool(rows) != bool(recorded):
        problems.append(f'{root / MANIFEST_NAME}: {CORRECTIONS}: {recorded}, but the ledger has {len(rows)} rows')
    elif recorded:
        found = {'replaced': len(last_rows(rows)), 'ledger_sha256': sha256_of(root / LEDGER)}
        problems += [f'{root / MANIFEST_NAME}: {CORRECTIONS}.{key}: expected {value}, found {recorded.get(key)}'
                     for key, value in found.items() if recorded.get(key) != value]
    originals = {row.old_sha256 for row in rows}
    for digest in sorted(originals):
        problems += _differs(root / original_path(digest), digest)
    known = {original_path(digest) for digest in originals} | {LEDGER, KEPT_MANIFEST}
    for path in sorted((root / FOLDER).rglob('*')) if rows else ():
        if path.is_file() and path.relative_to(root).as_posix() not in known:
            problems.append(f'{path}: the ledger does not know it')
    items, last = items_of(manifest), last_rows(rows)
    for name, row in last.items():
        if name not in items:
            problems.append(f'{root / MANIFEST_NAME}: {name}: in the ledger, but not in the manifest')
            continue
        item, _ = items[name]
        if item['split'] == 'test':
            problems.append(f'{root / MANIFEST_NAME}: {name}: in the test split, which is never corrected')
        for key, expected in (('mask', row.mask), ('split', row.split), ('mask_sha256', row.new_sha256)):
            if item[key] != expected:
                problems.append(f'{root / MANIFEST_NAME}: {name}: {key}: the ledger says {expected}, found {item[key]}')
    for item, place in items.values():
        problems += _differs(root / place / item['mask'], item['mask_sha256'])
    return problems


def items_of(manifest: dict[str, Any]) -> dict[str, tuple[dict[str, Any], str]]:
    """Return {sample id: (item, folder that its paths start from)}, those that were filtered away too."""
    items = {item['id']: (item, '') for item in manifest['items']}
    for record in manifest.get('filtered', []):
        items |= {item['id']: (item, f'filtered/{record["number"]}') for item in record['items']}
    return items


def _differs(path: Path, digest: str) -> list[str]:
    if not path.is_file():
        return [f'{path}: missing']
    found = sha256_of(path)
    return [] if found == digest else [f'{path}: expected SHA-256 {digest[:12]}…, found {found[:12]}…']
