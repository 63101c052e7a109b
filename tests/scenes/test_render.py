import numpy as np
import pytest
import shapely
from sklearn.ensemble import RandomForestClassifier

from projects.engine.errors import UserError
from projects.scenes.buildings import make_building
from projects.scenes.layout import Area
from projects.scenes.noise import noise_at, noise_grid
from projects.scenes.objects import OBJECTS
from projects.scenes.raster import Window, fill, rings
from projects.scenes.render import Renderer, View, render
from projects.scenes.scene import Scene
from projects.scenes.terrain import Terrain
from projects.scenes.vegetation import Planter

# Object id -> landcover6 as the working agreement has it; the scene itself knows no task
LANDCOVER6 = np.array([0, 0, 2, 5, 3, 3, 1, 0, 4, 4, 4, 4, 2, 1, 4])


class _Plain(Terrain):
    """Level ground."""

    def height(self, x, y):
        return np.full(np.broadcast(x, y).shape, 100.0)

    def height_grid(self, x, y):
        return np.full((len(y), len(x)), 100.0, np.float32)


def _lone_block(wall: float = 10.0) -> Scene:
    """One flat building, 20 x 12 m, in the middle of 120 x 120 m of mown meadow."""
    terrain = _Plain(0)
    rng = np.random.default_rng(0)
    block = make_building(rng, terrain, 'barn', 'flat', 60.0, 60.0, 0.0, 20.0, 12.0, wall, 'gravel')
    ground = Area('meadow', 'alfalfa', shapely.box(-200, -200, 320, 320), seed=1)
    trees = Planter(rng, terrain).trees(shapely.Polygon())
    return Scene(0, (120.0, 120.0), (700_000, 6_600_000), terrain, [ground], [], [], trees, [block], [], wall + 2)


def test_noise_grid_equals_noise_at_points():
    x, y = np.linspace(-40, 60, 33), np.linspace(5, 77, 21)
    assert np.allclose(noise_grid(x, y, 7.3, 5), noise_at(*np.meshgrid(x, y), 7.3, 5), atol=1e-6)
    values = noise_grid(np.arange(0, 3000.0, 3), np.arange(0, 300.0, 3), 5.0, 1)
    assert values.min() >= 0 and values.max() <= 1 and abs(values.mean() - 0.5) < 0.02


def test_fill_is_exact_on_pixel_centres_and_windows_agree():
    polygon = shapely.Polygon([(1.2, 0.7), (17.3, 3.1), (12.0, 14.9), (9.1, 6.0), (2.2, 12.7)],
                              [[(4, 4), (6, 4.5), (5, 6)]])
    window = Window(-3, -4, 40, 50, 0.5)
    x, y = np.meshgrid(window.x, window.y)
    expected = shapely.contains_xy(polygon, x, y)
    mask = np.zeros((40, 50), bool)
    rows, columns, inside = fill(rings(polygon), window)
    mask[rows, columns] = inside
    assert np.array_equal(mask, expected)
    part = Window(5, 9, 11, 13, 0.5)
    rows, columns, inside = fill(rings(polygon), part)
    small = np.zeros((11, 13), bool)
    small[rows, columns] = inside
    assert np.array_equal(small, mask[8:19, 13:26])
    assert fill(rings(polygon), Window(500, 500, 8, 8, 0.5)) is None


def test_the_same_scene_gives_the_same_bytes(hamlet: Scene):
    bounds = (40, 40, 104, 104)
    first, second = render(hamlet, bounds, 0.5), render(hamlet, bounds, 0.5)
    assert np.array_equal(first.rgbn, second.rgbn)
    assert first.rgbn.shape == (128, 128, 4) and first.rgbn.dtype == np.uint8
    autumn = render(hamlet, bounds, 0.5, season='autumn')
    assert np.array_equal(autumn.ids, first.ids)
    assert np.array_equal(autumn.height, first.height)
    assert np.abs(autumn.rgbn.astype(int) - first.rgbn).mean() > 5


