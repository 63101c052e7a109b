"""The seed's folder layout, written from this room's: ``train/`` and ``valid/`` with NAME.png and NAME_label.npz."""

from collections import Counter
from pathlib import Path, PurePosixPath

from PIL import Image

from projects.engine.errors import UserError
from projects.engine.files import atomic_folder, atomic_path, check_output_folder
from projects.engine.progress import progress
from projects.roofline.annotations import IMAGE_FOLDER, Annotation, read_annotations
from projects.roofline.datasets.transforms.letterbox import LetterboxRoof
from projects.roofline.datasets.transforms.loading import LoadRoofImage
from projects.roofline.npz_labels import SUFFIX, write_npz

FOLDERS = {'train': 'train', 'val': 'valid', 'test': 'test'}  # the seed has no test; where there is one, it is kept


def write_label_folder(root: str | Path, out: str | Path, image_size: int = 512, map_size: int = 128,
                       n_types: int = 1, negatives: int = 2000) -> Counter[str]:
    """Write images and labels as the seed's trainer reads them.

    Images are scaled by one factor into a square frame (:class:`LetterboxRoof`), their graphs with them, and stored as
    PNG. The layout has no room for coordinate systems and resolutions. An image ``a/b.jpg`` becomes ``a_b.png``.

    Args:
        root: Folder with ``annotations.json`` and ``images/``.
        out: Folder to write: new or empty. It appears when all is written.
        image_size: Side of the images in pixels.
        map_size: Side of the maps in cells.
        n_types: Classes of junctions that are told apart.
        negatives: At most so many hard negatives an image.

    Returns:
        How many images each folder has.

    Raises:
        UserError: The annotations are not valid, an image is missing, damaged or of another size than annotated, two
            have one name, a junction's class is not below ``n_types``, or ``out`` has files in it.
    """
    root, out = Path(root), Path(out)
    for flag, value, lowest in (('image-size', image_size, 1), ('map-size', map_size, 1), ('types', n_types, 1),
                                ('negatives', negatives, 0)):
        if value < lowest:
            raise UserError(f'--{flag}: expected {lowest} or more, found {value}')
    if image_size < map_size:
        raise UserError(f'--map-size: expected at most --image-size {image_size}, found {map_size}')
    check_new_folder(out)
    annotations = read_annotations(root)
    names = _names(annotations, root, n_types)

    load, letterbox = LoadRoofImage(), LetterboxRoof(image_size)
    with atomic_folder(out) as temporary:
        for annotation, name in progress(list(zip(annotations, names, strict=True)), 'labels', unit='image'):
            results = letterbox(load(dict(
                img_path=str(root / IMAGE_FOLDER / annotation.file), graph=annotation.graph,
                ori_shape=(annotation.height, annotation.width))))
            with atomic_path(temporary / f'{name}.png') as path:
                Image.fromarray(results['img']).save(path)
            write_npz(temporary / f'{name}{SUFFIX}', results['graph'], results['img'].shape[:2],
                      (map_size, map_size), n_types, negatives)
        check_new_folder(out)  # minutes have passed
    return Counter(name.split('/')[0] for name in names)


def check_new_folder(out: Path) -> None:
    """Raise :class:`UserError` unless a folder is empty, or can be made."""
    check_output_folder(out)
    if out.is_dir() and any(out.iterdir()):
        raise UserError(f'--out {out}: expected a new or empty folder, found files in it')


def _names(annotations: list[Annotation], root: Path, n_types: int) -> list[str]:
    """Return ``train/NAME`` for each image; what would fail later fails here, before anything is written."""
    if not annotations:
        raise UserError(f'{root}: expected images, found none in the annotations')
    names: dict[str, str] = {}
    for annotation in annotations:
        name = '_'.join(PurePosixPath(annotation.file).with_suffix('').parts)
        name = f'{FOLDERS[annotation.split]}/{name}'
        twin = names.setdefault(name, annotation.file)
        if twin != annotation.file:
            raise UserError(f'{root}: file: expected different names, found {twin} and {annotation.file}, which would '
                            f'both be {name}.png')
        if not (root / IMAGE_FOLDER / annotation.file).is_file():
            raise UserError(f'{root / IMAGE_FOLDER / annotation.file}: no such file: expected the image of an '
                            'annotation')
        kinds = annotation.graph.junction_types
        if n_types > 1 and kinds.size and kinds.max() >= n_types:
            raise UserError(f'{root}: {annotation.file}: junction_types: expected classes below --types {n_types}, '
                            f'found {kinds.max()}')
    return list(names)
