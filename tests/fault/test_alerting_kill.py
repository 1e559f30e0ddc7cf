"""The alerting process on a real Kafka, with real receivers: killed between a delivery and its record."""

import re
import time
from pathlib import Path
from typing import Any, Literal

import pytest
from kafka import KafkaProducer
from pydantic import SecretStr
from ruamel.yaml import YAML

from services.alerting import command
from services.runtime.settings import Settings
from streams import records, topics
from tests.processes import Process
from tests.receivers import HttpReceiver, http_receiver, mail_receiver
from tests.unit.drift import scenario
from tests.waiting import LIVENESS_SECONDS, until


class AlertingModel:
    """A model with routes, and the records that the drift process would write about it."""

    def __init__(self, settings: Settings, name: str, folder: Path, destinations: str) -> None:
        document = scenario.document(name) | {
            "alerts": {
                "group_seconds": 0.5,
                "routes": [{"to": "hook", "minimum_severity": "info"}, {"to": "mail", "kinds": ["loss"]}],
            }
        }
        (folder / "models" / name).mkdir(parents=True)
        with (folder / "models" / name / "model.yaml").open("w") as file:
            YAML().dump(document, file)
        changes = {
            "reports_uri": str(folder / "reports"),
            "models": folder / "models",
            "alert_destinations": SecretStr(destinations),
        }
        self.name = name
        self.settings = settings.model_copy(update=changes)
        self._producer = KafkaProducer(bootstrap_servers=settings.broker, acks="all", linger_ms=500)

    def burst(self, *subjects: str) -> list[str]:
        """Send alarms in one batch of Kafka, so that they arrive together; return their ids."""
        sent = [self._send_alarm(subject, "feature") for subject in subjects]
        for _, future in sent:
            future.get(LIVENESS_SECONDS)
        return [alarm_id for alarm_id, _ in sent]

    def alarm(self, subject: str, kind: Literal["feature", "loss"] = "feature") -> str:
        alarm_id, future = self._send_alarm(subject, kind)
        future.get(LIVENESS_SECONDS)
        return alarm_id

    def _send_alarm(self, subject: str, kind: Literal["feature", "loss"]) -> tuple[str, Any]:
        now_ms = time.time_ns() // 1_000_000
        alarm = records.DriftAlarm(
            alarm_id=f"{self.name}-{kind}-{subject}", model=self.name, version=1, kind=kind, subject=subject,
            value=2.0, threshold=1.0, detected_at_ms=now_ms - 1000, since_ms=now_ms - 5000,
            message=f"{subject} changed",
        )  # fmt: skip
        return alarm.alarm_id, self._send(topics.DRIFT.name, alarm)

    def report(self, *open_ids: str) -> None:
        now_ms = time.time_ns() // 1_000_000
        future = self._send(
            topics.DRIFT.name,
            records.DriftReport(
                report_id=f"{self.name}-{now_ms}", model=self.name, version=1, window_start_ms=now_ms - 1000,
                window_end_ms=now_ms, predictions=1, labels=1, alarms_standing=list(open_ids),
            ),
        )  # fmt: skip
        future.get(LIVENESS_SECONDS)

    def send(self, topic: str, record: records.DriftRecord | records.RetrainingRecord) -> None:
        self._send(topic, record).get(LIVENESS_SECONDS)

    def _send(self, topic: str, record: records.DriftRecord | records.RetrainingRecord) -> Any:
        return self._producer.send(topic, key=self.name.encode(), value=records.encode(record))


@pytest.fixture
def local(kafka: str, http_ports: dict[str, int]) -> Settings:
    return Settings().model_copy(update={"broker": kafka, **http_ports})


def titles(receiver: HttpReceiver) -> list[str]:
    return [body["title"] for body in receiver.bodies]


def test_alert_is_sent_once_except_after_a_kill_between_delivery_and_record(
    local, unique_name, tmp_path, monkeypatch, capsys
):
    with http_receiver() as hook, mail_receiver() as (mailbox, port):
        mail = f"mailto://127.0.0.1:{port}?from=a@example.org&to=b@example.org&mode=insecure"
        secret = "s3cr3t-path"
        urls = f"hook=json://127.0.0.1:{hook.port}/{secret} mail={mail}"
        model = AlertingModel(local, unique_name, tmp_path, urls)
        with Process("alerting", model.settings, log=tmp_path / "alerting.log") as alerting:
            alerting.wait_ready()

            def kill_before_the_answer(_: int) -> int:
                alerting.kill()
                return 200

            hook.answer = kill_before_the_answer
            open_ids = model.burst(*(f"f{number}" for number in range(12)))
            until(lambda: not alerting.alive, "the process is killed")
            assert len(hook.bodies) == 1

            hook.answer = lambda _: 200
            alerting.start()
            until(lambda: len(hook.bodies) == 2, "it is sent again")
            assert "12 alerts" in titles(hook)[1], "a burst is one message"
            assert titles(hook)[0].split(": ")[1:] == titles(hook)[1].split(": ")[1:]
            alerting.wait_ready()

            open_ids.append(model.alarm("log_loss", "loss"))
            until(lambda: len(hook.bodies) == 3 and len(mailbox.mails) == 1, "both destinations get the loss")
            assert "log_loss changed" in mailbox.mails[0]["subject"]
            assert alerting.stop() == 0
            assert secret not in alerting.output()

            for name, value in model.settings.environment().items():
                monkeypatch.setenv(name, value)
            command.test("hook")
            command.silence(model=unique_name, duration="1h", reason="a test", subject="quiet")
            sent = len(hook.bodies)
            alerting.start()
            quiet = model.alarm("quiet")
            loud = model.alarm("loud")
            until(lambda: len(hook.bodies) > sent, "the other alarm is sent")
            assert "loud changed" in titles(hook)[-1]
            model.report(quiet, loud)
            until(
                lambda: len(hook.bodies) == sent + 2 and len(mailbox.mails) == 2,
                "all are sent as resolved",
            )
            assert titles(hook)[-1].startswith(f"[resolved] {unique_name}: 13 alerts")
            until(
                lambda: len(list((tmp_path / "reports" / unique_name).glob("*.html"))) == 1,
                "the report is written",
            )
            assert not any("quiet" in str(body) for body in hook.bodies)
            assert alerting.stop() == 0
            command.show(model=unique_name)
            shown = capsys.readouterr().out
            assert "ok  hook (json://…) accepted the test message" in shown
            assert f"hook  sent  {unique_name}: loud changed" in shown
            assert f"hook  resolved (2 times)  {unique_name}: f0 changed" in shown
            assert f"model={unique_name} subject=quiet  (a test)" in shown
            (silence_id,) = re.findall(r"silence (\w+) until", shown)
            command.end(silence_id)
            command.silences()
            assert silence_id not in capsys.readouterr().out.replace(f"silence {silence_id} ended", "")
