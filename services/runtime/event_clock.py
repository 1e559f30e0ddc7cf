"""How far an event time may be ahead: of the time at which Kafka got the record, and of this worker's clock.

An event moves the watermark of its partition. So one producer whose clock is fast would make the honest
events of its partition late, and their labels orphans. A record that is too far ahead is a dead letter
instead: it moves nothing, and can be replayed once its time has come (`docs/decisions/0023-clocks.md`).
"""

import time

import structlog

from services.runtime import metrics
from streams import codec

AHEAD_SECONDS_MAX = 60.0
"""Default tolerance: more than clocks differ that are set by NTP, less than windows are wide."""
LOG_SECONDS = 60.0
"""Minimum time between two log lines about one partition."""
PARTITIONS_KEPT_MAX = 10_000
LOG_APPEND_TIME = 1
"""Timestamp type of a record whose timestamp is the broker's; that of others is the producer's."""
_KEY_BYTES_SHOWN = 40

_log = structlog.get_logger()


class AheadError(codec.InvalidRecordError):
    """An event time or a heartbeat is too far ahead. The message says of what, and by how much."""


class EventClock:
    """Tells which event times are too far ahead; counts these records, and logs who sends them."""

    def __init__(self, service: str, ahead_seconds_max: float = AHEAD_SECONDS_MAX) -> None:
        """Take the service, for the metric, and the tolerance."""
        self._service = service
        self.tolerance_ms = round(ahead_seconds_max * 1000)
        """A time that is ahead of neither clock by more has no `fault`; loops may test that themselves."""
        self._logged: dict[tuple[str, int], float] = {}

    def check(self, time_ms: int, record: codec.KafkaRecord, now_ms: int) -> None:
        """Raise the error of `fault`, if there is one."""
        if fault := self.fault(time_ms, record, now_ms):
            raise fault

    def fault(self, time_ms: int, record: codec.KafkaRecord, now_ms: int) -> AheadError | None:
        """Return an error if a time is too far ahead of its record.

        The bound is the broker's timestamp if the topic has ``LogAppendTime``. Otherwise the timestamp is of
        the producer's clock as well: then this worker's clock is a bound, too.
        """
        written_ms, tolerance_ms = record.timestamp, self.tolerance_ms
        if time_ms <= written_ms + tolerance_ms and time_ms <= now_ms + tolerance_ms:
            return None
        return self._fault(time_ms, record, now_ms)

    def _fault(self, time_ms: int, record: codec.KafkaRecord, now_ms: int) -> AheadError | None:
        written_ms = record.timestamp
        if getattr(record, "timestamp_type", None) == LOG_APPEND_TIME:
            bound_ms, whose = written_ms, "Kafka's timestamp of the record"
        elif 0 < written_ms <= now_ms:
            bound_ms, whose = written_ms, "the timestamp of the record"
        else:
            bound_ms, whose = now_ms, "the clock of this worker"
        ahead_ms = time_ms - bound_ms
        if ahead_ms <= self.tolerance_ms:
            return None
        self._report(record, ahead_ms)
        return AheadError(self._message(time_ms, ahead_ms, whose))

    def watermark_of(self, record: codec.KafkaRecord, now_ms: int) -> int | None:
        """Return the watermark of a heartbeat, None for another record without a value.

        Raises `InvalidRecordError` if it is no time, `AheadError` if it is too far ahead.
        """
        watermark_ms = codec.watermark_of(record.headers)
        if watermark_ms is not None:
            self.check(watermark_ms, record, now_ms)
        return watermark_ms

    def check_arrival(self, time_ms: int, now_ms: int) -> None:
        """Raise `AheadError` if a time in a request over HTTP is too far ahead of this worker's clock."""
        if time_ms > now_ms + self.tolerance_ms:
            raise AheadError(self._message(time_ms, time_ms - now_ms, "the clock of this worker"))

    def _message(self, time_ms: int, ahead_ms: int, whose: str) -> str:
        return (
            f"the event time {time_ms} ms is {ahead_ms / 1000:.3f} s ahead of {whose}; the maximum is "
            f"{self.tolerance_ms / 1000:g} s (DRIFTLINE_EVENT_AHEAD_SECONDS_MAX): check the producer's clock"
        )

    def _report(self, record: codec.KafkaRecord, ahead_ms: int) -> None:
        metrics.RECORDS_AHEAD.labels(self._service, record.topic).inc()
        place, now_seconds = (record.topic, record.partition), time.monotonic()
        if now_seconds < self._logged.get(place, 0.0) or len(self._logged) >= PARTITIONS_KEPT_MAX:
            return
        self._logged[place] = now_seconds + LOG_SECONDS
        _log.warning(
            f"{self._service}.record_ahead",
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            key=repr(record.key[:_KEY_BYTES_SHOWN]) if record.key else None,
            ahead_seconds=round(ahead_ms / 1000, 3),
            hint="the clock of its producer is fast, or that of this worker is slow; see the dead letters",
        )
