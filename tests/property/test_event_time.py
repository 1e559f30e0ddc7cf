"""Laws of event time: order within the lateness changes nothing; older events are late, never lost."""

import dataclasses
import datetime as dt
import itertools
import json
import random
from collections.abc import Iterable, Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from services.feature_store import feast_layout
from services.feature_store.plan import Column, FeatureAggregation, StreamSource, ValueType, View, ViewKind
from services.features.decoder import SourceDecoder
from services.features.view_state import EntityState, Event, ViewLogic
from services.runtime.watermarks import NEVER
from streams import codec
from streams.spans import WindowChange

NOON_MS = 1_372_680_000_000
LATENESS_MS = 30_000
PARTITIONS = 3
DDL = "event_time timestamp not null, shop string not null, amount double, customer string"
SOURCE = StreamSource("orders", "event_time", codec.parse_ddl(DDL), ("shop",), LATENESS_MS)
AGGREGATIONS = (
    FeatureAggregation("total", "amount", "sum", 60_000),
    FeatureAggregation("spread", "amount", "std", 60_000),
    FeatureAggregation("newest", "amount", "last", 60_000),
    FeatureAggregation("oldest", "amount", "first", 60_000),
    FeatureAggregation("customers", "customer", "count_distinct", 60_000),
    FeatureAggregation("median", "amount", "approx_percentile", 60_000, percentile=0.5),
    FeatureAggregation("minute", "amount", "mean", 60_000, slide_ms=60_000),
    FeatureAggregation("basket", "amount", "sum", 60_000, gap_ms=10_000),
    FeatureAggregation("faster", "amount", "count", 20_000, change=WindowChange.RATIO),
)
VIEW = View(
    "by_shop",
    ViewKind.WINDOWED,
    (Column("shop", ValueType.STRING),),
    tuple(Column(item.feature, ValueType.DOUBLE) for item in AGGREGATIONS),
    0,
    SOURCE,
    AGGREGATIONS,
    10_000,
)
LOGIC = ViewLogic("laws", VIEW)


@dataclasses.dataclass(frozen=True)
class Order:
    """An event as the application creates it."""

    time_ms: int
    shop: str
    amount: float | None
    customer: str | None


@dataclasses.dataclass
class Record:
    """The attributes of a consumer record that the decoder reads."""

    partition: int
    offset: int
    value: bytes
    topic: str = "orders"
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp: int = 0


times_ms = st.integers(NOON_MS, NOON_MS + 200_000) | st.builds(
    lambda tile, before: NOON_MS + 10_000 * tile - before, st.integers(0, 20), st.integers(0, 1)
)
orders = st.builds(
    Order,
    times_ms,
    st.sampled_from(["mill", "dock"]),
    st.none() | st.floats(-1e6, 1e6) | st.integers(-5, 5).map(float),
    st.none() | st.sampled_from("abcdef"),
)
order_lists = st.lists(st.tuples(orders, st.integers(0, PARTITIONS - 1)), max_size=40)


def logs_of(arrivals: Iterable[tuple[Order, int]]) -> list[list[Record]]:
    """Append to partitions in the order of arrival, as a broker does."""
    logs: list[list[Record]] = [[] for _ in range(PARTITIONS)]
    for order, partition in arrivals:
        at = dt.datetime.fromtimestamp(0, dt.UTC) + order.time_ms * codec.MILLISECOND
        event = {"event_time": at.isoformat(), "shop": order.shop, "amount": order.amount}
        raw = json.dumps(event | {"customer": order.customer}).encode()
        logs[partition].append(Record(partition, len(logs[partition]), raw))
    return logs


