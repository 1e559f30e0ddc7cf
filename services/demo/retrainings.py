"""Requests and results of retrainings, read from the retraining topic."""

from streams import records, topics
from streams.cloud_events import Envelope
from streams.producer import BatchProducer


class RetrainingFailedError(RuntimeError):
    """The first model could not be trained."""


class RetrainingLog:
    """All requests and results of one model; repeats are dropped by request id."""

    def __init__(self, model: str) -> None:
        """Start empty."""
        self.model = model
        self.requested: dict[str, records.RetrainingRequested] = {}
        self.finished: dict[str, records.RetrainingFinished] = {}

    def add(self, record: records.RetrainingRecord) -> bool:
        """Add one record; return whether it is new and about this model."""
        if record.model != self.model:
            return False
        if isinstance(record, records.RetrainingRequested):
            new = record.request_id not in self.requested
            self.requested.setdefault(record.request_id, record)
            return new
        new = record.request_id not in self.finished
        self.finished.setdefault(record.request_id, record)
        return new

    @property
    def open(self) -> list[records.RetrainingRequested]:
        """Requests without a result, oldest first."""
        return [request for key, request in self.requested.items() if key not in self.finished]

    @property
    def last_requested_ms(self) -> int:
        """The event time of the latest request; 0 without any."""
        return max((request.requested_at_ms for request in self.requested.values()), default=0)

    def results(self) -> list[records.RetrainingFinished]:
        """Results by the event time of their request."""
        return sorted(self.finished.values(), key=lambda result: (result.requested_at_ms, result.request_id))

    def drift_results(self) -> int:
        """Return the number of finished retrainings that drift requested."""
        return sum(1 for result in self.finished.values() if result.trigger == "drift")


class RetrainingRequests:
    """Writes requests to the retraining topic."""

    def __init__(self, log: RetrainingLog, kafka: BatchProducer, *, cloud_events: bool) -> None:
        """Take the log, which knows a request before its topic does, and a producer."""
        self._log = log
        self._kafka = kafka
        self._cloud_events = cloud_events

    async def write(self, request: records.RetrainingRequested) -> None:
        """Write a request; event time stops until it has its result, if it is of the model of the log."""
        self._log.add(request)
        envelope = Envelope("demo", request.model, enabled=self._cloud_events)
        record = (request.model.encode(), records.encode(request), envelope.headers(request))
        await self._kafka.send(topics.RETRAINING.name, 0, [record])


def bootstrap_request(model: str, at_ms: int, offsets: dict[str, list[int]]) -> records.RetrainingRequested:
    """Return the request for the first model, from everything known at an event time."""
    return records.RetrainingRequested(
        request_id=f"{model}-bootstrap-{at_ms}",
        model=model,
        trigger="bootstrap",
        requested_at_ms=at_ms,
        reason="the first model, from the data collected before it",
        offsets=offsets,
    )


def scheduled_request(
    model: str, at_ms: int, days: int, offsets: dict[str, list[int]]
) -> records.RetrainingRequested:
    """Return the request for a model whose last training is some days old."""
    return records.RetrainingRequested(
        request_id=f"{model}-schedule-{at_ms}",
        model=model,
        trigger="schedule",
        requested_at_ms=at_ms,
        reason=f"{days} days have passed since the last training",
        offsets=offsets,
    )


def check_first_model(result: records.RetrainingFinished) -> None:
    """Raise `RetrainingFailedError` if the first model was not promoted, and no rollout promotes it."""
    if result.result not in ("promoted", "passed"):
        reasons = "; ".join(result.reasons) or "no reason was given"
        raise RetrainingFailedError(
            f"the first model was {result.result}: {reasons} (see logs/retraining.log)"
        )
