"""Replace labels by what a person decided for, with a ledger; and take the replacements back, to the byte."""

import getpass
import hashlib
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from projects.engine.errors import UserError
from projects.engine.files import sha256_of
from projects.engine.progress import progress
from projects.geo.raster import read_mask
from projects.landcover.data.candidates import Item, Model, decode_labels, read_candidates
from projects.landcover.data.changes import Change, changing, check_settled, write_manifest
from projects.landcover.data.decisions import DECISIONS_NAME, KEEP, SKIP, Decision, read_decisions
from projects.landcover.data.ledger import (
    CORRECTIONS,
    FOLDER,
    KEPT_MANIFEST,
    LEDGER,
    ORIGINALS,
    Row,
    first_rows,
    items_of,
    last_rows,
    ledger_bytes,
    original_path,
    read_ledger,
)
from projects.landcover.data.manifest import MANIFEST_NAME, read_manifest
from projects.landcover.taxonomy import Taxonomy, get_taxonomy


@dataclass
class Applied:
    """What became of the decisions, by sample id.

    Args:
        names: {letter: name of the model}.
        better: {letter: number of decisions for the prediction of this model}.
        replaced: {letter: ids whose label was (or would be) replaced by the prediction of this model}.
        before: Ids whose label an earlier call replaced on the same decision.
        kept, skipped: Ids whose label was left, because it is right, or because nobody decided.
        not_found: Ids that were filtered away.
    """

    names: dict[str, str]
    better: Counter[str] = field(default_factory=Counter)
    replaced: dict[str, list[str]] = field(default_factory=dict)
    before: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    not_found: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Number of labels replaced by this call."""
        return sum(map(len, self.replaced.values()))

    def lines(self) -> list[str]:
        """Return what the seed reports of its correction: reviewed, a model's better, the label best, replaced."""
        parts = [len(self.replaced.get(letter, [])) for letter in self.names]
        lines = [f'reviewed   {self.better.total() + len(self.kept) + len(self.skipped)} images']
        lines += [f'{letter} better   {self.better[letter]} ({name})' for letter, name in self.names.items()]
        lines += [f'label best {len(self.kept)}', f'skipped    {len(self.skipped)}',
                  f'replaced   {self.total} labels ({" + ".join(map(str, parts))})']
        if self.before:
            lines.append(f'           {len(self.before)} more were replaced before')
        if self.not_found:
            lines.append(f'not found  {len(self.not_found)} ({", ".join(self.not_found[:5])})')
        return lines


@dataclass(frozen=True)
class _Replacement:
    row: Row
    data: bytes  # the new mask
    pixels: list[int]


def apply_decisions(root: str | Path, decisions: str | Path, candidates: str | Path | None = None, *,
                    by: str | None = None, dry_run: bool = False) -> Applied:
    """Replace the labels that a person decided to replace, all or none.

    Each original goes to ``ROOT/corrections/originals``, each replacement into the ledger, and the manifest follows.
    A kill at any moment leaves the data set as it was, or the next call finishes the work. Decisions that are applied
    already change nothing.

    Args:
        root: Root folder of the prepared data set.
        decisions: The decisions file, or the folder of candidates that holds ``decisions.csv``.
        candidates: ``candidates.json`` or its folder. Default: beside the decisions.
        by: Who does it, for the ledger. Default: the user's name on this machine.
        dry_run: Check everything, change nothing.

    Raises:
        UserError: an image of the test split, a sample without candidate, a label that was changed since the candidates
            were made, a prediction that was, or files that are not what they should be. Nothing was changed then.
    """
    root, decisions = Path(root), Path(decisions)
    if decisions.is_dir():
        decisions = decisions / DECISIONS_NAME
    folder = Path(candidates) if candidates is not None else decisions.parent
    folder = folder if folder.is_dir() else folder.parent
    if dry_run:
        check_settled(root)
        return _plan(root, decisions, folder, by)[0]
    with changing(root) as change:
        result, replacements, rows = _plan(root, decisions, folder, by)
        if replacements:
            _replace(change, replacements, rows)
            change.commit()
    return result


def undo_corrections(root: str | Path, ids: Iterable[str] | None = None, dry_run: bool = False) -> list[str]:
    """Put the original labels back, to the byte; return the ids.

    With the last of them the ledger goes and the manifest gets its bytes of before, unless something else has changed
    in it since (a filter): then everything but the corrections stays as it is.

    Args:
        root: Root folder of the prepared data set.
        ids: Samples to restore. Default: all that were corrected.
        dry_run: Check everything, change nothing.

    Raises:
        UserError: nothing was corrected, an id was not, a mask in use or an original is not what the ledger says, or a
            sample was filtered away since.
    """
    root = Path(root)
    if dry_run:
        check_settled(root)
        return sorted(_originals(root, ids))
    with changing(root) as change:
        restored = _originals(root, ids)
        rows = read_ledger(root)
        manifest = read_manifest(root)
        taxonomy = get_taxonomy(manifest['taxonomy'])
        items = {item['id']: item for item in manifest['items']}
        for name, digest in restored.items():
            path = root / original_path(digest)
            change.write(items[name]['mask'], path.read_bytes())
            items[name] = dict(items[name], mask_sha256=digest, pixels=_pixels(read_mask(path), len(taxonomy.classes)))
        left = [row for row in rows if row.sample_id not in restored]
        _write_records(change, manifest, items, left)
        needed = {row.old_sha256 for row in left}
        for digest in sorted({row.old_sha256 for row in rows} - needed):
            change.remove(original_path(digest))
        if not left:
            change.remove(LEDGER)
            change.remove(KEPT_MANIFEST)
            change.remove_folder(ORIGINALS)
            change.remove_folder(FOLDER)
        change.commit()
    return sorted(restored)


