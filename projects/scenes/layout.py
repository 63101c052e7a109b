"""The plan of the land: villages, roads, streets, lots, a stream, and the parcels between them.

Everything is planned in metres on a rectangle somewhat larger than the scene, so that the scene's border shows nothing
of it. Areas are painted in order: a later area lies on top of an earlier one.
"""

from dataclasses import dataclass, field

import numpy as np
import shapely
from shapely.geometry import LineString, Point, Polygon
from shapely.ops import polygonize, unary_union
from shapely.strtree import STRtree

from projects.scenes.noise import fractal_at, noise_at

MARGIN = 90.0  # metres planned beyond the scene's border


@dataclass(frozen=True, eq=False)
class Area:
    """A piece of ground: ``object`` names its id, ``kind`` its look.

    ``direction`` (radians) is that of rows, furrows or wheel tracks; ``seed`` fixes its colours; ``height`` is that of
    its plants in metres.
    """

    object: str
    kind: str
    polygon: Polygon
    direction: float = 0.0
    seed: int = 0
    height: float = 0.0


@dataclass(frozen=True, eq=False)
class Road:
    """A road: centre line, width in metres, kind `main`, `street` or `track`."""

    line: LineString
    width: float
    kind: str


@dataclass(frozen=True, eq=False)
class Lot:
    """A building plot on a street: corners (4, 2) from the street's edge backwards, heading of the street."""

    corners: np.ndarray
    angle: float
    frontage: float
    depth: float
    core: float  # 1 in the centre of the village, 0 at its border


@dataclass
class Layout:
    """The whole plan; see the module's docstring."""

    extent: tuple[float, float]
    centres: list[np.ndarray]
    radius: float
    roads: list[Road] = field(default_factory=list)
    lots: list[Lot] = field(default_factory=list)
    parcels: list[Area] = field(default_factory=list)
    stream: LineString | None = None
    stream_width: float = 0.0
    ponds: list[Polygon] = field(default_factory=list)
    forest: shapely.Geometry = field(default_factory=Polygon)
    farms: list[tuple[float, float, float, Polygon]] = field(default_factory=list)  # x, y, angle, yard
    plazas: list[Polygon] = field(default_factory=list)
    car_parks: list[tuple[Polygon, float]] = field(default_factory=list)
    hedge_lines: list[LineString] = field(default_factory=list)


def winding(start: np.ndarray, end: np.ndarray, rng: np.random.Generator, sway: float = 0.07,
            step: float = 12.0) -> LineString:
    """A smooth line between two points that leaves the straight one by about ``sway`` of its length."""
    start, end = np.asarray(start, float), np.asarray(end, float)
    length = float(np.linalg.norm(end - start))
    n = max(4, int(length / step))
    t = np.linspace(0, 1, n + 1)
    normal = np.array([-(end - start)[1], (end - start)[0]]) / max(length, 1e-9)
    offset = np.zeros(n + 1)
    for k in range(1, 5):
        offset += rng.normal() / k**1.6 * np.sin(np.pi * k * t)
    points = start + (end - start) * t[:, None] + normal * (offset * sway * length)[:, None]
    return LineString(points)


def _meander(line: LineString, rng: np.random.Generator) -> LineString:
    """Let a watercourse swing about its line: bends of 70 to 230 metres, smooth and never regular."""
    points = np.array(line.coords)
    ahead = np.gradient(points, axis=0)
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    s = np.linspace(0, line.length, len(points))
    seed = int(rng.integers(1 << 30))
    swing = 44 * (noise_at(s, 0 * s, 115.0, seed) - 0.5) + 18 * (noise_at(s, 0 * s, 40.0, seed + 1) - 0.5)
    return LineString(points + np.column_stack([-ahead[:, 1], ahead[:, 0]]) * swing[:, None]).simplify(0.05)


def blob(centre: np.ndarray, radius: float, rng: np.random.Generator, wobble: float = 0.25) -> Polygon:
    """An irregular round outline around ``centre``."""
    a = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    r = np.ones_like(a)
    for k in range(2, 6):
        r += wobble / k * 1.4 * rng.normal() * np.cos(k * a + rng.uniform(0, 2 * np.pi))
    r = radius * np.clip(r, 0.4, 1.8)
    return Polygon(np.column_stack([centre[0] + r * np.cos(a), centre[1] + r * np.sin(a)])).buffer(0)


