"""An application of the Feast repository is noticed by the file of its registry."""

from pathlib import Path

from services.feature_store.plan_watch import PlanWatch
from services.runtime.settings import Settings


def test_each_change_of_the_registry_is_noticed_once(tmp_path: Path) -> None:
    registry, found = tmp_path / "registry.db", []
    watch = PlanWatch(Settings(home=tmp_path))
    for change in (lambda: None, lambda: registry.write_bytes(b"1"), lambda: None, registry.unlink):
        change()
        found.append((watch.refresh(), watch.refresh()))
    assert found == [(False, False), (True, False), (False, False), (True, False)]
