"""Land-cover taxonomies and the maps between them: a contract that is hashed, stored with data and checked at load.

A :class:`Taxonomy` fixes the order of the classes. A :class:`Remap` carries labels or probabilities from one taxonomy
to another. Both are plain data: nothing here reads a file.
"""

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from projects.engine.errors import UserError
from projects.scenes.objects import OBJECTS as SCENE_OBJECTS
from projects.scenes.objects import PALETTE as SCENE_PALETTE


@dataclass(frozen=True)
class Taxonomy:
    """Classes in their order, with what is needed to draw and to check them.

    Args:
        name: Short name, for messages only; it is no part of :attr:`hash`.
        classes: Class names; the position is the class id.
        palette: One (red, green, blue) triple, each 0..255, a class.
        ignore_index: Label that is no class and never counts: 255, as in head, losses and metric.
        background: Id of the class left out of "mIoU without background", or None. Default 0.
        file_values: Value that each class has in the label files of the source, where it is not the class id
            (LoveDA counts from 1). Default: the class ids.
        no_data: Values in the label files that mean "not labelled"; `ignore_index` always does.

    Raises:
        UserError: palette, file values or background do not fit the classes, or a class occurs twice.
    """

    name: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    ignore_index: int = 255
    background: int | None = 0
    file_values: tuple[int, ...] | None = None
    no_data: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        set_field = object.__setattr__  # the dataclass is frozen; lists from configs and JSON become tuples here
        set_field(self, 'classes', tuple(str(name) for name in self.classes))
        set_field(self, 'palette', tuple(tuple(int(value) for value in colour) for colour in self.palette))
        set_field(self, 'no_data', tuple(int(value) for value in self.no_data))
        count = len(self.classes)
        where = f'taxonomy {self.name!r}'
        if self.file_values is not None:
            set_field(self, 'file_values', tuple(int(value) for value in self.file_values))
        if not 0 < count < 256 or len(set(self.classes)) != count:
            raise UserError(f'{where}: classes must be 1 to 255 different names, found {list(self.classes)}')
        if len(self.palette) != count:
            raise UserError(f'{where}: palette must have {count} colours, one a class, found {len(self.palette)}')
        if any(len(colour) != 3 or not all(0 <= value <= 255 for value in colour) for colour in self.palette):
            raise UserError(f'{where}: palette must hold (red, green, blue) in 0..255, found {self.palette}')
        if self.ignore_index != 255:
            raise UserError(f'{where}: ignore_index must be 255, found {self.ignore_index} (values of label files that '
                            'mean "not labelled" belong in no_data)')
        if self.background is not None and not 0 <= self.background < count:
            raise UserError(f'{where}: background must be a class id below {count}, found {self.background}')
        values = (*self.values, *self.no_data)
        if len(self.values) != count or len(set(values)) != len(values) or not all(0 <= v <= 255 for v in values):
            raise UserError(f'{where}: file_values and no_data must be different values in 0..255, found {values}')

    @property
    def values(self) -> tuple[int, ...]:
        """The value of each class in the source's label files."""
        return self.file_values if self.file_values is not None else tuple(range(len(self.classes)))

    @property
    def hash(self) -> str:
        """SHA-256 of classes, palette and ignore label: equal for equal contracts, whatever they are called."""
        content = {
            'classes': list(self.classes),
            'ignore_index': self.ignore_index,
            'palette': [list(colour) for colour in self.palette],
        }
        text = json.dumps(content, sort_keys=True, separators=(',', ':'), ensure_ascii=True)
        return hashlib.sha256(text.encode('ascii')).hexdigest()

    @property
    def metainfo(self) -> dict[str, Any]:
        """What data sets, checkpoints and manifests store: plain JSON types only."""
        return {
            'classes': list(self.classes),
            'palette': [list(colour) for colour in self.palette],
            'taxonomy': self.name,
            'taxonomy_hash': self.hash,
            'ignore_index': self.ignore_index,
            'background': self.background,
        }

    def class_table(self) -> np.ndarray:
        """Return the (256,) int16 table from values of label files to class ids; -1 where a value is foreign."""
        table = np.full(256, -1, np.int16)
        table[self.ignore_index] = self.ignore_index
        table[list(self.no_data)] = self.ignore_index
        table[list(self.values)] = np.arange(len(self.classes))
        return table

    def decode(self, mask: np.ndarray, path: object) -> np.ndarray:
        """Turn a mask (H, W) uint8 as it stands in a label file into class ids and `ignore_index`.

        Raises:
            UserError: the mask holds values outside the taxonomy; names the file and the values with pixel counts.
        """
        return look_up(self.class_table(), mask, path, self)

    def validate(self, mask: np.ndarray, path: object) -> None:
        """Check that a mask (H, W) uint8 holds class ids of this taxonomy and `ignore_index` only.

        Raises:
            UserError: it does not; names the file and the foreign labels with their pixel counts.
        """
        table = np.full(256, -1, np.int16)
        table[: len(self.classes)] = np.arange(len(self.classes))
        table[self.ignore_index] = self.ignore_index
        look_up(table, mask, path, self, values=range(len(self.classes)))


