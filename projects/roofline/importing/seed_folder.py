"""The seed's folders, ``train/`` and ``valid/`` with ``NAME.png`` and ``NAME_label.npz``, read as graphs."""

from pathlib import Path

from projects.engine.errors import UserError
from projects.geo.raster import IMAGE_SUFFIXES
from projects.roofline.annotations import Annotation
from projects.roofline.importing.images import image_size
from projects.roofline.importing.reading import Imported, Reading, listed, unique_names
from projects.roofline.npz_labels import SUFFIX, read_npz

FOLDERS = {'train': 'train', 'valid': 'val', 'val': 'val', 'test': 'test'}


def read_seed_folder(source: str | Path) -> Reading:
    """Read a data set of the seed.

    Args:
        source: The folder above ``train/``, ``valid/`` (or ``val/``) and ``test/``.

    Raises:
        UserError: None of the folders is there, labels have no image, or a label is damaged.
    """
    source = Path(source)
    folders = [source / name for name in FOLDERS if (source / name).is_dir()]
    if not folders:
        raise UserError(f'{source}: expected the folders train and valid, found neither')
    found, parents, missing, bare = [], [], [], []
    for folder in folders:
        pictures: dict[str, Path] = {}
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith('.'):
                if path.stem in pictures:
                    raise UserError(f'{folder}: expected one image {path.stem}, found {pictures[path.stem].name} and '
                                    f'{path.name}')
                pictures[path.stem] = path
        labels = {path.name.removesuffix(SUFFIX): path for path in sorted(folder.glob(f'*{SUFFIX}'))}
        missing += [f'{folder.name}/{name}{SUFFIX}' for name in labels if name not in pictures]
        bare += [f'{folder.name}/{path.name}' for name, path in pictures.items() if name not in labels]
        for name, path in labels.items():
            if name in pictures:
                height, width = image_size(pictures[name])
                graph = read_npz(path, (height, width), str(path))
                found.append(Imported(Annotation(pictures[name].name, width, height, FOLDERS[folder.name], graph),
                                      pictures[name]))
                parents.append(folder.name)
    if missing:
        raise UserError(f'{source}: expected an image for each label, found none for {listed(missing)}')
    if not found:
        raise UserError(f'{source}: expected NAME.png and NAME{SUFFIX} in {listed([path.name for path in folders])}, '
                        'found no label')
    notes = [f'{source}: {len(bare)} images without annotation, {listed(bare)}'] if bare else []
    return Reading(tuple(unique_names(found, parents, str(source))), tuple(notes))
