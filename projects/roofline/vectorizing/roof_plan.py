"""The roofs of one image as vectors: what the writers write."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from projects.engine.errors import UserError
from projects.roofline.geometry.faces import Faces, find_faces
from projects.roofline.geometry.place import Place, ring_area
from projects.roofline.graph import LINE_TYPES
from projects.roofline.vectorizing.heights import SOURCES, Heights, line_types
from projects.roofline.wireframe import Wireframe

Columns = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class RoofPlan:
    """A planar wireframe with its faces, its place and perhaps its heights.

    Attributes:
        image: name of the image, an attribute of everything written.
        wireframe: planar, in pixels.
        faces: of the wireframe, in pixels.
        place: of the pixels.
        heights: with LiDAR, else None.
    """

    image: str
    wireframe: Wireframe
    faces: Faces
    place: Place
    heights: Heights | None = None

    @classmethod
    def of(cls, image: str, wireframe: Wireframe, place: Place) -> 'RoofPlan':
        """Find the faces of a planar wireframe."""
        return cls(image, wireframe, find_faces(wireframe.junctions, wireframe.lines), place)

    @cached_property
    def types(self) -> np.ndarray:
        """``(M,)`` uint8, indices of LINE_TYPES: with heights also ridge, hip, valley, eave, verge and break."""
        if self.heights is None:
            return self.faces.types
        metric = self.place.ground(self.wireframe.junctions) * self.place.metres
        return line_types(self.faces, metric, self.wireframe.lines, self.heights)

    def line_columns(self, first_face: int = 0) -> Columns:
        """Return the attributes of the lines, by name; face ids count from ``first_face``."""
        frame = self.wireframe
        segments = frame.segments()
        plan = self.place.lengths(segments)
        columns = {
            'image': _repeated(self.image, len(frame.lines)),
            'score': np.round(frame.scores, 4),
            'type': np.array(LINE_TYPES, dtype=object)[self.types],
            'length_px': np.round(np.linalg.norm(segments[:, 1] - segments[:, 0], axis=1), 3),
            'length_m': np.round(plan, 3),
            **{f'face_{k + 1}': np.where(self.faces.line_faces[:, k] < 0, np.nan,
                                         self.faces.line_faces[:, k] + float(first_face)) for k in (0, 1)},
        }
        if self.heights is not None:
            z = self.heights.junctions[frame.lines]
            columns['length_3d_m'] = np.round(np.hypot(plan, z[:, 1] - z[:, 0]), 3)
        return columns

    def face_columns(self, first_face: int = 0, first_building: int = 0) -> Columns:
        """Return the attributes of the faces, by name; `score` is the mean of their lines', weighted by length."""
        frame, faces = self.wireframe, self.faces
        rings = [[frame.junctions[list(ring)] for ring in face] for face in faces.rings]
        length = np.linalg.norm(frame.segments()[:, 1] - frame.segments()[:, 0], axis=1)
        total, weighted = np.zeros(len(faces)), np.zeros(len(faces))
        for side in faces.line_faces.T:
            at = side >= 0
            np.add.at(total, side[at], length[at])
            np.add.at(weighted, side[at], (length * frame.scores)[at])
        area = self.place.areas(rings)
        columns = {
            'face': np.arange(len(faces), dtype=np.int64) + first_face,
            'building': faces.buildings + first_building,
            'image': _repeated(self.image, len(faces)),
            'score': np.round(weighted / np.maximum(total, 1e-12), 4),
            'area_px': np.round([ring_area(face) for face in rings], 2) if rings else np.zeros(0),
            'area_m2': np.round(area, 3),
        }
        if self.heights is not None:
            planes = self.heights.planes
            slope = planes.slopes()
            columns |= {'slope_deg': np.round(slope, 2), 'azimuth_deg': np.round(planes.azimuths(), 2),
                        'area_3d_m2': np.round(area / np.cos(np.radians(slope)), 3), 'points': planes.points,
                        'rms_m': np.round(planes.rms, 4)}
        return columns

    def junction_columns(self) -> Columns:
        """Return the attributes of the junctions, by name; `type` only of a network of several, -1 of a crossing."""
        frame = self.wireframe
        columns = {'image': _repeated(self.image, len(frame.junctions)),
                   'score': np.round(frame.junction_scores, 4),
                   'degree': np.bincount(frame.lines.ravel(), minlength=len(frame.junctions)).astype(np.int64)}
        if frame.junction_types is not None:
            columns['type'] = frame.junction_types
        if self.heights is not None:
            columns |= {'height_m': np.round(self.heights.junctions, 3),
                        'height_from': np.array(SOURCES, dtype=object)[self.heights.sources],
                        'spread_m': np.round(self.heights.spread, 3)}
        return columns

    def coordinates(self, degrees: bool = False) -> np.ndarray:
        """Return the junctions ``(N, 2)``, with heights ``(N, 3)``: on the ground, or as longitude and latitude."""
        pixels = self.wireframe.junctions
        xy = self.place.degrees(pixels) if degrees else self.place.ground(pixels)
        if xy is None:
            raise UserError('GeoJSON: expected a CRS that leads to longitude and latitude from all of the image, found '
                            'roofs from which it does not: write .gpkg')
        return xy if self.heights is None else np.column_stack([xy, self.heights.junctions])


def _repeated(text: str, count: int) -> np.ndarray:
    return np.full(count, text, dtype=object)
