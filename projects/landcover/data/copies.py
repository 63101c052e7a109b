"""A second copy of a prepared data set that can be changed while the first stays as it is: images are links."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from projects.landcover.data.changes import check_settled
from projects.landcover.data.manifest import MANIFEST_NAME, read_manifest
from projects.landcover.data.prepare import building, check_target

PARTS = ('images', 'masks', 'corrections', 'filtered')


@contextmanager
def linked_copy(root: str | Path, out: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """Yield the copy in a hidden folder, to be changed; it is renamed to `out` when the body ends well, else removed.

    Images and their sidecars are relative links to those of `root`; masks, manifest, ledger and records are files of
    their own. So the copy can be corrected, filtered and undone, and `root` never notices.

    Args:
        root: Root folder of a prepared data set.
        out: Folder to write.
        overwrite: Replace a prepared data set at `out`.

    Raises:
        UserError: no prepared data set, or `out` is in the way.
    """
    root, out = Path(root), Path(out)
    read_manifest(root)
    check_settled(root)
    check_target(root, out, overwrite)
    place, origin = out.absolute().parent.resolve() / out.name, root.resolve()
    with building(out, overwrite) as folder:
        shutil.copyfile(root / MANIFEST_NAME, folder / MANIFEST_NAME)
        for part in PARTS:
            for path in sorted((root / part).rglob('*')):
                name = path.relative_to(root)
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                if path.is_dir() and not path.is_symlink():
                    continue
                if 'images' in name.parts[:-1]:
                    os.symlink(os.path.relpath(origin / name, (place / name).parent), target)
                else:
                    shutil.copyfile(path, target)
        yield folder
