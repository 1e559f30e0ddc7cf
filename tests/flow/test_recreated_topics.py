"""Topics of the system that are deleted and recreated: nothing of the new topic is missed or done twice."""

from collections import Counter
from pathlib import Path

import httpx
import pytest
from kafka import KafkaProducer

from services.runtime import kafka_consumers
from services.runtime.settings import Settings
from services.runtime.topic_creation import ensure_topics
from streams import records, topics
from tests import recreation
from tests.alerting_model import AlertingModel
from tests.processes import Process
from tests.receivers import HttpReceiver, http_receiver
from tests.waiting import LIVENESS_SECONDS, until

SHORTER, LONGER = 2, 8
"""Records in the new topic; before, there were 3 or more. A message of alerts names 8 of them."""

pytestmark = [
    pytest.mark.parametrize("runs", [True, False], ids=["running", "stopped"]),
    pytest.mark.parametrize("count", [SHORTER, LONGER], ids=["shorter", "longer"]),
]


def recreate(settings: Settings, topic: str) -> None:
    recreation.delete(settings, [topic])
    ensure_topics(settings, {})


def send(settings: Settings, topic: str, values: list[bytes]) -> None:
    producer = KafkaProducer(**settings.kafka_options(), acks="all")
    futures = [producer.send(topic, key=b"m", value=value) for value in values]
    for future in futures:
        future.get(LIVENESS_SECONDS)
    producer.close()


def request(settings: Settings, ids: list[str]) -> None:
    """Request retrainings of a model that nobody declared: they fail at once."""
    requests = [
        records.RetrainingRequested(
            request_id=each, model="undeclared", trigger="manual", requested_at_ms=1, reason="a test"
        )
        for each in ids
    ]
    send(settings, topics.RETRAINING.name, [records.encode(each) for each in requests])


def results(settings: Settings) -> Counter[str]:
    """Return the number of results of each request in the present topic."""
    decode = records.decoder_of(records.RetrainingRecord).decode
    found = [decode(each.value) for each in kafka_consumers.read_topic(settings, "t", topics.RETRAINING.name)]
    return Counter(each.request_id for each in found if isinstance(each, records.RetrainingFinished))


def test_each_request_for_a_retraining_gets_one_result(
    settings: Settings, unique_name: str, tmp_path: Path, count: int, *, runs: bool
) -> None:
    ensure_topics(settings, {})
    with Process("retraining", settings, log=tmp_path / "retraining.log") as process:
        old = [f"{unique_name}-old-{number}" for number in range(3)]
        request(settings, old)
        until(lambda: set(old) <= results(settings).keys(), "the first have results", check=process.check)
        if not runs:
            assert process.stop() == 0
        recreate(settings, topics.RETRAINING.name)
        new = [f"{unique_name}-new-{number}" for number in range(count)]
        request(settings, new)
        if not runs:
            process.start()
        until(lambda: set(new) <= results(settings).keys(), "all have results", check=process.check)
        process.wait_ready()
        assert process.stop() == 0
    found = results(settings)
    assert {each: found[each] for each in new} == dict.fromkeys(new, 1)


def sent(hook: HttpReceiver, subject: str) -> int:
    """Return the number of messages that hold an alarm."""
    return sum(f"{subject} changed" in f"{body['title']} {body['message']}" for body in hook.bodies)


def test_each_alarm_is_sent_once(
    kafka: str, http_ports: dict[str, int], unique_name: str, tmp_path: Path, count: int, *, runs: bool
) -> None:
    local = Settings().model_copy(update={"broker": kafka, **http_ports})
    with http_receiver() as hook:
        url = f"json://127.0.0.1:{hook.port}"
        model = AlertingModel(local, unique_name, tmp_path, f"hook={url} mail={url}")
        with Process("alerting", model.settings, log=tmp_path / "alerting.log") as process:
            process.wait_ready()
            model.burst("old1", "old2", "old3")
            until(lambda: sent(hook, "old3") > 0, "the first are sent", check=process.check)
            if not runs:
                assert process.stop() == 0
            recreate(model.settings, topics.DRIFT.name)
            again = model.again()
            new = [f"new{number}." for number in range(count)]
            for subject in new:
                again.alarm(subject)
            if not runs:
                process.start()
            until(
                lambda: all(sent(hook, subject) for subject in new),
                "all are sent",
                check=process.check,
            )
            process.wait_ready()
            assert process.stop() == 0
    counts = {subject: sent(hook, subject) for subject in [*new, "old1", "old2", "old3"]}
    assert counts == dict.fromkeys(counts, 1)


def windows(process: Process, model: str) -> list[str]:
    found = httpx.get(f"{process.url}/api/state", timeout=LIVENESS_SECONDS).json()["models"]
    return [each["window_id"] for each in found.get(model, {"windows": []})["windows"]]


def report(settings: Settings, model: str, numbers: range) -> list[str]:
    """Write reports of a model; return their ids."""
    reports = [
        records.DriftReport(
            report_id=f"{model}-{number}", model=model, version=1, window_start_ms=number * 1000,
            window_end_ms=(number + 1) * 1000, predictions=1, labels=1,
        )
        for number in numbers
    ]  # fmt: skip
    send(settings, topics.DRIFT.name, [records.encode(each) for each in reports])
    return [each.report_id for each in reports]


def test_the_dashboard_shows_what_the_new_topic_holds(
    kafka: str, http_ports: dict[str, int], unique_name: str, tmp_path: Path, count: int, *, runs: bool
) -> None:
    local = Settings().model_copy(update={"broker": kafka, "models": tmp_path / "models", **http_ports})
    ensure_topics(local, {})
    shown = [topics.DRIFT.name, topics.RETRAINING.name, topics.MODELS.name]
    recreation.delete(local, shown)  # with the models of other tests: a dashboard shows so many at most
    ensure_topics(local, {})
    with Process("dashboard", local, log=tmp_path / "dashboard.log") as process:
        process.wait_ready()
        old = report(local, unique_name, range(3))
        until(lambda: windows(process, unique_name) == old, "the first are shown", check=process.check)
        if not runs:
            assert process.stop() == 0
        recreate(local, topics.DRIFT.name)
        new = report(local, unique_name, range(3, 3 + count))
        if not runs:
            process.start()
            process.wait_ready()
        until(
            lambda: windows(process, unique_name) == [*(old if runs else []), *new],
            "all are shown",
            check=process.check,
        )
        process.wait_ready()
        assert process.stop() == 0
