from services.dashboard.item_series import Series


def test_the_oldest_item_is_dropped_and_does_not_come_back() -> None:
    series: Series[str] = Series(2)
    for revision, (key, at_ms) in enumerate([("b", 2), ("a", 1), ("c", 3)], 1):
        series = series.put(key, at_ms, key.upper(), revision)
    assert series.since(0) == ["B", "C"]
    assert series.put("a", 1, "A", 4) is series


def test_an_item_that_did_not_change_keeps_its_revision() -> None:
    series: Series[str] = Series(2)
    series = series.put("a", 1, "A", 1)
    assert series.put("a", 1, "A", 2) is series
    assert (series.since(1), series.put("a", 1, "B", 2).since(1)) == ([], ["B"])


def test_items_are_returned_in_the_order_of_event_time() -> None:
    series: Series[str] = Series(3)
    series = series.put("late", 9, "late", 1).put("early", 1, "early", 2)
    assert (series.since(0), series.get("late"), series.get("none")) == (["early", "late"], "late", None)
