"""What a teacher said about views that come again, on disk.

A frozen teacher says the same about the same picture. Where each sample has a fixed number of augmentation seeds
(``augmentation_views``), its logits are computed once for each view and read afterwards.
"""

import hashlib
import logging
import os
import shutil
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_world_size
from mmengine.logging import print_log
from torch import Tensor

from projects.engine.errors import UserError
from projects.engine.files import atomic_path

GIB = 1 << 30
SIDE = 8  # of the small picture that is kept beside the logits
LARGEST = torch.finfo(torch.float16).max


class TeacherCache:
    """Logits of one teacher as float16, a file for each view: ``FOLDER/<teacher>/<2 digits>/<hash of the view>.npz``.

    Beside the logits lies a sample of 8 x 8 pixels of the picture that they are about: when a view looks different from
    when it was kept (another pipeline, other data, another normalisation), that is an error and not a wrong loss.
    Logits that were just computed are rounded to float16, too, so that a run does not depend on what was kept before.

    When the folder has reached its size, the disk is nearly full or a file cannot be written, nothing more is kept;
    that is said once, and the training goes on. A file that cannot be read is made anew. Several processes may share a
    folder.

    Args:
        folder: Where to keep them.
        teacher_sha256: Hash of the teacher's checkpoint.
        max_gib: Largest size of this teacher's files in GiB; None: no limit but the disk.
        min_free_gib: What stays free on the disk, in GiB. Default 1.
    """

    def __init__(self, folder: str | Path, teacher_sha256: str, max_gib: float | None = None,
                 min_free_gib: float = 1.0) -> None:
        if (max_gib is not None and not max_gib > 0) or min_free_gib < 0:
            raise UserError('distil.cache: expected max_gib above 0 and min_free_gib of at least 0, found '
                            f'{max_gib} and {min_free_gib}')
        self.folder = Path(folder) / teacher_sha256[:16]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f'distil.cache {folder}: cannot be made ({error.strerror})') from error
        self.min_free = min_free_gib * GIB
        self.left = float('inf')  # bytes that this process may add
        if max_gib is not None:
            held = sum(path.stat().st_size for path in self.folder.glob('*/*.npz'))
            self.left = max(max_gib * GIB - held, 0.0) / get_world_size()
        self.keeps = True
        self.hits = self.misses = 0

    def logits(self, inputs: Tensor, views: Sequence[str], teacher: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the teacher's logits (N, K, h, w) as float32 on the inputs' device, read or computed.

        Args:
            inputs: Images (N, C, H, W) as the network gets them.
            views: A name for each, of sample and augmentation seed.
            teacher: Gives the logits of images; called at most once, with those that are not kept.

        Raises:
            UserError: A view looks different from when it was kept.
        """
        pictures = _pictures(inputs)
        paths = [self._path(view, inputs.shape[1:]) for view in views]
        found = [self._read(path, picture, view) for path, picture, view in zip(paths, pictures, views)]
        if len({logits.shape for logits in found if logits is not None}) > 1:
            found = [None] * len(found)  # files that were tampered with
        missing = [index for index, logits in enumerate(found) if logits is None]
        self.hits, self.misses = self.hits + len(found) - len(missing), self.misses + len(missing)
        if missing:
            chosen = inputs if len(missing) == len(found) else inputs[missing]
            computed = teacher(chosen).float().clamp(-LARGEST, LARGEST).half().cpu().numpy()
            for index, logits in zip(missing, computed):
                found[index] = logits
                self._write(paths[index], logits, pictures[index])
        return torch.from_numpy(np.stack(found)).to(inputs.device).float()

    def _path(self, view: str, shape: Sequence[int]) -> Path:
        name = hashlib.sha256(f'{view}|{tuple(shape)}'.encode()).hexdigest()[:40]
        return self.folder / name[:2] / f'{name[2:]}.npz'

    def _read(self, path: Path, picture: np.ndarray, view: str) -> np.ndarray | None:
        try:
            with np.load(path, allow_pickle=False) as file:
                logits, kept = file['logits'], file['picture']
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        if logits.dtype != np.float16 or logits.ndim != 3:
            return None
        if kept.shape != picture.shape or not np.allclose(kept, picture, rtol=1e-2, atol=1e-2):
            raise UserError(f'distil.cache {self.folder}: {view} looks different from when it was kept: pipeline, '
                            'normalisation or data have changed; name another folder, or remove this one')
        return logits

    def _write(self, path: Path, logits: np.ndarray, picture: np.ndarray) -> None:
        if not self.keeps:
            return
        size = logits.nbytes + picture.nbytes + 600
        if size > self.left:
            self._stop('it has reached distil.cache.max_gib')
            return
        try:
            if shutil.disk_usage(self.folder).free - size < self.min_free:
                self._stop(f'the disk has less than {self.min_free / GIB:g} GiB free')
                return
            with atomic_path(path) as temporary, open(temporary, 'wb') as file:
                np.savez(file, logits=logits, picture=picture)
            self.left -= os.path.getsize(path)
        except OSError as error:
            self._stop(f'{path.name} was not written ({error.strerror or error})')

    def _stop(self, why: str) -> None:
        self.keeps = False
        print_log(f'distil.cache {self.folder}: nothing more is kept, {why}; what is there is still read', 'current',
                  logging.WARNING)


def view_names(data_samples: Sequence[Any]) -> list[str]:
    """Return what identifies each sample's view: its id (else its image's path) and its augmentation seed.

    Raises:
        UserError: A sample has no such seed, or no name.
    """
    names = []
    for sample in data_samples:
        seed, name = sample.get('augmentation_seed'), sample.get('sample_id') or sample.get('img_path')
        if seed is None:
            raise UserError('distil.cache: kept logits need augmentations that come again: set augmentation_views=K (K '
                            'views of each sample; 1 for a pipeline without chance), or leave the cache out')
        if not name:
            raise UserError("distil.cache: a sample has neither sample_id nor img_path; add 'sample_id' to meta_keys "
                            'of PackSegInputs in train_pipeline')
        names.append(f'{name} with seed {tuple(int(part) for part in seed)}')
    return names


def _pictures(inputs: Tensor) -> np.ndarray:
    """Return a grid of 8 x 8 pixels of each image, (N, C, 8, 8) float16 (fewer where the image is smaller)."""
    rows, columns = (torch.linspace(0, size - 1, min(SIDE, size)).round().long() for size in inputs.shape[2:])
    small = inputs[:, :, rows.to(inputs.device)][..., columns.to(inputs.device)]
    return small.float().clamp(-LARGEST, LARGEST).half().cpu().numpy()