def _heading(line: LineString, s: float) -> tuple[np.ndarray, np.ndarray]:
    """Point and unit direction at distance ``s`` along the line."""
    a = line.interpolate(max(s - 1.0, 0.0))
    b = line.interpolate(min(s + 1.0, line.length))
    d = np.array([b.x - a.x, b.y - a.y])
    p = line.interpolate(s)
    return np.array([p.x, p.y]), d / max(np.linalg.norm(d), 1e-9)


def _centres(extent: tuple[float, float], rng: np.random.Generator) -> list[np.ndarray]:
    """One village per 1.3 km of ground, on a jittered grid."""
    nx, ny = (max(1, round(e / 1300)) for e in extent)
    cell = np.array([extent[0] / nx, extent[1] / ny])
    return [(np.array([i, j]) + 0.5 + rng.uniform(-0.09, 0.09, 2)) * cell for j in range(ny) for i in range(nx)]


def _plan_roads(plan: Layout, rng: np.random.Generator) -> None:
    width, height = plan.extent
    low, high = -MARGIN, np.array([width + MARGIN, height + MARGIN])
    grid_x = max(1, round(width / 1300))
    # Directions with no neighbouring village lead out of the scene
    for k, centre in enumerate(plan.centres):
        i, j = k % grid_x, k // grid_x
        turn = rng.uniform(-0.5, 0.5)
        directions = [0.0, 0.5 * np.pi, np.pi, 1.5 * np.pi]
        skip = int(rng.integers(0, 6))
        for d, angle in enumerate(directions):
            di, dj = ((1, 0), (0, 1), (-1, 0), (0, -1))[d]
            neighbour = (i + di, j + dj)
            inside = 0 <= neighbour[0] < grid_x and 0 <= neighbour[1] < len(plan.centres) // grid_x
            if inside:
                if d < 2:
                    other = plan.centres[neighbour[1] * grid_x + neighbour[0]]
                    plan.roads.append(Road(winding(centre, other, rng, 0.06), 6.2, 'main'))
                continue
            if d == skip:
                continue
            a = angle + turn + rng.uniform(-0.25, 0.25)
            direction = np.array([np.cos(a), np.sin(a)])
            with np.errstate(divide='ignore'):
                reach = np.where(direction > 0, (high - centre) / direction, (low - centre) / direction)
            end = centre + direction * (float(np.min(reach)) + 5)
            plan.roads.append(Road(winding(centre, end, rng, 0.05), float(rng.uniform(5.6, 6.8)), 'main'))
    _plan_streets(plan, rng)


def _plan_streets(plan: Layout, rng: np.random.Generator) -> None:
    """Side streets off the main roads, and side streets off those, until the village is filled."""
    spacing = 62.0
    for generation in range(2):
        parents = [r for r in plan.roads if r.kind == ('main' if generation == 0 else 'street')]
        for road in parents:
            s = float(rng.uniform(0.45, 0.8)) * spacing
            side = int(rng.choice([-1, 1]))
            while s < road.line.length - 8:
                p, d = _heading(road.line, s)
                near = min(float(np.linalg.norm(p - c)) for c in plan.centres)
                s += float(rng.uniform(0.75, 1.3)) * spacing
                side = -side
                if near > plan.radius * 0.92 or (generation and rng.random() < 0.25):
                    continue
                a = np.arctan2(d[1], d[0]) + side * np.pi / 2 + rng.uniform(-0.3, 0.3)
                reach = plan.radius * float(rng.uniform(0.45, 0.9)) * (1.0 if generation == 0 else 0.6)
                end = p + reach * np.array([np.cos(a), np.sin(a)])
                line = winding(p, end, rng, 0.07, 8.0)
                line = _stop_at_roads(line, plan)
                if line is None or line.length < 42:
                    continue
                plan.roads.append(Road(line, float(rng.uniform(4.0, 5.2)), 'street'))


