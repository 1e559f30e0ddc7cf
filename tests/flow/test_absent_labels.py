"""Chargebacks that come late, and nothing for all other payments, on a real Kafka: `label.absent`.

Drift is killed and starts again between. Reports on the predictions of each window and training sets have the
loss and the share of frauds that are true, and never those of the early labels alone.
"""

import json
import math
import random
import sys
from pathlib import Path
from typing import Any

import pytest

from services.retraining import archive_progress, extraction
from services.retraining.extraction import Wanted
from services.runtime.declaration_file import load_all
from services.runtime.settings import Settings
from streams import records, topics
from streams.inputs import LABEL, PREDICTION
from tests.flow.drift_topics import PARTITIONS, DriftTopics
from tests.flow.test_corrections import COMMITTING, GIVEN
from tests.processes import Process
from tests.unit.drift import scenario
from tests.unit.drift.scenario import HOUR_MS, START_MS

HOURS, A_HOUR, HORIZON_MS = 8, 120, 3 * HOUR_MS
END_MS = START_MS + (HOURS + 8) * HOUR_MS
Log = list[tuple[int, int, float]]
"""Time, number of the request, and its score or its label."""


class Payments:
    """Requests of which few are frauds, as their scores say; some chargebacks come after the horizon."""

    def __init__(self, name: str) -> None:
        chance = random.Random(15)
        self.name = name
        self.requests: list[Log] = [[] for _ in range(PARTITIONS)]
        self.labels: list[Log] = [[] for _ in range(PARTITIONS)]
        self.known: dict[str, int] = {}
        """When the chargeback of a fraud came."""
        for number in range(HOURS * A_HOUR):
            time_ms = START_MS + number * HOUR_MS // A_HOUR
            score = chance.choice((0.02, 0.02, 0.02, 0.3))
            self.requests[number % PARTITIONS].append((time_ms, number, score))
            if chance.random() < score:
                latest_ms = HORIZON_MS if number % 10 else 2 * HORIZON_MS - HOUR_MS
                known_ms = time_ms + chance.randrange(HOUR_MS // 4, latest_ms)
                self.known[f"p{number}"] = known_ms
                self.labels[chance.randrange(PARTITIONS)].append((known_ms, number, 1.0))

    def logs(self, kind: int, partition: int) -> list[scenario.Entry]:
        made: list[Any] = []
        rows = (self.requests if kind == PREDICTION else self.labels)[partition]
        for offset, (time_ms, number, value) in enumerate(sorted(rows)):
            made.append(
                scenario.prediction(
                    number, time_ms, model=self.name, score=value, prediction=0,
                    source_partition=partition, source_offset=offset,
                )
                if kind == PREDICTION
                else scenario.label(number, time_ms, value, partition=partition, offset=offset)
            )  # fmt: skip
        return scenario.numbered([*made, END_MS])

    def losses(self, start_ms: int, at_ms: int) -> list[float]:
        """Return the loss of each request of an hour, by the labels that had come at an event time."""
        found = []
        for time_ms, number, score in (row for log in self.requests for row in log):
            if start_ms <= time_ms < start_ms + HOUR_MS:
                is_fraud = self.known.get(f"p{number}", END_MS) < at_ms
                found.append(-math.log(score if is_fraud else 1 - score))
        return found


@pytest.fixture
def world(
    kafka: str, valkey: str, http_ports: dict[str, int], unique_name: str, tmp_path: Path
) -> DriftTopics:
    changes = {"broker": kafka, "redis_url": valkey, "home": tmp_path / "home", **http_ports}
    world = DriftTopics(Settings().model_copy(update=changes), unique_name, tmp_path)
    world.document["label"]["absent"] = 0
    path = world.settings.models / unique_name / "model.yaml"
    path.write_text(json.dumps(world.document))
    return world


def test_shown_loss_and_training_sets_are_those_of_all_payments(world: DriftTopics, tmp_path: Path) -> None:
    payments = Payments(world.name)
    logs = {
        (kind, number): payments.logs(kind, number)
        for kind in (PREDICTION, LABEL)
        for number in range(PARTITIONS)
    }
    archiving = (sys.executable, "-c", COMMITTING, "archive")
    with Process("archive", world.settings, log=tmp_path / "archive.log", command=archiving):
        world.send_model()
        with Process("drift", world.settings, log=tmp_path / "before.log") as drift:
            for (kind, number), log in logs.items():
                world.send(kind, number, log[: len(log) * 3 // 4])
            world.wait_for_watermark(START_MS + (HOURS * 3 // 4 - 2) * HOUR_MS, drift.check)
            drift.kill()
        for (kind, number), log in logs.items():
            world.send(kind, number, log[len(log) * 3 // 4 :])
        with Process("drift", world.settings, log=tmp_path / "after.log") as drift:
            world.wait_for_watermark(END_MS, drift.check)
        check_reports(world, payments)
        written = {
            topics.predictions(world.name): [len(logs[PREDICTION, number]) for number in range(PARTITIONS)],
            topics.outcomes(world.name): [
                len(log) for log in world.read(topics.outcomes(world.name), PARTITIONS).values()
            ],
        }
        archive_progress.wait_for_archive(world.settings, world.name, written)
        check_training_set(world, payments)


def check_reports(world: DriftTopics, payments: Payments) -> None:
    reports = [each for each in world.drift() if isinstance(each, records.PerformanceReport)]
    provisional = [each for each in reports if each.state == "provisional"]
    assert len(provisional) == HOURS
    assert all(not each.labels for each in provisional)
    last = {each.window_start_ms: each for each in sorted(reports, key=lambda each: each.revision)}
    assert len(last) == HOURS
    for start_ms, report in last.items():
        assert (report.state, report.labels) == ("complete", report.predictions)
        expected = payments.losses(start_ms, start_ms + HOUR_MS + 2 * HORIZON_MS)
        assert report.segments[0].figures[0].realised == pytest.approx(
            sum(expected) / len(expected), rel=1e-4
        )
    for report in reports:
        if report.state == "complete":
            losses = payments.losses(report.window_start_ms, report.as_of_ms)
            realised = report.segments[0].figures[0].realised
            assert realised == pytest.approx(sum(losses) / len(losses), rel=1e-4)
    assert any(each.corrections for each in last.values())
    assert len({each.prediction_id for log in world.outcomes().values() for each in log}) == len(
        payments.known
    )


def check_training_set(world: DriftTopics, payments: Payments) -> None:
    """Each payment whose horizon has passed is one row; no early chargeback is one before."""
    declaration = load_all(world.settings.models)[world.name]
    for hours in (HOURS - 2, HOURS):
        known_ms = START_MS + hours * HOUR_MS
        rows = extraction.read(world.settings, Wanted(declaration, GIVEN, known_ms)).rows
        mature_ms = known_ms - HORIZON_MS
        assert dict(zip(rows["prediction_id"], rows["label"], strict=True)) == {
            f"p{number}": float(payments.known.get(f"p{number}", END_MS) <= known_ms)
            for log in payments.requests
            for time_ms, number, _ in log
            if time_ms <= mature_ms
        }
