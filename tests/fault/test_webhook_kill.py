"""Webhooks of retraining at a real HTTP server that fails first: at least once, across kills and restarts."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ruamel.yaml import YAML

from services.runtime import kafka_consumers, times
from services.runtime.settings import Settings
from streams import records, topics
from streams.records import Notified, RetrainingFinished, RetrainingRequested
from tests.alerting_model import AlertingModel
from tests.processes import Process
from tests.receivers import HttpReceiver, http_receiver
from tests.waiting import until

TOKEN = "t0k3n-of-ci"  # no secret: the receiver is in this test
DECLARED = {
    "group_seconds": 0.5,
    "routes": [{"to": "ci", "kinds": ["retraining"], "minimum_severity": "info"}],
}


class Hooked(NamedTuple):
    """A model whose retrainings call a receiver."""

    model: AlertingModel
    receiver: HttpReceiver
    process: Process

    def retraining(self, request_id: str, result: Any) -> None:
        """Write a request, and then its result."""
        common: dict[str, Any] = {"request_id": f"{self.model.name}-{request_id}", "model": self.model.name,
                  "trigger": "drift", "requested_at_ms": times.now_ms()}  # fmt: skip
        self.model.send(topics.RETRAINING.name, RetrainingRequested(**common, reason="harm"))
        self.model.send(topics.RETRAINING.name, RetrainingFinished(**common, result=result, version=4))

    def calls(self, key: str) -> int:
        """Return how many calls with a key have come."""
        wanted = f"{self.model.name}-{key}"
        return sum(headers["idempotency-key"] == wanted for headers in list(self.receiver.headers))

    def recorded(self) -> set[str]:
        """Return the keys of which the process has written that they were delivered."""
        decode = records.decoder_of(records.AlertRecord).decode
        found = kafka_consumers.read_topic(self.model.settings, "tests", topics.ALERTS.name)
        decoded = [decode(each.value) for each in found if each.value is not None]
        return {
            each.alert.alert_id.removeprefix(f"{self.model.name}-")
            for each in decoded
            if isinstance(each, Notified) and each.alert.model == self.model.name
        }


@pytest.fixture
def hooked(kafka: str, http_ports: dict[str, int], unique_name: str, tmp_path: Path) -> Iterator[Hooked]:
    with http_receiver() as receiver:
        url = f"ci=webhook+http://{TOKEN}@127.0.0.1:{receiver.port}/repos/o/r/dispatches"
        local = Settings().model_copy(update={"broker": kafka, **http_ports})
        model = AlertingModel(local, unique_name, tmp_path, url)
        path = tmp_path / "models" / unique_name / "model.yaml"
        document = YAML().load(path)
        document["alerts"] = DECLARED
        with path.open("w") as file:
            YAML().dump(document, file)
        with Process("alerting", model.settings, log=tmp_path / "alerting.log") as process:
            process.wait_ready()
            yield Hooked(model, receiver, process)


def test_calls_that_fail_are_repeated_until_they_are_accepted_with_the_same_key(hooked: Hooked) -> None:
    statuses = {1: 500, 2: 503, 3: 302}
    hooked.receiver.answer = lambda number: statuses.get(number, 204)
    hooked.retraining("r1", "promoted")
    until(lambda: hooked.recorded() == {"r1-requested", "r1-promoted"}, "both are recorded")
    assert len(hooked.receiver.bodies) == 2 + len(statuses)
    assert min(hooked.calls("r1-requested"), hooked.calls("r1-promoted")) >= 1
    bodies = {body["client_payload"]["id"]: body for body in hooked.receiver.bodies}
    end = bodies[f"{hooked.model.name}-r1-promoted"]
    assert end["event_type"] == "driftline.retraining.promoted"
    assert (end["client_payload"]["version"], end["client_payload"]["model"]) == (4, hooked.model.name)
    assert {headers["authorization"] for headers in hooked.receiver.headers} == {f"Bearer {TOKEN}"}
    assert TOKEN not in hooked.process.output()


def test_a_receiver_that_does_not_answer_delays_no_other_call_and_is_asked_again(hooked: Hooked) -> None:
    over = threading.Event()

    def first_hangs(number: int) -> int:
        if number == 1:
            over.wait()
        return 200

    hooked.receiver.answer = first_hangs
    try:
        hooked.retraining("r1", "failed")
        until(lambda: bool(hooked.recorded()), "the other call is recorded while one hangs")
        until(lambda: hooked.recorded() == {"r1-requested", "r1-failed"}, "the call that hung is repeated")
    finally:
        over.set()
    assert hooked.calls("r1-requested") + hooked.calls("r1-failed") == 3


def test_a_kill_between_the_delivery_and_its_record_repeats_the_call_and_loses_none(hooked: Hooked) -> None:
    hooked.receiver.answer = lambda _: 500
    hooked.retraining("r1", "rejected")
    until(lambda: min(hooked.calls("r1-requested"), hooked.calls("r1-rejected")) >= 1, "both were refused")

    def kill_then_accept(_: int) -> int:
        hooked.process.kill()
        return 200

    killed = threading.Lock()
    hooked.receiver.answer = lambda number: (
        kill_then_accept(number) if killed.acquire(blocking=False) else 200
    )
    until(lambda: not hooked.process.alive, "it is killed after the delivery")
    assert hooked.recorded() < {"r1-requested", "r1-rejected"}
    before = {key: hooked.calls(key) for key in ("r1-requested", "r1-rejected")}
    hooked.process.start()
    hooked.process.wait_ready()
    until(lambda: hooked.recorded() == {"r1-requested", "r1-rejected"}, "both are recorded")
    repeated = {key for key, count in before.items() if hooked.calls(key) > count}
    assert repeated, "the call without a record is repeated"
    hooked.retraining("r2", "passed")
    until(lambda: {"r2-requested", "r2-passed"} <= hooked.recorded(), "later ones follow")
    assert {hooked.calls("r2-requested"), hooked.calls("r2-passed")} == {1}
