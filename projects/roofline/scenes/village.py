"""The roofs of a village as a graph in the pixels of its orthophoto: the truth of a made image."""

import numpy as np

from projects.engine.errors import UserError
from projects.roofline.graph import RoofGraph
from projects.roofline.scenes.arrangement import Arrangement, arrange
from projects.roofline.scenes.leaves import Leaves, occlusions_of
from projects.roofline.scenes.visible import visible_faces
from projects.scenes.scene import Scene

WELD = 0.5  # pixels: closer junctions are one in a picture

Bounds = tuple[float, float, float, float]


class VillageRoofs:
    """All roofs of one scene as seen from straight above at one resolution; cut out any number of windows.

    Args:
        scene: From :func:`projects.scenes.scene.make_scene`.
        resolution: Metres a pixel.
        min_visible: Lines of which leaves leave less than this share to be seen are left out, with the faces that
            they bound; 0 keeps all.
        weld: Junctions closer than this many pixels become one.

    Raises:
        UserError: ``min_visible`` outside 0..1, or a resolution or ``weld`` that is not positive.
    """

    def __init__(self, scene: Scene, resolution: float, min_visible: float = 0.0, weld: float = WELD):
        if not 0 <= min_visible <= 1:
            raise UserError(f'min_visible: expected a share of 0 to 1, found {min_visible:g}')
        for name, value in (('resolution', resolution), ('weld', weld)):
            if not value > 0:
                raise UserError(f'{name}: expected more than 0, found {value:g}')
        self.scene, self.resolution = scene, float(resolution)
        tolerance = weld * self.resolution
        whole = arrange(scene.buildings, visible_faces(scene.buildings, tolerance), tolerance)
        starts, ends = (np.column_stack([whole.junctions[whole.lines[:, k], :2], whole.ends[:, k]]) for k in (0, 1))
        self.occlusions, self.hidden = occlusions_of(Leaves(scene, self.resolution), starts, ends, self.resolution)
        self.arrangement = whole
        self._kept = _kept(whole, self.hidden, self.occlusions, min_visible)

    def graph(self, bounds: Bounds) -> RoofGraph:
        """The graph over ``bounds`` (left, bottom, right, top; scene metres), row 0 in the north, clipped to it."""
        left, bottom, right, top = bounds
        if not (left < right and bottom < top):
            raise UserError(f'bounds: expected left < right and bottom < top, found {bounds}')
        r = self.resolution
        size = (int(round((top - bottom) / r)), int(round((right - left) / r)))
        near = _near(self._kept, bounds)
        return near.moved(np.array([[1 / r, 0, -left / r], [0, -1 / r, top / r]])).clipped(size)


def village_graph(scene: Scene, bounds: Bounds, resolution: float, min_visible: float = 0.0,
                  weld: float = WELD) -> RoofGraph:
    """Return the roof lines of a village that are seen from straight above.

    Junctions of one roof are shared, lines end where they go under a higher roof (which is split there: the graph is
    planar), chimneys, dormers and skylights are no lines. Heights are metres above the sea; a junction at which a
    line goes under a higher roof has the height of that roof. ``occlusions`` are what leaves hide, exact to a quarter
    of a pixel: (0, 0) where they hide nothing, NaN where what they hide is no one interval.

    Args:
        scene: From :func:`projects.scenes.scene.make_scene`.
        bounds: Left, bottom, right, top, scene metres, as :func:`projects.scenes.render.render` takes them.
        resolution: Metres a pixel.
        min_visible, weld: Of :class:`VillageRoofs`; for many windows of one scene make one of those.

    Raises:
        UserError: A value out of range.
    """
    return VillageRoofs(scene, resolution, min_visible, weld).graph(bounds)


def _kept(whole: Arrangement, hidden: np.ndarray, occlusions: np.ndarray, min_visible: float) -> RoofGraph:
    """The wireframe as a graph in metres, without lines that are hidden too much."""
    seen = hidden <= 1 - min_visible
    lost = {tuple(line) for line in whole.lines[~seen].tolist()}
    faces = tuple(ring for ring in whole.faces
                  if not any((min(a, b), max(a, b)) in lost for a, b in zip(ring, (*ring[1:], ring[0]))))
    return _used(RoofGraph(whole.junctions[:, :2], whole.lines[seen], whole.types[seen], faces,
                           heights=whole.junctions[:, 2], occlusions=occlusions[seen]))


def _near(graph: RoofGraph, bounds: Bounds) -> RoofGraph:
    """The lines whose boxes touch ``bounds``, so that a window costs what is in it."""
    if graph.empty:
        return graph
    ends = graph.segments()
    low, high = ends.min(axis=1), ends.max(axis=1)
    near = ((low <= bounds[2:]) & (high >= bounds[:2])).all(axis=1)
    return _used(RoofGraph(graph.junctions, graph.lines[near], graph.types[near], graph.faces,
                           heights=graph.heights, occlusions=graph.occlusions[near]))


def _used(graph: RoofGraph) -> RoofGraph:
    """Without junctions that no line uses, nor faces with one of them."""
    used = np.zeros(len(graph.junctions), bool)
    used[graph.lines] = True
    place = np.cumsum(used) - 1
    faces = tuple(tuple(int(place[k]) for k in ring) for ring in graph.faces if used[list(ring)].all())
    return RoofGraph(graph.junctions[used], place[graph.lines], graph.types, faces,
                     heights=graph.heights[used], occlusions=graph.occlusions)
