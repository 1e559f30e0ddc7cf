"""``driftline retrain`` asks for a new version of a model, also for its first one."""

import time
import uuid
from typing import Annotated

from cyclopts import Parameter

from services.retraining.errors import without_gates
from services.runtime import kafka_consumers, kafka_producers, times
from services.runtime.command_output import fail, ok, say
from services.runtime.declaration import DeclarationError
from services.runtime.declaration_file import load_all
from services.runtime.settings import Settings
from streams import records, topics
from streams.cloud_events import Envelope
from streams.records import RetrainingFinished, RetrainingRequested

POLL_SECONDS = 1.0
_decode = records.decoder_of(records.RetrainingRecord).decode


def retrain(
    model: str,
    *,
    reason: str = "by hand",
    wait: Annotated[bool, Parameter(negative="")] = False,
    minutes_max: float = 60,
) -> None:
    """Ask for a new version of a model, trained on all labels that are mature now.

    The cooldown does not hold it up. Without a version that serves, the gates' floors alone decide.

    Args:
        model: Declared model with a section gates.
        reason: Why, for the run and the people who read of it.
        wait: Wait for the result; the exit code is 1 unless the version was promoted.
        minutes_max: Maximum wait.
    """
    settings = Settings()
    try:
        declarations = load_all(settings.models)
    except DeclarationError as error:
        fail(str(error))
    if model not in declarations:
        fail(f"there is no model {model!r}; declared models: {', '.join(declarations)}")
    if declarations[model].gates is None:
        fail(without_gates(model))
    request = request_of(model, reason, times.now_ms())
    publish(settings, request)
    ok(f"asked for a retraining of {model}: {request.request_id}")
    if not wait:
        say("the process driftline retraining trains it; --wait waits for the result")
        return
    finished = _wait(settings, request.request_id, minutes_max * 60)
    if finished is None:
        fail(
            f"{request.request_id} has no result after {minutes_max:g} minutes: "
            "is driftline retraining running?"
        )
    text = f"{finished.result}, version {finished.version}" if finished.version else finished.result
    if finished.result not in ("promoted", "passed"):
        fail(f"{request.request_id} was {text}: {'; '.join(finished.reasons)}")
    ok(f"{request.request_id} was {text}")


def request_of(model: str, reason: str, now_ms: int) -> RetrainingRequested:
    """Return the request of a person at a time; its id is new each time."""
    return RetrainingRequested(
        request_id=f"{model}-manual-{now_ms}-{uuid.uuid4().hex[:6]}",
        model=model,
        trigger="manual",
        requested_at_ms=now_ms,
        reason=reason,
    )


def publish(settings: Settings, request: RetrainingRequested) -> None:
    """Write a request and return when the broker has acknowledged it."""
    headers = Envelope("operators", request.model, enabled=settings.cloud_events != "none").headers(request)
    with kafka_producers.connected(settings) as producer:
        producer.send(topics.RETRAINING.name, request.model.encode(), records.encode(request), headers)


def _wait(settings: Settings, request_id: str, seconds_max: float) -> RetrainingFinished | None:
    deadline = time.monotonic() + seconds_max
    while time.monotonic() < deadline:
        for record in kafka_consumers.read_topic(settings, "retrain-command", topics.RETRAINING.name):
            decoded = None if record.value is None else _decode(record.value)
            if isinstance(decoded, RetrainingFinished) and decoded.request_id == request_id:
                return decoded
        time.sleep(POLL_SECONDS)
    return None
