import gc
from typing import Any

import pytest

from streams import garbage


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The calls of the garbage collector, which does nothing."""
    made: list[tuple[Any, ...]] = []
    for name in ("collect", "freeze", "set_threshold"):
        monkeypatch.setattr(gc, name, lambda *given, name=name: made.append((name, *given)))
    return made


def test_collections_become_rare(calls: list[tuple[Any, ...]]) -> None:
    garbage.collect_rarely()
    assert calls == [("set_threshold", garbage.CONTAINERS, 20, 100)]


def test_garbage_of_the_start_is_freed_before_the_rest_is_excluded(calls: list[tuple[Any, ...]]) -> None:
    """Else the garbage would stay for the life of the process."""
    garbage.settle()
    assert [name for name, *_ in calls] == ["collect", "freeze", "set_threshold"]
