"""One village as a whole: terrain, painted ground, trees, hedges, buildings and cars, made from a seed."""

from dataclasses import dataclass

import numpy as np
import shapely
from shapely.geometry import LineString, Point, Polygon
from shapely.ops import unary_union

from projects.engine.errors import UserError
from projects.scenes.buildings import Building, Car, make_building, make_car
from projects.scenes.layout import MARGIN, Area, Layout, Lot, Road, blob, make_layout
from projects.scenes.noise import noise_at
from projects.scenes.objects import OBJECTS
from projects.scenes.terrain import Terrain
from projects.scenes.vegetation import (
    BROADLEAF,
    CONIFER,
    FRUIT,
    POPLAR,
    SHRUB,
    Hedge,
    Planter,
    Trees,
    forest_kinds,
    scatter_in,
)

MIN_EXTENT, MAX_EXTENT = 60.0, 12_000.0  # metres


@dataclass(eq=False)
class Scene:
    """Everything there is, in metres from the scene's lower left corner; heights above sea level.

    Attributes:
        seed, extent: what the scene was made from; extent is (width, height).
        origin: EPSG:2154 coordinates of the lower left corner, whole kilometres.
        areas: ground in painting order, later on top.
        roads, hedges, trees, buildings, cars: what stands on it.
        tallest: no object rises more than this above the terrain, metres.
    """

    seed: int
    extent: tuple[float, float]
    origin: tuple[int, int]
    terrain: Terrain
    areas: list[Area]
    roads: list[Road]
    hedges: list[Hedge]
    trees: Trees
    buildings: list[Building]
    cars: list[Car]
    tallest: float


