from pathlib import Path

import pytest

from services.demo import worlds
from services.demo.world import DemoWorld
from services.runtime.settings import Settings

WORLDS = pytest.mark.parametrize("world", worlds.WORLDS.values(), ids=lambda world: str(world.name))


@WORLDS
def test_a_world_plays_its_own_models_and_features(world: DemoWorld, tmp_path: Path) -> None:
    """Also where the settings name the folders of a model of one's own."""
    for given in (Settings(), Settings(models=tmp_path, feature_repo=tmp_path)):
        found = world.settings(given)
        assert (found.models / world.model / "model.yaml").is_file()
        assert (found.feature_repo / "feature_store.yaml").is_file()


@WORLDS
def test_a_copy_of_its_models_that_is_set_is_played(world: DemoWorld, tmp_path: Path) -> None:
    (tmp_path / world.model).mkdir()
    found = world.settings(Settings(models=tmp_path))
    assert found.models == tmp_path
    assert (found.feature_repo / "feature_store.yaml").is_file()
