"""`candidates.json`: suspected labels with the predictions that would replace them, and no file from elsewhere.

A candidates folder may come from somebody else, so nothing in it is believed. Masks and predictions must lie inside
the data root and the candidates folder after every symlink is followed. An image may itself be a symlink to anywhere,
since combined data sets link to the images of their sources; then the link must lie inside the data root, be the image
that the manifest lists for this sample, and lead to exactly the bytes whose hash the manifest holds. Bytes are
compared with their hash each time they are read: what was swapped since is neither shown nor applied.
"""

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from projects.engine.errors import UserError
from projects.landcover.data.decisions import is_letter
from projects.landcover.data.ledger import items_of
from projects.landcover.data.manifest import read_manifest
from projects.landcover.taxonomy import Taxonomy, get_taxonomy

CANDIDATES_NAME = 'candidates.json'
VERSION = 1
MOST_MODELS = 9  # the review page has one key a model
KEYS = ('version', 'data_root', 'models', 'items')
MODEL_KEYS = ('letter', 'name', 'checkpoint', 'sha256')
ITEM_KEYS = ('sample_id', 'split', 'rank', 'image', 'mask', 'mask_sha256', 'predictions', 'prediction_sha256')


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
class Model:
    """A model whose predictions are offered: its letter, its name, the path of its checkpoint and that file's hash."""

    letter: str
    name: str
    checkpoint: str
    sha256: str


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
    """What is to be decided upon.

    Args:
        folder: The candidates folder.
        data_root: Root of the prepared data set.
        taxonomy: Of masks and predictions.
        models: In the order of `candidates.json`.
        items: Sorted by rank.
        filtered: Ids of samples that `tools/landcover/filter.py` has taken out of the data set since.
        hash: SHA-256 of `candidates.json`.
    """

    folder: Path
    data_root: Path
    taxonomy: Taxonomy
    models: tuple[Model, ...]
    items: tuple[Item, ...]
    filtered: tuple[str, ...]
    hash: str

    @property
    def letters(self) -> tuple[str, ...]:
        """The letters of the models."""
        return tuple(model.letter for model in self.models)


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


def read_candidates(folder: str | Path, data_root: str | Path | None = None) -> Candidates:
    """Read and check a candidates folder; only names are checked here, bytes when they are read.

    Args:
        folder: The folder that holds `candidates.json`.
        data_root: Root of the data set, where it is not the one that `candidates.json` names (but a copy of it).

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
    for key in ('models', 'items'):
        if not isinstance(content[key], list):
            raise UserError(f'{path}: {key}: expected a list, found {content[key]!r}')
    # An absolute path stays as it is.
    data_root = Path(data_root) if data_root is not None else folder / str(content['data_root'])
    manifest = read_manifest(data_root)
    taxonomy = get_taxonomy(manifest['taxonomy'])
    told = content.get('taxonomy')
    if told is not None and get_taxonomy(told).hash != taxonomy.hash:
        raise UserError(f'{path}: the candidates are of other classes than {data_root}')
    models = _models(path, content['models'])
    known, left = items_of(manifest), {item['id'] for item in manifest['items']}
    items, filtered = [], []
    for index, entry in enumerate(content['items']):
        _need(path, f'items[{index}]', entry, ITEM_KEYS)
        where = f'{path}: items[{index}] ({entry["sample_id"]})'
        if entry['sample_id'] not in known:
            raise UserError(f'{where}: not in the manifest of {data_root}')
        item = _item(where, entry, folder, data_root, known[entry['sample_id']][0], models)
        if item.sample_id not in left:
            filtered.append(item.sample_id)
            continue
        try:
            for source in (item.image, item.mask, *item.predictions.values()):
                inside(source.root, source.name, source.may_be_link)
        except UserError as error:
            raise UserError(f'{where}: {error}') from error
        items.append(item)
    ids = [*filtered, *(item.sample_id for item in items)]
    if not ids or len(set(ids)) != len(ids):
        raise UserError(f'{path}: items: expected samples, each once, found {len(ids)} of {len(set(ids))} ids')
    items.sort(key=lambda item: item.rank)
    return Candidates(folder, data_root, taxonomy, models, tuple(items), tuple(filtered),
                      hashlib.sha256(data).hexdigest())


def decode_labels(data: bytes, name: str, item: Item, taxonomy: Taxonomy) -> np.ndarray:
    """Return class ids ``(H, W)`` uint8 of the bytes of a mask or prediction.

    Raises:
        UserError: it is no index mask, or has another size or other labels than it should; names the file.
    """
    try:
        picture = Image.open(io.BytesIO(data))
        labels = np.array(picture)
    except Exception as error:  # decoders raise many kinds
        raise UserError(f'{name}: not a readable mask ({type(error).__name__})') from error
    if labels.shape != (item.height, item.width) or picture.mode not in ('P', 'L'):
        raise UserError(f'{name}: expected an index mask of {item.width} x {item.height}, found '
                        f'{picture.width} x {picture.height} ({picture.mode})')
    taxonomy.validate(labels, name)
    return labels


def _models(path: Path, content: list[Any]) -> tuple[Model, ...]:
    for index, entry in enumerate(content):
        _need(path, f'models[{index}]', entry, MODEL_KEYS)
        for key in MODEL_KEYS:
            if not isinstance(entry[key], str):
                raise UserError(f'{path}: models[{index}]: {key}: expected a text, found {entry[key]!r}')
    letters = [entry['letter'] for entry in content]
    if not 1 <= len(letters) <= MOST_MODELS or len(set(letters)) != len(letters) or not all(map(is_letter, letters)):
        raise UserError(f'{path}: models: expected 1 to {MOST_MODELS} with different letters a to z, found {letters}')
    return tuple(Model(*(entry[key] for key in MODEL_KEYS)) for entry in content)


def _item(where: str, content: dict[str, Any], folder: Path, data_root: Path, sample: dict[str, Any],
          models: tuple[Model, ...]) -> Item:
    letters = [model.letter for model in models]
    if 'test' in (content['split'], sample['split']):
        raise UserError(f'{where}: belongs to the test split, whose labels are never corrected')
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
    return Item(
        sample['id'], sample['split'], content['rank'], content.get('score'), sample['width'], sample['height'],
        Source(data_root, content['image'], sample['image_sha256'], may_be_link=True),
        Source(data_root, content['mask'], str(content['mask_sha256'])),
        {letter: Source(folder, content['predictions'][letter], content['prediction_sha256'][letter])
         for letter in letters},
    )


def _need(path: Path, what: str, content: Any, keys: tuple[str, ...]) -> None:
    missing = [key for key in keys if key not in content] if isinstance(content, dict) else list(keys)
    if missing:
        raise UserError(f'{path}: {what}: keys {missing} are missing')