def _stop_at_roads(line: LineString, plan: Layout) -> LineString | None:
    """Cut a new street where it meets another road, or before it runs beside one."""
    others = unary_union([r.line for r in plan.roads])
    n = int(line.length / 4)
    points = [line.interpolate(min(4.0 * i, line.length)) for i in range(n + 1)]
    kept = [points[0]]
    for i, point in enumerate(points[1:], 1):
        distance = others.distance(point)
        if min(np.hypot(point.x - c[0], point.y - c[1]) for c in plan.centres) > plan.radius * 1.12:
            break
        if i * 4 > 24 and distance < 20:
            nearest = others.interpolate(others.project(point)) if others.geom_type == 'LineString' else None
            if nearest is None:
                nearest = shapely.ops.nearest_points(others, point)[0]
            kept.append(nearest)
            break
        if i * 4 > 14 and distance < min(i * 4, 40) * 0.45:
            return None
        kept.append(point)
    return LineString(kept) if len(kept) > 2 else None


def _plan_water(plan: Layout, rng: np.random.Generator) -> None:
    """A stream that crosses the scene beside the village, and ponds."""
    width, height = plan.extent
    centre = plan.centres[len(plan.centres) // 2]
    a = rng.uniform(0, np.pi)
    d = np.array([np.cos(a), np.sin(a)])
    n = np.array([-d[1], d[0]]) * rng.choice([-1, 1])
    span = float(np.hypot(width, height)) + 2 * MARGIN
    middle = centre + n * plan.radius * float(rng.uniform(0.95, 1.2))
    plan.stream = _meander(winding(middle - d * span, middle + d * span, rng, 0.022, 5.0), rng)
    size = min(width, height)
    plan.stream_width = float(np.clip(size / 170, 2.0, 6.0))
    wanted = max(1, int(width * height / 600_000 + 0.5))
    area = 0.011 * width * height / wanted
    for _ in range(wanted):
        for _ in range(60):
            p = rng.uniform(0.06, 0.94, 2) * [width, height]
            radius = float(np.sqrt(area / np.pi))
            clear = min(float(np.linalg.norm(p - c)) for c in plan.centres)
            roads = min(r.line.distance(Point(p)) for r in plan.roads)
            if clear > plan.radius * 0.75 and roads > radius * 1.3 + 6:
                plan.ponds.append(blob(p, radius, rng))
                break


def _plan_lots(plan: Layout, rng: np.random.Generator) -> None:
    """Building plots along both sides of every road within the village."""
    road_area = unary_union([r.line.buffer(r.width / 2 + 0.6, quad_segs=4) for r in plan.roads])
    blocked = [road_area, *plan.ponds, *plan.plazas, *[yard for *_, yard in plan.farms],
               *[park for park, _ in plan.car_parks]]
    if plan.stream is not None:
        blocked.append(plan.stream.buffer(plan.stream_width / 2 + 6))
    blocked_area = unary_union(blocked)
    shapely.prepare(blocked_area)
    taken: list[Polygon] = []
    order = sorted(plan.roads, key=lambda r: r.kind != 'street')
    for road in order:
        if road.kind == 'track':
            continue
        for side in (-1, 1):
            s = float(rng.uniform(5, 14))
            while s < road.line.length - 8:
                p, d = _heading(road.line, s)
                near = min(float(np.linalg.norm(p - c)) for c in plan.centres)
                core = float(np.clip(1 - near / plan.radius, 0, 1))
                frontage = float(rng.uniform(11, 17) if core > 0.62 else rng.uniform(18, 30))
                if near > plan.radius * 1.02 or rng.random() < 0.05 + 0.16 * (1 - core):
                    s += frontage * 0.7
                    continue
                middle, d = _heading(road.line, min(s + frontage / 2, road.line.length))
                out = np.array([d[1], -d[0]]) * side  # side +1: on the right of the heading
                for depth in (float(rng.uniform(28, 46)), 22.0, 16.0):
                    edge = middle + out * (road.width / 2 + 1.2)
                    corners = np.array([edge - d * frontage / 2, edge + d * frontage / 2,
                                        edge + d * frontage / 2 + out * depth, edge - d * frontage / 2 + out * depth])
                    lot = Polygon(corners)
                    free = not blocked_area.intersects(lot.buffer(-0.5))
                    if free and not (taken and bool(np.any(shapely.intersects(np.array(taken), lot.buffer(-0.6))))):
                        taken.append(lot)
                        heading = np.arctan2(d[1], d[0]) + (np.pi if side > 0 else 0.0)
                        plan.lots.append(Lot(corners, float(heading), frontage, depth, core))
                        break
                else:
                    s += 5.0
                    continue
                s += frontage + 0.3


def _split(polygon: Polygon, target: float, rng: np.random.Generator, out: list[Polygon],
           lines: list[tuple[LineString, int]], depth: int = 0) -> None:
    """Cut a block into parcels of about ``target`` square metres, across its longer side."""
    if polygon.area < target * float(rng.uniform(0.75, 1.9)) or depth > 9:
        if polygon.area > 60:
            out.append(polygon)
        return
    box = np.array(polygon.minimum_rotated_rectangle.exterior.coords)[:4]
    u, v = box[1] - box[0], box[3] - box[0]
    if np.linalg.norm(u) < np.linalg.norm(v):
        u, v = v, u
    # Now and then along the longer side: narrow strips, as inheritance left them
    if rng.random() < 0.2 and np.linalg.norm(v) > 60:
        u, v = v, u
    at = box[0] + u * float(rng.uniform(0.36, 0.64))
    tilt = v + u * float(rng.uniform(-0.06, 0.06))
    cut = LineString([at - tilt * 0.6, at + tilt * 1.6])
    pieces = [g for g in shapely.ops.split(polygon, cut).geoms if g.geom_type == 'Polygon']
    if len(pieces) < 2:
        out.append(polygon)
        return
    inside = cut.intersection(polygon)
    if inside.geom_type == 'LineString':
        lines.append((inside, depth))
    for piece in pieces:
        _split(piece, target, rng, out, lines, depth + 1)


_CROPS: tuple[tuple[str, float, float], ...] = (  # kind, share, height
    ('wheat', 0.26, 0.7), ('barley', 0.12, 0.6), ('maize', 0.2, 1.9), ('beet', 0.12, 0.4), ('rapeseed', 0.1, 1.2),
    ('alfalfa', 0.1, 0.4), ('vineyard', 0.1, 1.4),
)


def _shape_factor(polygon: Polygon) -> float:
    """1 for a compact parcel, towards 0 for a sliver."""
    return float(np.clip(16 * polygon.area / max(polygon.length, 1e-9) ** 2, 0, 1))


def _plan_parcels(plan: Layout, rng: np.random.Generator) -> None:
    """Cut the open land into parcels and give each its use, by quota of area and by what lies around it."""
    width, height = plan.extent
    rect = shapely.box(-MARGIN, -MARGIN, width + MARGIN, height + MARGIN)
    lines = [r.line for r in plan.roads] + [rect.exterior]
    if plan.stream is not None:
        lines.append(plan.stream)
    blocks = [b.intersection(rect) for b in polygonize(unary_union(lines)) if b.area > 50]
    target = float(np.clip(width * height / 75, 1500, 14000))
    pieces: list[Polygon] = []
    cuts: list[tuple[LineString, int]] = []
    for block in blocks:
        if block.geom_type == 'Polygon':
            _split(block, target * float(np.exp(rng.normal(0, 0.45))), rng, pieces, cuts)
    lots = unary_union([Polygon(lot.corners).buffer(0.2) for lot in plan.lots]) if plan.lots else Polygon()
    roads = unary_union([r.line.buffer(r.width / 2) for r in plan.roads])
    waters = unary_union([*plan.ponds, plan.stream.buffer(plan.stream_width / 2 + 1)] if plan.stream else plan.ponds)
    taken = unary_union([lots, roads, waters, *[f[3] for f in plan.farms]])
    shapely.prepare(taken)
    # Farm tracks along some of the first cuts, from road to road
    for line, depth in cuts:
        if depth <= 2 and line.length > 50 and rng.random() < 0.6 and lots.distance(line) > 4:
            plan.roads.append(Road(line, float(rng.uniform(2.6, 3.4)), 'track'))

    centre = np.array([[*p.representative_point().coords[0]] for p in pieces])
    area = np.array([p.intersection(shapely.box(0, 0, width, height)).difference(taken).area for p in pieces])
    shape = np.array([_shape_factor(p) for p in pieces])
    village = np.min([np.hypot(centre[:, 0] - c[0], centre[:, 1] - c[1]) for c in plan.centres], axis=0) / plan.radius
    seed = int(rng.integers(1 << 30))
    scale = float(np.clip(min(width, height) * 0.33, 90, 330))
    woody = fractal_at(centre[:, 0], centre[:, 1], scale, seed, 2)
    wild = noise_at(centre[:, 0], centre[:, 1], scale * 0.5, seed + 7)
    water = np.array([min([plan.stream.distance(p) if plan.stream else 1e3] + [w.distance(p) for w in plan.ponds])
                      for p in pieces])
    use = np.array(['crop'] * len(pieces), dtype=object)
    free = np.ones(len(pieces), bool)
    total = width * height

    def assign(name: str, share: float, score: np.ndarray, allowed: np.ndarray) -> None:
        got = 0.0
        for k in np.argsort(-score, kind='stable'):
            if got >= share * total:
                return
            if free[k] and allowed[k] and area[k] > 0:
                if got + area[k] > share * total * 1.6 and got > 0.4 * share * total:
                    continue
                use[k], free[k] = name, False
                got += area[k]

    village_lots = np.array([lots.intersection(p).area / max(p.area, 1) for p in pieces])
    fields = village > 0.8
    # Slivers and what is left between gardens become meadow: nobody ploughs there
    leftover = (shape < 0.35) | (village < 0.8) | (village_lots > 0.25)
    assign('forest', 0.17, woody + 0.15 * np.minimum(village, 2.0), fields & (village > 1.15) & (shape > 0.3))
    wooded = [p for p, u in zip(pieces, use) if u == 'forest']
    tree = STRtree(wooded) if wooded else None
    beside = np.array([tree is not None and len(tree.query(p, predicate='touches')) > 0 for p in pieces], float)
    assign('semi_natural', 0.13, wild + 0.35 * beside + 0.4 * (water < 25) - 0.25 * shape, fields)
    for k in np.flatnonzero(leftover & free):
        use[k], free[k] = 'meadow', False
    have = float(area[use == 'meadow'].sum()) / total
    assign('meadow', max(0.05, 0.17 - have), rng.random(len(pieces)) + 0.5 * (village < 1.5), fields)
    assign('bare_field', 0.095, rng.random(len(pieces)) + 0.2 * shape, fields)

    kinds = [k for k, *_ in _CROPS]
    weights = np.array([w for _, w, _ in _CROPS])
    heights = {k: h for k, _, h in _CROPS}
    for k, piece in enumerate(pieces):
        box = np.array(piece.minimum_rotated_rectangle.exterior.coords)[:4]
        u, v = box[1] - box[0], box[3] - box[0]
        long = u if np.linalg.norm(u) >= np.linalg.norm(v) else v
        direction = float(np.arctan2(long[1], long[0]))
        stamp = int(rng.integers(1 << 30))
        choice = float(rng.random())
        kind = str(rng.choice(kinds, p=weights / weights.sum()))
        # The hectare-sized parts of a village's inside stay green; orchards stand near it
        inner = piece.buffer(-0.9)
        if inner.is_empty:
            continue
        if use[k] == 'forest':
            continue
        if use[k] == 'semi_natural':
            plan.parcels.append(Area('semi_natural_grass', 'rough', piece.buffer(1.0), direction, stamp, 0.5))
            continue
        if use[k] == 'meadow':
            name = 'orchard' if village[k] < 1.6 and choice < 0.3 and piece.area > 900 else (
                'mown' if choice > 0.72 else 'pasture')
            plan.parcels.append(Area('meadow', name, piece.buffer(0.3), direction, stamp, 0.25))
            continue
        if use[k] == 'bare_field':
            name = 'stubble' if choice < 0.4 else ('ploughed' if choice < 0.75 else 'harrowed')
            plan.parcels.append(Area('bare_field', name, inner, direction, stamp, 0.05))
            continue
        plan.parcels.append(Area('crop', kind, inner, direction, stamp, heights[kind]))
    plan.forest = unary_union(wooded).buffer(0.1) if wooded else Polygon()

    # Hedgerows along some borders of parcels: dense where the noise says so
    borders = unary_union([Polygon(p.exterior).exterior for p in pieces])
    edges = list(borders.geoms) if hasattr(borders, 'geoms') else [borders]
    tracks = unary_union([r.line for r in plan.roads])
    closed = unary_union([lots.buffer(1.5), waters.buffer(1.0), plan.forest])
    shapely.prepare(tracks)
    for edge in shapely.get_parts(shapely.line_merge(shapely.MultiLineString(edges))):
        p = edge.interpolate(0.5, normalized=True)
        dense = float(noise_at(np.array([p.x]), np.array([p.y]), 170.0, seed + 31)[0])
        if edge.length < 25 or rng.random() > 0.08 + 0.75 * max(0.0, dense - 0.35):
            continue
        clear = edge.difference(closed)
        shift = 4.2 if tracks.distance(p) < 1.5 else 0.0
        for part in shapely.get_parts(clear):
            if part.geom_type == 'LineString' and part.length > 18:
                line = part.offset_curve(float(rng.choice([-1, 1])) * shift) if shift else part
                for piece in shapely.get_parts(line):
                    if piece.length > 15:
                        plan.hedge_lines.append(piece)


def _plan_special(plan: Layout, rng: np.random.Generator) -> None:
    """The church square, farm yards at the village's edge, and car parks of larger buildings."""
    for centre in plan.centres:
        roads = unary_union([r.line.buffer(r.width / 2 + 1) for r in plan.roads])
        size = float(np.clip(plan.radius * 0.13, 11, 24))
        best, where = -1.0, centre
        for _ in range(24):
            a = rng.uniform(0, 2 * np.pi)
            p = centre + (size + 8) * np.array([np.cos(a), np.sin(a)])
            clear = roads.distance(Point(p))
            if clear > best:
                best, where = clear, p
        plan.plazas.append(blob(where, size, rng, 0.12).union(blob(centre, size * 0.55, rng, 0.1)))
        for _ in range(max(2, round(plan.radius / 70))):
            _place_yard(plan, rng, centre, 'farm')
        if plan.radius > 110:
            for _ in range(max(1, round(plan.radius / 110))):
                _place_yard(plan, rng, centre, 'park')


def _place_yard(plan: Layout, rng: np.random.Generator, centre: np.ndarray, what: str) -> None:
    """Try places along the roads at the village's edge for a farm yard or a car park."""
    roads = [r for r in plan.roads if r.kind != 'track']
    road_area = unary_union([r.line.buffer(r.width / 2 + 0.5) for r in roads])
    water = unary_union([*plan.ponds, plan.stream.buffer(plan.stream_width / 2 + 5)] if plan.stream else plan.ponds)
    for _ in range(80):
        road = roads[int(rng.integers(len(roads)))]
        p, d = _heading(road.line, float(rng.uniform(0.05, 0.95)) * road.line.length)
        near = float(np.linalg.norm(p - centre)) / plan.radius
        if not (0.75 < near < 1.45 if what == 'farm' else 0.45 < near < 1.1):
            continue
        if not (10 < p[0] < plan.extent[0] - 10 and 10 < p[1] < plan.extent[1] - 10):
            continue
        side = float(rng.choice([-1, 1]))
        out = np.array([d[1], -d[0]]) * side
        w, h = (float(rng.uniform(48, 66)), float(rng.uniform(40, 54))) if what == 'farm' else (
            float(rng.uniform(46, 64)), float(rng.uniform(46, 58)))
        edge = p + out * (road.width / 2 + 0.3)
        yard = Polygon([edge - d * w / 2, edge + d * w / 2, edge + d * w / 2 + out * h, edge - d * w / 2 + out * h])
        others = [*plan.plazas, *[f[3] for f in plan.farms], *[q for q, _ in plan.car_parks]]
        if road_area.intersects(yard.buffer(-1)) or water.intersects(yard) or any(o.intersects(yard) for o in others):
            continue
        angle = float(np.arctan2(d[1], d[0]) + (np.pi if side > 0 else 0.0))
        middle = edge + out * h / 2
        if what == 'farm':
            plan.farms.append((float(middle[0]), float(middle[1]), angle, yard))
        else:
            plan.car_parks.append((yard, angle))
        return


def make_layout(seed: int, extent: tuple[float, float]) -> Layout:
    """Plan a scene of ``extent`` (width, height) metres; the same seed and extent always give the same plan."""
    rng = np.random.default_rng([seed, 1])
    centres = _centres(extent, rng)
    cell = min(extent[0] / max(1, round(extent[0] / 1300)), extent[1] / max(1, round(extent[1] / 1300)))
    plan = Layout(extent, centres, float(np.clip(0.27 * cell, 45, 300)))
    _plan_roads(plan, rng)
    _plan_water(plan, rng)
    _plan_special(plan, rng)
    _plan_lots(plan, rng)
    _plan_parcels(plan, rng)
    return plan