def look_up(
    table: np.ndarray,
    mask: np.ndarray,
    path: object,
    taxonomy: Taxonomy,
    values: Iterable[int] | None = None,
) -> np.ndarray:
    """Map a mask (H, W) uint8 through a (256,) table in which -1 marks foreign labels.

    Raises:
        UserError: a foreign label occurs, or the mask is not a uint8 plane.
    """
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise UserError(f'{path}: expected a mask (H, W) of uint8, found {mask.shape} of {mask.dtype}')
    counts = np.bincount(mask.ravel(), minlength=256)
    foreign = np.flatnonzero((counts > 0) & (table < 0))
    if foreign.size:
        found = ', '.join(f'{value} ({counts[value]} px)' for value in foreign)
        expected = sorted({*(taxonomy.values if values is None else values), *taxonomy.no_data, taxonomy.ignore_index})
        raise UserError(
            f'{path}: labels outside taxonomy {taxonomy.name!r}: found {found}, expected {_ranges(expected)}'
        )
    return table.astype(np.uint8)[mask]


def _ranges(values: list[int]) -> str:
    """Write sorted numbers shortly: [0, 1, 2, 255] -> '0..2, 255'."""
    parts: list[str] = []
    start = previous = values[0]
    for value in [*values[1:], None]:
        if value is not None and value == previous + 1:
            previous = value
            continue
        parts.append(str(start) if start == previous else f'{start}..{previous}')
        start = previous = value
    return ', '.join(parts)


TAXONOMIES: dict[str, Taxonomy] = {
    taxonomy.name: taxonomy
    for taxonomy in (
        Taxonomy(
            'landcover6',
            ('Background', 'Forest Land', 'Grassland', 'Cropland', 'Settlement', 'SemiNatural Grassland'),
            ((11, 246, 210), (250, 62, 119), (168, 232, 84), (242, 180, 92), (116, 116, 116), (255, 214, 33)),
        ),
        Taxonomy(
            'openearthmap',
            ('unknown', 'bareland', 'rangeland', 'developed', 'road', 'tree', 'water', 'agriculture', 'building'),
            (
                (0, 0, 0),
                (128, 0, 0),
                (0, 255, 36),
                (148, 148, 148),
                (255, 255, 255),
                (34, 97, 38),
                (0, 69, 255),
                (75, 181, 73),
                (222, 31, 7),
            ),
        ),
        Taxonomy(
            'loveda',
            ('background', 'building', 'road', 'water', 'barren', 'forest', 'agriculture'),
            (
                (255, 255, 255),
                (255, 0, 0),
                (255, 255, 0),
                (0, 0, 255),
                (159, 129, 183),
                (0, 255, 0),
                (255, 195, 128),
            ),
            file_values=(1, 2, 3, 4, 5, 6, 7),
            no_data=(0,),
        ),
        Taxonomy(
            'dronedeploy',
            ('building', 'clutter', 'vegetation', 'water', 'ground', 'car'),
            ((230, 25, 75), (145, 30, 180), (60, 180, 75), (245, 130, 48), (255, 255, 255), (0, 130, 200)),
            background=None,
        ),
        Taxonomy(
            'chesapeake',
            ('water', 'tree canopy', 'low vegetation', 'barren', 'impervious other', 'impervious road'),
            ((0, 197, 255), (38, 115, 0), (163, 255, 115), (255, 170, 0), (156, 156, 156), (0, 0, 0)),
            background=None,
            file_values=(1, 2, 3, 4, 5, 6),
            no_data=(0, 15),
        ),
        # What DroneDeploy, LoveDA and Chesapeake all know; everything else is ignored.
        Taxonomy(
            'cover4',
            ('vegetation', 'water', 'building', 'ground'),
            ((60, 180, 75), (0, 130, 200), (230, 25, 75), (210, 200, 180)),
            background=None,
        ),
        Taxonomy(
            'village',
            tuple(sorted(SCENE_OBJECTS, key=SCENE_OBJECTS.__getitem__)),
            tuple(SCENE_PALETTE[name] for name in sorted(SCENE_OBJECTS, key=SCENE_OBJECTS.__getitem__)),
            file_values=tuple(sorted(SCENE_OBJECTS.values())),
        ),
    )
}


