"""Villages that several tests look at; made once."""

import pytest

from projects.scenes.render import View, render
from projects.scenes.scene import Scene, make_scene


@pytest.fixture(scope='session')
def hamlet() -> Scene:
    """A small scene, 200 x 160 m."""
    return make_scene(5, (200, 160))


@pytest.fixture(scope='session')
def village() -> Scene:
    """The ground of 16 tiles of 512 pixels at 0.5 m, the tool's defaults."""
    return make_scene(0, 1024)


@pytest.fixture(scope='session')
def village_view(village: Scene) -> View:
    """The whole village from above at 1 m."""
    return render(village, (0, 0, 1024, 1024), 1.0)
