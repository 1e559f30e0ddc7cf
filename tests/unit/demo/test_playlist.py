import dataclasses
from collections.abc import Iterable

import numpy as np
import pytest
from aiokafka.partitioner import DefaultPartitioner

from services.demo import playlist
from services.demo.playlist import Integers, Lane, UnknownYetError
from streams.producer import partition_of


@dataclasses.dataclass
class EventTable:
    event_time_ms: Integers
    known_time_ms: Integers
    keys: list[bytes]
    values: list[bytes]


def events(times: list[int], names: list[int], known: list[int] | None = None) -> EventTable:
    return EventTable(
        event_time_ms=np.array(times),
        known_time_ms=np.array(times if known is None else known),
        keys=[f"UA{name}".encode() for name in names],
        values=[b'{"flight_id":"%d"}' % name for name in names],
    )


def values_between(lanes: Iterable[Lane], start_ms: int, end_ms: int) -> set[bytes | None]:
    return {value for lane in lanes for _, value, _ in lane.between(start_ms, end_ms)}


def test_partition_of_a_key_is_that_of_other_kafka_clients() -> None:
    for key in (b"UA1545", b"JFK", b""):
        assert partition_of(key, 4) == DefaultPartitioner()(key, [0, 1, 2, 3], [0, 1, 2, 3])


def test_each_event_is_in_one_tick_and_a_tick_includes_its_end() -> None:
    laid_out = playlist.lay_out({"asked": events([0, 10, 20], [1, 2, 3])}, "asked", 4)
    assert len(laid_out.lanes) == 4
    assert values_between(laid_out.requests(), -1, 10) == {b'{"flight_id":"1"}', b'{"flight_id":"2"}'}
    assert values_between(laid_out.requests(), 10, 40) == {b'{"flight_id":"3"}'}


def test_lane_keeps_the_order_of_event_times() -> None:
    times = list(range(50))
    laid_out = playlist.lay_out({"asked": events(times, times)}, "asked", 4)
    for lane in laid_out.lanes:
        assert (np.diff(lane.event_times_ms) > 0).all()
    assert sum(len(lane.records) for lane in laid_out.lanes) == 50
    assert laid_out.start_ms == 0


def test_event_that_was_not_yet_known_is_refused() -> None:
    laid_out = playlist.lay_out({"asked": events([5], [1], known=[31])}, "asked", 1)
    with pytest.raises(UnknownYetError, match="asked: an event known at 31 was due at 30"):
        laid_out.lanes[0].between(0, 30)


def test_unknown_request_topic_is_refused() -> None:
    with pytest.raises(ValueError, match="no topic 'asked', only departed"):
        playlist.lay_out({"departed": events([0], [1])}, "asked", 1)


def test_early_end_drops_late_requests_and_only_their_labels() -> None:
    topics = {
        "asked": events([0, 10, 20], [1, 2, 3]),
        "left": events([5, 15, 25], [1, 2, 3]),
        "arrived": events([12, 30, 31], [1, 2, 3]),
    }
    ended = playlist.end_requests(playlist.lay_out(topics, "asked", 2), 20, "arrived", "flight_id")
    by_topic = {
        topic: values_between([lane for lane in ended.lanes if lane.topic == topic], -1, 100)
        for topic in topics
    }
    assert by_topic["asked"] == by_topic["arrived"] == {b'{"flight_id":"1"}', b'{"flight_id":"2"}'}
    assert len(by_topic["left"]) == 3


def test_year_that_begins_late_has_no_earlier_event() -> None:
    laid_out = playlist.lay_out({"asked": events([0, 10, 20], [1, 2, 3])}, "asked", 2)
    later = playlist.begin_at(laid_out, 10)
    assert later.start_ms == 10
    assert values_between(later.requests(), -1, 40) == {b'{"flight_id":"2"}', b'{"flight_id":"3"}'}