@pytest.mark.parametrize('resolution', [0.5, 0.4])
def test_tiles_join_without_a_seam(hamlet: Scene, resolution: float):
    renderer = Renderer(hamlet, resolution)
    whole = renderer.render((40, 20, 160, 120))
    left, right = renderer.render((40, 20, 92, 120)), renderer.render((92, 20, 160, 120))
    for name in ('rgbn', 'ids', 'height', 'building'):
        joined = np.concatenate([getattr(left, name), getattr(right, name)], axis=1)
        assert np.array_equal(joined, getattr(whole, name)), name
    lower = renderer.render((40, 20, 160, 60))
    assert np.array_equal(lower.rgbn, whole.rgbn[-lower.rgbn.shape[0]:])


def test_geometry_does_not_depend_on_the_resolution(hamlet: Scene):
    bounds = (20, 20, 180, 140)
    fine, coarse = render(hamlet, bounds, 0.25), render(hamlet, bounds, 1.0)
    votes = np.stack([(fine.ids == i).reshape(120, 4, 160, 4).sum((1, 3)) for i in range(15)])
    clear = votes.max(0) >= 14  # all but two of the sixteen fine pixels agree
    assert clear.mean() > 0.65
    assert (votes.argmax(0) == coarse.ids)[clear].mean() > 0.985
    share = [np.bincount(v.ids.ravel(), minlength=15) / v.ids.size for v in (fine, coarse)]
    assert np.abs(share[0] - share[1]).max() < 0.01


def test_a_building_is_seen_where_it_stands():
    scene = _lone_block()
    view = render(scene, (0, 0, 120, 120), 0.5)
    rows, columns = np.nonzero(view.ids == OBJECTS['building'])
    assert (columns.min(), columns.max()) == (100, 139)  # 50 .. 70 m
    assert (rows.min(), rows.max()) == (108, 131)  # 54 .. 66 m from the north
    assert set(np.unique(view.building)) == {-1, 0}
    block = scene.buildings[0]
    assert view.height[120, 120] == pytest.approx(block.top, abs=1e-3)
    assert view.height[5, 5] == pytest.approx(100.0, abs=1e-3)


@pytest.mark.parametrize('azimuth, elevation', [(180.0, 45.0), (180.0, 30.0), (90.0, 45.0), (270.0, 60.0)])
def test_shadows_fall_away_from_the_sun_and_have_their_length(azimuth: float, elevation: float):
    scene = _lone_block()
    sunny = render(scene, (0, 0, 120, 120), 0.5, sun=(azimuth, elevation), noise=0, haze=0, blur=0)
    free = render(scene, (0, 0, 120, 120), 0.5, sun=(azimuth, 90.0), noise=0, haze=0, blur=0)
    bright, dim = (v.rgbn[..., :3].sum(2).astype(float) for v in (free, sunny))
    dark = (dim < 0.75 * bright) & (sunny.ids != OBJECTS['building'])
    rise = scene.buildings[0].top + 0.35 - 100.0  # with the parapet
    length = rise / np.tan(np.radians(elevation))
    profiles = {180.0: dark[:108, 120][::-1], 0.0: dark[132:, 120], 90.0: dark[120, :100][::-1], 270.0: dark[120, 140:]}
    for side, profile in profiles.items():  # `side` is where the sun is: its shadow falls on the profile
        found = 0.5 * int(np.argmin(profile)) if profile[0] else 0.0
        assert found == pytest.approx(length if side == azimuth else 0.0, abs=1.0), side


