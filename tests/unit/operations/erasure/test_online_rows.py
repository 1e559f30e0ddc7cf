"""The rows of a subject are those whose key has its join keys, in its project alone."""

from collections.abc import Iterator
from typing import Any

from services.feature_store import feast_layout
from services.feature_store.plan import Column
from services.features.view_progress import ViewProgress, encode_progress, progress_key
from services.operations.erasure import online_rows
from tests.unit.operations.erasure import subjects
from tests.unit.operations.erasure.subjects import DESK, SHOP, USER


def key(values: dict[Column, Any], project: str = "shops") -> bytes:
    return feast_layout.entity_key_encoder(project, list(values))(list(values.values()))


class Store:
    """A store in memory."""

    def __init__(self, rows: dict[bytes, dict[bytes, bytes]]) -> None:
        self.rows = rows

    def scan_iter(self, match: bytes, count: int) -> Iterator[bytes]:
        del match, count
        yield from self.rows

    def hgetall(self, name: str) -> dict[bytes, bytes]:
        return self.rows.get(name.encode(), {})

    def delete(self, name: bytes) -> None:
        del self.rows[name]


def test_all_rows_with_the_join_keys_are_found() -> None:
    own = [key({USER: "ada"}), key({SHOP: "mill", USER: "ada"})]
    others = [key({USER: "adam"}), key({SHOP: "ada"}), key({USER: "ada"}, "workshops"), b"driftline:x", b""]
    store = Store({each: {} for each in [*own, *others]})
    found = online_rows.find(store, "shops", subjects.of("customer", "ada"))
    assert found == own
    online_rows.delete(store, found)
    assert list(store.rows) == others


def test_numbers_and_several_join_keys_are_compared_by_value() -> None:
    rows = [
        key({DESK: -7}),
        key({DESK: 7}),
        key({SHOP: "mill", USER: "ada"}),
        key({SHOP: "dock", USER: "ada"}),
    ]
    store = Store({each: {} for each in rows})
    assert online_rows.find(store, "shops", subjects.of("desk", "-7")) == rows[:1]
    assert online_rows.find(store, "shops", subjects.of("customer", "ada", "shop", "mill")) == rows[2:3]


def test_records_that_a_view_has_still_to_apply_are_counted() -> None:
    view = subjects.PLAN.views[0]
    name = progress_key("shops", view.name).encode()
    store = Store({name: {b"source-0": encode_progress(ViewProgress(next_offset=8))}})
    assert online_rows.unread(store, subjects.PLAN, [view], "source", {view.name: [8, 0]}) == 0
    assert online_rows.unread(store, subjects.PLAN, [view], "source", {view.name: [10, 3]}) == 5
