"""Decodes the requests of a slice: all at once, and one by one only if one of them may not be sound."""

import dataclasses
import operator
from collections.abc import Sequence
from typing import Any

from aiokafka import ConsumerRecord

from services.runtime.declaration import RequestTopic
from services.runtime.event_clock import EventClock
from streams import codec, records, registered_codec

SERVICE = "scoring"


@dataclasses.dataclass(frozen=True, slots=True)
class DecodedRequests:
    """The requests of a slice, in order, and what else its records hold."""

    sources: Sequence[ConsumerRecord]
    """(n,): the record of each request."""
    events: Sequence[Any]
    """(n,): the decoded requests."""
    times_ms: Sequence[int]
    """(n,): their event times."""
    letters: list[records.DeadLetter] = dataclasses.field(default_factory=list)
    """The dead letters of the records that are no requests."""
    watermark_ms: int | None = None
    """The last one of the slice's heartbeats."""


class RequestDecoder:
    """Decodes the records of one model's request topic."""

    def __init__(
        self, topic: RequestTopic, decoder: codec.EventDecoder, clock: EventClock, record_bytes_max: int
    ) -> None:
        """Take the declared topic and the decoder of its values; larger records become dead letters."""
        self._decoder = decoder
        self._clock = clock
        self._record_bytes_max = record_bytes_max
        self._time_of = operator.attrgetter(topic.event_time)

    async def learn_schemas(self, found: Sequence[ConsumerRecord]) -> None:
        """Fetch the schemas that these records need; raise `SchemaRegistryUnavailableError`."""
        await registered_codec.learn(self._decoder, (record.value for record in found))

    def decode(self, found: Sequence[ConsumerRecord], now_ms: int) -> DecodedRequests:
        """Return the requests among these records at a wall time."""
        return self._decode_together(found, now_ms) or self._decode_one_by_one(found, now_ms)

    def _decode_together(self, found: Sequence[ConsumerRecord], now_ms: int) -> DecodedRequests | None:
        """Return the requests if every record is one, None if some record may not be."""
        values = [record.value for record in found]
        if not values or None in values or max(map(len, values)) > self._record_bytes_max:
            return None
        try:
            events = self._decoder.decode_all(values)
            times_ms = codec.all_epoch_ms(map(self._time_of, events))
        except codec.InvalidRecordError:
            return None
        written_ms = min([record.timestamp for record in found])
        if max(times_ms) > min(written_ms, now_ms) + self._clock.tolerance_ms:
            return None
        return DecodedRequests(found, events, times_ms)

    def _decode_one_by_one(self, found: Sequence[ConsumerRecord], now_ms: int) -> DecodedRequests:
        sound, letters = list[tuple[ConsumerRecord, Any, int]](), list[records.DeadLetter]()
        watermark_ms = None
        for record in found:
            try:
                if record.value is None:
                    heartbeat_ms = self._clock.watermark_of(record, now_ms)
                    watermark_ms = watermark_ms if heartbeat_ms is None else heartbeat_ms
                else:
                    sound.append((record, *self._decode_one(record, now_ms)))
            except codec.InvalidRecordError as error:
                letters.append(codec.dead_letter(SERVICE, record, str(error)))
        requests, events, times_ms = zip(*sound, strict=True) if sound else ((), (), ())
        return DecodedRequests(requests, events, times_ms, letters, watermark_ms)

    def _decode_one(self, record: ConsumerRecord, now_ms: int) -> tuple[Any, int]:
        if len(record.value) > self._record_bytes_max:
            raise codec.InvalidRecordError(
                f"the record has {len(record.value)} bytes, the limit is {self._record_bytes_max}"
            )
        event = self._decoder.decode(record.value)
        time_ms = codec.epoch_ms(self._time_of(event))
        self._clock.check(time_ms, record, now_ms)
        return event, time_ms