def test_sunlit_slopes_are_brighter_than_shaded_ones(village: Scene):
    renderer = Renderer(village, 0.5, noise=0, haze=0)
    house = next(b for b in village.buildings if b.roof_type == 'gable' and b.kind == 'row_house'
                 and 60 < b.footprint[:, 0].mean() < 960 and abs(np.sin(b.angle)) < 0.5)
    x, y = house.footprint.mean(0)
    left, bottom = np.floor(x) - 12, np.floor(y) - 12
    view = renderer.render((left, bottom, left + 24, bottom + 24))
    index = village.buildings.index(house)
    gy = np.gradient(view.height, axis=0)  # rows run south: positive = rises southward = faces north
    inside = view.building == index
    south, north = inside & (gy < -0.1), inside & (gy > 0.1)
    assert south.sum() > 60 and north.sum() > 60
    assert view.rgbn[south, :3].mean() > 1.15 * view.rgbn[north, :3].mean()


def test_every_class_is_there_in_a_reasonable_share(village_view: View):
    share = np.bincount(village_view.ids.ravel(), minlength=15) / village_view.ids.size
    assert share[0] == 0 and len(share) == 15
    least = dict(bare_ground=0.004, meadow=0.06, semi_natural_grass=0.06, crop=0.12, bare_field=0.03, tree=0.08,
                 water=0.008, road=0.01, path=0.0005, courtyard=0.01, building=0.012, garden=0.02, hedge=0.002,
                 car=0.0003)
    for name, low in least.items():
        assert low < share[OBJECTS[name]] < 0.5, (name, share[OBJECTS[name]])
    classes = np.bincount(LANDCOVER6[village_view.ids].ravel(), minlength=6) / village_view.ids.size
    assert classes.min() > 0.02, classes
    assert classes.max() < 0.5, classes


def test_colour_alone_does_not_solve_it(village_view: View):
    halves = [(village_view.rgbn[:, k], LANDCOVER6[village_view.ids[:, k]]) for k in (slice(512), slice(512, None))]
    (train, train_y), (test, test_y) = ((pixels.reshape(-1, 4), ids.ravel()) for pixels, ids in halves)
    rng = np.random.default_rng(0)
    picks = rng.choice(len(train), 20_000, replace=False)
    forest = RandomForestClassifier(20, min_samples_leaf=10, random_state=0, n_jobs=1)
    forest.fit(train[picks], train_y[picks])
    picks = rng.choice(len(test), 40_000, replace=False)
    confusion = np.zeros((6, 6), np.int64)
    np.add.at(confusion, (test_y[picks], forest.predict(test[picks])), 1)
    hits = np.diag(confusion)
    iou = hits / (confusion.sum(0) + confusion.sum(1) - hits)
    assert 0.2 < iou.mean() < 0.5, iou  # 0.38 when it was made: far from solved, yet not without meaning
    assert iou.max() < 0.8, iou


def test_infrared_shows_plants(village: Scene):
    view = render(village, (400, 400, 600, 600), 1.0, lighting=False)
    red, nir = view.rgbn[..., 0].astype(float), view.rgbn[..., 3].astype(float)
    ndvi = (nir - red) / (nir + red)
    assert ndvi[view.ids == OBJECTS['tree']].mean() > 0.25
    assert abs(ndvi[view.ids == OBJECTS['road']].mean()) < 0.05


@pytest.mark.parametrize('options, message', [
    (dict(resolution=0.01), 'resolution: expected 0.05 to 5 metres, found 0.01'),
    (dict(resolution=float('nan')), 'resolution: expected'),
    (dict(resolution=0.5, season='winter'), "season: expected one of summer, autumn, spring, found 'winter'"),
    (dict(resolution=0.5, sun=(180, 5)), 'sun: expected an elevation of 15 to 90 degrees, found 5'),
    (dict(resolution=0.5, bounds=(0.3, 0, 10, 10)), 'bounds: expected multiples of the resolution 0.5 m'),
    (dict(resolution=0.5, bounds=(10, 0, 10, 10)), 'expected left < right'),
])
def test_bad_arguments_are_told(options, message):
    with pytest.raises(UserError, match=message):
        render(_lone_block(), **{'bounds': (0, 0, 10, 10), **options})
