"""One bad record, or one destination that fails, stops no other."""

from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from services.alerting import alerts, session
from services.alerting.delivery import SendingError
from services.alerting.session import AlertingSession
from services.runtime import metrics
from services.runtime.declaration import AlertRoute, Alerts
from services.runtime.settings import Settings
from services.runtime.topic_identity import TopicRecreatedError
from streams import codec, records, topics
from tests.receivers import http_receiver
from tests.unit.drift import scenario
from tests.unit.drift.memory_kafka import MemoryConsumer


@pytest.fixture
def alerting() -> AlertingSession:
    reports = SimpleNamespace(add=lambda *_: None)
    return AlertingSession(
        Settings(_env_file=None, alert_replays=True),
        {"m": scenario.declaration()},
        cast("Any", MemoryConsumer()),
        cast("Any", None),
        {"good": "json://good", "bad": "json://bad"},
        cast("Any", reports),
    )


def skipped(topic: str) -> float:
    return float(metrics.RECORDS_SKIPPED.labels("alerting", topic)._value.get())


@pytest.mark.parametrize("topic", [topics.DRIFT.name, topics.MODELS.name, topics.RETRAINING.name])
@pytest.mark.parametrize("value", [b"{", b"\xff", b"[" * 100_000])
def test_a_record_that_cannot_be_read_is_counted_and_skipped(
    alerting: AlertingSession, topic: str, value: bytes
) -> None:
    consumer = cast("MemoryConsumer", alerting._consumer)
    consumer.write(topic, value, None)
    before = skipped(topic)
    for message in consumer.logs.popitem()[1]:
        alerting._add(message)
    assert skipped(topic) == before + 1


def test_a_record_that_cannot_be_applied_is_counted_and_skipped(
    alerting: AlertingSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts, "champion_of", lambda _: 1 / 0)
    consumer = cast("MemoryConsumer", alerting._consumer)
    consumer.write(topics.MODELS.name, records.encode(scenario.model_changed()))
    before = skipped(topics.MODELS.name)
    for message in consumer.logs.popitem()[1]:
        alerting._add(message)
    assert skipped(topics.MODELS.name) == before + 1


@pytest.mark.parametrize("kind", ["report", "alarm"])
def test_a_record_of_years_ahead_is_counted_and_ends_no_alarm(alerting: AlertingSession, kind: str) -> None:
    at_ms = codec.now_ms() - 1000
    alarm = records.DriftAlarm(
        alarm_id="a", model="m", version=1, kind="feature", subject="x", value=2.0, threshold=1.0,
        detected_at_ms=at_ms, since_ms=at_ms, message="m",
    )  # fmt: skip
    forged: records.DriftRecord = msgspec.structs.replace(alarm, alarm_id="b", detected_at_ms=codec.LATEST_MS)
    if kind == "report":
        forged = records.DriftReport(
            report_id="r", model="m", version=1, window_start_ms=at_ms, window_end_ms=codec.LATEST_MS,
            predictions=1, labels=1, alarms_standing=[],
        )  # fmt: skip
    consumer = cast("MemoryConsumer", alerting._consumer)
    consumer.write(topics.DRIFT.name, records.encode(alarm), records.encode(forged))
    before = skipped(topics.DRIFT.name)
    for message in consumer.logs.popitem()[1]:
        alerting._add(message)
    assert skipped(topics.DRIFT.name) == before + 1
    assert alerting._state.open_count("m") == 1


@pytest.mark.parametrize("error", [SendingError("no"), ZeroDivisionError(), SystemExit()])
def test_whatever_a_destination_raises_its_delivery_is_settled(
    alerting: AlertingSession, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def send(url: str, _message: object) -> None:
        if url == "json://bad":
            raise error

    monkeypatch.setattr(session, "send", send)
    monkeypatch.setattr(session, "message", lambda *_: None)
    for name in ("bad", "good"):
        try:
            alerting._send(cast("Any", SimpleNamespace(destination=name)))
        except SystemExit:  # ends only its thread
            continue
    found = [alerting._finished.get_nowait() for _ in range(2)]
    assert [(delivery.destination, accepted) for delivery, accepted in found] == [
        ("bad", False),
        ("good", True),
    ]


def test_the_end_of_a_retraining_reaches_a_webhook_that_was_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """The receiver fails first. Its second call is accepted, recorded, and the last one."""
    time_ms = codec.now_ms()
    monkeypatch.setattr(session, "now_ms", lambda: time_ms)
    route = AlertRoute(to="ci", kinds=("retraining",), minimum_severity="info")
    declared = scenario.declaration()
    declared = declared.model_copy(update={"alerts": Alerts(routes=(route,))})
    consumer, written = MemoryConsumer(), list[Any]()
    finished = records.RetrainingFinished(
        request_id="nightly-1",
        model="m",
        trigger="http",
        requested_at_ms=time_ms,
        result="promoted",
        version=4,
    )
    consumer.write(topics.RETRAINING.name, records.encode(finished))
    with http_receiver() as receiver:
        receiver.answer = lambda number: 500 if number == 1 else 204
        running = AlertingSession(
            Settings(_env_file=None, alert_replays=True),
            {"m": declared},
            cast("Any", consumer),
            cast("Any", SimpleNamespace(write_what_fits=lambda batch: written.extend(*batch.values()))),
            {"ci": f"webhook+http://token@127.0.0.1:{receiver.port}/hook"},
            cast("Any", SimpleNamespace(add=lambda *_: None)),
        )
        for message in consumer.logs.popitem()[1]:
            running._add(message)
        for _ in range(3):
            for delivery in running._state.due(time_ms):
                running._in_flight += 1
                running._send(delivery)
            running._store_finished()
            time_ms += 60_000
    assert [body["event_type"] for body in receiver.bodies] == ["driftline.retraining.promoted"] * 2
    assert {each["idempotency-key"] for each in receiver.headers} == {"nightly-1-promoted"}
    ((_, value, _),) = written
    stored = records.decoder_of(records.Notified).decode(value)
    assert (stored.destination, stored.alert.request_id) == ("ci", "nightly-1")


def test_a_topic_that_is_recreated_ends_the_session(alerting: AlertingSession) -> None:
    consumer = cast("MemoryConsumer", alerting._consumer)
    alerting.step()
    consumer.recreate(topics.DRIFT.name)
    with pytest.raises(TopicRecreatedError, match=topics.DRIFT.name):
        alerting.step()


@pytest.mark.parametrize("topic", session.TOPICS)
def test_a_topic_that_is_recreated_before_the_first_step_ends_the_session(
    alerting: AlertingSession, topic: str
) -> None:
    consumer = cast("MemoryConsumer", alerting._consumer)
    for each in session.TOPICS:
        consumer.write(each, None)
    alerting.catch_up()
    consumer.recreate(topic)
    with pytest.raises(TopicRecreatedError, match=topic):
        alerting.step()
