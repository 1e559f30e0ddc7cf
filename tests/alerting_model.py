"""A model with routes for alerts, and the records that the drift process would write about it."""

import copy
import time
from pathlib import Path
from typing import Any, Literal, Self

from kafka import KafkaProducer
from pydantic import SecretStr
from ruamel.yaml import YAML

from services.runtime.settings import Settings
from streams import records, topics
from tests.unit.drift import scenario
from tests.waiting import LIVENESS_SECONDS

LINGER_MS = 60_000


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
        # What is sent together arrives together: nothing leaves before `flush`.
        self._producer = KafkaProducer(bootstrap_servers=settings.broker, acks="all", linger_ms=LINGER_MS)

    def again(self) -> Self:
        """Return the model with a producer that knows nothing of the topics before."""
        made = copy.copy(self)
        made._producer = KafkaProducer(bootstrap_servers=self.settings.broker, acks="all")
        return made

    def burst(self, *subjects: str) -> list[str]:
        """Send alarms in one batch of Kafka, so that they arrive together; return their ids."""
        sent = [self._send_alarm(subject, "feature") for subject in subjects]
        self._producer.flush(LIVENESS_SECONDS)
        for _, future in sent:
            future.get(LIVENESS_SECONDS)
        return [alarm_id for alarm_id, _ in sent]

    def alarm(self, subject: str, kind: Literal["feature", "loss"] = "feature") -> str:
        alarm_id, future = self._send_alarm(subject, kind)
        self._producer.flush(LIVENESS_SECONDS)
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
        self._producer.flush(LIVENESS_SECONDS)
        future.get(LIVENESS_SECONDS)

    def send(self, topic: str, record: records.DriftRecord | records.RetrainingRecord) -> None:
        future = self._send(topic, record)
        self._producer.flush(LIVENESS_SECONDS)
        future.get(LIVENESS_SECONDS)

    def _send(self, topic: str, record: records.DriftRecord | records.RetrainingRecord) -> Any:
        return self._producer.send(topic, key=self.name.encode(), value=records.encode(record))
