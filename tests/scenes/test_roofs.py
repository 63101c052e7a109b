import numpy as np
import pytest

from projects.scenes import roofs
from projects.scenes.objects import EDGE_TYPES, PARTS
from projects.scenes.roofs import ell_roof, rectangle_roof, roof_edges
from projects.scenes.solids import Solid, box, prism, weld


def _types(roof: Solid) -> dict[str, int]:
    found: dict[str, int] = {}
    for edge in roof_edges(roof):
        assert edge.type in EDGE_TYPES
        found[edge.type] = found.get(edge.type, 0) + 1
    return found


def _pitches(roof: Solid) -> list[float]:
    slopes = [f for f, part in enumerate(roof.parts) if part.startswith('roof_') and part != 'roof_edge']
    return sorted({round(float(np.degrees(np.arccos(roof.normal(f)[2]))), 6) for f in slopes})


def _check_solid(solid: Solid) -> None:
    assert solid.is_closed()
    assert all(len(faces) == 2 for faces in solid.edges().values())
    assert solid.volume() > 0
    assert set(solid.parts) <= set(PARTS)
    for f in range(len(solid.faces)):
        p = solid.polygon(f)
        assert np.abs((p - p[0]) @ solid.normal(f)).max() < 1e-9  # planar


def test_box_volume_and_normals():
    solid = box((0, 2), (0, 3), (1, 5), 'chimney')
    _check_solid(solid)
    assert solid.volume() == pytest.approx(24)
    assert sorted(tuple(solid.normal(f)) for f in range(6))[0] == pytest.approx((-1, 0, 0))
    turned = solid.moved(0.7, (10, 20, 30))
    assert turned.volume() == pytest.approx(24)
    assert turned.is_closed()


def test_an_open_or_inverted_surface_is_not_closed():
    solid = box((0, 1), (0, 1), (0, 1), 'chimney')
    faces = [(solid.polygon(f), 'chimney') for f in range(6)]
    assert not weld(faces[:-1]).is_closed()
    assert not weld([(faces[0][0][::-1], 'chimney'), *faces[1:]]).is_closed()
    assert weld([(p[::-1], part) for p, part in faces]).volume() == pytest.approx(-1)


def test_prism_over_an_ell_has_the_area_times_height():
    solid = prism(roofs.ell(10, 8, 4), 0.0, 2.5, 'wall_plain', 'overhang', 'foundation')
    _check_solid(solid)
    assert solid.volume() == pytest.approx((10 * 4 + 4 * 4) * 2.5)


# Volumes above the eave by hand: prism of the cross-section, or its hip correction; plus the 0.2 m slab of the edge
def test_gable_volume_height_and_lines():
    roof = rectangle_roof('gable', 12, 8, pitch=45)
    _check_solid(roof)
    assert roof.volume() == pytest.approx(12 * 8 * 0.2 + 12 * 8 * 4 / 2)
    assert _pitches(roof) == pytest.approx([45])
    assert _types(roof) == {'ridge': 1, 'eave': 2, 'verge': 4}
    ridge = next(e for e in roof_edges(roof) if e.type == 'ridge')
    assert ridge.start[2] == ridge.end[2] == pytest.approx(4)
    assert np.linalg.norm(ridge.end - ridge.start) == pytest.approx(12)


def test_hip_volume_height_and_lines():
    roof = rectangle_roof('hip', 12, 8, pitch=45)
    _check_solid(roof)
    # Ridge of 4 m: a prism of 4 m and two half pyramids that make one pyramid 8 x 8 x 4
    assert roof.volume() == pytest.approx(12 * 8 * 0.2 + 4 * 8 * 4 / 2 + 8 * 8 * 4 / 3)
    assert _pitches(roof) == pytest.approx([45])
    assert _types(roof) == {'ridge': 1, 'hip': 4, 'eave': 4}


def test_mansard_and_gambrel_have_two_pitches():
    mansard, gambrel = rectangle_roof('mansard', 14, 9), rectangle_roof('gambrel', 14, 9)
    for roof in (mansard, gambrel):
        _check_solid(roof)
    assert _pitches(mansard) == pytest.approx([roofs.MANSARD_UPPER, roofs.MANSARD_LOWER])
    assert _pitches(gambrel) == pytest.approx([roofs.GAMBREL_UPPER, roofs.GAMBREL_LOWER])
    assert _types(mansard) == {'ridge': 1, 'hip': 8, 'break': 4, 'eave': 4}
    assert _types(gambrel) == {'ridge': 1, 'break': 2, 'eave': 2, 'verge': 8}


def test_flat_roof_is_level_and_has_no_height():
    roof = rectangle_roof('flat', 10, 6)
    _check_solid(roof)
    assert _pitches(roof) == [0]
    assert roof.volume() == pytest.approx(10 * 6 * 0.2)
    assert _types(roof) == {'eave': 4}


@pytest.mark.parametrize('kind, ends', [('gable', {'verge': 4, 'eave': 4, 'hip': 1}), ('hip', {'eave': 6, 'hip': 5})])
def test_an_ell_has_one_valley_at_the_inner_corner(kind, ends):
    roof = ell_roof(kind, 16, 14, 7, pitch=40)
    _check_solid(roof)
    assert _types(roof) == {'ridge': 2, 'valley': 1, **ends}
    valley = next(e for e in roof_edges(roof) if e.type == 'valley')
    low, high = sorted((valley.start, valley.end), key=lambda p: p[2])
    assert low == pytest.approx((7, 7, 0))
    assert high == pytest.approx((3.5, 3.5, 3.5 * np.tan(np.radians(40))))
    assert _pitches(roof) == pytest.approx([40])


def test_unknown_types_are_refused():
    with pytest.raises(ValueError, match="unknown roof type 'dome'"):
        rectangle_roof('dome', 10, 8)
    with pytest.raises(ValueError, match="no 'mansard' roof over an L"):
        ell_roof('mansard', 16, 14, 7)
