"""The seed's YAML files as they stand: what becomes of every key of theirs.

``tools/lidar/prepare.py --seed-yaml FILE [FILE …]`` reads them; several files make one store with several scales. Its
patches are then written as files beside the tiles of the store, ``OUT/patches_50m/TILE_0012.npz`` and ``.laz``.
:data:`OUTCOMES` is the documentation and the list of known keys in one: a key that is not there is refused by name.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from projects.engine.errors import UserError
from projects.lidar.exporting import FORMATS, ExportOptions
from projects.lidar.preparation.settings import (
    SAMPLING,
    Scale,
    Settings,
    check_number,
    check_settings,
    make_scale,
    scale_key,
)

COMPRESSIONS = (None, 'gzip', 'zip', 'zlib')

# Section and key -> what its value does here.
OUTCOMES: dict[str, str] = {
    'processor.lod_level': 'labels of the patch files, LOD3 or LOD2; the store always holds LOD3',
    'processor.architecture': 'kept in the manifest; a network is chosen by the training config',
    'processor.use_gpu': 'true or false, the same result: nothing of the preparation needs a GPU, a note says so',
    'processor.num_workers': 'processes; --workers comes first',
    'processor.patch_size': 'side of a patch in metres, and the name of the scale',
    'processor.patch_overlap': 'share of the side that neighbouring patches have in common',
    'processor.num_points': 'points of a patch file; head of each patch of the store in farthest-point order',
    'processor.augment': 'kept in the manifest: augmentation is online, in the training config; nothing is multiplied',
    'processor.num_augmentations': 'kept in the manifest, as augment',
    'processor.pin_memory': 'kept in the manifest for the data loader of a training; no effect on the result here',
    'features.mode': 'full: all features, the only mode',
    'features.k_neighbors': 'neighbours of the geometric features',
    'features.include_extra': 'true: the extra features are always stored; false is refused',
    'features.use_rgb': 'false: colours are not stored; true: stored where the tile has them, else masked',
    'features.use_infrared': 'the same for infrared',
    'features.compute_ndvi': 'false: the vegetation index stays 0; true: computed where colour and infrared exist',
    'features.sampling_method': 'fps: farthest-point order; random: shuffled',
    'features.normalize_xyz': 'xyz of .npz files: true centred on the patch (metres), false absolute; .laz: absolute',
    'features.normalize_features': 'true: features roughly -1..1, read from the store or .npz; false is refused',
    'features.gpu_batch_size': 'checked, then as use_gpu: cells of 50 m bound the memory',
    'features.use_gpu_chunked': 'as use_gpu',
    'preprocess.enabled': 'false: no outlier flags at all',
    'preprocess.sor_k': 'neighbours of the statistical outlier flags',
    'preprocess.sor_std': 'their threshold in standard deviations',
    'preprocess.ror_radius': 'metres of the radius outlier flags',
    'preprocess.ror_neighbors': 'least number of points within that radius',
    'preprocess.voxel_enabled': 'true: patches list one point of every voxel; false: all points',
    'preprocess.voxel_size': 'side of a voxel in metres (0.1)',
    'stitching.enabled': 'false: no buffer',
    'stitching.buffer_size': 'metres of neighbouring tiles that take part in the features',
    'stitching.auto_detect_neighbors': 'true: neighbours among the inputs, by the boxes in their headers; false: none',
    'stitching.auto_download_neighbors': 'true: neighbours among the inputs, and a warning that nothing is downloaded',
    'stitching.cache_enabled': 'true: a worker keeps the borders of tiles that it read for the next one',
    'output.format': 'npz, laz or both: patches are written so to OUT/patches_SIZEm, beside the store',
    'output.processing_mode': 'patches_only, the only mode',
    'output.save_stats': 'statistics in the records of tiles and in the manifest',
    'output.save_metadata': 'what the source says of itself (format, bounds, dimensions) in the records of tiles',
    'output.compression': 'of .npz files: null none, gzip / zip / zlib deflated; the store stays mappable',
    'input_dir': 'folder of tiles; INPUT on the command line comes first',
    'output_dir': 'folder of the store and of the patch files; --out comes first; of several files, the first',
}


@dataclass(frozen=True)
class SeedSettings:
    """What YAML files say, and what has to be said about it."""

    settings: Settings
    input_dir: str | None
    output_dir: str | None
    workers: int | None
    cache: bool
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def read_seed_yaml(paths: list[Path], block_size: float | None = 250.0) -> SeedSettings:
    """Read one or more files of the seed; several must differ in their scales and agree in everything else.

    Args:
        paths: Files.
        block_size: The seed knows no blocks.

    Raises:
        UserError: A file is missing or no YAML, a key unknown, a value wrong, or two files contradict each other.
    """
    read = [_read(Path(path), block_size) for path in paths]
    scales: dict[str, Scale] = {}
    first = read[0]
    for path, one in zip(paths, read):
        ((key, scale),) = one.settings.scales.items()
        if key in scales:
            raise UserError(f'{path}: processor.patch_size: expected another scale than the files before, '
                            f'found {key} again')
        scales[key] = scale
        if _shared(one) != _shared(first):
            name = next(name for name in _shared(one) if _shared(one)[name] != _shared(first)[name])
            raise UserError(f'{path}: {name}: expected {_shared(first)[name]!r} as in {paths[0]}, '
                            f'found {_shared(one)[name]!r}; prepare the two into stores of their own')
    return replace(first, notes=tuple(note for one in read for note in one.notes),
                   warnings=tuple(warning for one in read for warning in one.warnings),
                   settings=replace(first.settings, scales=scales, training={
        **first.settings.training, 'num_augmentations': {key: one.settings.training['num_augmentations']
                                                         for key, one in zip(scales, read)}}))


def _read(path: Path, block_size: float | None) -> SeedSettings:
    values = _flat(_load(path), path)
    get = _Reader(path, values)
    size = get.number('processor.patch_size', None, low=1.0)
    enabled = get.truth('preprocess.enabled', True)
    stitched = get.truth('stitching.enabled', True) and get.truth('stitching.auto_detect_neighbors', True)
    scale = make_scale({
        'size': size, 'overlap': get.number('processor.patch_overlap', 0.1, high=0.9),
        'points': get.number('processor.num_points', 24576, low=1, whole=True),
        'neighbours': get.number('features.k_neighbors', 20, low=4, whole=True),
        'buffer': get.number('stitching.buffer_size', 10.0) if stitched else 0.0,
        'sor': {'k': get.number('preprocess.sor_k', 12, low=1, whole=True),
                'std': get.number('preprocess.sor_std', 2.0)} if enabled else None,
        'ror': {'radius': get.number('preprocess.ror_radius', 1.0),
                'neighbours': get.number('preprocess.ror_neighbors', 4, low=1, whole=True)} if enabled else None,
    }, str(path))
    get.choice('features.mode', 'full', ('full',))
    get.choice('features.include_extra', True, (True,))
    get.choice('output.processing_mode', 'patches_only', ('patches_only',))
    get.number('features.gpu_batch_size', 1, low=1, whole=True)
    voxel_size = get.number('preprocess.voxel_size', 0.1, low=0.001)
    formats = [part.strip() for part in get.text('output.format', 'npz').split(',')]
    for part in formats:
        if part not in FORMATS:
            raise UserError(f'{path}: output.format: expected some of {", ".join(FORMATS)}, found {part!r}')
    notes, warnings = [], []
    gpu = [key for key in ('processor.use_gpu', 'features.use_gpu_chunked') if get.truth(key, False)]
    if gpu:
        notes.append(f'{path}: {", ".join(gpu)}: the preparation runs on CPUs, whatever these say')
    if get.truth('stitching.auto_download_neighbors', False):
        warnings.append(f'{path}: stitching.auto_download_neighbors: nothing is downloaded; neighbours are taken from '
                        'the given tiles')
    settings = Settings(
        scales={scale_key(size): scale}, block_size=block_size,
        sampling=get.choice('features.sampling_method', 'fps', SAMPLING),
        voxel=voxel_size if get.truth('preprocess.voxel_enabled', False) else None,
        use_rgb=get.truth('features.use_rgb', True), use_infrared=get.truth('features.use_infrared', True),
        compute_ndvi=get.truth('features.compute_ndvi', True), save_stats=get.truth('output.save_stats', True),
        save_metadata=get.truth('output.save_metadata', True),
        export={'formats': formats, 'lod': get.choice('processor.lod_level', 'LOD3', ('LOD2', 'LOD3')),
                'normalize_xyz': get.truth('features.normalize_xyz', True),
                'normalize_features': get.choice('features.normalize_features', True, (True,)),
                'compression': get.choice('output.compression', None, COMPRESSIONS)},
        training={'architecture': get.text('processor.architecture', 'hybrid'),
                  'augment': get.truth('processor.augment', True),
                  'num_augmentations': get.number('processor.num_augmentations', 0, whole=True),
                  'pin_memory': get.truth('processor.pin_memory', False)})
    return SeedSettings(check_settings(settings, str(path)), get.text('input_dir', None), get.text('output_dir', None),
                        get.number('processor.num_workers', None, low=1, whole=True),
                        get.truth('stitching.cache_enabled', True), tuple(notes), tuple(warnings))


class _Reader:
    """Takes checked values out of a flat dict."""

    def __init__(self, path: Path, values: dict[str, Any]) -> None:
        self.path, self.values = path, values

    def number(self, key: str, default: Any, low: float = 0.0, high: float = float('inf'), whole: bool = False) -> Any:
        if key not in self.values and default is None and key != 'processor.patch_size':
            return None
        value = self.values.get(key, default)
        check_number(value, f'{self.path}: {key}', low, high, whole)
        return value

    def truth(self, key: str, default: bool) -> bool:
        return self.choice(key, default, (True, False))

    def choice(self, key: str, default: Any, allowed: tuple[Any, ...]) -> Any:
        value = self.values.get(key, default)
        if not any(value is one or (isinstance(value, str) and value == one) for one in allowed):
            told = ', '.join({None: 'null', True: 'true', False: 'false'}.get(one, str(one)) for one in allowed)
            raise UserError(f'{self.path}: {key}: expected {"" if len(allowed) == 1 else "one of "}{told}, '
                            f'found {value!r}')
        return value

    def text(self, key: str, default: str | None) -> Any:
        value = self.values.get(key, default)
        if value is not None and not isinstance(value, str):
            raise UserError(f'{self.path}: {key}: expected a text, found {value!r}')
        return value


def _shared(one: SeedSettings) -> dict[str, Any]:
    """What must be equal in files that are prepared together, under the names of their keys."""
    found = one.settings
    return {'features.sampling_method': found.sampling, 'preprocess.voxel_enabled': found.voxel,
            'features.use_rgb': found.use_rgb, 'features.use_infrared': found.use_infrared,
            'features.compute_ndvi': found.compute_ndvi, 'output.save_stats': found.save_stats,
            'output.save_metadata': found.save_metadata, 'stitching.cache_enabled': one.cache,
            **{f'output.{key}': value for key, value in found.export.items()}}


def _load(path: Path) -> dict[str, Any]:
    import yaml  # here: a run without a YAML does not pay for it

    try:
        values = yaml.safe_load(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise UserError(f'{path}: expected a YAML file, found {error.strerror}') from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f'{path}: expected YAML, found {error}') from error
    if not isinstance(values, dict):
        raise UserError(f'{path}: expected keys and values, found {type(values).__name__}')
    return values


def _flat(values: dict[str, Any], path: Path) -> dict[str, Any]:
    """Name values ``section.key`` and refuse what :data:`OUTCOMES` does not know."""
    sections = {key.partition('.')[0] for key in OUTCOMES if '.' in key}
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if name in sections:
            if not isinstance(value, dict):
                raise UserError(f'{path}: {name}: expected a section of keys, found {value!r}')
            flat |= {f'{name}.{key}': one for key, one in value.items()}
        else:
            flat[str(name)] = value
    for key in flat:
        if key not in OUTCOMES:
            section = key.partition('.')[0]
            known = [name for name in OUTCOMES if name.startswith(f'{section}.')] or sorted(sections)
            raise UserError(f'{path}: {key}: unknown key; expected one of {", ".join(known)}')
    return flat


def export_options(settings: Settings) -> ExportOptions:
    """Return how the patch files are written that the YAML asks for; they replace those of an earlier run."""
    export = settings.export
    return ExportOptions(tuple(export['formats']), labels=export['lod'].lower(),
                         compression=export['compression'] is not None, absolute=not export['normalize_xyz'],
                         overwrite=True)


def outcomes_text(join: Callable[[str, str], str] = lambda key, outcome: f'  {key:38}{outcome}') -> str:
    """Return what becomes of every key, one line each."""
    return '\n'.join(join(key, outcome) for key, outcome in OUTCOMES.items())