def decoded_slices(logs: list[list[Record]], slice_records: int) -> tuple[list[Event], list[Any]]:
    """Decode every partition in slices; return the events and the late records."""
    decoder = SourceDecoder(SOURCE, 10_000)
    events, late = [], []
    for log in logs:
        watermark_ms = NEVER
        for start in range(0, len(log), slice_records):
            part: Any = log[start : start + slice_records]
            decoded = decoder.decode(part, watermark_ms)
            watermark_ms = decoded.watermark_ms
            events += [event for _, event in decoded.events]
            late += decoded.late
            assert not decoded.dead_letters
    return events, late


def states_of(events: Iterable[Event]) -> dict[str, EntityState]:
    states: dict[str, EntityState] = {}
    for event in events:
        state = states.setdefault(event.value.shop, LOGIC.load(None))
        assert LOGIC.apply(state, event)
    return states


def comparable(states: dict[str, EntityState]) -> dict[str, tuple[bytes, Any]]:
    """Return what must not depend on the order of arrival: the bytes of the tiles, and the row."""
    return {shop: (state.history.to_bytes(), LOGIC.row(state)) for shop, state in states.items()}


def interleaved(events: Sequence[Event], rng: random.Random) -> list[Event]:
    """Interleave the partitions; keep the order within each."""
    queues = [[event for event in events if event.source_partition == p] for p in range(PARTITIONS)]
    mixed = []
    while any(queues):
        mixed.append(rng.choice([queue for queue in queues if queue]).pop(0))
    return mixed


@given(order_lists, st.randoms(use_true_random=False), st.integers(1, 7))
@settings(max_examples=150)
def test_any_order_within_the_lateness_equals_the_ordered_run(
    sent: list[tuple[Order, int]], rng: random.Random, slice_records: int
) -> None:
    ordered = sorted(sent, key=lambda pair: pair[0].time_ms)
    delayed = sorted(sent, key=lambda pair: pair[0].time_ms + rng.randint(0, LATENESS_MS))
    events, late = decoded_slices(logs_of(ordered), 7)
    shuffled, shuffled_late = decoded_slices(logs_of(delayed), slice_records)
    assert (late, shuffled_late) == ([], [])
    assert comparable(states_of(interleaved(shuffled, rng))) == comparable(states_of(events))


@given(order_lists, st.integers(1, 7))
@settings(max_examples=150)
def test_in_any_order_each_event_is_applied_once_or_late(
    sent: list[tuple[Order, int]], slice_records: int
) -> None:
    logs = logs_of(sent)
    expected = []
    for log in logs:
        times = [json.loads(record.value)["event_time"] for record in log]
        milliseconds = [codec.epoch_ms(dt.datetime.fromisoformat(at)) for at in times]
        newest = itertools.accumulate(milliseconds, max)
        is_late_at = [top - at > LATENESS_MS for top, at in zip(newest, milliseconds, strict=True)]
        expected += [record for record, is_late in zip(log, is_late_at, strict=True) if is_late]
    events, late = decoded_slices(logs, slice_records)
    assert late == expected
    assert len(events) + len(late) == len(sent)
    # The states are the same as if the late events had never been sent.
    others = [[record for record in log if record not in expected] for log in logs]
    assert comparable(states_of(events)) == comparable(states_of(decoded_slices(others, 3)[0]))


@given(order_lists, st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_repeats_after_a_crash_are_dropped_by_their_source_offset(
    sent: list[tuple[Order, int]], rng: random.Random
) -> None:
    events, _ = decoded_slices(logs_of(sorted(sent, key=lambda pair: pair[0].time_ms)), 5)
    once = interleaved(events, rng)
    states = states_of(once)
    for _ in range(3):  # a partition returns to an earlier offset, and the states are encoded and decoded
        partition, offset = rng.randrange(PARTITIONS), rng.randrange(6)
        states = {
            shop: LOGIC.load(feast_layout.encode_sidecar(state.offsets, state.history.to_bytes()))
            for shop, state in states.items()
        }
        for event in events:
            if event.source_partition == partition and event.source_offset >= offset:
                assert not LOGIC.apply(states[event.value.shop], event)
    assert comparable(states) == comparable(states_of(once))