class _Builder:
    """Fills a scene from a layout, one kind of place at a time."""

    def __init__(self, seed: int, plan: Layout):
        self.plan = plan
        self.rng = np.random.default_rng([seed, 2])
        self.terrain = Terrain(int(np.random.default_rng([seed, 3]).integers(1 << 30)))
        self.areas: list[Area] = []
        self.hedges: list[Hedge] = []
        self.buildings: list[Building] = []
        self.cars: list[Car] = []
        self.planter = Planter(np.random.default_rng([seed, 4]), self.terrain)
        self.noise_seed = int(self.rng.integers(1 << 30))
        self._footprints: list[Polygon] = []
        # One village builds alike: a few coverings prevail
        self.coverings = self.rng.permutation(['tile_red', 'tile_brown', 'tile_pink', 'tile_straw', 'slate',
                                               'tile_dark'])

    # ---- helpers -------------------------------------------------------------------------------------------------

    def paint(self, name: str, kind: str, polygon: shapely.Geometry, direction: float = 0.0, height: float = 0.0,
              seed: int | None = None) -> None:
        stamp = int(self.rng.integers(1 << 30)) if seed is None else seed
        for part in shapely.get_parts(polygon):
            if part.geom_type == 'Polygon' and part.area > 0.2:
                self.areas.append(Area(name, kind, part, direction, stamp, height))

    def covering(self, old: float) -> str:
        """Covering of a dwelling; ``old`` in [0, 1] leans to the village's own."""
        weights = np.array([0.42, 0.2, 0.14, 0.1, 0.09, 0.05]) if old > 0.5 else np.full(6, 1 / 6)
        return str(self.rng.choice(self.coverings, p=weights))

    def build(self, kind: str, roof: str, x: float, y: float, angle: float, length: float, width: float,
              wall: float, covering: str, **options: float | None) -> Building | None:
        """Add a building unless it would touch another one."""
        c, s = np.cos(angle), np.sin(angle)
        deep = options.get('depth') or width
        half = np.array([[-length, -deep], [length, -deep], [length, deep], [-length, deep]]) / 2
        ground = Polygon(half @ np.array([[c, s], [-s, c]]) + [x, y])
        inner = ground.buffer(-0.4)
        if any(inner.intersects(other) for other in self._footprints):
            return None
        building = make_building(self.rng, self.terrain, kind, roof, x, y, angle, length, width, wall, covering,
                                 **options)
        self._footprints.append(Polygon(building.footprint))
        self.buildings.append(building)
        return building

    def hedge(self, line: LineString, width: float, height: float) -> None:
        if line.length > 2.0:
            self.hedges.append(Hedge(line, width, height, int(self.rng.integers(1 << 30))))

    # ---- open land -----------------------------------------------------------------------------------------------

    def open_land(self) -> None:
        plan, rng = self.plan, self.rng
        width, height = plan.extent
        rect = shapely.box(-MARGIN, -MARGIN, width + MARGIN, height + MARGIN)
        self.paint('meadow', 'verge', rect, height=0.2)
        self.areas.extend(plan.parcels)
        rough = [p for p in plan.parcels if p.kind == 'rough']
        # The wood's border is ragged: its floor reaches out, its trees further
        self.paint('semi_natural_grass', 'rough', plan.forest.buffer(3.5), height=0.4)
        self.paint('semi_natural_grass', 'forest_floor', plan.forest.buffer(-7), height=0.2)
        if plan.stream is not None:
            banks = plan.stream.buffer(plan.stream_width / 2 + 4.5)
            self.paint('semi_natural_grass', 'rough', banks, height=0.6)
            self.paint('water', 'stream', plan.stream.buffer(plan.stream_width / 2))
            along = np.arange(4, plan.stream.length, 5.5)
            picks = along[rng.random(len(along)) < 0.62]
            points = shapely.get_coordinates(shapely.line_interpolate_point(plan.stream, picks))
            points = points + rng.normal(0, 1, points.shape) * (plan.stream_width / 2 + 1.5)
            grows = noise_at(points[:, 0], points[:, 1], 60.0, self.noise_seed) > 0.42
            self.planter.plant(points[grows], BROADLEAF, (6, 15), (0.22, 0.33), OBJECTS['tree'])
        for pond in plan.ponds:
            self.paint('semi_natural_grass', 'rough', pond.buffer(5.0), height=0.7)
            self.paint('water', 'pond', pond)
            ring = pond.buffer(4.0).exterior
            picks = rng.uniform(0, ring.length, max(3, int(ring.length / 14)))
            points = shapely.get_coordinates(shapely.line_interpolate_point(ring, picks))
            self.planter.plant(points, rng.choice([BROADLEAF, POPLAR, SHRUB], len(points)), (5, 13), (0.2, 0.3),
                               OBJECTS['tree'])
        forest = scatter_in(rng, plan.forest.buffer(1.0), 4.9)
        glade = noise_at(forest[:, 0], forest[:, 1], 26.0, self.noise_seed + 3) if len(forest) else np.zeros(0)
        # Glades inside, and a border that the parcel's straight line does not show through
        rim = shapely.distance(plan.forest.boundary, shapely.points(forest)) if len(forest) else np.zeros(0)
        forest = forest[(glade < 0.88) & ((glade < 0.4 + 0.06 * rim) | (rim > 9))]
        age = noise_at(forest[:, 0], forest[:, 1], 75.0, self.noise_seed + 4) if len(forest) else np.zeros(0)
        for low, high, tall in ((-1, 0.38, (9, 15)), (0.38, 0.62, (13, 20)), (0.62, 2, (17, 25))):
            stand = forest[(age >= low) & (age < high)]
            self.planter.plant(stand, forest_kinds(stand, rng, self.noise_seed + 5), tall, (0.17, 0.25),
                               OBJECTS['tree'])
        edge = plan.forest.boundary
        if not edge.is_empty:
            picks = rng.uniform(0, edge.length, int(edge.length / 6))
            points = shapely.get_coordinates(shapely.line_interpolate_point(edge, picks))
            points = points + rng.normal(0, 2.6, points.shape)
            self.planter.plant(points, rng.choice([BROADLEAF, SHRUB], len(points)), (4, 11), (0.22, 0.32),
                               OBJECTS['tree'])
        for area in rough:
            bushes = scatter_in(rng, area.polygon.buffer(-2), 6.5, 0.5)
            thick = noise_at(bushes[:, 0], bushes[:, 1], 22.0, self.noise_seed + 9) if len(bushes) else np.zeros(0)
            bushes = bushes[rng.random(len(bushes)) < np.clip((thick - 0.3) * 1.1, 0.03, 0.75)]
            self.planter.plant(bushes, SHRUB, (0.8, 2.4), (0.45, 0.75), OBJECTS['semi_natural_grass'])
            lone = scatter_in(rng, area.polygon.buffer(-4), 24.0, 0.5)
            lone = lone[rng.random(len(lone)) < 0.35]
            self.planter.plant(lone, BROADLEAF, (5, 12), (0.24, 0.34), OBJECTS['tree'])
        self._meadow_trees()
        self._bare_ground()

    def _meadow_trees(self) -> None:
        rng = self.rng
        for area in self.plan.parcels:
            if area.kind == 'orchard':
                c, s = np.cos(area.direction), np.sin(area.direction)
                reach = np.hypot(*(np.array(area.polygon.bounds[2:]) - area.polygon.bounds[:2])) / 2
                steps = np.arange(-reach, reach, float(rng.uniform(6.5, 9.0)))
                u, v = np.meshgrid(steps, steps)
                grid = np.column_stack([(u * c - v * s).ravel(), (u * s + v * c).ravel()])
                grid = grid + [area.polygon.centroid.x, area.polygon.centroid.y] + rng.normal(0, 0.25, grid.shape)
                keep = area.polygon.buffer(-3.5)
                shapely.prepare(keep)
                grid = grid[shapely.contains_xy(keep, grid[:, 0], grid[:, 1]) & (rng.random(len(grid)) < 0.9)]
                self.planter.plant(grid, FRUIT, (3.5, 6.0), (0.36, 0.5), OBJECTS['tree'])
            elif area.kind == 'pasture':
                lone = scatter_in(rng, area.polygon.buffer(-5), 30.0, 0.5)
                lone = lone[rng.random(len(lone)) < 0.16]
                self.planter.plant(lone, BROADLEAF, (7, 15), (0.26, 0.36), OBJECTS['tree'])

    def _bare_ground(self) -> None:
        """A gravel pit or building site, and worn ground at the gates of fields."""
        plan, rng = self.plan, self.rng
        total = plan.extent[0] * plan.extent[1]
        wanted = 0.012 * total
        rect = shapely.box(0, 0, *plan.extent)
        fields = [p for p in plan.parcels if p.object in ('crop', 'bare_field', 'meadow')
                  and p.kind != 'orchard' and rect.contains(p.polygon.centroid) and p.polygon.area > 600]
        if not fields:
            return
        closed = unary_union([pond.buffer(6) for pond in plan.ponds]
                             + ([plan.stream.buffer(plan.stream_width / 2 + 6)] if plan.stream is not None else []))
        for k in rng.permutation(len(fields)):
            if wanted <= 0:
                break
            field = fields[int(k)].polygon
            size = min(wanted * float(rng.uniform(0.4, 0.8)) + 60, 0.5 * field.area, 4200.0)
            wanted -= size
            centre = np.array(field.representative_point().coords[0])
            # Dug along the field's own directions, with a ragged rim
            long, wide = np.sqrt(size) * float(rng.uniform(1.0, 1.35)), np.sqrt(size) * 0.75
            a = fields[int(k)].direction
            turn = np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])
            dug = Polygon(np.array([[-long, -wide], [long, -wide], [long, wide], [-long, wide]]) / 2 @ turn + centre)
            rim = [blob(np.array(dug.exterior.interpolate(t, normalized=True).coords[0]), 0.22 * wide, rng)
                   for t in rng.uniform(0, 1, 7)]
            pit = dug.union(unary_union(rim)).buffer(3).buffer(-4).intersection(field.buffer(-2)).difference(closed)
            self.paint('bare_ground', 'rough_ground', pit, a)
            weeds = scatter_in(rng, pit.buffer(0), 9.0, 0.5)
            self.planter.plant(weeds[rng.random(len(weeds)) < 0.3], SHRUB, (0.6, 1.8), (0.5, 0.8),
                               OBJECTS['semi_natural_grass'])

    # ---- roads ---------------------------------------------------------------------------------------------------

    def tracks(self) -> None:
        for road in self.plan.roads:
            if road.kind == 'track':
                self.paint('path', 'track', road.line.buffer(road.width / 2, cap_style='flat', quad_segs=4))
                if self.rng.random() < 0.6:
                    self.paint('path', 'track_grass', road.line.buffer(0.42, cap_style='flat', quad_segs=2))

    def paved_roads(self) -> None:
        plan, rng = self.plan, self.rng
        village = unary_union([Point(*c).buffer(plan.radius * 1.05) for c in plan.centres])
        stamp = int(rng.integers(1 << 30))
        paved = [r for r in plan.roads if r.kind != 'track']
        for road in paved:
            near = road.line.intersection(village)
            if not near.is_empty and (road.kind == 'main' or rng.random() < 0.4):
                self.paint('courtyard', 'pavement', near.buffer(road.width / 2 + 1.3, cap_style='flat'), seed=stamp)
            far = road.line.difference(village)
            self.paint('bare_ground', 'shoulder', far.buffer(road.width / 2 + 0.8, cap_style='flat'))
        for road in sorted(paved, key=lambda r: r.kind == 'main'):
            heading = road.line.interpolate(road.line.length / 2)
            ahead = road.line.interpolate(road.line.length / 2 + 2)
            angle = float(np.arctan2(ahead.y - heading.y, ahead.x - heading.x))
            self.paint('road', 'asphalt', road.line.buffer(road.width / 2, quad_segs=6), angle)
        for road in paved:
            if road.kind != 'main':
                continue
            dashes = np.arange(8.0, road.line.length - 8, 13.0)
            lines = [shapely.ops.substring(road.line, d, d + 3.5) for d in dashes]
            self.paint('road', 'marking', unary_union([d.buffer(0.12, cap_style='flat') for d in lines]), seed=stamp)
        for road in paved:
            self._road_life(road)

    def _road_life(self, road: Road) -> None:
        """Cars that drive or park, and avenue trees outside the village."""
        plan, rng = self.plan, self.rng
        s = float(rng.uniform(5, 40))
        while s < road.line.length - 6:
            p, q = road.line.interpolate(s), road.line.interpolate(s + 0.5)
            angle = float(np.arctan2(q.y - p.y, q.x - p.x))
            side = float(rng.choice([-1, 1]))
            off = side * (road.width / 2 - (1.05 if road.kind == 'street' else 1.6))
            self.cars.append(make_car(rng, self.terrain, p.x + off * np.sin(angle), p.y - off * np.cos(angle),
                                      angle if side > 0 else angle + np.pi))
            s += float(rng.uniform(14, 60) if road.kind == 'street' else rng.uniform(50, 160))
        if road.kind != 'main':
            return
        kind = int(rng.choice([BROADLEAF, POPLAR], p=[0.75, 0.25]))
        for side in (-1, 1):
            for s in np.arange(6.0, road.line.length - 6, 11.0):
                p, q = road.line.interpolate(s), road.line.interpolate(s + 0.5)
                near = min(float(np.hypot(p.x - c[0], p.y - c[1])) for c in plan.centres)
                rows = noise_at(np.array([p.x]), np.array([p.y]), 190.0, self.noise_seed + 20 + side)[0]
                if near < plan.radius * 1.1 or rows < 0.5:
                    continue
                angle = np.arctan2(q.y - p.y, q.x - p.x)
                off = side * (road.width / 2 + 2.6)
                self.planter.plant(np.array([[p.x + off * np.sin(angle), p.y - off * np.cos(angle)]]), kind, (9, 13),
                                   (0.22, 0.3), OBJECTS['tree'])

    # ---- the built-up part ---------------------------------------------------------------------------------------

    def lot(self, lot: Lot) -> None:
        """One plot: dwelling, outbuildings, drive, terrace, beds, hedges, trees, a car."""
        rng = self.rng
        a = lot.angle
        u, v = np.array([np.cos(a), np.sin(a)]), np.array([-np.sin(a), np.cos(a)])
        origin = (lot.corners[0] + lot.corners[1]) / 2
        f, d = lot.frontage, lot.depth

        def at(s: float, t: float) -> np.ndarray:
            return origin + u * s + v * t

        def rect(s0: float, s1: float, t0: float, t1: float) -> Polygon:
            return Polygon([at(s0, t0), at(s1, t0), at(s1, t1), at(s0, t1)])

        roll = rng.random()
        if roll < 0.04 and lot.core < 0.7:
            self.paint('bare_ground', 'rough_ground', rect(-f / 2, f / 2, 0, d), a)
            return
        self.paint('garden', 'lawn', rect(-f / 2, f / 2, 0, d), a, 0.1)
        back = d * 0.5
        if lot.core > 0.62:
            length, width = f - float(rng.uniform(0.0, 0.5)), float(rng.uniform(8.5, 11.0))
            setback = float(rng.uniform(0.3, 1.6))
            if length < width + 0.6:
                width = length - 0.6
            roof = str(rng.choice(['gable', 'gable', 'gable', 'hip', 'mansard', 'gambrel']))
            self.build('row_house', roof, *at(0, setback + width / 2), a, length, width,
                       float(rng.uniform(5.6, 8.4)), self.covering(1.0), pitch=float(rng.uniform(35, 46)),
                       overhang=0.25)
            back = setback + width
            self.paint('courtyard', str(rng.choice(['paving', 'gravel', 'asphalt_yard'])),
                       rect(-f / 2, f / 2, 0, min(d, back + float(rng.uniform(2, 9)))), a)
            if d - back > 14 and rng.random() < 0.6:
                s = float(rng.choice([-1, 1])) * (f / 2 - 3.0)
                self.build('annex', 'gable', *at(s, back + 6.5), a + np.pi / 2, float(rng.uniform(6, 9)), 5.0,
                           float(rng.uniform(2.4, 3.6)), self.covering(1.0), pitch=35.0, overhang=0.2)
        else:
            setback = float(rng.uniform(4.0, 8.0)) if d > 24 else 3.0
            kind = 'villa' if f > 25 and rng.random() < 0.4 else 'house'
            side = float(rng.choice([-1, 1]))
            length = float(np.clip(rng.uniform(10, 15), 8.5, f - 7.0))
            width = float(np.clip(rng.uniform(7.6, 9.8), 6.5, length - 0.7))
            wall = float(rng.choice([2.9, 3.4, 5.4, 5.8])) + float(rng.uniform(-0.1, 0.3))
            roof = str(rng.choice(['gable', 'hip', 'mansard', 'gambrel', 'flat'], p=[0.5, 0.27, 0.07, 0.06, 0.1]))
            covering = str(rng.choice(['gravel', 'bitumen', 'membrane'])) if roof == 'flat' else self.covering(0.3)
            centre = -side * (f / 2 - length / 2 - 1.6) * float(rng.uniform(0.5, 1.0))
            pitch = float(rng.uniform(30, 45))
            wing = width * 0.72
            deep = wing * float(rng.uniform(1.65, 2.0))
            if roof in ('gable', 'hip', 'flat') and rng.random() < 0.3 and d > setback + deep + 6 and f > 19:
                # The wing along x carries the front; the other one reaches back into the garden
                length = max(length, 1.65 * wing)
                made = self.build(kind, roof, *at(centre, setback + deep / 2), a, length, wing, wall, covering,
                                  depth=deep, pitch=pitch, overhang=0.0 if roof == 'flat' else 0.4)
                back = setback + deep
            elif rng.random() < 0.25 and f > length * 0.75 + 6 and d > setback + length + 6:
                made = self.build(kind, roof, *at(centre, setback + length / 2), a + np.pi / 2, length, width, wall,
                                  covering, pitch=pitch)
                back = setback + length
            else:
                made = self.build(kind, roof, *at(centre, setback + width / 2), a, length, width, wall, covering,
                                  pitch=pitch, overhang=float(rng.uniform(0.3, 0.6)))
                back = setback + width
            if made is None:
                return
            drive = side * (f / 2 - 2.3)
            surface = str(rng.choice(['gravel', 'paving', 'asphalt_yard']))
            self.paint('courtyard', surface, rect(drive - 1.7, drive + 1.7, 0, setback + 6.0), a)
            if rng.random() < 0.5:
                self.paint('courtyard', surface,
                           rect(min(centre, drive), max(centre, drive), setback - 2.6, setback), a)
            if rng.random() < 0.55 and d > setback + 14:
                flat = rng.random() < 0.5
                self.build('annex', 'flat' if flat else 'gable', *at(drive, setback + 9.2), a + np.pi / 2, 6.2, 3.6,
                           2.5, str(rng.choice(['gravel', 'bitumen'])) if flat else self.covering(0.3), pitch=28.0,
                           overhang=0.2)
            if rng.random() < 0.6:
                self.cars.append(make_car(rng, self.terrain, *at(drive, setback * 0.5 + 1.5),
                                          a + float(rng.choice([-1, 1])) * np.pi / 2))
            if d - back > 5:
                self.paint('courtyard', str(rng.choice(['paving', 'gravel'])),
                           rect(centre - 2.6, centre + 2.6, back, back + float(rng.uniform(2.5, 4.5))), a)
        self._garden(at, rect, f, d, back, a)

    def _garden(self, at, rect, f: float, d: float, back: float, angle: float) -> None:
        """What people put behind a house."""
        rng = self.rng
        free = d - back - 5
        if free > 8:
            if rng.random() < 0.5:
                w = float(rng.uniform(0.35, 0.8)) * f / 2
                s = float(rng.choice([-1, 1])) * (f / 4)
                self.paint('garden', 'beds', rect(s - w / 2, s + w / 2, d - 1.5 - free * 0.4, d - 1.5), angle, 0.4)
            if rng.random() < 0.14 and f > 17:
                s, t = float(rng.uniform(-0.2, 0.2)) * f, back + 5.5
                self.paint('courtyard', 'paving', rect(s - 5.2, s + 5.2, t - 1.2, t + 5.2), angle)
                self.paint('water', 'pool', rect(s - 4.0, s + 4.0, t, t + 4.0), angle)
            if rng.random() < 0.45:
                s = float(rng.choice([-1, 1])) * (f / 2 - 2.6)
                self.build('annex', 'gable', *at(s, d - 3.0), angle, 3.6, 2.8, 2.1,
                           str(rng.choice(['bitumen', 'metal_grey', 'fibre_cement', 'tile_brown'])), pitch=22.0,
                           overhang=0.15)
            if rng.random() < 0.35:
                s = float(rng.uniform(-0.2, 0.2)) * f
                line = LineString([at(s, back + 1), at(s + float(rng.uniform(-2, 2)), d - 2)])
                self.paint('path', 'garden_path', line.buffer(0.55, cap_style='flat'), angle)
        tall = float(rng.uniform(1.3, 2.3))
        for line, chance in (([at(-f / 2 + 0.6, 2), at(-f / 2 + 0.6, d - 0.6)], 0.42),
                             ([at(-f / 2 + 0.6, d - 0.6), at(f / 2 - 0.6, d - 0.6)], 0.55),
                             ([at(f / 2 - 0.6, 2), at(f / 2 - 0.6, d - 0.6)], 0.42)):
            if rng.random() < chance and d > 18:
                self.hedge(LineString(line), float(rng.uniform(0.8, 1.3)), tall)
        count = int(rng.integers(0, 4)) + int(free > 12)
        if free > 4 and count:
            places = np.array([at(float(rng.uniform(-0.42, 0.42)) * f, back + 3 + float(rng.random()) * (free + 1))
                               for _ in range(count)])
            kinds = rng.choice([FRUIT, BROADLEAF, CONIFER, FRUIT], count)
            self.planter.plant(places, kinds, (3.0, 8.5), (0.26, 0.42), OBJECTS['tree'])
        bushes = np.array([at(float(rng.uniform(-0.46, 0.46)) * f, float(rng.uniform(0.05, 0.97)) * d)
                           for _ in range(int(rng.integers(2, 9)))])
        self.planter.plant(bushes, SHRUB, (0.6, 1.7), (0.5, 0.8), OBJECTS['garden'])

    def farm(self, x: float, y: float, angle: float, yard: Polygon) -> None:
        rng = self.rng
        u, v = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
        centre = np.array([x, y])
        corners = np.array(yard.exterior.coords)[:4] - centre
        w, h = float(np.ptp(corners @ u)), float(np.ptp(corners @ v))
        self.paint('meadow', 'pasture', yard, angle, 0.2)
        self.paint('courtyard', str(rng.choice(['gravel', 'asphalt_yard'])), yard.buffer(-2.5), angle)
        self.paint('bare_ground', 'rough_ground', blob(centre + u * w * 0.2 - v * h * 0.05, 8.0, rng), angle)
        metal = ['metal_grey', 'fibre_cement', 'metal_green', 'fibre_cement']
        deep = float(rng.uniform(12, 16))
        self.build('barn', 'gable', *(centre + v * (h / 2 - deep / 2 - 3)), angle, w - 12, deep,
                   float(rng.uniform(4.5, 6.5)), str(rng.choice(metal)), pitch=float(rng.uniform(13, 20)))
        side = float(rng.choice([-1, 1]))
        self.build('barn', str(rng.choice(['gable', 'gambrel'])), *(centre + u * side * (w / 2 - 9) - v * 6),
                   angle + np.pi / 2, float(rng.uniform(17, 22)), float(rng.uniform(9, 11)), float(rng.uniform(4, 5.5)),
                   self.covering(0.8), pitch=38.0)
        self.build('house', str(rng.choice(['gable', 'hip'])), *(centre - u * side * (w / 2 - 11) - v * (h / 2 - 9)),
                   angle, float(rng.uniform(12, 15)), 8.5, 5.6, self.covering(0.8), pitch=42.0)
        for _ in range(int(rng.integers(1, 4))):
            p = centre + u * float(rng.uniform(-0.2, 0.2)) * w + v * float(rng.uniform(-0.15, 0.1)) * h
            self.cars.append(make_car(rng, self.terrain, *p, float(rng.uniform(0, 6.3))))
        ring = yard.buffer(1.0).exterior
        points = shapely.get_coordinates(shapely.line_interpolate_point(ring, rng.uniform(0, ring.length, 7)))
        self.planter.plant(points, BROADLEAF, (6, 13), (0.26, 0.36), OBJECTS['tree'])

    def car_park(self, park: Polygon, angle: float) -> None:
        rng = self.rng
        u, v = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
        centre = np.array([park.centroid.x, park.centroid.y])
        corners = np.array(park.exterior.coords)[:4] - centre
        w, h = float(np.ptp(corners @ u)), float(np.ptp(corners @ v))
        self.paint('garden', 'lawn', park, angle, 0.1)
        self.paint('courtyard', 'asphalt_yard', park.buffer(-2.0), angle)
        deep = float(rng.uniform(16, 21))
        self.build('block', 'flat', *(centre + v * (h / 2 - deep / 2 - 4)), angle, w - 10, deep,
                   float(rng.uniform(4.5, 9.0)), str(rng.choice(['gravel', 'membrane', 'bitumen'])))
        for t in (-h / 2 + 6.5, -h / 2 + 18.5):
            for s in np.arange(-w / 2 + 6, w / 2 - 6, 2.7):
                line = [centre + u * (s - 1.35) + v * (t - 2.4), centre + u * (s - 1.35) + v * (t + 2.4)]
                self.paint('courtyard', 'marking', LineString(line).buffer(0.09, cap_style='flat'), seed=7)
                if rng.random() < 0.5:
                    p = centre + u * s + v * (t + float(rng.uniform(-0.2, 0.2)))
                    self.cars.append(make_car(rng, self.terrain, *p,
                                              angle + float(rng.choice([-1, 1])) * np.pi / 2))
        points = np.array([centre + u * s + v * (-h / 2 + 12.5) for s in np.arange(-w / 2 + 8, w / 2 - 6, 9.5)])
        self.planter.plant(points, BROADLEAF, (5, 7.5), (0.25, 0.34), OBJECTS['tree'])

    def plaza(self, plaza: Polygon) -> None:
        rng = self.rng
        self.paint('courtyard', 'paving', plaza)
        roads = unary_union([r.line.buffer(r.width / 2 + 1.0) for r in self.plan.roads if r.kind != 'track'])
        open_part = max(shapely.get_parts(plaza.difference(roads)), key=lambda g: g.area)
        size = float(np.sqrt(open_part.area / np.pi))
        centre = shapely.maximum_inscribed_circle(open_part)
        room = float(centre.length)
        x, y = centre.coords[0]
        best = float(rng.uniform(0, np.pi))
        length, width = max(9.0, min(24.0, room * 1.55)), max(6.0, min(10.5, room * 0.7))
        self.build('church', 'gable', x, y, best, length, width, max(5.0, width * 0.8), 'slate', pitch=50.0)
        tower = width * 0.55
        at = np.array([x, y]) + (length / 2 + tower / 2 + 0.3) * np.array([np.cos(best), np.sin(best)])
        self.build('tower', 'hip', *at, best, tower + 0.5, tower, max(9.0, width * 1.7), 'slate', pitch=60.0,
                   overhang=0.2)
        ring = open_part.buffer(-2.0).boundary
        if size > 10 and not ring.is_empty:
            points = shapely.get_coordinates(shapely.line_interpolate_point(ring, np.arange(0, ring.length, 8.0)))
            self.planter.plant(points, BROADLEAF, (5, 8), (0.26, 0.34), OBJECTS['tree'])

    def hedgerows(self) -> None:
        rng = self.rng
        for line in self.plan.hedge_lines:
            self.hedge(line, float(rng.uniform(1.6, 3.2)), float(rng.uniform(1.6, 3.8)))
            n = int(line.length / 11)
            picks = rng.uniform(0, line.length, n)
            points = shapely.get_coordinates(shapely.line_interpolate_point(line, picks))
            points = points[rng.random(len(points)) < 0.55]
            self.planter.plant(points, BROADLEAF, (5, 13), (0.25, 0.36), OBJECTS['tree'])


