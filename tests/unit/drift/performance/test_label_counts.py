"""The labels of a champion, by the window in which they became known."""

from services.drift.performance.label_counts import LabelCounts


def counts() -> LabelCounts:
    found = LabelCounts(0)
    for end_ms, labels in ((10, 1), (20, 2), (30, 0), (40, 3)):
        for _ in range(labels):
            found.add()
        found.close_window(end_ms)
    found.add()
    return found


def test_labels_are_counted_from_the_window_of_a_time_on():
    assert counts().labels == 7
    assert [counts().labels_since(start_ms) for start_ms in (0, 10, 20, 30, 40, 50)] == [7, 6, 4, 4, 1, 0]


def test_a_state_goes_on_where_it_was():
    found = counts()
    restored = LabelCounts(0, found.state())
    restored.add()
    assert (restored.labels, restored.labels_since(40)) == (8, 2)