def get_taxonomy(taxonomy: str | Mapping[str, Any] | Taxonomy) -> Taxonomy:
    """Return a taxonomy by its name, or make one from a dict (a config, a manifest or a checkpoint's meta).

    Args:
        taxonomy: A key of :data:`TAXONOMIES`, the arguments of :class:`Taxonomy`, or a `metainfo` dict.

    Raises:
        UserError: unknown name (the nearest is suggested), missing or unknown key, or a `taxonomy_hash` that does
            not fit the content.
    """
    if isinstance(taxonomy, Taxonomy):
        return taxonomy
    if isinstance(taxonomy, str):
        if taxonomy not in TAXONOMIES:
            raise UserError(f'unknown taxonomy {taxonomy!r}{suggest(taxonomy, TAXONOMIES)}')
        return TAXONOMIES[taxonomy]
    content = dict(taxonomy)
    expected_hash = content.pop('taxonomy_hash', None)
    content['name'] = content.pop('taxonomy', content.get('name', 'unnamed'))
    known = set(Taxonomy.__dataclass_fields__)
    unknown, missing = sorted(set(content) - known), sorted({'classes', 'palette'} - set(content))
    if unknown or missing:
        raise UserError(f'taxonomy {content["name"]!r}: missing keys {missing}, unknown keys {unknown}')
    result = Taxonomy(**content)
    if expected_hash is not None and expected_hash != result.hash:
        raise UserError(
            f'taxonomy {result.name!r}: taxonomy_hash is {expected_hash[:12]}…, but its content hashes to '
            f'{result.hash[:12]}…: classes, palette or ignore label were changed by hand'
        )
    return result


