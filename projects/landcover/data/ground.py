"""Which images show the same ground: by footprint, by window, by tile name, by content, by look.

Everything here compares images of different splits only. A footprint, a window and a hash prove; tile names and the
look only propose, and pixels then decide. Out of reach without georeferencing: a crop, or a partly overlapping image,
whose name says nothing.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import shapely
from rasterio.warp import transform as transform_points

from projects.geo.raster import is_raster, open_raster
from projects.landcover.data.patches import ORIENTATIONS, Patch, crs_of, perceptual_hash, read_picture

WORLD = 'EPSG:6933'  # equal-area cylinder in metres: keeps overlaps overlaps anywhere on Earth
SHRINK = 0.01  # px: neighbours that touch share no ground, however their corners were rounded
# Measured on DroneDeploy, Chesapeake and LoveDA tiles (16,836 pairs): unrelated pictures differ by 16 bits or more and
# correlate up to 0.77; a copy re-encoded and darkened by up to 4 bits, from 0.99; cut by 1 % by 6 bits, from 0.90.
HAMMING = 10  # of 64 bits: pictures up to here are compared
CORRELATION = 0.9  # of thumbnails: pictures above are the same
GREY_LEVELS = 3.0  # mean difference of overlapping pixels that are the same, e.g. after JPEG
TRIALS = 40  # tile names are systematic: where so many candidates fail, the numbers mean something else


@dataclass(frozen=True)
class Leak:
    """Two images of different splits that show the same ground, and why that is known."""

    a: Patch
    b: Patch
    reason: str

    def __str__(self) -> str:
        return f'{self.a.split}: {self.a.id} and {self.b.split}: {self.b.id}: {self.reason}'


def find_leaks(patches: Sequence[Patch], hashes: Sequence[str]) -> list[Leak]:
    """Return every pair of images in different splits that share ground, each once, with the first proof found.

    Args:
        patches: The images, with their splits.
        hashes: SHA-256 of each image file.
    """
    found: dict[tuple[int, int], str] = {}
    for source in (
        by_content(patches, hashes),
        by_window(patches),
        by_footprint(patches),
        by_tile_name(patches),
        by_look(patches),
    ):
        for i, j, reason in source:
            found.setdefault((min(i, j), max(i, j)), reason)
    return [Leak(patches[i], patches[j], reason) for (i, j), reason in sorted(found.items())]


Pair = tuple[int, int, str]


def by_content(patches: Sequence[Patch], hashes: Sequence[str]) -> Iterator[Pair]:
    """Find files that are equal to the byte."""
    groups: dict[object, list[int]] = defaultdict(list)
    for index, (patch, digest) in enumerate(zip(patches, hashes)):
        if patch.thumbnail.std() > 0:  # pictures of one value are equal wherever they were taken
            groups[digest, patch.window].append(index)
    for members in groups.values():
        for i, j in across_splits(patches, members):
            yield i, j, 'identical files'


def by_window(patches: Sequence[Patch]) -> Iterator[Pair]:
    """Find overlapping windows of one source image."""
    groups: dict[Path, list[int]] = defaultdict(list)
    for index, patch in enumerate(patches):
        groups[patch.sample.image].append(index)
    for members in groups.values():
        if len(members) < 2:
            continue
        boxes = shapely.box(*np.array([_box(patches[i]) for i in members], float).T)
        for i, j in overlapping(shapely.buffer(boxes, -SHRINK, join_style='mitre')):
            i, j = members[i], members[j]
            if patches[i].split != patches[j].split:
                yield i, j, f'overlapping windows of {patches[i].sample.image.name}'


def by_footprint(patches: Sequence[Patch], distance: float = 0) -> Iterator[Pair]:
    """Find georeferenced images whose footprints overlap (or come nearer than `distance` metres)."""
    for members, shapes in footprints(patches):
        pairs = [
            (members[i], members[j], i, j)
            for i, j in overlapping(shapes, distance)
            if patches[members[i]].split != patches[members[j]].split
        ]
        for i, j, a, b in pairs:
            area = shapely.intersection(shapes[a], shapes[b]).area
            if area > 0:
                share = area / min(shapes[a].area, shapes[b].area)
                yield i, j, f'footprints share {area:.4g} m² ({share:.1%} of the smaller)'
            elif distance:
                yield i, j, f'footprints are {shapely.distance(shapes[a], shapes[b]):.3g} m apart'


def footprints(patches: Sequence[Patch]) -> Iterator[tuple[list[int], np.ndarray]]:
    """Yield the georeferenced patches and their footprints in one metric CRS; those without a CRS in a frame apart.

    Footprints are shrunk by a hundredth of a pixel, so that tiles that touch do not overlap.
    """
    local = [i for i, patch in enumerate(patches) if patch.corners is not None and patch.crs is None]
    placed = [i for i, patch in enumerate(patches) if patch.corners is not None and patch.crs is not None]
    if local:
        yield local, np.array([_shrunk(patches[i]) for i in local])
    if placed:
        target = metric_crs([patches[i] for i in placed])
        shapes = [_shrunk(patches[i]) for i in placed]
        yield placed, np.array([reproject(shape, patches[i].crs, target) for i, shape in zip(placed, shapes)])


def metric_crs(patches: Sequence[Patch]) -> str:
    """Return a CRS in metres for all: their own where it is one projected CRS, else a UTM zone, else :data:`WORLD`."""
    names = {patch.crs for patch in patches}
    if len(names) == 1 and crs_of(next(iter(names))).is_projected:
        return next(iter(names))
    places = [np.mean(patch.corners, axis=0) for patch in patches]
    lonlat = np.array([_to(place, patch.crs, 'EPSG:4326') for place, patch in zip(places, patches)])
    longitude, latitude = lonlat.mean(0)
    if np.ptp(lonlat[:, 0]) > 6 or abs(latitude) > 80:
        return WORLD
    zone = int((longitude + 180) // 6) % 60 + 1
    return f'EPSG:{32600 + zone if latitude >= 0 else 32700 + zone}'


def reproject(shape: shapely.Polygon, source: str, target: str) -> shapely.Polygon:
    """Transform a footprint; its edges are divided into 16 parts first, since they may bend."""
    if source == target:
        return shape
    dense = shapely.segmentize(shape, shape.length / 64)
    points = np.array(dense.exterior.coords)
    xs, ys = transform_points(crs_of(source), crs_of(target), points[:, 0], points[:, 1])
    return shapely.Polygon(np.column_stack([xs, ys]))


def overlapping(shapes: np.ndarray, distance: float = 0) -> list[tuple[int, int]]:
    """Return the pairs i < j of shapes that intersect, or lie nearer than `distance`."""
    tree = shapely.STRtree(shapes)
    if distance:
        first, second = tree.query(shapes, predicate='dwithin', distance=distance)
    else:
        first, second = tree.query(shapes, predicate='intersects')
    return sorted((int(i), int(j)) for i, j in zip(first, second) if i < j)


TILE_NAME = re.compile(r'^(.*?)[_-]?[xyrc]?(\d+)[_-][xyrc]?(\d+)$', re.IGNORECASE)


def by_tile_name(patches: Sequence[Patch]) -> Iterator[Pair]:
    """Find overlapping tiles by two numbers at the end of their names, taken for offsets and proven by the pixels.

    `town_0_256` and `town_256_256` overlap by half when the tiles have 512 px. Numbers that grow by one (rows and
    columns) say nothing about an overlap. Which number is x, and whether y grows upwards, is found by trying.
    Georeferenced images are left to their footprints.
    """
    groups: dict[tuple, list[tuple[int, int, int]]] = defaultdict(list)
    for index, patch in enumerate(patches):
        match = TILE_NAME.match(patch.sample.image.stem)
        if match and patch.window is None and patch.corners is None:
            name, a, b = match.groups()
            groups[name, patch.width, patch.height].append((index, int(a), int(b)))
    for (_, width, height), members in sorted(groups.items()):
        values = np.array(members, np.int64)
        step = int(np.gcd.reduce((values[:, 1:] - values[0, 1:]).ravel()))
        if step < 2 or step >= max(width, height):
            continue
        failures = 0
        for i, j, da, db in _near(patches, values, max(width, height)):
            place = next((p for p in _placements(da, db) if same_ground(patches[i], patches[j], *p)), None)
            if place is None:
                failures += 1
                if failures >= TRIALS:
                    break
                continue
            failures = -len(members) ** 2  # the numbers are offsets: every further candidate counts
            yield i, j, f'tile names overlap, and so do the pixels (offset {place[0]}, {place[1]} px)'


def same_ground(a: Patch, b: Patch, dx: int, dy: int) -> bool:
    """Say whether image b, laid dx px to the right of and dy px below image a, shows the same where they overlap."""
    if abs(dx) >= a.width or abs(dy) >= a.height:
        return False
    first, second = _grey(a.sample.image), _grey(b.sample.image)
    height, width = a.height - abs(dy), a.width - abs(dx)
    part_a = first[max(0, dy) :, max(0, dx) :][:height, :width]
    part_b = second[max(0, -dy) :, max(0, -dx) :][:height, :width]
    if part_a.shape != part_b.shape or part_a.size < 64 or part_a.std() < 2 * GREY_LEVELS:
        return False
    return float(np.abs(part_a - part_b).mean()) < GREY_LEVELS


def by_look(patches: Sequence[Patch]) -> Iterator[Pair]:
    """Find near-duplicates, also turned or mirrored: perceptual hashes propose, the correlation decides."""
    members = [i for i, patch in enumerate(patches) if patch.hash is not None]
    hashes = np.array([patches[i].hash for i in members], np.uint64)
    splits = np.array([patches[i].split for i in members])
    for row, i in enumerate(members):
        others = np.flatnonzero(splits[row + 1 :] != splits[row]) + row + 1
        if not others.size:
            continue
        for name, turn in ORIENTATIONS.items():
            turned = turn(patches[i].thumbnail)
            turned_hash = np.uint64(perceptual_hash(turned))
            for column in others[np.bitwise_count(hashes[others] ^ turned_hash) <= HAMMING]:
                j = members[int(column)]
                correlation = float(np.corrcoef(turned.ravel(), patches[j].thumbnail.ravel())[0, 1])
                if correlation > CORRELATION:
                    yield i, j, f'near-duplicates, {name} (correlation {correlation:.3f})'


def across_splits(patches: Sequence[Patch], members: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the pairs of members that are in different splits."""
    for position, i in enumerate(members):
        for j in members[position + 1 :]:
            if patches[i].split != patches[j].split:
                yield i, j


