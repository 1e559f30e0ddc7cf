"""Sorting events by entity on disk."""

import random
from pathlib import Path
from typing import Any

from services.features.decoder import SourceDecoder
from services.features.offline.external_sort import EntitySort
from services.features.view_state import ViewLogic
from tests.unit.features.fakes import BY_ID, BY_SHOP, SOURCE, order

DECODER = SourceDecoder(SOURCE, 1000)
LOGICS = [ViewLogic("p", BY_ID), ViewLogic("p", BY_SHOP)]


def events_of(records: list[Any]) -> list[Any]:
    return [(record, DECODER.decode_record(record, 0, record.offset)) for record in records]


def test_events_of_each_view_come_by_entity_then_time_then_offset(tmp_path: Path) -> None:
    rng = random.Random(1)
    records = [
        order(n, rng.randrange(5), shop=rng.choice(["mill", "dock"]), id_=rng.choice("ab")) for n in range(40)
    ]
    with EntitySort(tmp_path, DECODER, LOGICS) as sort:
        sort.add(events_of(records[:25]))
        sort.add([])
        sort.add(events_of(records[25:]))
        sort.close()
        for logic in LOGICS:
            found = list(sort.of_view(logic.view.name))
            keys = [
                (logic.key_of(logic.entity(event.value) or ()), event.time_ms, event.source_offset)
                for event in found
            ]
            assert keys == sorted(keys)
            assert sorted(event.source_offset for event in found) == list(range(40))
    assert list(tmp_path.iterdir()) == []


def test_events_without_entity_are_left_out_and_others_counted(tmp_path: Path) -> None:
    with EntitySort(tmp_path, DECODER, LOGICS) as sort:
        sort.add(events_of([order(0, 1), order(1, 2, shop=None), order(2, 3, shop=None, id_=None)]))
        sort.close()
        assert sort.counts == {"by_id": 2, "by_shop": 1}
        assert [event.source_offset for event in sort.of_view("by_shop")] == [0]


def test_only_wanted_entities_are_kept(tmp_path: Path) -> None:
    by_id, by_shop = LOGICS
    wanted = {"by_id": {by_id.key_of(("b",))}, "by_shop": {by_shop.key_of(("dock",))}}
    with EntitySort(tmp_path, DECODER, LOGICS, wanted) as sort:
        sort.add(events_of([order(0, 1), order(1, 2, id_="b"), order(2, 3, shop="dock")]))
        sort.close()
        assert [event.source_offset for event in sort.of_view("by_id")] == [1]
        assert [event.source_offset for event in sort.of_view("by_shop")] == [2]