@dataclass(frozen=True, eq=False)
class Remap:
    """A map from the classes of one taxonomy to those of another.

    Args:
        source, target: The two taxonomies.
        matrix: (n_source, n_target) float; row i holds the shares of source class i. Rows sum to 1, or to 0 where
            the class is to be ignored.

    Raises:
        UserError: wrong shape, negative values or rows that sum to something else.
    """

    source: Taxonomy
    target: Taxonomy
    matrix: np.ndarray

    def __post_init__(self) -> None:
        matrix = np.array(self.matrix, dtype=np.float64)
        matrix.setflags(write=False)
        object.__setattr__(self, 'matrix', matrix)
        where = f'remap {self.source.name}->{self.target.name}'
        shape = (len(self.source.classes), len(self.target.classes))
        if matrix.shape != shape:
            raise UserError(f'{where}: expected a matrix of {shape}, found {matrix.shape}')
        sums = matrix.sum(1)
        wrong = np.flatnonzero(~(np.isclose(sums, 1) | (sums == 0)) | (matrix < 0).any(1) | ~np.isfinite(sums))
        if wrong.size:
            names = ', '.join(f'{self.source.classes[row]} ({sums[row]:g})' for row in wrong)
            raise UserError(f'{where}: rows must be shares that sum to 1 (or all 0 to ignore a class): {names}')

    @classmethod
    def from_names(
        cls,
        source: Taxonomy,
        target: Taxonomy,
        names: Mapping[str, str | Mapping[str, float] | None],
    ) -> 'Remap':
        """Make a remap from class names.

        Args:
            source, target: The two taxonomies.
            names: For every source class a target class, or target classes with shares, or None to ignore it.

        Raises:
            UserError: a class of the source is left out, or a name is unknown (the nearest is suggested).
        """
        where = f'remap {source.name}->{target.name}'
        for name in names:
            if name not in source.classes:
                raise UserError(f'{where}: unknown source class {name!r}{suggest(name, source.classes)}')
        missing = [name for name in source.classes if name not in names]
        if missing:
            raise UserError(f'{where}: every source class needs a target (None ignores it), missing: {missing}')
        matrix = np.zeros((len(source.classes), len(target.classes)))
        for row, name in enumerate(source.classes):
            shares = names[name]
            if shares is None:
                continue
            for goal, share in (shares if isinstance(shares, Mapping) else {shares: 1.0}).items():
                if goal not in target.classes:
                    raise UserError(f'{where}: unknown target class {goal!r}{suggest(goal, target.classes)}')
                matrix[row, target.classes.index(goal)] = share
        return cls(source, target, matrix)

    @property
    def hard(self) -> np.ndarray:
        """(n_source,) int64: the target class with the largest share (the first of equals), or the ignore label."""
        hard = self.matrix.argmax(1)
        hard[self.matrix.sum(1) == 0] = self.target.ignore_index
        return hard

    def apply(self, mask: np.ndarray) -> np.ndarray:
        """Map class ids (H, W) of the source to class ids of the target; ignored pixels stay ignored.

        Raises:
            UserError: the mask holds labels outside the source taxonomy.
        """
        return look_up(self.class_table(), mask, 'mask', self.source, values=range(len(self.source.classes)))

    def class_table(self) -> np.ndarray:
        """Return the (256,) int16 table from source class ids to target class ids; -1 where there is no class."""
        table = np.full(256, -1, np.int16)
        table[: len(self.source.classes)] = self.hard
        table[self.source.ignore_index] = self.target.ignore_index
        return table


def _remap(source: str, target: str, names: Mapping[str, str | Mapping[str, float] | None]) -> Remap:
    return Remap.from_names(TAXONOMIES[source], TAXONOMIES[target], names)


_OEM = TAXONOMIES['openearthmap'].classes
_SIX = TAXONOMIES['landcover6'].classes

REMAPS: dict[tuple[str, str, str], Remap] = {
    # What the names say (seed 003).
    ('openearthmap', 'landcover6', 'by_name'): _remap(
        'openearthmap',
        'landcover6',
        {
            'unknown': 'Background',
            'bareland': 'SemiNatural Grassland',
            'rangeland': {'Grassland': 0.7, 'SemiNatural Grassland': 0.3},
            'developed': 'Settlement',
            'road': 'Settlement',
            'tree': 'Forest Land',
            'water': 'Background',
            'agriculture': 'Cropland',
            'building': 'Settlement',
        },
    ),
    # What a model trained on OpenEarthMap was measured to call the target's classes.
    ('openearthmap', 'landcover6', 'by_confusion'): _remap(
        'openearthmap',
        'landcover6',
        {_OEM[old]: _SIX[new] for old, new in {0: 0, 1: 2, 2: 2, 3: 4, 4: 4, 5: 1, 6: 0, 7: 2, 8: 4}.items()},
    ),
    ('dronedeploy', 'cover4', 'by_name'): _remap(
        'dronedeploy',
        'cover4',
        {
            'building': 'building',
            'clutter': None,
            'vegetation': 'vegetation',
            'water': 'water',
            'ground': 'ground',
            'car': None,
        },
    ),
    ('loveda', 'cover4', 'by_name'): _remap(
        'loveda',
        'cover4',
        {
            'background': None,
            'building': 'building',
            'road': 'ground',
            'water': 'water',
            'barren': 'ground',
            'forest': 'vegetation',
            'agriculture': 'vegetation',
        },
    ),
    ('chesapeake', 'cover4', 'by_name'): _remap(
        'chesapeake',
        'cover4',
        {
            'water': 'water',
            'tree canopy': 'vegetation',
            'low vegetation': 'vegetation',
            'barren': 'ground',
            'impervious other': None,
            'impervious road': 'ground',
        },
    ),
    ('village', 'landcover6', 'by_name'): _remap(
        'village',
        'landcover6',
        {
            'unknown': 'Background',
            'bare_ground': 'Background',
            'meadow': 'Grassland',
            'semi_natural_grass': 'SemiNatural Grassland',
            'crop': 'Cropland',
            'bare_field': 'Cropland',
            'tree': 'Forest Land',
            'water': 'Background',
            'road': 'Settlement',
            'path': 'Settlement',
            'courtyard': 'Settlement',
            'building': 'Settlement',
            'garden': 'Grassland',
            'hedge': 'Forest Land',
            'car': 'Settlement',
        },
    ),
}