def _near(patches: Sequence[Patch], values: np.ndarray, reach: int) -> Iterator[tuple[int, int, int, int]]:
    for position, (i, a, b) in enumerate(values):
        rest = values[position + 1 :]
        near = (np.abs(rest[:, 1:] - (a, b)) < reach).all(1) & (rest[:, 1:] != (a, b)).any(1)
        for j, other_a, other_b in rest[near]:
            if patches[int(i)].split != patches[int(j)].split:
                yield int(i), int(j), int(other_a - a), int(other_b - b)


def _placements(da: int, db: int) -> list[tuple[int, int]]:
    """Return what two differences of numbers may mean as (dx, dy): either order, y downwards or upwards."""
    return list(dict.fromkeys([(da, db), (db, da), (da, -db), (db, -da)]))


@lru_cache(maxsize=64)
def _grey(path: Path) -> np.ndarray:
    with open_raster(path) as header:
        count, dtype = header.count, header.dtypes[0]
        if is_raster(path):
            values = np.moveaxis(header.read(list(range(1, min(3, count) + 1))), 0, -1).astype(np.float32)
            values *= 1 if dtype == 'uint8' else 255 / max(float(np.abs(values).max()), 1e-6)
            return values.mean(2)
    return read_picture(path, count, dtype).mean(2, dtype=np.float32)


def _box(patch: Patch) -> tuple[int, int, int, int]:
    left, top, width, height = patch.window or (0, 0, patch.width, patch.height)
    return left, top, left + width, top + height


def _shrunk(patch: Patch) -> shapely.Polygon:
    return shapely.buffer(shapely.Polygon(patch.corners), -SHRINK * patch.pixel_size, join_style='mitre')


def _to(place: np.ndarray, source: str, target: str) -> tuple[float, float]:
    xs, ys = transform_points(crs_of(source), crs_of(target), [place[0]], [place[1]])
    return xs[0], ys[0]
