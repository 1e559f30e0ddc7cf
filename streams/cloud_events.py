"""CloudEvents 1.0 in Kafka's binary mode: type, source and time of a record are in its headers.

The value is unchanged, so readers without CloudEvents are not affected. Source and id together identify an
event: a record that is written again after a crash has the same ones. See
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md.
"""

import itertools
import re
from collections.abc import Iterable, Iterator

import msgspec

from streams import codec, records

Header = tuple[str, bytes]
Control = records.DriftRecord | records.RetrainingRecord | records.RolloutRecord | records.ModelChanged

_FIXED: tuple[Header, ...] = (("ce_specversion", b"1.0"), ("content-type", b"application/json"))
_TYPE_PREFIX = "driftline."


def type_of(kind: type[msgspec.Struct]) -> str:
    """Return the event type of a kind of record.

    >>> type_of(records.DriftReport)
    'driftline.drift_report'
    """
    return _TYPE_PREFIX + re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()


class Envelope:
    """Makes the headers of the records that a service writes about a model; none if CloudEvents are off."""

    def __init__(self, service: str, model: str, *, enabled: bool) -> None:
        """Take the source of the events."""
        self._source = (("ce_source", f"/driftline/{service}/{model}".encode()),)
        self._subject = (("ce_subject", model.encode()),)
        self._enabled = enabled

    def headers(self, record: Control) -> list[Header]:
        """Return the headers of a record about a model."""
        if not self._enabled:
            return []
        identity, time_ms = _identity_of(record)
        return [*self._shared(type(record), time_ms), *self._subject, ("ce_id", identity.encode())]

    def bulk(
        self, kind: type[msgspec.Struct], places: Iterable[tuple[int, int]], time_ms: int | None = None
    ) -> Iterator[list[Header]]:
        """Yield the headers of many records, each with the partition and offset of its source record."""
        if not self._enabled:
            return itertools.repeat([])
        shared = self._shared(kind, time_ms)
        return ([*shared, ("ce_id", b"%d-%d" % place)] for place in places)

    def _shared(self, kind: type[msgspec.Struct], time_ms: int | None) -> tuple[Header, ...]:
        time = () if time_ms is None else (("ce_time", _rfc3339(time_ms)),)
        return (*_FIXED, ("ce_type", type_of(kind).encode()), *self._source, *time)


def _identity_of(record: Control) -> tuple[str, int]:
    """Return the id of the event and its event time."""
    match record:
        case records.DriftReport() | records.PerformanceReport():
            revision = f"-{record.revision}" if record.revision else ""
            return record.report_id + revision, record.window_end_ms
        case records.DriftAlarm():
            return record.alarm_id, record.detected_at_ms
        case records.RetrainingRequested() | records.RetrainingFinished():
            return record.request_id, record.requested_at_ms
        case records.RolloutRequested():
            return record.request_id, record.requested_at_ms
        case records.RolloutStarted() | records.RolloutStepped() | records.RolloutEnded():
            part = record.step if isinstance(record, records.RolloutStepped) else type(record).__name__
            return f"{record.rollout_id}-{part}".lower(), record.at_ms
        case records.ModelChanged():
            return f"{record.model}-{record.changed_at_ms}-{record.request_id}", record.changed_at_ms


def _rfc3339(time_ms: int) -> bytes:
    moment = codec.EPOCH + time_ms * codec.MILLISECOND
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()
