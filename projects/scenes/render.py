"""The village from above: orthophoto (R, G, B, NIR), object ids and surface height.

Everything is drawn into one height buffer, so what hides what, how surfaces face the sun and where shadows fall all
follow from the geometry. Every step is elementwise in ground coordinates (noise, planes, shifts by whole pixels): two
views agree pixel by pixel wherever they overlap, which is what lets tiles join without a seam.
"""

from dataclasses import dataclass

import numpy as np
import shapely

from projects.engine.errors import UserError
from projects.scenes.looks import KINDS, LOOKS, LUSH, NOISES, SEASONS, SOIL, STRAW, Fields, area_tone, tree_tone
from projects.scenes.noise import hash01, noise_grid
from projects.scenes.objects import OBJECTS
from projects.scenes.raster import Window, edges_of, fill, rings
from projects.scenes.scene import Scene
from projects.scenes.solids import Solid
from projects.scenes.terrain import WATER_DEPTH
from projects.scenes.vegetation import SHRUB, crown_lumps, crown_surface

MIN_RESOLUTION, MAX_RESOLUTION = 0.05, 5.0  # metres per pixel

# Sun by season: azimuth (degrees clockwise from north, where the light comes from) and elevation (degrees)
SUNS: dict[str, tuple[float, float]] = {'summer': (152.0, 52.0), 'autumn': (168.0, 33.0), 'spring': (145.0, 44.0)}

# Share of light that comes from the sky: shadows are dark, bluish, and darkest in the infrared
_SKY = np.array([0.155, 0.185, 0.24, 0.12], np.float32)
# Distances at which the horizon is looked at, metres
_SKY_REACH = (1.6, 4.5)
_HAZE = np.array([150.0, 160.0, 176.0, 130.0], np.float32)

_PART_TONES: dict[str, tuple[float, float, float, float]] = {
    'chimney': (158, 116, 98, 142), 'skylight': (74, 84, 98, 62), 'cornice': (192, 188, 180, 182),
    'balcony': (188, 182, 174, 178), 'balustrade': (150, 148, 146, 146), 'car_glass': (42, 46, 54, 44),
}
_HIDDEN_PARTS = {'window', 'door', 'garage_door', 'foundation'}


@dataclass(frozen=True, eq=False)
class View:
    """What a render returns; row 0 is the north.

    Attributes:
        rgbn: (H, W, 4) uint8, red, green, blue, near infrared.
        ids: (H, W) uint8, ids of objects.OBJECTS, exactly those of the geometry at the pixels' centres.
        height: (H, W) float32, surface height in metres above sea level.
        building: (H, W) int32, index into Scene.buildings, -1 elsewhere.
        bounds: left, bottom, right, top in scene metres.  resolution: metres per pixel.
    """

    rgbn: np.ndarray
    ids: np.ndarray
    height: np.ndarray
    building: np.ndarray
    bounds: tuple[float, float, float, float]
    resolution: float


@dataclass(frozen=True, eq=False)
class _Face:
    """An upward face of a solid, ready to draw."""

    edges: np.ndarray
    plane: tuple[float, float, float]  # z = a + gx x + gy y
    tone: tuple[float, float, float, float]
    object: int
    building: int
    texture: float  # 0 none, 1 roof
    seed: int


class _Buffers:
    """The layers of a window while it is drawn; rows run upward."""

    def __init__(self, window: Window):
        shape = (window.height, window.width)
        self.z = np.empty(shape, np.float32)
        self.gx = np.empty(shape, np.float32)
        self.gy = np.empty(shape, np.float32)
        self.ids = np.zeros(shape, np.uint8)
        self.albedo = np.zeros((4, *shape), np.float32)
        self.shade = np.ones(shape, np.float32)
        self.face = np.full(shape, -1, np.int32)


