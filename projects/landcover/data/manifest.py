"""The manifest of a prepared data set: what was made from what, and which split every image belongs to."""

import json
from pathlib import Path
from typing import Any

from projects.engine.errors import UserError

MANIFEST_NAME = 'manifest.json'
VERSION = 1
KEYS = ('version', 'taxonomy', 'split', 'items')
ITEM_KEYS = ('id', 'image', 'mask', 'image_sha256', 'mask_sha256', 'width', 'height', 'group', 'split', 'pixels')


def read_manifest(root: Path) -> dict[str, Any]:
    """Read `manifest.json` of a prepared data set.

    Raises:
        UserError: it is missing, no JSON, of another version, or lacks a key.
    """
    path = root / MANIFEST_NAME
    if not path.is_file():
        raise UserError(f'{path}: missing: not a prepared data set (make one with tools/landcover/prepare.py)')
    try:
        manifest = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise UserError(f'{path}: not readable as JSON: {error}') from error
    if not isinstance(manifest, dict):
        raise UserError(f'{path}: expected a JSON object, found {type(manifest).__name__}')
    missing = [key for key in KEYS if key not in manifest]
    if missing:
        raise UserError(f'{path}: keys {missing} are missing')
    if manifest['version'] != VERSION:
        raise UserError(f'{path}: version: expected {VERSION}, found {manifest["version"]!r}: prepare the data again')
    for index, item in enumerate(manifest['items']):
        missing = [key for key in ITEM_KEYS if key not in item]
        if missing:
            raise UserError(f'{path}: items[{index}]: keys {missing} are missing')
    return manifest
