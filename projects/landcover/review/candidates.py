"""Read `candidates.json`: suspected labels with the predictions that would replace them, and no file from elsewhere.

A candidates folder may come from somebody else, so its paths are not believed. Masks and predictions must lie inside
the data root and the candidates folder after every symlink is followed. An image may itself be a symlink to anywhere,
since combined data sets link to the images of their sources; then the link must lie inside the data root, be the image
that the manifest lists for this sample, and lead to exactly the bytes whose hash the manifest holds. Bytes are
compared with their hash each time they are read: what was swapped since is not shown.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from projects.engine.errors import UserError
from projects.landcover.data.decisions import is_letter
from projects.landcover.data.manifest import read_manifest
from projects.landcover.taxonomy import Taxonomy, get_taxonomy

CANDIDATES_NAME = 'candidates.json'
VERSION = 1
KEYS = ('version', 'data_root', 'models', 'items')
ITEM_KEYS = ('sample_id', 'split', 'rank', 'image', 'mask', 'mask_sha256', 'predictions', 'prediction_sha256')
MOST_MODELS = 9  # one key a model


@dataclass(frozen=True)
class Source:
    """A file that may be shown: a path below a root, and the SHA-256 that its bytes must have."""

    root: Path
    name: str
    sha256: str
    may_be_link: bool = False

    def read(self) -> bytes:
        """Return the file's bytes.

        Raises:
            UserError: the path leaves the root, the file is missing, or its bytes are not those of the hash.
        """
        path = inside(self.root, self.name, self.may_be_link)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UserError(f'{path}: {error.strerror or error}') from error
        found = hashlib.sha256(data).hexdigest()
        if found != self.sha256:
            raise UserError(f'{path}: has changed since the candidates were made: expected SHA-256 '
                            f'{self.sha256[:12]}…, found {found[:12]}…')
        return data


@dataclass(frozen=True)
class Item:
    """A suspected label.

    Args:
        sample_id, split, rank, score: As in `candidates.json`; rank 1 is the most suspicious; score may be None.
        width, height: Of the image in pixels, from the manifest.
        image, mask: Files below the data root.
        predictions: A file below the candidates folder for each model's letter.
    """

    sample_id: str
    split: str
    rank: int
    score: float | None
    width: int
    height: int
    image: Source
    mask: Source
    predictions: dict[str, Source]


@dataclass(frozen=True)
class Candidates:
    """What is to be reviewed.

    Args:
        folder: The candidates folder.
        data_root: Root of the prepared data set.
        taxonomy: Of masks and predictions.
        letters: The models, in the order of `candidates.json`.
        items: Sorted by rank.
        hash: SHA-256 of `candidates.json`.
    """

    folder: Path
    data_root: Path
    taxonomy: Taxonomy
    letters: tuple[str, ...]
    items: tuple[Item, ...]
    hash: str


def inside(root: Path, name: str, may_be_link: bool = False) -> Path:
    """Return the resolved path of a file below a root.

    Args:
        root: The folder.
        name: Relative path with forward slashes.
        may_be_link: The last part may be a symlink that leads elsewhere; the folders above it may not.

    Raises:
        UserError: the name is absolute or climbs, or the file lies outside after symlinks are followed.
    """
    parts = PurePosixPath(name).parts
    if not parts or name.startswith(('/', '~')) or '..' in parts or '\\' in name or '\0' in name:
        raise UserError(f'{name!r}: refused: expected a path inside {root}')
    root = root.resolve()
    path = root.joinpath(*parts)
    lies_at = path.parent.resolve() / path.name if may_be_link else path.resolve()
    if not lies_at.is_relative_to(root):
        raise UserError(f'{name!r}: refused: leads out of {root} to {lies_at}')
    path = path.resolve()
    if not path.is_file():  # no folder, no pipe, no device
        raise UserError(f'{path}: no such file')
    return path


def read_candidates(folder: str | Path) -> Candidates:
    """Read and check a candidates folder; only names are checked here, bytes when they are read.

    Raises:
        UserError: `candidates.json` or the manifest of its data is missing or does not fit, a path is refused, a sample
            belongs to a test split, or there are no items.
    """
    folder = Path(folder)
    path = folder / CANDIDATES_NAME
    if not path.is_file():
        raise UserError(f'{path}: missing: not a candidates folder (tools/landcover/correct.py candidates makes one)')
    data = path.read_bytes()
    try:
        content = json.loads(data)
    except ValueError as error:
        raise UserError(f'{path}: not readable as JSON: {error}') from error
    _need(path, 'it', content, KEYS)
    if content['version'] != VERSION:
        raise UserError(f'{path}: version: expected {VERSION}, found {content["version"]!r}')
    data_root = folder / str(content['data_root'])  # an absolute one stays as it is
    manifest = read_manifest(data_root)
    known = {item['id']: item for item in manifest['items']}
    letters = tuple(str(model.get('letter')) if isinstance(model, dict) else '' for model in content['models'])
    if not 1 <= len(letters) <= MOST_MODELS or len(set(letters)) != len(letters) or not all(map(is_letter, letters)):
        raise UserError(f'{path}: models: expected 1 to {MOST_MODELS} with different letters a to z, '
                        f'found {list(letters)}')
    items = [_item(path, i, item, folder, data_root, known, letters) for i, item in enumerate(content['items'])]
    ids = [item.sample_id for item in items]
    if not items or len(set(ids)) != len(ids):
        raise UserError(f'{path}: items: expected samples, each once, found {len(ids)} of {len(set(ids))} ids')
    items.sort(key=lambda item: item.rank)
    return Candidates(folder, data_root, get_taxonomy(manifest['taxonomy']), letters, tuple(items),
                      hashlib.sha256(data).hexdigest())


def _item(path: Path, index: int, content: Any, folder: Path, data_root: Path, known: dict[str, Any],
          letters: tuple[str, ...]) -> Item:
    _need(path, f'items[{index}]', content, ITEM_KEYS)
    sample_id = str(content['sample_id'])
    where = f'{path}: items[{index}] ({sample_id})'
    if sample_id not in known:
        raise UserError(f'{where}: not in the manifest of {data_root}')
    sample = known[sample_id]
    if 'test' in (content['split'], sample['split']):
        raise UserError(f'{where}: belongs to the test split, which nobody may correct')
    if type(content['rank']) is not int or not isinstance(content.get('score'), int | float | None):
        raise UserError(f'{where}: rank and score: expected numbers, found {content["rank"]!r}, {content["score"]!r}')
    for key in ('image', 'mask'):
        if content[key] != sample[key]:
            raise UserError(f'{where}: {key}: expected {sample[key]!r} as in the manifest, found {content[key]!r}')
    for key in ('predictions', 'prediction_sha256'):
        if not isinstance(content[key], dict) or set(content[key]) != set(letters):
            raise UserError(f'{where}: {key}: expected one for each of {", ".join(letters)}')
        if not all(isinstance(value, str) for value in content[key].values()):
            raise UserError(f'{where}: {key}: expected texts, found {list(content[key].values())}')
    item = Item(
        sample_id, str(content['split']), content['rank'], content.get('score'), sample['width'], sample['height'],
        Source(data_root, content['image'], sample['image_sha256'], may_be_link=True),
        Source(data_root, content['mask'], str(content['mask_sha256'])),
        {letter: Source(folder, content['predictions'][letter], content['prediction_sha256'][letter])
         for letter in letters},
    )
    try:
        for source in (item.image, item.mask, *item.predictions.values()):
            inside(source.root, source.name, source.may_be_link)
    except UserError as error:
        raise UserError(f'{where}: {error}') from error
    return item


def _need(path: Path, what: str, content: Any, keys: tuple[str, ...]) -> None:
    missing = [key for key in keys if key not in content] if isinstance(content, dict) else list(keys)
    if missing:
        raise UserError(f'{path}: {what}: keys {missing} are missing')