class Renderer:
    """Draws views of one scene in one season; keeps what all views share.

    Args:
        scene: from :func:`projects.scenes.scene.make_scene`.
        resolution: metres per pixel.
        season: `summer`, `autumn` or `spring`.
        sun: azimuth and elevation in degrees; default by season.
        haze: 0 (clear) to 1.  noise: standard deviation of the sensor's noise in grey levels.  blur: share of a pixel
            that each of its four neighbours receives, 0 to 0.25.
        lighting: False leaves out shading, shadows, haze, noise and blur: the plain albedo.
    """

    def __init__(self, scene: Scene, resolution: float, season: str = 'summer',
                 sun: tuple[float, float] | None = None, haze: float = 0.06, noise: float = 2.0, blur: float = 0.13,
                 lighting: bool = True):
        if not MIN_RESOLUTION <= resolution <= MAX_RESOLUTION:
            raise UserError(f'resolution: expected {MIN_RESOLUTION:g} to {MAX_RESOLUTION:g} metres, '
                            f'found {resolution:g}')
        if season not in SEASONS:
            raise UserError(f'season: expected one of {", ".join(SEASONS)}, found {season!r}')
        azimuth, elevation = SUNS[season] if sun is None else sun
        if not 15 <= elevation <= 90:
            raise UserError(f'sun: expected an elevation of 15 to 90 degrees, found {elevation:g}')
        self.scene, self.resolution, self.season = scene, float(resolution), season
        self.haze, self.noise, self.blur, self.lighting = haze, noise, blur, lighting
        a, e = np.radians(azimuth), np.radians(elevation)
        self.sun = (float(np.cos(e) * np.sin(a)), float(np.cos(e) * np.cos(a)), float(np.sin(e)))
        # Ground may fall away from the sun by some 12 %, which stretches shadows
        self.reach = (scene.tallest + 2) / max(np.tan(e) - 0.12, 0.05) if elevation < 89.9 else 0.0
        self._prepare_areas()
        self._prepare_plants()
        self._prepare_faces()

    # ---- what all views share ------------------------------------------------------------------------------------

    def _prepare_areas(self) -> None:
        areas = self.scene.areas
        polygons = np.array([a.polygon for a in areas], dtype=object)
        self._area_bounds = shapely.bounds(polygons)
        self._area_edges = [rings(p) for p in polygons]
        tones = [area_tone(a, self.season) for a in areas]
        self._colour = np.array([t.colour for t in tones], np.float32)
        self._vigour = np.array([t.vigour for t in tones], np.float32)
        self._light = np.array([t.light for t in tones], np.float32)
        self._green = np.array([t.green for t in tones])
        self._pick = np.array([t.pick for t in tones], np.float32)
        self._plants = np.array([a.height for a in areas], np.float32)
        self._kind = np.array([KINDS.index(a.kind) for a in areas], np.uint8)
        self._object = np.array([OBJECTS[a.object] for a in areas], np.uint8)
        self._along = np.array([(np.cos(a.direction), np.sin(a.direction)) for a in areas])

    def _prepare_plants(self) -> None:
        scene = self.scene
        self._tree_tones = [tree_tone(int(k), int(s), self.season) for k, s in zip(scene.trees.kind, scene.trees.seed)]
        polygons = [h.line.buffer(h.width / 2, cap_style='flat', quad_segs=3) for h in scene.hedges]
        self._hedge_edges = [np.vstack([rings(p) for p in shapely.get_parts(g)]) for g in polygons]
        self._hedge_bounds = shapely.bounds(np.array(polygons, dtype=object)) if polygons else np.zeros((0, 4))
        self._hedge_tones = [tree_tone(SHRUB, h.seed, 'summer' if self.season == 'spring' else self.season) * 0.92
                             for h in scene.hedges]

    def _prepare_faces(self) -> None:
        self._faces: list[_Face] = []
        scene = self.scene
        for index, building in enumerate(scene.buildings):
            for solid in building.solids[1:]:
                if solid.parts[0] not in _HIDDEN_PARTS:
                    self._add_faces(solid, building.roof_tone, OBJECTS['building'], index, building.seed)
        for car in scene.cars:
            for solid in car.solids:
                self._add_faces(solid, car.tone, OBJECTS['car'], -1, 0)
        bounds = [(f.edges[:, 0].min(), f.edges[:, 1].min(), f.edges[:, 0].max(), f.edges[:, 1].max())
                  for f in self._faces]
        self._face_bounds = np.array(bounds).reshape(-1, 4)
        self._face_tone = np.array([f.tone for f in self._faces], np.float32).reshape(-1, 4)
        self._face_texture = np.array([f.texture for f in self._faces], np.float32)
        self._face_seed = np.array([f.seed for f in self._faces], np.int64)
        slope = np.array([f.plane[1:] for f in self._faces]).reshape(-1, 2)
        steep = np.hypot(slope[:, 0], slope[:, 1])
        self._face_down = np.where(steep[:, None] > 1e-6, slope / np.maximum(steep, 1e-9)[:, None], [1.0, 0.0])
        self._face_building = np.array([f.building for f in self._faces], np.int32)

    def _add_faces(self, solid: Solid, tone: tuple[float, float, float, float], object_id: int, building: int,
                   seed: int) -> None:
        for f, part in enumerate(solid.parts):
            n = solid.normal(f)
            if n[2] < 0.03:
                continue
            p = solid.polygon(f)
            gx, gy = -n[0] / n[2], -n[1] / n[2]
            roof = part.startswith(('roof', 'dormer'))
            colour = tone if roof or part == 'car_body' else _PART_TONES.get(part, tone)
            if part == 'skylight' and abs(n[2]) > 0.999:  # plant room on a flat roof
                colour = (164, 162, 160, 156)
            self._faces.append(_Face(edges_of(p[:, :2]), (float(p[0, 2] - gx * p[0, 0] - gy * p[0, 1]), float(gx),
                                                          float(gy)), colour, object_id, building, float(roof), seed))

    # ---- drawing -------------------------------------------------------------------------------------------------

    def render(self, bounds: tuple[float, float, float, float]) -> View:
        """Draw the view of ``bounds`` (left, bottom, right, top; scene metres, multiples of the resolution)."""
        core = self._window(bounds)
        margin = int(np.ceil(max(self.reach, _SKY_REACH[-1]) / self.resolution)) + 4 if self.lighting else 4
        window = core.grown(margin)
        layers = _Buffers(window)
        x, y = window.x, window.y
        self._noise = {name: self._noise_field(x, y, scale, salt) for name, (scale, salt) in NOISES.items()}
        self._draw_ground(layers, window, x, y)
        self._draw_hedges(layers, window)
        self._slopes(layers)
        self._draw_trees(layers, window, x, y)
        self._draw_faces(layers, window, x, y)
        inner = (slice(margin, margin + core.height), slice(margin, margin + core.width))
        rgbn = self._expose(layers, margin, core)
        face = layers.face[inner]
        building = np.where(face >= 0, self._face_building[np.maximum(face, 0)], -1) if len(self._faces) else face
        return View(np.ascontiguousarray(rgbn[::-1]), np.ascontiguousarray(layers.ids[inner][::-1]),
                    np.ascontiguousarray(layers.z[inner][::-1]),
                    np.ascontiguousarray(building[::-1]).astype(np.int32), core.bounds, self.resolution)

    def _window(self, bounds: tuple[float, float, float, float]) -> Window:
        left, bottom, right, top = (b / self.resolution for b in bounds)
        whole = [int(round(v)) for v in (left, bottom, right, top)]
        if any(abs(v - w) > 1e-6 * max(1.0, abs(v)) for v, w in zip((left, bottom, right, top), whole)):
            raise UserError(f'bounds: expected multiples of the resolution {self.resolution:g} m, found {bounds}')
        if whole[2] <= whole[0] or whole[3] <= whole[1]:
            raise UserError(f'bounds: expected left < right and bottom < top, found {bounds}')
        return Window(whole[1], whole[0], whole[3] - whole[1], whole[2] - whole[0], self.resolution)

    def _noise_field(self, x: np.ndarray, y: np.ndarray, scale: float, salt: int) -> np.ndarray:
        fade = np.float32(min(1.0, scale / (0.9 * self.resolution)))  # a pixel averages what is finer than itself
        return (noise_grid(x, y, scale, self.scene.seed * 1000 + salt) - np.float32(0.5)) * fade

    def _near(self, boxes: np.ndarray, window: Window) -> np.ndarray:
        left, bottom, right, top = window.bounds
        inside = (boxes[:, 0] < right) & (boxes[:, 2] > left) & (boxes[:, 1] < top) & (boxes[:, 3] > bottom)
        return np.flatnonzero(inside)

    def _draw_ground(self, layers: _Buffers, window: Window, x: np.ndarray, y: np.ndarray) -> None:
        area = np.zeros((window.height, window.width), np.int32)
        for k in self._near(self._area_bounds, window):
            hit = fill(self._area_edges[k], window)
            if hit is not None:
                rows, columns, mask = hit
                area[rows, columns][mask] = k
        layers.ids[...] = self._object[area]
        layers.z[...] = self.scene.terrain.height_grid(x, y)
        flat_area = area.ravel()
        flat = layers.albedo.reshape(4, -1)
        z = layers.z.reshape(-1)
        kinds = self._kind[flat_area]
        for code in np.unique(kinds):
            pixels = np.flatnonzero(kinds == code)
            a = flat_area[pixels]
            px, py = x[pixels % window.width], y[pixels // window.width]
            c, s = self._along[a, 0], self._along[a, 1]
            fields = Fields(*(self._noise[n].reshape(-1)[pixels] for n in ('grain', 'fine', 'mid', 'large', 'huge')),
                            along=px * c + py * s, across=py * c - px * s, pick=self._pick[a],
                            resolution=self.resolution)
            look = LOOKS[KINDS[code]](fields)
            light = np.asarray(look.light, np.float32) * self._light[a]
            if self._green[a[0]]:
                vigour = np.clip(self._vigour[a] + np.asarray(look.vigour, np.float32), -0.3, 1.25)
                soil = np.clip(np.asarray(look.soil, np.float32), 0, 1)
                for band in range(4):
                    value = STRAW[band] + (LUSH[band] - STRAW[band]) * vigour
                    value = value + (SOIL[band] - value) * soil
                    flat[band, pixels] = value * light * self._colour[a, band]
            else:
                for band in range(4):
                    flat[band, pixels] = self._colour[a, band] * light
            z[pixels] += self._plants[a] * np.asarray(look.plants, np.float32)
        water = layers.ids == OBJECTS['water']
        layers.z[water] -= np.float32(WATER_DEPTH)

    def _draw_hedges(self, layers: _Buffers, window: Window) -> None:
        for k in self._near(self._hedge_bounds, window):
            hit = fill(self._hedge_edges[k], window)
            if hit is None:
                continue
            rows, columns, mask = hit
            lumps = self._noise['fine'][rows, columns][mask] + 0.6 * self._noise['grain'][rows, columns][mask]
            layers.z[rows, columns][mask] += np.float32(self.scene.hedges[k].height) * (np.float32(0.9) + 0.5 * lumps)
            layers.ids[rows, columns][mask] = OBJECTS['hedge']
            for band in range(4):
                layers.albedo[band][rows, columns][mask] = self._hedge_tones[k][band] * (1 + 0.35 * lumps)

    def _slopes(self, layers: _Buffers) -> None:
        z, step = layers.z, np.float32(0.5 / self.resolution)
        layers.gx[:, 1:-1] = (z[:, 2:] - z[:, :-2]) * step
        layers.gy[1:-1] = (z[2:] - z[:-2]) * step
        for g in (layers.gx, layers.gy):
            np.clip(g, -1.1, 1.1, out=g)
        layers.gx[:, [0, -1]] = 0
        layers.gy[[0, -1]] = 0
        water = layers.ids == OBJECTS['water']
        layers.gx[water] = 0
        layers.gy[water] = 0

    def _draw_trees(self, layers: _Buffers, window: Window, x: np.ndarray, y: np.ndarray) -> None:
        trees, r = self.scene.trees, self.resolution
        left, bottom, right, top = window.bounds
        reach = trees.radius * 1.25
        near = np.flatnonzero((trees.x + reach > left) & (trees.x - reach < right) & (trees.y + reach > bottom)
                              & (trees.y - reach < top))
        lumps_all = crown_lumps(self._noise['leaf'], self._noise['grain'])
        step = np.float32(0.5 / r)
        for k in near:
            reach_k = trees.radius[k] * 1.2
            c0 = max(int(np.floor((trees.x[k] - reach_k) / r)) - window.column, 1)
            c1 = min(int(np.ceil((trees.x[k] + reach_k) / r)) - window.column, window.width - 1)
            r0 = max(int(np.floor((trees.y[k] - reach_k) / r)) - window.row, 1)
            r1 = min(int(np.ceil((trees.y[k] + reach_k) / r)) - window.row, window.height - 1)
            if c0 >= c1 or r0 >= r1:
                continue
            dx = (x[c0 - 1:c1 + 1] - trees.x[k]).astype(np.float32)[None, :]
            dy = (y[r0 - 1:r1 + 1] - trees.y[k]).astype(np.float32)[:, None]
            lumps = lumps_all[r0 - 1:r1 + 1, c0 - 1:c1 + 1]
            surface, q2 = crown_surface(dx, dy, lumps, float(trees.height[k]), float(trees.radius[k]),
                                        int(trees.kind[k]))
            surface = surface + np.float32(trees.z[k])
            z, q2 = surface[1:-1, 1:-1], q2[1:-1, 1:-1]
            rows, columns = slice(r0, r1), slice(c0, c1)
            seen = (q2 < 1) & (z > layers.z[rows, columns])
            if not seen.any():
                continue
            layers.z[rows, columns][seen] = z[seen]
            layers.gx[rows, columns][seen] = np.clip((surface[1:-1, 2:] - surface[1:-1, :-2])[seen] * step, -1.5, 1.5)
            layers.gy[rows, columns][seen] = np.clip((surface[2:, 1:-1] - surface[:-2, 1:-1])[seen] * step, -1.5, 1.5)
            layers.ids[rows, columns][seen] = trees.object[k]
            # Leaves deep in the crown's flank see less sky
            layers.shade[rows, columns][seen] = (1.06 - 0.34 * q2[seen]) * (0.86 + 0.28 * lumps[1:-1, 1:-1][seen])
            tone = self._tree_tones[k]
            for band in range(4):
                layers.albedo[band][rows, columns][seen] = tone[band]

    def _draw_faces(self, layers: _Buffers, window: Window, x: np.ndarray, y: np.ndarray) -> None:
        for k in self._near(self._face_bounds, window):
            face = self._faces[k]
            hit = fill(face.edges, window)
            if hit is None:
                continue
            rows, columns, mask = hit
            a, gx, gy = face.plane
            z = ((a + gy * y[rows])[:, None] + (gx * x[columns])[None, :]).astype(np.float32)
            seen = mask & (z > layers.z[rows, columns])
            if not seen.any():
                continue
            layers.z[rows, columns][seen] = z[seen]
            layers.gx[rows, columns][seen] = gx
            layers.gy[rows, columns][seen] = gy
            layers.ids[rows, columns][seen] = face.object
            layers.shade[rows, columns][seen] = 1
            layers.face[rows, columns][seen] = k
        pixels = np.flatnonzero(layers.face >= 0)
        if not len(pixels):
            return
        f = layers.face.reshape(-1)[pixels]
        px, py = x[pixels % window.width], y[pixels // window.width]
        down = self._face_down[f]
        along, across = px * down[:, 1] - py * down[:, 0], px * down[:, 0] + py * down[:, 1]
        grain, mid, large = (self._noise[n].reshape(-1)[pixels] for n in ('grain', 'mid', 'large'))
        seed = self._face_seed[f]
        streak = hash01(np.floor(along / 0.55) + seed % 65521, np.floor(across / 2.2), 21) - np.float32(0.5)
        sheet = hash01(np.floor(along / 1.1) + seed % 65521, seed, 22) - np.float32(0.5)
        texture = self._face_texture[f]
        light = 1 + texture * (0.12 * grain + 0.07 * streak + 0.07 * sheet + 0.13 * mid + 0.10 * large)
        flat = layers.albedo.reshape(4, -1)
        for band in range(4):
            flat[band, pixels] = self._face_tone[f, band] * light

    # ---- light ---------------------------------------------------------------------------------------------------

    def _expose(self, layers: _Buffers, margin: int, core: Window) -> np.ndarray:
        """Light, air, lens and sensor; returns (H, W, 4) uint8 with rows upward."""
        pad = 2
        offset = margin - pad
        height, width = core.height + 2 * pad, core.width + 2 * pad

        def view(array: np.ndarray, dy: int = 0, dx: int = 0) -> np.ndarray:
            return array[..., offset + dy:offset + dy + height, offset + dx:offset + dx + width]

        albedo = np.clip(view(layers.albedo), 4, 250)
        if not self.lighting:
            return np.moveaxis(albedo[:, pad:-pad, pad:-pad] + 0.5, 0, 2).astype(np.uint8)
        z, gx, gy = view(layers.z), view(layers.gx), view(layers.gy)
        sx, sy, sz = (np.float32(v) for v in self.sun)
        facing = np.maximum((sz - gx * sx - gy * sy) / np.sqrt(1 + gx * gx + gy * gy), 0) / sz
        lit = self._lit(layers.z, z, view)
        sky = self._sky(layers.z, z, view) * view(layers.shade)
        sun = facing * lit * view(layers.shade)
        out = np.empty((4, height, width), np.float32)
        for band in range(4):
            light = _SKY[band] * sky + (1 - _SKY[band]) * sun
            out[band] = albedo[band] * np.sqrt(light)
        a = np.float32(self.blur)
        out = (1 - 2 * a) * out[:, :, 1:-1] + a * (out[:, :, :-2] + out[:, :, 2:])
        out = (1 - 2 * a) * out[:, 1:-1] + a * (out[:, :-2] + out[:, 2:])
        out = out[:, pad - 1:pad - 1 + core.height, pad - 1:pad - 1 + core.width]
        haze = np.float32(self.haze)
        rows = np.arange(core.row, core.row + core.height)[:, None]
        columns = np.arange(core.column, core.column + core.width)[None, :]
        result = np.empty((core.height, core.width, 4), np.uint8)
        for band in range(4):
            value = out[band] * (1 - haze) + _HAZE[band] * haze
            if self.noise:
                # Two uniform numbers make a triangular distribution of variance 1/6
                grain = (hash01(columns, rows, 40 + band) + hash01(columns, rows, 50 + band) - 1) * np.float32(2.449)
                value = value + grain * np.float32(self.noise) * (np.float32(0.6) + value * np.float32(0.004))
            result[..., band] = np.clip(value + 0.5, 0, 255).astype(np.uint8)
        return result

    def _lit(self, full: np.ndarray, z: np.ndarray, view) -> np.ndarray:
        """1 in the sun, 0 in cast shadow: marches from every pixel towards the sun over the height buffer."""
        sx, sy, sz = self.sun
        level = float(np.hypot(sx, sy))
        if level < 1e-3:
            return np.ones_like(z)
        dx, dy = sx / level, sy / level
        stride = 1 / max(abs(dx), abs(dy))  # one pixel along the major axis
        rise = self.resolution * stride * sz / level
        blocked = np.full_like(z, -np.inf)
        for k in range(1, int(self.reach / (self.resolution * stride)) + 1):
            shifted = view(full, int(round(k * stride * dy)), int(round(k * stride * dx)))
            np.maximum(blocked, shifted - np.float32(k * rise), out=blocked)
        # Half a pixel of softness: the sun is not a point and the march samples whole pixels
        soft = np.float32(max(0.5 * rise, 0.12))
        return np.clip((z + soft - blocked) / soft, 0, 1)

    def _sky(self, full: np.ndarray, z: np.ndarray, view) -> np.ndarray:
        """Share of the sky that is open, estimated from the horizon in eight directions at two distances."""
        closed = np.zeros_like(z)
        for metres in _SKY_REACH:
            n = max(1, int(round(metres / self.resolution)))
            d = max(1, int(round(n * 0.7071)))
            scale = np.float32(1 / (n * self.resolution))
            for dy, dx in ((0, n), (0, -n), (n, 0), (-n, 0), (d, d), (d, -d), (-d, d), (-d, -d)):
                closed += np.clip((view(full, dy, dx) - z) * scale, 0, 2)
        return 1 / (1 + closed * np.float32(0.16))


def render(scene: Scene, bounds: tuple[float, float, float, float], resolution: float, **options) -> View:
    """Draw one view of the scene from straight above.

    Args:
        bounds: left, bottom, right, top in metres from the scene's lower left corner, multiples of the resolution.
        resolution: metres per pixel, 0.05 to 5.
        options: of :class:`Renderer` (season, sun, haze, noise, blur, lighting). For many views of one scene, make
            one Renderer and call its ``render``.

    Raises:
        UserError: a resolution, season or sun out of range; bounds off the pixel grid.
    """
    return Renderer(scene, resolution, **options).render(bounds)
