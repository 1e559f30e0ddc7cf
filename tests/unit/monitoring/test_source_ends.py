"""No prediction has an offset at or after the end of its request partition."""

from typing import Any

import msgspec
import pytest
from kafka.errors import KafkaTimeoutError

from services.monitoring import source_ends
from services.monitoring.source_ends import LEAD_MAX, UNLIMITED, SourceEnds
from services.runtime import topic_identity
from streams.json_decoder import InvalidRecordError
from streams.records import Prediction
from tests.unit.drift import scenario


def at(offset: int, source: str = "s") -> Prediction:
    return msgspec.structs.replace(scenario.prediction(offset, scenario.START_MS), source=source)


def test_an_offset_at_or_after_the_end_is_refused() -> None:
    ends = SourceEnds("s", lambda _: 10)
    assert ends.begin_slice(0) == 0
    assert ends.check(at(9)) == 10 + LEAD_MAX
    with pytest.raises(InvalidRecordError, match=r"offset 10 .* ends at 10: find its writer"):
        ends.check(at(10))
    assert ends.begin_slice(0) == 10 + LEAD_MAX


def test_the_broker_is_asked_once_for_the_predictions_that_were_read_together() -> None:
    found = iter([10, 20])
    ends = SourceEnds("s", lambda _: next(found))
    ends.begin_slice(0)
    for offset in range(15, 18):
        with pytest.raises(InvalidRecordError):
            ends.check(at(offset))
    ends.begin_slice(0)
    assert ends.check(at(15)) == 20 + LEAD_MAX


def test_predictions_of_another_request_topic_are_not_checked() -> None:
    ends = SourceEnds("s", lambda _: 10)
    for source in ("before", ""):
        assert ends.check(at(1000, source)) == 0


class Consumer:
    """What a consumer says of the request topic."""

    def __init__(self, partitions: set[int] | None, end: int | Exception) -> None:
        self._partitions, self._end = partitions, end

    def partitions_for_topic(self, _topic: str) -> set[int] | None:
        return self._partitions

    def end_offsets(self, partitions: list[Any]) -> dict[Any, int]:
        if isinstance(self._end, Exception):
            raise self._end
        return dict.fromkeys(partitions, self._end)


@pytest.mark.parametrize(
    ("partitions", "end", "limit"),
    [
        ({0}, 10, 10 + LEAD_MAX),
        (None, 10, UNLIMITED),
        ({1}, 10, UNLIMITED),
        ({0}, KafkaTimeoutError(), UNLIMITED),
    ],
)
def test_without_the_request_topic_nothing_is_refused(
    partitions: set[int] | None, end: int | Exception, limit: int
) -> None:
    consumer: Any = Consumer(partitions, end)
    ends = source_ends.of_topic(consumer, "m.requests")
    source = topic_identity.source_of(topic_identity.identity("m.requests", ""))
    assert ends.check(at(9, source)) == limit
    assert ends.begin_slice(0) == limit