def get_remap(
    source: str | Mapping[str, Any] | Taxonomy,
    target: str | Mapping[str, Any] | Taxonomy,
    variant: str | Mapping[str, Any] | None = None,
) -> Remap:
    """Return the map from one taxonomy to another.

    Args:
        source, target: Anything that :func:`get_taxonomy` takes.
        variant: The third key of :data:`REMAPS`; or a dict as for :meth:`Remap.from_names`; or None for the identity
            between equal taxonomies, or for the only map there is.

    Raises:
        UserError: no such map, or several and none was chosen; the message lists them.
    """
    source, target = get_taxonomy(source), get_taxonomy(target)
    if isinstance(variant, Mapping):
        return Remap.from_names(source, target, variant)
    if variant is None and source.hash == target.hash:
        return Remap(source, target, np.eye(len(source.classes)))
    variants = sorted(
        name for old, new, name in REMAPS if TAXONOMIES[old].hash == source.hash and TAXONOMIES[new].hash == target.hash
    )
    where = f'remap {source.name}->{target.name}'
    if source.hash == target.hash and variant not in variants:
        raise UserError(f'{where}: the taxonomies are equal, so the identity is used: leave remap out (None), found '
                        f'{variant!r}')
    if not variants:
        raise UserError(f'{where}: there is none; give one as a dict of class names')
    if variant is None:
        if len(variants) > 1:
            raise UserError(f'{where}: choose one of {variants}')
        variant = variants[0]
    if variant not in variants:
        raise UserError(f'{where}: unknown variant {variant!r}, expected one of {variants}')
    for (old, new, name), remap in REMAPS.items():
        if name == variant and TAXONOMIES[old].hash == source.hash and TAXONOMIES[new].hash == target.hash:
            return remap
    raise AssertionError('unreachable: variants come from REMAPS')


def suggest(name: str, known: Iterable[str]) -> str:
    """Return '; did you mean …' with the nearest known name, or the list of known names."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f'; did you mean {near[0]!r}?' if near else f'; expected one of {known}'


@dataclass(frozen=True, eq=False)
class LabelReader:
    """What turns a label file of one taxonomy into class ids of another, in one look-up a pixel.

    Args:
        source: Taxonomy that the files are labelled with.
        remap: Map from `source` to the target taxonomy.
        band: Band of a GeoTIFF of several bands that holds the labels, from 1.

    Raises:
        UserError: the band is below 1.
    """

    source: Taxonomy
    remap: Remap
    band: int | None = None

    def __post_init__(self) -> None:
        if self.band is not None and self.band < 1:
            raise UserError(f'mask band: expected a number from 1 on, found {self.band}')

    @property
    def target(self) -> Taxonomy:
        """Taxonomy of the class ids that come out."""
        return self.remap.target

    @cached_property
    def table(self) -> np.ndarray:
        """(256,) int16: file value -> target class id; -1 where the value is foreign to the source."""
        decoded = self.source.class_table()
        table = np.full(256, -1, np.int16)
        table[decoded >= 0] = self.remap.class_table()[decoded[decoded >= 0]]
        return table

    def __call__(self, mask: np.ndarray, path: object) -> np.ndarray:
        """Turn a mask (H, W) uint8 as read from `path` into target class ids.

        Raises:
            UserError: the mask holds values outside the source taxonomy; names file, values and pixel counts.
        """
        return look_up(self.table, mask, path, self.source)
