"""One camouflage scene from a seed: a photograph that never was, and the mask of what hides in it."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from projects.camouflage.scenes.background import KINDS, Background, draw_background
from projects.camouflage.scenes.camera import develop
from projects.camouflage.scenes.coat import draw_coat
from projects.camouflage.scenes.layout import Placed, draw_layout
from projects.camouflage.scenes.palettes import draw_palette
from projects.camouflage.scenes.raster import Light, cover, dome, draw_light, drop_shadow, fill, shading
from projects.camouflage.scenes.spectra import power_noise, smooth_noise
from projects.camouflage.scenes.textures import caustics


@dataclass(frozen=True)
class SceneOptions:
    """What scenes are like.

    Attributes:
        size: H, W in pixels.
        difficulty: least and largest, in [0, 1].
        area: least and largest share of the picture that an object shows.
        objects: least and largest number of objects.
        kinds: which of :data:`KINDS`, in turn.
    """

    size: tuple[int, int] = (352, 352)
    difficulty: tuple[float, float] = (0.0, 1.0)
    area: tuple[float, float] = (0.01, 0.4)
    objects: tuple[int, int] = (1, 1)
    kinds: tuple[str, ...] = KINDS


DEFAULTS = SceneOptions()


@dataclass
class Scene:
    """A scene.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) uint8, 255 where an object is seen, else 0.
        kind, difficulty: what it is.
        objects: of each its name, box (x0, y0, x1, y1; the end is outside) and share of the picture, both as seen.
    """

    image: np.ndarray
    mask: np.ndarray
    kind: str
    difficulty: float
    objects: list[dict[str, Any]]


def make_scene(seed: int, stream: int, index: int, options: SceneOptions = DEFAULTS) -> Scene:
    """Make scene ``index`` of a ``stream`` (a split); it depends on nothing but the arguments.

    The difficulty changes no other draw: the same seed shows the same scene, easier or harder.
    """
    rng = np.random.default_rng([seed, stream, index])
    low, high = options.difficulty
    difficulty = low + (high - low) * rng.random()
    kind = options.kinds[index % len(options.kinds)]
    layout_rng, ground_rng, light_rng, camera_rng, *coat_rngs = rng.spawn(4 + options.objects[1])
    h, w = options.size
    aquatic = kind == 'aquatic'
    light = draw_light(light_rng)
    placed = draw_layout(layout_rng, (h, w), aquatic, options.area, options.objects)
    ground = draw_background(ground_rng, kind, h, w, light)
    focus = float(np.mean([one.centre[1] for one in placed])) / h
    image = _defocus(light_rng, ground.image, difficulty, focus)
    for one, own_rng in zip(placed, coat_rngs, strict=False):
        image = _add_object(own_rng, image, ground, one, light, difficulty)
    image = _illuminate(light_rng, image, aquatic)
    mask = np.zeros((h, w), np.uint8)
    for one in placed:
        mask[one.visible] = 255
    return Scene(develop(camera_rng, image), mask, kind, difficulty, [_describe(one) for one in placed])


def _describe(one: Placed) -> dict[str, Any]:
    visible = one.visible
    x0, y0, width, height = cv2.boundingRect(visible.astype(np.uint8))
    return dict(name=one.shape.name, box=[x0, y0, x0 + width, y0 + height], area=round(float(visible.mean()), 6))


def _defocus(rng: np.random.Generator, image: np.ndarray, difficulty: float, focus: float) -> np.ndarray:
    """Blur the ground: all of it behind a near object, or away from the row in focus (0..1)."""
    h, w = image.shape[:2]
    form, amount, reach = rng.random(), rng.uniform(0.5, 4.0), rng.uniform(0.1, 0.4)
    sigma = amount * min(h, w) / 256 * (1 - 0.75 * difficulty)
    if form > 0.3 or sigma < 0.3:
        return image
    soft = cv2.GaussianBlur(image, (0, 0), sigma)
    if form < 0.12:
        return soft
    rows = np.abs(np.arange(h, dtype=np.float32) / h - focus)
    return image + (soft - image) * np.clip((rows - reach) / 0.2, 0, 1)[:, None, None]


def _illuminate(rng: np.random.Generator, image: np.ndarray, aquatic: bool) -> np.ndarray:
    """One light over ground and objects: a gradient, light through leaves, or water's colour and light nets."""
    h, w = image.shape[:2]
    turn, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.7)
    y = (np.arange(h, dtype=np.float32) / h - 0.5)[:, None]
    x = (np.arange(w, dtype=np.float32) / w - 0.5)[None, :]
    field = np.exp(np.float32(slope) * (x * np.float32(np.cos(turn)) + y * np.float32(np.sin(turn))))
    if not aquatic:
        if rng.random() < 0.3:  # dappled
            leaves = np.tanh(3 * power_noise(rng, h, w, 1.8, largest=0.3) + rng.normal(0, 0.5)) * 0.5 + 0.5
            leaves = cv2.GaussianBlur(leaves.astype(np.float32), (0, 0), rng.uniform(0.5, 3))
            field = field * (1 - np.float32(rng.uniform(0.2, 0.7)) * leaves)
        tint = np.exp(np.array([1, 0, -1]) * rng.normal(0.03, 0.08))
        return image * field[..., None] * tint.astype(np.float32)
    if rng.random() < 0.25:
        field = field * caustics(rng, (h, w), rng.uniform(20, 60) * min(h, w) / 256, rng.uniform(0.1, 0.6))
    depth = rng.uniform(0.0, 1.0) if rng.random() < 0.85 else 0.0
    far = depth * (0.6 + 0.4 * rng.uniform(-1, 1) * y * 2)  # (H, 1): water between the camera and the ground
    image = image * field[..., None]
    lost = np.array([1.6, rng.uniform(0.1, 0.5), rng.uniform(0.1, 0.6)], np.float32)  # red goes first
    image = image * np.exp(-lost * far[..., None])
    water = draw_palette(rng, str(rng.choice(['teal', 'deep', 'teal', 'olive']))).colours[3]
    veil = np.float32(rng.uniform(0, 0.5)) * (1 - np.exp(-far[..., None]))
    return image * (1 - veil) + water * veil


