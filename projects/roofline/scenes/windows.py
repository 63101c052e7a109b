"""A data set of roofs from made villages: windows around buildings in the graph layout, split by village."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from projects.engine.errors import UserError
from projects.engine.progress import progress
from projects.roofline.annotations import IMAGE_FOLDER, Annotation, write_annotations
from projects.roofline.graph import RoofGraph
from projects.roofline.scenes.output_folder import made_beside
from projects.roofline.scenes.raster_files import place_of, write_geotiff, write_png
from projects.roofline.scenes.village import Bounds, VillageRoofs
from projects.scenes.files import CRS
from projects.scenes.render import MAX_RESOLUTION, MIN_RESOLUTION, SUNS, Renderer
from projects.scenes.scene import MAX_EXTENT, MIN_EXTENT, Scene, make_scene
from projects.scenes.yard_trees import with_yard_trees

MIN_SIZE, MAX_SIZE = 32, 4096
FORMATS = ('png', 'tif')
_JITTER = 0.3  # of a window's side, to which its middle may lie from its building's
_TRIES = 8


@dataclass(frozen=True)
class RoofRecipe:
    """How windows are made.

    Args:
        size: Pixels a side.  resolution: Metres a pixel.
        season: `summer`, `autumn` or `spring`; None: each village has its own.
        min_visible: Lines that leaves leave less than this share of are no truth.
        trees: Share of buildings with trees beside them, whose crowns hide roof lines.
        weld: Junctions closer than this many pixels become one.
        extent: Metres a side of a village.
        form: `png`, or `tif` with its place in EPSG:2154.

    Raises:
        UserError: A value out of range.
    """

    size: int = 256
    resolution: float = 0.15
    season: str | None = None
    min_visible: float = 0.4
    trees: float = 0.5
    weld: float = 0.5
    extent: float = 600.0
    form: str = 'png'

    def __post_init__(self) -> None:
        if not MIN_SIZE <= self.size <= MAX_SIZE:
            raise UserError(f'--size: expected {MIN_SIZE} to {MAX_SIZE} pixels, found {self.size}')
        if self.form not in FORMATS:
            raise UserError(f'--format: expected {" or ".join(FORMATS)}, found {self.form!r}')
        if self.season not in (None, *SUNS):
            raise UserError(f'--season: expected one of {", ".join(SUNS)}, found {self.season!r}')
        for name, value, low, high in (('resolution', self.resolution, MIN_RESOLUTION, MAX_RESOLUTION),
                                       ('min-visible', self.min_visible, 0, 1), ('trees', self.trees, 0, 1),
                                       ('weld', self.weld, 1e-3, self.size), ('extent', self.extent, MIN_EXTENT,
                                                                              MAX_EXTENT)):
            if not low <= value <= high:  # NaN fails too
                raise UserError(f'--{name}: expected {low:g} to {high:g}, found {value:g}')
        if not self.size * self.resolution <= self.extent / 2:
            raise UserError(f'--size x --resolution: expected windows of at most half a village, {self.extent / 2:g} '
                            f'm, found {self.size * self.resolution:g} m')


@dataclass(frozen=True)
class RoofWindows:
    """What :func:`make_roofs` wrote: images per split, lines in all, seconds."""

    folder: Path
    images: dict[str, int]
    lines: int
    seconds: float


def make_roofs(folder: str | Path, villages: int, images: int, seed: int = 0, recipe: RoofRecipe | None = None,
               val_share: float = 0.2, test_share: float = 0.1, overwrite: bool = False) -> RoofWindows:
    """Write windows around buildings of seeded villages as `annotations.json` and `images/`, whole or not at all.

    A village is all train, all val or all test: no ground is in two splits. Season, sun and air differ between
    villages. The same arguments give the same bytes.

    Args:
        folder: New or empty; with ``overwrite`` made roofs there are replaced, once all new ones are written.
        villages, images: How many; the images are shared out evenly.
        seed: Of the first village: two data sets share no village if their seeds lie ``villages`` apart.
        recipe: What the windows are like.
        val_share, test_share: Of the villages, rounded, at least one where above 0.

    Raises:
        UserError: A value out of range, or a folder with other files in it, or a village without enough roofs.
    """
    start = time.monotonic()
    folder, recipe = Path(folder), recipe or RoofRecipe()
    splits = village_splits(villages, val_share, test_share)
    if images < villages:
        raise UserError(f'--images: expected at least one for each of {villages} villages, found {images}')
    if seed < 0:
        raise UserError(f'--seed: expected 0 or more, found {seed}')
    made = []
    with made_beside(folder, overwrite) as temporary:
        for annotation, image in progress(_drawn(splits, images, seed, recipe), 'roofs', images, 'image'):
            path = temporary / IMAGE_FOLDER / annotation.file
            if annotation.transform:
                write_geotiff(path, image, annotation.transform)
            else:
                write_png(path, image)
            made.append(annotation)
        write_annotations(temporary, made)
    counts = {split: sum(a.split == split for a in made) for split in ('train', 'val', 'test')}
    return RoofWindows(folder, counts, sum(len(a.graph.lines) for a in made), time.monotonic() - start)


def _drawn(splits: Sequence[str], images: int, seed: int,
           recipe: RoofRecipe) -> Iterator[tuple[Annotation, np.ndarray]]:
    """All windows of all villages; one village is held at a time."""
    for number, split in enumerate(splits):
        count = images * (number + 1) // len(splits) - images * number // len(splits)
        village = VillageWindows(seed + number, recipe)
        for k, bounds in enumerate(village.places(count)):
            yield village.window(bounds, f'{split}_{seed + number:04d}_{k:04d}.{recipe.form}', split)


def village_splits(villages: int, val_share: float, test_share: float) -> list[str]:
    """The split of each village, train first.

    Raises:
        UserError: Shares outside 0..1, or fewer villages than splits.
    """
    for name, share in (('--val-share', val_share), ('--test-share', test_share)):
        if not 0 <= share < 1:  # NaN fails too
            raise UserError(f'{name}: expected a share of 0 up to 1, found {share:g}')
    val, test = (max(1, round(share * villages)) if share else 0 for share in (val_share, test_share))
    if villages < 1 or val + test >= villages:
        raise UserError(f'--villages: expected more than the {val} of val and the {test} of test (--val-share, '
                        f'--test-share), found {villages}')
    return ['train'] * (villages - val - test) + ['val'] * val + ['test'] * test


class VillageWindows:
    """One village in its own light, and windows of it.

    Args:
        seed: Of the village, and of where windows lie.
        recipe: What windows are like.
    """

    def __init__(self, seed: int, recipe: RoofRecipe):
        self.recipe, self._rng = recipe, np.random.default_rng([seed, 7])
        self.scene = with_yard_trees(make_scene(seed, recipe.extent), recipe.trees)
        self.renderer = Renderer(self.scene, recipe.resolution, **_light(self._rng, recipe.season))
        self.roofs = VillageRoofs(self.scene, recipe.resolution, recipe.min_visible, recipe.weld)

    def places(self, count: int) -> list[Bounds]:
        """Bounds of ``count`` windows with roof lines, each around a building; every building before any again."""
        size, r, rng = self.recipe.size, self.recipe.resolution, self._rng
        edges = [int(side / r + 1e-9) - size for side in self.scene.extent]  # the last column and row of a corner
        middles = _middles(self.scene) / r - size / 2
        middles = middles[((middles >= 0) & (middles <= edges)).all(axis=1)]
        found: list[Bounds] = []
        if not len(middles):
            raise UserError(f'village {self.scene.seed}: expected buildings away from its border, found none: another '
                            f'--seed or a larger --extent')
        for k in range(count * _TRIES):
            if k % len(middles) == 0:
                order = rng.permutation(len(middles))
            shift = rng.uniform(-_JITTER, _JITTER, 2) * size
            column, row = np.clip(np.rint(middles[order[k % len(middles)]] + shift), 0, edges).astype(int).tolist()
            bounds = (column * r, row * r, (column + size) * r, (row + size) * r)
            if not self.roofs.graph(bounds).empty:
                found.append(bounds)
                if len(found) == count:
                    return found
        raise UserError(f'village {self.scene.seed}: expected {count} windows with roof lines, found {len(found)}: '
                        f'lower --min-visible or --trees')

    def window(self, bounds: Bounds, file: str, split: str) -> tuple[Annotation, np.ndarray]:
        """The annotation and the picture (H, W, 3) uint8 of one window."""
        view = self.renderer.render(bounds)
        r = self.recipe.resolution
        where = {}
        if self.recipe.form == 'tif':
            where = dict(crs=CRS, transform=place_of(self.scene.origin, bounds, r))
        annotation = Annotation(file, self.recipe.size, self.recipe.size, split, rounded(self.roofs.graph(bounds)), r,
                                **where)
        return annotation, np.ascontiguousarray(view.rgbn[..., :3])


def rounded(graph: RoofGraph) -> RoofGraph:
    """A graph as it is worth writing: 1e-4 pixels, millimetres, 1e-4 of a line."""
    heights = None if graph.heights is None else graph.heights.round(3)
    return replace(graph, junctions=graph.junctions.round(4) + 0.0, heights=heights,
                   occlusions=graph.occlusions.round(4) + 0.0)


def _light(rng: np.random.Generator, season: str | None) -> dict:
    """Season, sun, air and sensor of one village, as Renderer takes them."""
    drawn = str(rng.choice(sorted(SUNS)))
    season = season or drawn
    azimuth, elevation = SUNS.get(season, (0.0, 0.0))
    return dict(season=season, sun=(azimuth + float(rng.uniform(-35, 35)), elevation + float(rng.uniform(-4, 12))),
                haze=float(rng.uniform(0.02, 0.16)), noise=float(rng.uniform(1.0, 3.0)),
                blur=float(rng.uniform(0.09, 0.18)))


def _middles(scene: Scene) -> np.ndarray:
    """Middles (N, 2) of all buildings' roofs, scene metres."""
    boxes = [building.roof.vertices[:, :2] for building in scene.buildings]
    return np.array([(box.min(axis=0) + box.max(axis=0)) / 2 for box in boxes]).reshape(-1, 2)
