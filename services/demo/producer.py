"""Plays the events of a world into Kafka, tick by tick of event time.

A tick (t0, t1] includes its end: a heartbeat of t1 promises that no event up to and including t1 will
follow. Every event of the tick was known at t1. Events and labels are sent first, then the requests. Each
batch ends with a heartbeat of t1 in every partition, and the requests are sent after the events are
acknowledged. No request is therefore written before the events that its features may contain, and a
partition without events delays no watermark.
"""

import asyncio
import dataclasses
from collections.abc import Iterable

from services.demo.playlist import Lane, Playlist
from streams import codec
from streams.producer import BatchProducer, Record


@dataclasses.dataclass
class Sent:
    """Counts of acknowledged records."""

    events: int = 0
    """Events of all topics."""
    requests: int = 0
    position_ms: int = 0
    """Everything up to and including this event time was sent."""


class WorldProducer:
    """Sends ticks in order."""

    def __init__(self, producer: BatchProducer, playlist: Playlist) -> None:
        """Take a started producer and the playlist."""
        self._producer = producer
        self._sources = list(playlist.sources())
        self._requests = list(playlist.requests())
        self.sent = Sent(position_ms=playlist.start_ms - 1)

    async def play(self, end_ms: int) -> None:
        """Send everything after the position up to the end, with heartbeats, and wait for acknowledgement."""
        start_ms = self.sent.position_ms
        events = await self._send(self._sources, start_ms, end_ms)
        requests = await self._send(self._requests, start_ms, end_ms)
        self.sent.events += events + requests
        self.sent.requests += requests
        self.sent.position_ms = end_ms

    async def _send(self, lanes: Iterable[Lane], start_ms: int, end_ms: int) -> int:
        beat: Record = (None, None, codec.heartbeat(end_ms))
        batches = [(lane, lane.between(start_ms, end_ms)) for lane in lanes]
        await asyncio.gather(
            *(self._producer.send(lane.topic, lane.partition, [*batch, beat]) for lane, batch in batches)
        )
        return sum(len(batch) for _, batch in batches)