def _add_object(rng: np.random.Generator, image: np.ndarray, ground: Background, one: Placed, light: Light,
                difficulty: float) -> np.ndarray:
    """Lay an object with its coat, its light, its shadow and what hides it on the ground."""
    h, w = image.shape[:2]
    unit, ease = min(h, w) / 256, 1 - difficulty
    body = one.alpha > 0.01
    bx, by, bw, bh = cv2.boundingRect(body.astype(np.uint8))
    box = (by, bx, by + bh, bx + bw)
    pad = int(14 * unit) + 2
    y0, x0, y1, x1 = max(by - pad, 0), max(bx - pad, 0), min(by + bh + pad, h), min(bx + bw + pad, w)
    turn = one.turn + (np.pi if one.flip else 0)
    coat_rng, finish = rng.spawn(2)
    coat = np.zeros((y1 - y0, x1 - x0, 3), np.float32)
    inner = (slice(by - y0, by - y0 + bh), slice(bx - x0, bx - x0 + bw))
    coat[inner] = draw_coat(coat_rng, ground, one.alpha, box, turn, 2 * one.scale, difficulty)
    window = (slice(y0, y1), slice(x0, x1))
    alpha, hidden = one.alpha[window], one.occluder[window]

    # The body bulges towards the light: the stronger the more it shows
    height = dome(alpha)
    bumps = height + finish.uniform(0, 0.6) * unit * power_noise(finish, *height.shape, 1.2)
    coat = coat * shading(bumps, light, finish.uniform(0.15, 0.8) * (0.25 + 0.75 * ease))[..., None]
    part_rng, by_parts = finish.spawn(1)[0], finish.random() < 0.6
    if by_parts and len(one.shape.parts) > 1:
        coat = _parts(part_rng, coat, one, (y0, x0), light, 0.25 + 0.75 * ease)
    rim, rim_width = finish.normal(0, 0.35), finish.uniform(0.8, 2.5) * unit
    if finish.random() < 0.4:  # a thin edge, darker or lit
        inside = cv2.distanceTransform((alpha > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
        edge = np.exp(-inside / np.float32(rim_width))
        coat = coat * (1 + np.float32(np.clip(rim, -0.6, 0.6) * (0.2 + 0.8 * ease)) * edge)[..., None]
    show_eyes, eye_rng = finish.random() < 0.6, finish.spawn(1)[0]
    if show_eyes and one.shape.eyes:
        coat = _eyes(eye_rng, coat, one, (y0, x0), 0.4 + 0.6 * ease)
    if finish.random() < 0.12:  # the object is out of focus, not the ground
        coat = cv2.GaussianBlur(coat, (0, 0), finish.uniform(0.4, 1.5) * unit)
    soft = finish.uniform(0.3, 1.2)
    blend = cv2.GaussianBlur(alpha, (0, 0), soft) if finish.random() < 0.6 else alpha

    patch = image[window]
    length, dark = finish.uniform(1, 9) * unit, finish.uniform(0.1, 0.7) * (0.15 + 0.85 * ease)
    if finish.random() < 0.8:
        patch = drop_shadow(patch, alpha, light, length, dark)
    scene = cover(patch, np.clip(coat, 0, 1.2), blend)
    if hidden.any():
        scene = _hide(finish, scene, ground, one, hidden, window, light, unit)
    image = image.copy()
    image[window] = scene
    return image


def _parts(rng: np.random.Generator, coat: np.ndarray, one: Placed, corner: tuple[int, int], light: Light,
           strength: float) -> np.ndarray:
    """Tell the larger parts of a body from each other: a tone and a roundness of their own, a dark seam."""
    h, w = coat.shape[:2]
    polygons = [one.points(part) - (corner[1], corner[0]) for part in one.shape.parts]
    by_size = sorted(polygons, key=lambda p: -float(np.prod(np.ptp(p, axis=0))))[:6]
    round_, seam = rng.uniform(0, 0.5), rng.uniform(0, 0.35)
    for polygon in by_size:
        alpha = fill([polygon], h, w)
        tone = np.float32(np.exp(rng.normal(0, 0.15) * strength))
        inside = cv2.distanceTransform((alpha > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
        factor = tone * shading(dome(alpha), light, round_ * strength)
        factor = factor * (1 - np.float32(seam * strength) * np.exp(-inside / 1.5))
        coat = coat * (1 + alpha * (factor - 1))[..., None]
    return coat


def _hide(rng: np.random.Generator, scene: np.ndarray, ground: Background, one: Placed, hidden: np.ndarray,
          window: tuple[slice, slice], light: Light, unit: float) -> np.ndarray:
    """Draw what lies before an object: pieces of the ground's own things, or the ground itself grown over it."""
    texture = ground.textures[int(rng.integers(len(ground.textures)))]
    h, w = scene.shape[:2]
    if rng.random() < 0.4:
        layer = ground.image[window]
    elif rng.random() < 0.5:
        layer = texture.draw(rng, h, w, ground.zoom, ground.angle)
    else:
        layer = texture.palette.ramp(0.5 + 0.15 * smooth_noise(rng, h, w, 8)) * np.float32(np.exp(rng.normal(0, 0.3)))
    layer = layer * shading(dome(hidden), light, rng.uniform(0.1, 0.5))[..., None]
    scene = drop_shadow(scene, hidden, light, rng.uniform(0.5, 4) * unit, rng.uniform(0, 0.5))
    return cover(scene, layer, hidden)


def _eyes(rng: np.random.Generator, coat: np.ndarray, one: Placed, corner: tuple[int, int],
          strength: float) -> np.ndarray:
    """Draw the eyes: an iris, a dark pupil, a glint."""
    out = np.clip(coat * 255, 0, 255).astype(np.uint8)
    iris = draw_palette(rng, str(rng.choice(['gold', 'rust', 'grey', 'soil', 'pale']))).colours[3] * 255
    pupil = rng.uniform(0.4, 0.95)
    for x, y, r in one.shape.eyes:
        (px, py), = one.points(np.array([(x, y)])) - (corner[1], corner[0])
        radius = r * one.scale
        if radius < 0.6:
            continue
        centre = (int(round(px * 16)), int(round(py * 16)))
        cv2.circle(out, centre, int(radius * 16), iris.tolist(), -1, cv2.LINE_AA, 4)
        cv2.circle(out, centre, int(radius * pupil * 16), (12, 10, 10), -1, cv2.LINE_AA, 4)
        if radius > 2:
            glint = (int(round((px - radius * 0.25) * 16)), int(round((py - radius * 0.3) * 16)))
            cv2.circle(out, glint, int(max(radius * 0.2, 0.7) * 16), (235, 235, 235), -1, cv2.LINE_AA, 4)
    eyes = out.astype(np.float32) / 255
    changed = np.any(np.abs(eyes - np.clip(coat, 0, 1)) > 0.01, -1)[..., None]
    return np.where(changed, coat + (eyes - coat) * np.float32(strength), coat)
