"""The year's events by topic and partition, divided into ticks of event time.

Pure: the producer sends the events; nothing here sends, waits or reads a clock.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from services.runtime.declaration import LabelTopic
from streams.producer import Record, partition_of

Integers = npt.NDArray[np.int64]
_NO_HEADERS: list[tuple[str, bytes]] = []


class UnknownYetError(AssertionError):
    """An event was due before it was known; sending it would let the replay see the future."""


class EventTable(Protocol):
    """All events of one topic, sorted by event time."""

    @property
    def event_time_ms(self) -> Integers: ...
    @property
    def known_time_ms(self) -> Integers: ...
    @property
    def keys(self) -> Sequence[bytes]: ...
    @property
    def values(self) -> Sequence[bytes]: ...


@dataclasses.dataclass(frozen=True)
class Lane:
    """The events of one partition, in event-time order."""

    topic: str
    partition: int
    event_times_ms: Integers
    known_times_ms: Integers
    records: list[Record]

    def between(self, start_ms: int, end_ms: int) -> list[Record]:
        """Return the events after the start, up to the end; `UnknownYetError` if one was not known then."""
        first, last = np.searchsorted(self.event_times_ms, (start_ms, end_ms), side="right")
        if first == last:
            return []
        latest = int(self.known_times_ms[first:last].max())
        if latest > end_ms:
            raise UnknownYetError(
                f"{self.topic}: an event known at {latest} was due at {end_ms}, {latest - end_ms} ms before"
            )
        return self.records[first:last]

    def keep(self, kept: npt.NDArray[np.bool_]) -> "Lane":
        """Return the lane with only those events; ``kept`` is (n_events,)."""
        records = [record for record, keep in zip(self.records, kept, strict=True) if keep]
        return dataclasses.replace(
            self,
            event_times_ms=self.event_times_ms[kept],
            known_times_ms=self.known_times_ms[kept],
            records=records,
        )


@dataclasses.dataclass(frozen=True)
class Playlist:
    """Every partition of every source topic."""

    lanes: tuple[Lane, ...]
    request_topic: str

    @property
    def start_ms(self) -> int:
        """The first event's time."""
        return int(min(lane.event_times_ms[0] for lane in self.lanes if len(lane.records)))

    def sources(self) -> Iterator[Lane]:
        """Iterate over the lanes that are sent first: events and labels."""
        return (lane for lane in self.lanes if lane.topic != self.request_topic)

    def requests(self) -> Iterator[Lane]:
        """Iterate over the lanes of requests."""
        return (lane for lane in self.lanes if lane.topic == self.request_topic)


def lay_out(topics: Mapping[str, EventTable], request_topic: str, partitions: int) -> Playlist:
    """Divide each topic's events by the partition of their keys; a topic keeps its order within each."""
    if request_topic not in topics:
        raise ValueError(f"the timeline has no topic {request_topic!r}, only {', '.join(sorted(topics))}")
    known: dict[bytes, int] = {}
    lanes = []
    for topic, events in topics.items():
        for key in set(events.keys) - known.keys():
            known[key] = partition_of(key, partitions)
        assigned = np.fromiter((known[key] for key in events.keys), dtype=np.int64, count=len(events.keys))
        lanes += [
            _lane(topic, partition, events, np.flatnonzero(assigned == partition))
            for partition in range(partitions)
        ]
    return Playlist(tuple(lanes), request_topic)


def _lane(topic: str, partition: int, events: EventTable, chosen: Integers) -> Lane:
    keys, values = events.keys, events.values
    return Lane(
        topic=topic,
        partition=partition,
        event_times_ms=np.asarray(events.event_time_ms, dtype=np.int64)[chosen],
        known_times_ms=np.asarray(events.known_time_ms, dtype=np.int64)[chosen],
        records=[(keys[index], values[index], _NO_HEADERS) for index in chosen.tolist()],
    )


def begin_at(playlist: Playlist, from_ms: int) -> Playlist:
    """Begin the year late: remove all events before a time."""
    lanes = (lane.keep(lane.event_times_ms >= from_ms) for lane in playlist.lanes)
    return dataclasses.replace(playlist, lanes=tuple(lanes))


def end_requests(playlist: Playlist, until_ms: int, label_topic: str, id_field: str) -> Playlist:
    """End the year early: remove the requests from a time on, and their labels.

    All other events remain. Without this, a shortened demo would count the labels of requests that it never
    sent as orphans.
    """
    identified: Any = msgspec.defstruct("Identified", [("id", str, msgspec.field(name=id_field))])
    identify = msgspec.json.Decoder(identified).decode
    unsent: set[str] = set()
    lanes = []
    for lane in playlist.requests():
        kept = lane.event_times_ms < until_ms
        unsent.update(identify(value).id for _, value, _ in lane.records[int(kept.sum()) :] if value)
        lanes.append(lane.keep(kept))
    for lane in playlist.sources():
        if lane.topic == label_topic and unsent:
            ids = (identify(value).id for _, value, _ in lane.records if value)
            kept = np.fromiter((name not in unsent for name in ids), dtype=np.bool_, count=len(lane.records))
            lanes.append(lane.keep(kept))
        else:
            lanes.append(lane)
    return dataclasses.replace(playlist, lanes=tuple(lanes))


def known_labels(playlist: Playlist, label: LabelTopic) -> dict[str, tuple[int, float]]:
    """Return every label of the playlist by request id: when it becomes known, and its value."""
    fields = [
        ("id", str, msgspec.field(name=label.id)),
        ("value", float | bool, msgspec.field(name=label.value)),
    ]
    decode: Any = msgspec.json.Decoder(msgspec.defstruct("Truth", fields)).decode
    found: dict[str, tuple[int, float]] = {}
    for lane in playlist.sources():
        if lane.topic == label.topic:
            for time_ms, (_, value, _) in zip(lane.event_times_ms.tolist(), lane.records, strict=True):
                truth = decode(value)
                found[truth.id] = time_ms, float(truth.value)
    return found
