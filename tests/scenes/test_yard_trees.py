"""Trees beside houses: more of them, the scene as it was."""

import pytest

from projects.engine.errors import UserError
from projects.scenes.scene import make_scene
from projects.scenes.yard_trees import with_yard_trees


def test_yard_trees_leave_the_scene_alone() -> None:
    scene = make_scene(4, 200)
    before = len(scene.trees)
    more = with_yard_trees(scene, 1.0)
    assert len(scene.trees) == before < len(more.trees)
    assert with_yard_trees(scene, 0.0) is scene
    fewer = with_yard_trees(scene, 0.5)
    assert set(fewer.trees.x.tolist()) <= set(more.trees.x.tolist())
    assert more.trees.height.max() + 1 <= more.tallest
    with pytest.raises(UserError, match='share of 0 to 1, found 2'):
        with_yard_trees(scene, 2.0)
