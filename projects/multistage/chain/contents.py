"""The content of data and results as one hash: of a file, of a prepared data set, of a folder."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from projects.engine.files import sha256_of

MANIFEST = 'manifest.json'
SMALL = 2**20  # bytes of a file in a folder that is read; a larger one counts by name and size


def content_hash(path: str | Path) -> str | None:
    """Return a hash of what lies at a path; None where nothing does.

    A file gives its SHA-256. A prepared data set gives that of its ``manifest.json``, which holds the hash of every
    file. Any other folder gives a hash over names, sizes and, of small files, contents.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return sha256_of(path)
    if not path.is_dir():
        return None
    if (path / MANIFEST).is_file():
        return sha256_of(path / MANIFEST)
    found = hashlib.sha256()
    for file in sorted(one for one in path.rglob('*') if one.is_file() and not one.name.startswith('.')):
        size = file.stat().st_size
        content = sha256_of(file) if size <= SMALL else ''
        found.update(f'{file.relative_to(path).as_posix()} {size} {content}\n'.encode())
    return found.hexdigest()


def read_manifest_items(root: str | Path) -> tuple[dict[str, Any], list[Mapping[str, Any]]]:
    """Return a data set's manifest and its items; empty ones where it has none that can be read."""
    try:
        manifest = json.loads((Path(root).expanduser() / MANIFEST).read_text(encoding='utf-8'))
        items = manifest['items']
    except (OSError, ValueError, KeyError, TypeError):
        return {}, []
    return manifest, [item for item in items if isinstance(item, Mapping)] if isinstance(items, list) else []


def split_identity(root: str | Path, split: str | None) -> tuple[str | None, int | None]:
    """Return a hash of one split's images and labels, whatever they are called, and their number.

    Two data sets of which only the training labels differ have the same validation split.

    Returns:
        Of data without a manifest that holds hashes, the hash of the whole and the split's name, and None.
    """
    _, items = read_manifest_items(root)
    own = [item for item in items if split in (None, 'all', item.get('split'))]
    if own and all(item.get('image_sha256') and item.get('mask_sha256') for item in own):
        pairs = sorted(f'{item["image_sha256"]} {item["mask_sha256"]}' for item in own)
        return hashlib.sha256('\n'.join(pairs).encode()).hexdigest(), len(own)
    whole = content_hash(root)
    return whole and hashlib.sha256(f'{whole} {split}'.encode()).hexdigest(), len(own) or None


def data_sets(value: Any) -> Iterator[tuple[str, str | None]]:
    """Yield data root and split of every data set below a data loader's config."""
    if isinstance(value, Mapping):
        root, split = value.get('data_root'), value.get('split')
        several = root.values() if isinstance(root, Mapping) else root if isinstance(root, (list, tuple)) else (root,)
        for one in several:
            if isinstance(one, str):
                yield one, split if isinstance(split, str) else None
        for item in value.values():
            yield from data_sets(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from data_sets(item)


def loader_identity(loader: Any) -> tuple[str | None, str | None, int | None]:
    """Return a hash of what a data loader's config reads, its splits' names, and the number of its samples."""
    found = list(dict.fromkeys(data_sets(loader)))
    parts = [split_identity(root, split) for root, split in found]
    if not parts or any(part is None for part, _ in parts):
        return None, None, None
    numbers = [number for _, number in parts]
    one = hashlib.sha256('\n'.join(sorted(str(part) for part, _ in parts)).encode()).hexdigest()
    return (one, '+'.join(dict.fromkeys(str(split) for _, split in found)),
            sum(numbers) if None not in numbers else None)
