"""Buildings and cars: closed solids with named parts, placed on the terrain.

A building is a body (walls), a roof of one of the five types, and whatever sits on them: chimneys, dormers, skylights,
windows, doors, a balcony. Every one of these is a closed solid of its own, so each can be lit, sampled and measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from projects.scenes.roofs import RoofEdge, ell, ell_roof, rectangle, rectangle_roof, roof_edges
from projects.scenes.solids import Solid, box, extruded, prism, weld
from projects.scenes.terrain import Terrain

STOREY = 2.7  # metres

# Display colours (R, G, B, NIR; 0..255) of roof coverings: several lie on top of soil, road and gravel colours
ROOF_TONES: dict[str, tuple[float, float, float, float]] = {
    'tile_red': (176, 104, 78, 156),
    'tile_pink': (196, 146, 116, 172),
    'tile_brown': (138, 104, 84, 136),
    'tile_straw': (186, 160, 124, 168),
    'tile_dark': (104, 88, 80, 112),
    'slate': (104, 108, 118, 112),
    'metal_grey': (158, 160, 164, 150),
    'metal_green': (108, 122, 104, 118),
    'gravel': (176, 170, 160, 162),
    'bitumen': (98, 97, 98, 94),
    'membrane': (206, 206, 204, 196),
    'fibre_cement': (148, 142, 136, 140),
}


@dataclass(frozen=True, eq=False)
class Building:
    """One building of the scene.

    Attributes:
        kind: `house`, `row_house`, `villa`, `annex`, `barn`, `church`, `tower` or `block`.
        roof_type: one of roofs.ROOF_TYPES.
        footprint: (N, 2) corners of the walls' outline, counter-clockwise, metres.
        ground, eave, top: heights in metres: lowest floor, eave, highest point of the roof (chimneys excluded).
        angle: direction of the main ridge (or longer side), radians.
        body, roof: the two main solids; `details` are all the others.
        roof_tone: display colour R, G, B, NIR of the roof; `covering` its name in ROOF_TONES.
        seed: of the building's textures.
    """

    kind: str
    roof_type: str
    footprint: np.ndarray
    ground: float
    eave: float
    top: float
    angle: float
    body: Solid
    roof: Solid
    details: tuple[Solid, ...]
    roof_tone: tuple[float, float, float, float]
    covering: str
    seed: int

    @property
    def solids(self) -> tuple[Solid, ...]:
        """All solids, body and roof first."""
        return (self.body, self.roof, *self.details)

    def roof_lines(self) -> list[RoofEdge]:
        """Typed edges of the roof in scene coordinates."""
        return roof_edges(self.roof)


@dataclass(frozen=True, eq=False)
class Car:
    """A parked or driving car: two stacked solids, heading ``angle``, display colour ``tone`` (R, G, B, NIR)."""

    x: float
    y: float
    angle: float
    solids: tuple[Solid, ...]
    tone: tuple[float, float, float, float]


def _on_wall(start: np.ndarray, end: np.ndarray, along: tuple[float, float], z: tuple[float, float],
             out: tuple[float, float], part: str) -> Solid:
    """Box on the outside of the wall from ``start`` to ``end``: spans along the wall, in height, and outward."""
    t = (end - start) / np.linalg.norm(end - start)
    n = np.array([t[1], -t[0]])
    (u0, u1), (w0, w1) = along, out
    outline = [start + t * u0 + n * w1, start + t * u1 + n * w1, start + t * u1 + n * w0, start + t * u0 + n * w0]
    return prism(np.array(outline), z[0], z[1], part, part, part)


def _wall_openings(rng: np.random.Generator, outline: np.ndarray, floor: float, eave: float, front: int,
                   kind: str) -> tuple[list[Solid], list[str]]:
    """Windows, doors and a balcony of every wall, and the part name of every wall."""
    solids: list[Solid] = []
    names: list[str] = []
    storeys = max(1, int((eave - floor) / STOREY + 0.25))
    balcony_left = kind in ('villa', 'house', 'block') and storeys > 1 and rng.random() < 0.45
    for i in range(len(outline)):
        start, end = outline[i], outline[(i + 1) % len(outline)]
        length = float(np.linalg.norm(end - start))
        name = 'wall_plain'
        blind = kind in ('barn', 'annex') or length < 3.0 or (i != front and rng.random() < 0.12)
        if not blind:
            name = 'wall_with_windows'
            count = max(1, int(length / 2.9))
            for storey in range(storeys):
                sill = floor + storey * STOREY + 0.95
                if sill + 1.3 > eave - 0.2:
                    break
                for k in range(count):
                    centre = length * (k + 0.5) / count
                    if i == front and storey == 0 and k == count // 2:
                        continue
                    solids.append(_on_wall(start, end, (centre - 0.55, centre + 0.55), (sill, sill + 1.3),
                                           (-0.05, 0.04), 'window'))
        if i == front:
            name = 'wall_with_door'
            centre = length * (max(1, int(length / 2.9)) // 2 + 0.5) / max(1, int(length / 2.9))
            if kind in ('barn', 'annex'):
                half = min(2.0 if kind == 'barn' else 1.25, length / 2 - 0.3)
                solids.append(_on_wall(start, end, (length / 2 - half, length / 2 + half),
                                       (floor + 0.02, floor + min(2.4 if kind == 'annex' else 3.6, eave - floor - 0.3)),
                                       (-0.05, 0.05), 'garage_door'))
            else:
                solids.append(_on_wall(start, end, (centre - 0.5, centre + 0.5), (floor + 0.02, floor + 2.15),
                                       (-0.05, 0.05), 'door'))
        elif balcony_left and length > 5.0:
            balcony_left = False
            z, half = floor + STOREY, min(2.2, length / 2 - 0.5)
            a, b = length / 2 - half, length / 2 + half
            solids.append(_on_wall(start, end, (a, b), (z - 0.18, z), (-0.02, 1.35), 'balcony'))
            for along, out in (((a, b), (1.29, 1.35)), ((a, a + 0.06), (0.02, 1.29)), ((b - 0.06, b), (0.02, 1.29))):
                solids.append(_on_wall(start, end, along, (z, z + 1.0), out, 'balustrade'))
        names.append(name)
    return solids, names


def _chimney(x: float, y: float, low: float, high: float, size: float = 0.8) -> Solid:
    return box((x - size / 2, x + size / 2), (y - size * 0.4, y + size * 0.4), (low, high), 'chimney')


def _dormer(x: float, front: float, eave: float, slope: float, side: int, width: float, gabled: bool) -> list[Solid]:
    """Dormer on the slope that rises from y = ``front`` (eave at height ``eave``) towards the ridge at y = 0.

    ``side`` is -1 for the slope on the negative y side, +1 for the other; ``slope`` is the tangent of the pitch.
    """
    part = 'dormer_gable' if gabled else 'dormer_shed'
    run = 1.0  # from the eave to the dormer's front, along y
    cheek = 1.25
    z0 = eave + run * slope - 0.3
    z1 = eave + run * slope + cheek
    y0 = side * (front - run)
    rise = width / 2 * 0.75 if gabled else 0.0
    w = width / 2
    back = (cheek + rise + 0.05) / slope if gabled else (cheek + 0.05) / max(slope - 0.2, 0.25)
    back = min(back, front - run - 0.05)
    inward = np.array([0, -side * back, 0])
    if gabled:
        profile = [[x - w, y0, z0], [x + w, y0, z0], [x + w, y0, z1], [x, y0, z1 + rise], [x - w, y0, z1]]
        if side > 0:
            profile = profile[::-1]
        solid = extruded(np.array(profile), inward, part)
    else:
        lift = 0.2 * back  # the shed's own slight slope
        f = y0 - side * back
        low = [np.array([x + s * w, y, z0]) for y, s in ((y0, -1), (y0, 1), (f, 1), (f, -1))]
        high = [np.array([x - w, y0, z1]), np.array([x + w, y0, z1]),
                np.array([x + w, f, z1 + lift]), np.array([x - w, f, z1 + lift])]
        faces = [low[::-1], high] + [[low[i], low[(i + 1) % 4], high[(i + 1) % 4], high[i]] for i in range(4)]
        if side > 0:
            faces = [face[::-1] for face in faces]
        solid = weld([(np.array(face), part) for face in faces])
    outward = sorted((y0 - side * 0.05, y0 + side * 0.04))
    pane = box((x - w * 0.6, x + w * 0.6), (outward[0], outward[1]), (z1 - 1.05, z1 - 0.1), 'window')
    return [solid, pane]


def _skylight(x: float, y: float, eave: float, front: float, slope: float, side: int) -> Solid:
    """Roof window, 0.8 x 1.2 m, raised 8 cm above the slope."""
    def at(dx: float, dy: float, lift: float) -> np.ndarray:
        yy = y + dy
        return np.array([x + dx, side * yy, eave + (front - yy) * slope + lift])

    corners = [(-0.4, -0.55), (0.4, -0.55), (0.4, 0.55), (-0.4, 0.55)]
    low, high = [at(*c, -0.05) for c in corners], [at(*c, 0.08) for c in corners]
    faces = [low[::-1], high] + [[low[i], low[(i + 1) % 4], high[(i + 1) % 4], high[i]] for i in range(4)]
    if side < 0:  # the mapping y -> -y turned the faces inside out
        faces = [face[::-1] for face in faces]
    return weld([(np.array(face), 'skylight') for face in faces])


def _placed(solids: Sequence[Solid], angle: float, x: float, y: float) -> list[Solid]:
    return [solid.moved(angle, (x, y, 0.0)) for solid in solids]


def make_building(rng: np.random.Generator, terrain: Terrain, kind: str, roof_type: str, x: float, y: float,
                  angle: float, length: float, width: float, wall_height: float, covering: str,
                  depth: float | None = None, pitch: float = 40.0, overhang: float = 0.4) -> Building:
    """Build one building centred on (x, y), its front wall on the right of its heading ``angle``.

    Args:
        rng: source of the details.
        length, width: of the walls' rectangle, metres; with ``depth`` the building is an L whose wings are ``width``
            wide and ``length`` and ``depth`` long.
        wall_height: from the floor to the eave, metres.
        covering: a name of :data:`ROOF_TONES`.
        pitch: of gable and hip roofs, degrees; ``overhang`` of the roof over the walls, metres.
    """
    if roof_type == 'flat':
        overhang = 0.0
    if depth is None:
        outline = rectangle(length, width)
        roof = rectangle_roof(roof_type, length + 2 * overhang, width + 2 * overhang, pitch)
    else:
        centre = np.array([length / 2, depth / 2])
        outline = ell(length, depth, width) - centre
        roof = ell_roof(roof_type, length + 2 * overhang, depth + 2 * overhang, width + 2 * overhang, pitch)
        roof = roof.moved(0.0, (-centre[0] - overhang, -centre[1] - overhang, 0.0))
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, -s], [s, c]])
    footprint = outline @ turn.T + [x, y]
    levels = terrain.height(footprint[:, 0], footprint[:, 1])
    ground = float(levels.min())
    floor = float(levels.max()) + 0.15
    eave = floor + wall_height
    details, walls = _wall_openings(rng, outline, floor, eave - 0.2, 0, kind)
    body = prism(outline, floor, eave - 0.2, walls, 'overhang', 'foundation')
    grown = outline * (1 + 0.06 / np.abs(outline).max())
    details.append(prism(grown, ground - 0.6, floor, 'foundation', 'foundation', 'foundation'))
    roof = roof.moved(0.0, (0.0, 0.0, eave))
    top = float(roof.vertices[:, 2].max())
    half_length, half = length / 2 + overhang, width / 2 + overhang
    slope = np.tan(np.radians(pitch))
    dwelling = kind in ('house', 'row_house', 'villa')
    shift_x, shift_y = (0.0, 0.0) if depth is None else (0.0, -depth / 2 + width / 2)
    if dwelling and roof_type != 'flat':
        for _ in range(1 + int(rng.random() < 0.4)):
            px = float(rng.uniform(-0.35, 0.35)) * length
            py = float(rng.choice([-1, 1])) * width * float(rng.uniform(0.03, 0.18))
            details.append(_chimney(px + shift_x, py + shift_y, eave + 0.3, top + float(rng.uniform(0.4, 1.0)),
                                    float(rng.uniform(0.7, 1.1))))
    if dwelling and depth is None and roof_type in ('gable', 'hip', 'mansard') and half > 3.2:
        steep = np.tan(np.radians(66.0)) if roof_type == 'mansard' else slope
        usable = half_length - (half if roof_type != 'gable' else 1.0) - 0.8
        for side in (-1, 1):
            if usable < 1.0 or steep < 0.65:
                continue
            choice = rng.random()
            count = int(min(3, max(1, usable * 2 / 3.2)))
            places = (np.arange(count) + 0.5) / count * 2 * usable - usable
            if roof_type == 'mansard' or choice < 0.22:
                gabled = bool(rng.random() < 0.7)
                if roof_type == 'mansard':
                    for px in places:
                        details += _mansard_dormer(float(px), half, eave, side)
                else:
                    for px in places:
                        details += _dormer(float(px), half, eave, slope, side, 1.7, gabled)
            elif choice < 0.6:
                for px in places:
                    offset = half * float(rng.uniform(0.35, 0.6))
                    details.append(_skylight(float(px), offset, eave, half, slope, side))
    if roof_type == 'flat':
        for i in range(len(outline)):
            start, end = outline[i], outline[(i + 1) % len(outline)]
            n = float(np.linalg.norm(end - start))
            details.append(_on_wall(start, end, (0.0, n), (eave - 0.05, eave + 0.35), (-0.3, 0.0), 'cornice'))
        if kind == 'block':
            for _ in range(int(rng.integers(2, 6))):
                px, py = rng.uniform(-0.38, 0.38) * length, rng.uniform(-0.35, 0.35) * width
                if depth is None:
                    size = float(rng.uniform(0.8, 2.2))
                    details.append(box((px - size, px + size), (py - size * 0.7, py + size * 0.7),
                                       (eave - 0.05, eave + float(rng.uniform(0.3, 1.2))), 'skylight'))
    body, roof, *details = _placed([body, roof, *details], angle, x, y)
    tone = np.array(ROOF_TONES[covering])
    tone = np.clip(tone * rng.uniform(0.82, 1.16) * rng.uniform(0.95, 1.05, 4), 30, 235)
    return Building(kind, roof_type, footprint, ground, eave, top, float(angle), body, roof, tuple(details),
                    tuple(float(v) for v in tone), covering, int(rng.integers(1 << 30)))


def _mansard_dormer(x: float, half: float, eave: float, side: int) -> list[Solid]:
    """Small dormer that stands in the steep lower slope of a mansard roof."""
    w, low, high = 0.65, eave + 0.35, eave + 1.75
    y0, y1 = half - 0.12, half - 0.12 - 0.9
    span = sorted((side * y0, side * y1))
    pane = sorted((side * (y0 - 0.05), side * (y0 + 0.04)))
    return [box((x - w, x + w), (span[0], span[1]), (low, high), 'dormer_shed'),
            box((x - 0.4, x + 0.4), (pane[0], pane[1]), (low + 0.2, high - 0.15), 'window')]


CAR_TONES: tuple[tuple[float, float, float, float], ...] = (
    (224, 224, 226, 200), (190, 192, 196, 170), (60, 62, 68, 70), (36, 38, 42, 46), (150, 40, 38, 130),
    (52, 76, 128, 84), (120, 122, 126, 112), (198, 188, 168, 176), (60, 92, 72, 90),
)


def make_car(rng: np.random.Generator, terrain: Terrain, x: float, y: float, angle: float) -> Car:
    """Place a car, 3.9 to 4.8 m long, on the ground at (x, y)."""
    length, width = float(rng.uniform(3.9, 4.8)), float(rng.uniform(1.7, 1.9))
    z = float(terrain.height(np.array([x]), np.array([y]))[0])
    body = prism(rectangle(length, width), z + 0.2, z + 0.95, 'car_body', 'car_body', 'car_body')
    a, b = length * 0.26, width / 2 - 0.12
    low = np.array([[-a - 0.55, -b - 0.05], [a + 0.35, -b - 0.05], [a + 0.35, b + 0.05], [-a - 0.55, b + 0.05]])
    high = np.array([[-a - 0.2, -b], [a - 0.25, -b], [a - 0.25, b], [-a - 0.2, b]])
    lower = np.column_stack([low, np.full(4, z + 0.95)])
    upper = np.column_stack([high, np.full(4, z + 1.48)])
    faces = [(lower[::-1], 'car_glass'), (upper, 'car_body')]
    faces += [(np.array([lower[i], lower[(i + 1) % 4], upper[(i + 1) % 4], upper[i]]), 'car_glass') for i in range(4)]
    # The cabin's sides are trapezoids between parallel edges, so every face stays planar
    solids = _placed([body, weld(faces)], angle, x, y)
    tone = np.clip(np.array(CAR_TONES[int(rng.integers(len(CAR_TONES)))]) * rng.uniform(0.9, 1.1), 20, 240)
    return Car(x, y, float(angle), tuple(solids), tuple(float(v) for v in tone))
