import numpy as np
import pytest
import shapely

from projects.engine.errors import UserError
from projects.scenes.objects import OBJECTS, PALETTE, PARTS
from projects.scenes.roofs import ROOF_TYPES
from projects.scenes.scene import Scene, make_scene


def test_ids_and_palette_are_the_contract():
    assert list(OBJECTS.items()) == [
        ('unknown', 0), ('bare_ground', 1), ('meadow', 2), ('semi_natural_grass', 3), ('crop', 4), ('bare_field', 5),
        ('tree', 6), ('water', 7), ('road', 8), ('path', 9), ('courtyard', 10), ('building', 11), ('garden', 12),
        ('hedge', 13), ('car', 14)]
    assert list(PALETTE) == list(OBJECTS)
    assert len(set(PALETTE.values())) == len(PALETTE)


def test_every_solid_of_every_building_is_watertight(village: Scene):
    parts = set()
    for building in village.buildings:
        for solid in building.solids:
            assert solid.is_closed(), (building.kind, building.roof_type, solid.parts[0])
            assert solid.volume() > 0, (building.kind, building.roof_type, solid.parts[0])
            parts.update(solid.parts)
    assert parts <= set(PARTS)
    assert parts >= {'wall_plain', 'wall_with_windows', 'wall_with_door', 'chimney', 'dormer_gable', 'dormer_shed',
                     'skylight', 'window', 'door', 'garage_door', 'balcony', 'balustrade', 'overhang', 'foundation',
                     *(f'roof_{kind}' for kind in ROOF_TYPES)}


def test_faces_are_planar_and_cars_are_solids_too(village: Scene):
    solids = [solid for b in village.buildings[::6] for solid in b.solids] + [s for c in village.cars for s in c.solids]
    assert len(village.cars) > 50
    for solid in solids:
        assert solid.is_closed() and solid.volume() > 0
        for f in range(len(solid.faces)):
            p = solid.polygon(f)
            assert np.abs((p - p[0]) @ solid.normal(f)).max() < 1e-6


def test_roofs_have_their_types_heights_and_level_ridges(village: Scene):
    assert {b.roof_type for b in village.buildings} == set(ROOF_TYPES)
    kinds = set()
    for building in village.buildings:
        lines = building.roof_lines()
        kinds.update(line.type for line in lines)
        ridges = [line for line in lines if line.type == 'ridge']
        assert bool(ridges) == (building.roof_type != 'flat')
        for line in ridges:
            assert abs(line.start[2] - line.end[2]) < 1e-6
            assert line.start[2] == pytest.approx(building.top)
        eaves = [line for line in lines if line.type == 'eave']
        assert all(line.start[2] == pytest.approx(building.eave) for line in eaves)
        assert building.top - building.eave < 9.5
        assert (building.top > building.eave + 0.5) == (building.roof_type != 'flat')
        # The roof covers the walls
        roof = shapely.Polygon(building.roof.polygon(building.roof.parts.index('overhang'))[:, :2])
        assert roof.buffer(1e-6).contains(shapely.Polygon(building.footprint))
    assert kinds == {'ridge', 'hip', 'valley', 'eave', 'verge', 'break'}


def test_buildings_do_not_overlap_and_stand_on_the_ground(village: Scene):
    footprints = np.array([shapely.Polygon(b.footprint) for b in village.buildings])
    left, right = shapely.STRtree(footprints).query(footprints, predicate='intersects')
    overlap = [footprints[i].intersection(footprints[j]).area for i, j in zip(left, right) if i < j]
    assert max(overlap, default=0) < 12  # row houses may share a wall's width
    for building in village.buildings:
        z = village.terrain.height(building.footprint[:, 0], building.footprint[:, 1])
        assert building.ground == pytest.approx(z.min())
        assert building.body.vertices[:, 2].min() > z.max()


def test_trees_stand_clear_of_roads_and_walls(village: Scene):
    trees = village.trees
    roads = shapely.union_all([r.line.buffer(r.width / 2) for r in village.roads])
    walls = shapely.union_all([shapely.Polygon(b.footprint) for b in village.buildings])
    shapely.prepare(roads)
    assert not shapely.contains_xy(roads, trees.x, trees.y).any()
    assert not shapely.contains_xy(walls, trees.x, trees.y).any()
    assert trees.z == pytest.approx(village.terrain.height(trees.x, trees.y))
    assert 3 < np.median(trees.height[trees.object == OBJECTS['tree']]) < 25
    assert trees.height.max() < village.tallest


def test_terrain_grid_equals_terrain_at_points(village: Scene):
    x, y = np.linspace(3, 900, 40), np.linspace(-20, 1000, 30)
    grid = village.terrain.height_grid(x, y)
    points = village.terrain.height(*np.meshgrid(x, y))
    assert np.abs(grid - points).max() < 1e-3
    assert 3 < np.ptp(grid) < 60


def test_the_same_seed_makes_the_same_scene():
    first, second, other = make_scene(11, 96), make_scene(11, 96), make_scene(12, 96)
    assert first.origin == second.origin
    assert np.array_equal(first.trees.x, second.trees.x)
    assert [b.footprint.tobytes() for b in first.buildings] == [b.footprint.tobytes() for b in second.buildings]
    assert [a.polygon.wkb for a in first.areas] == [a.polygon.wkb for a in second.areas]
    assert len(other.trees) != len(first.trees) or not np.array_equal(first.trees.x, other.trees.x)


@pytest.mark.parametrize('seed, extent, message', [
    (-1, 100, 'seed: expected 0 or more, found -1'), (0, 20, 'extent: expected 60 to 12000 metres a side, found 20'),
    (0, (100, 20_000), 'found 20000'), (0, float('nan'), 'found nan')])
def test_bad_arguments_are_told(seed, extent, message):
    with pytest.raises(UserError, match=message):
        make_scene(seed, extent)


@pytest.mark.parametrize('seed', range(5))
def test_small_scenes_of_any_seed_hold_buildings(seed: int):
    scene = make_scene(100 + seed, (64 + 30 * seed, 90))
    assert scene.buildings
    assert all(solid.is_closed() for b in scene.buildings for solid in b.solids)
