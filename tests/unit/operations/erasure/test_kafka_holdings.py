"""The time by which a topic holds nothing more of now, from its retention."""

import pytest

from services.operations.erasure.kafka_holdings import CHECK_MS, Retention, latest_end

DAY_MS = 86_400_000


@pytest.mark.parametrize(
    ("retention", "until_ms", "text"),
    [
        (Retention("t", "delete", DAY_MS, 1000, 5), 5 + 1000 + DAY_MS + CHECK_MS, "gone by 1970-01-02"),
        (Retention("t", "delete", -1, 1000, 5), None, "without a limit"),
        (Retention("t", "compact", DAY_MS, 1000, 5), None, "compacted"),
        (Retention("t", "compact,delete", DAY_MS, 0, 0), DAY_MS + CHECK_MS, "retention.ms=86400000"),
        (Retention("t", "delete", -1, 1000, None), 0, "empty"),
    ],
)
def test_retention(retention: Retention, until_ms: int | None, text: str) -> None:
    assert retention.until_ms == until_ms
    assert text in retention.text


def test_the_last_of_some_topics_decides() -> None:
    short, long = Retention("a", "delete", 10, 0, 0), Retention("b", "delete", 30, 0, 0)
    assert latest_end([short, long]) == 30 + CHECK_MS
    assert latest_end([short, Retention("c", "delete", -1, 0, 0)]) is None
    assert latest_end([]) == 0
