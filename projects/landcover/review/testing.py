"""A small candidates folder for tests."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from projects.engine.files import sha256_of, write_json
from projects.geo.raster import write_mask
from projects.landcover.data.candidates import CANDIDATES_NAME
from projects.landcover.data.manifest import MANIFEST_NAME
from projects.landcover.taxonomy import get_taxonomy


def make_candidates(folder: Path, items: int = 10, letters: str = 'ab', size: int = 48) -> Path:
    """Make `folder/data` (a prepared data set) and `folder/candidates`; return the latter.

    The label of item i is class ``i % 3`` with a square of class 3; the prediction of the j-th model moves the square
    by ``j + 1`` pixels, so that all are different.
    """
    taxonomy = get_taxonomy('landcover6')
    data, candidates = folder / 'data', folder / 'candidates'
    generator = np.random.default_rng(0)
    samples: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for index in range(items):
        name = f'tile_{index:02d}'
        for kind in ('images', 'masks'):
            (data / kind).mkdir(parents=True, exist_ok=True)
        labels = [np.full((size, size), index % 3, np.uint8) for _ in range(len(letters) + 1)]
        for shift, label in enumerate(labels):
            label[8 + shift: 24 + shift, 8:24] = 3
        pixels = np.array(taxonomy.palette)[labels[0]] // 2 + generator.integers(40, 80, (size, size, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(data / 'images' / f'{name}.png')
        write_mask(data / 'masks' / f'{name}.png', labels[0], taxonomy.palette)
        for letter, label in zip(letters, labels[1:]):
            write_mask(candidates / 'predictions' / letter / f'{name}.png', label, taxonomy.palette)
        samples.append({
            'id': name, 'image': f'images/{name}.png', 'mask': f'masks/{name}.png',
            'image_sha256': sha256_of(data / 'images' / f'{name}.png'),
            'mask_sha256': sha256_of(data / 'masks' / f'{name}.png'), 'width': size, 'height': size, 'group': name,
            'split': 'train', 'pixels': np.bincount(labels[0].ravel(), minlength=6).tolist(),
        })
        rows.append({
            'sample_id': name, 'split': 'train', 'rank': index + 1, 'score': 1 - index / items,
            'image': samples[-1]['image'], 'mask': samples[-1]['mask'], 'mask_sha256': samples[-1]['mask_sha256'],
            'predictions': {letter: f'predictions/{letter}/{name}.png' for letter in letters},
            'prediction_sha256': {letter: sha256_of(candidates / 'predictions' / letter / f'{name}.png')
                                  for letter in letters},
        })
    write_json(data / MANIFEST_NAME, {'version': 1, 'taxonomy': taxonomy.metainfo, 'split': {}, 'items': samples})
    models = [{'letter': letter, 'name': f'model {letter}', 'config': '', 'checkpoint': '',
               'sha256': hashlib.sha256(letter.encode()).hexdigest()} for letter in letters]
    write_json(candidates / CANDIDATES_NAME, {
        'version': 1, 'data_root': '../data', 'manifest_sha256': sha256_of(data / MANIFEST_NAME), 'models': models,
        'items': rows,
    })
    return candidates


def change(path: Path, edit: Any) -> None:
    """Let `edit` change the content of a JSON file."""
    content = json.loads(path.read_text(encoding='utf-8'))
    edit(content)
    write_json(path, content)