def make_scene(seed: int, extent: float | tuple[float, float]) -> Scene:
    """Make the village of ``seed`` on ``extent`` metres of ground (one side, or width and height).

    The scene knows no resolution: views of any resolution show the same geometry. The same arguments give the same
    scene on every machine with the same numpy and GEOS.

    Raises:
        UserError: a seed below 0, or an extent outside 60 m .. 12 km.
    """
    width, height = (float(extent), float(extent)) if np.isscalar(extent) else (float(e) for e in extent)
    if seed < 0:
        raise UserError(f'seed: expected 0 or more, found {seed}')
    for side in (width, height):
        if not MIN_EXTENT <= side <= MAX_EXTENT:
            raise UserError(f'extent: expected {MIN_EXTENT:g} to {MAX_EXTENT:g} metres a side, found {side:g}')
    plan = make_layout(seed, (width, height))
    builder = _Builder(seed, plan)
    builder.open_land()
    builder.tracks()
    for lot in plan.lots:
        builder.lot(lot)
    for farm in plan.farms:
        builder.farm(*farm)
    for park, angle in plan.car_parks:
        builder.car_park(park, angle)
    for plaza in plan.plazas:
        builder.plaza(plaza)
    builder.paved_roads()
    builder.hedgerows()
    roads = unary_union([r.line.buffer(r.width / 2 + 0.4) for r in plan.roads])
    walls = unary_union([Polygon(b.footprint).buffer(0.8) for b in builder.buildings]) if builder.buildings else None
    waters = unary_union([a.polygon for a in builder.areas if a.object == 'water'])
    keep_out = unary_union([g for g in (roads, walls, waters) if g is not None])
    trees = builder.planter.trees(keep_out)
    hedges = []
    for hedge in builder.hedges:
        for part in shapely.get_parts(hedge.line.difference(keep_out)):
            if part.geom_type == 'LineString' and part.length > 1.5:
                hedges.append(Hedge(part, hedge.width, hedge.height, hedge.seed))
    tops = [float(solid.vertices[:, 2].max()) - b.ground for b in builder.buildings for solid in b.solids]
    tallest = max([float(trees.height.max(initial=3.0)) + 1.0, *tops])
    spot = np.random.default_rng([seed, 5])
    origin = (int(spot.integers(420, 980)) * 1000, int(spot.integers(6400, 6900)) * 1000)
    return Scene(seed, (width, height), origin, builder.terrain, builder.areas, plan.roads, hedges, trees,
                 builder.buildings, _clear_cars(builder.cars, walls), tallest)


def _clear_cars(cars: list[Car], walls: shapely.Geometry | None) -> list[Car]:
    """Drop cars that stand in a wall or in another car."""
    kept: list[Car] = []
    if walls is not None:
        shapely.prepare(walls)
    for car in cars:
        if walls is not None and walls.intersects(Point(car.x, car.y).buffer(1.2)):
            continue
        if any(abs(car.x - o.x) < 2.2 and abs(car.y - o.y) < 2.2 for o in kept[-60:]):
            continue
        kept.append(car)
    return kept