def _plan(root: Path, decisions: Path, folder: Path, by: str | None) -> tuple[Applied, list[_Replacement], list[Row]]:
    """Check decisions against candidates, files and manifest; return what they ask for, and the ledger as it stands."""
    candidates = read_candidates(folder, root)
    models = {model.letter: model for model in candidates.models}
    chosen = read_decisions(decisions, candidates.letters)
    manifest, rows = read_manifest(root), read_ledger(root)
    offered, items = {item.sample_id: item for item in candidates.items}, {i['id']: i for i in manifest['items']}
    last = last_rows(rows)
    stamp = {'time': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()), 'by': by if by is not None else _user(),
             'candidates_sha256': candidates.hash}
    result, replacements = Applied({letter: model.name for letter, model in models.items()}), []
    for name, decision in progress(chosen.items(), 'check', len(chosen), 'image'):
        if name not in offered and name not in candidates.filtered:
            raise UserError(f'{decisions}: {name}: it is not among the candidates of {folder}')
        if decision.decision == KEEP:
            result.kept.append(name)
            continue
        if decision.decision == SKIP:
            result.skipped.append(name)
            continue
        result.better[decision.decision] += 1
        if name in candidates.filtered:
            result.not_found.append(name)
            continue
        item, offer, model = items[name], offered[name], models[decision.decision]
        replacement = _replacement(item, offer, decision, model, candidates.taxonomy, stamp)
        path, expected = root / item['mask'], item['mask_sha256']
        current = sha256_of(path)
        if current != expected:
            raise UserError(f'{path}: changed: SHA-256 {current[:12]}…, {MANIFEST_NAME} says {expected[:12]}…; '
                            'nothing was changed')
        if name in last and last[name].new_sha256 == replacement.row.new_sha256 == current:
            result.before.append(name)
        elif current != offer.mask.sha256:
            raise UserError(f'{path}: replaced since the candidates were made: SHA-256 {current[:12]}…, they say '
                            f'{offer.mask.sha256[:12]}…; nothing was changed')
        else:
            result.replaced.setdefault(model.letter, []).append(name)
            replacements.append(replacement)
    return result, replacements, rows


def _replacement(item: dict[str, Any], offer: Item, decision: Decision, model: Model, taxonomy: Taxonomy,
                 stamp: dict[str, str]) -> _Replacement:
    """Read a prediction, which proves that it is the one that was shown, and see that it fits the image."""
    source = offer.predictions[model.letter]
    data = source.read()
    labels = decode_labels(data, source.name, offer, taxonomy)
    row = Row(
        sample_id=item['id'], split=item['split'], mask=item['mask'], old_sha256=item['mask_sha256'],
        new_sha256=source.sha256, decision=model.letter, model=model.name, checkpoint=Path(model.checkpoint).name,
        checkpoint_sha256=model.sha256, note=decision.note, decided=decision.time, **stamp)
    return _Replacement(row, data, _pixels(labels, len(taxonomy.classes)))


def _replace(change: Change, replacements: list[_Replacement], rows: list[Row]) -> None:
    root = change.root
    manifest = read_manifest(root)
    items = {item['id']: item for item in manifest['items']}
    if not rows:
        change.write(KEPT_MANIFEST, (root / MANIFEST_NAME).read_bytes())
    for replacement in replacements:
        row = replacement.row
        change.write(original_path(row.old_sha256), (root / row.mask).read_bytes())
    for replacement in replacements:
        row = replacement.row
        change.write(row.mask, replacement.data)
        items[row.sample_id] = dict(items[row.sample_id], mask_sha256=row.new_sha256, pixels=replacement.pixels)
    _write_records(change, manifest, items, [*rows, *(replacement.row for replacement in replacements)])


def _write_records(change: Change, manifest: dict[str, Any], items: dict[str, Any], rows: list[Row]) -> None:
    """Add ledger and manifest to a change."""
    changed = dict(manifest, items=list(items.values()))
    changed.pop(CORRECTIONS, None)
    if rows:
        data = ledger_bytes(rows)
        change.write(LEDGER, data)
        changed[CORRECTIONS] = {'replaced': len(last_rows(rows)), 'ledger_sha256': hashlib.sha256(data).hexdigest()}
    write_manifest(change, changed, KEPT_MANIFEST)


def _originals(root: Path, ids: Iterable[str] | None) -> dict[str, str]:
    """Return {sample id: hash of the original} of what is to be restored, after proving that it can be."""
    rows, manifest = read_ledger(root), read_manifest(root)
    first, last = first_rows(rows), last_rows(rows)
    if not rows:
        raise UserError(f'{root}: no label was corrected, nothing to undo')
    wanted = sorted(first) if ids is None else sorted(set(ids))
    items, places = {item['id']: item for item in manifest['items']}, items_of(manifest)
    for name in progress(wanted, 'check', unit='image'):
        if name not in first:
            raise UserError(f'{root}: {name}: its label was not corrected')
        if name not in items:
            where = f'was moved to {places[name][1]}: undo that filter first' if name in places else 'is not there'
            raise UserError(f'{root}: {name}: {where}')
        for path, digest in ((root / items[name]['mask'], last[name].new_sha256),
                             (root / original_path(first[name].old_sha256), first[name].old_sha256)):
            if not path.is_file():
                raise UserError(f'{path}: missing; nothing was changed')
            if sha256_of(path) != digest:
                raise UserError(f'{path}: changed: the ledger says SHA-256 {digest[:12]}…; nothing was changed')
    return {name: first[name].old_sha256 for name in wanted}


def _pixels(mask: np.ndarray, classes: int) -> list[int]:
    return np.bincount(mask.ravel(), minlength=256)[:classes].tolist()


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container without this user
        return ''
