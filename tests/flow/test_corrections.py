"""Chargebacks that are reversed, on a real Kafka: the last label counts in all that is made of labels.

Every third label gets another value an hour later. Outcomes, performance, the archive, the training set and
what a model learns online must be those of the last values.
"""

import collections
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from services.feature_store import plan_cache
from services.feature_store.plan import FeaturePlan
from services.model_registry.model_inputs import InputKind
from services.monitoring import inference_log
from services.retraining import archive_progress, extraction
from services.retraining.extraction import Wanted
from services.runtime.declaration_file import load_all
from services.runtime.settings import Settings
from services.runtime.topic_creation import ensure_topics
from streams import records, topics
from streams.inputs import LABEL, PREDICTION
from tests.flow.drift_topics import PARTITIONS, DriftTopics
from tests.online_learning import PIECES, TRAINING, published, send, wait_for_watermark
from tests.processes import Process
from tests.unit.drift import scenario
from tests.unit.drift.scenario import HOUR_MS, START_MS
from tests.unit.learning import traffic as learned_traffic

HOURS = 12
GIVEN = {"x": InputKind.NUMBER, "colour": InputKind.TEXT}
COMMITTING = """
from services.archive import write_buffer
from services.operations import cli

write_buffer.COMMIT_SECONDS = 1.0
cli.main()
"""


def corrected(log: Sequence[Any], other: Callable[[float], float]) -> list[Any]:
    """Return labels, of which every third gets another value an hour later, in order; the end stays last."""
    *found, end = log
    later = [
        msgspec.structs.replace(each, value=other(each.value), event_time_ms=each.event_time_ms + HOUR_MS)
        for each in found[::3]
    ]
    ordered = sorted([*found, *later], key=lambda each: each.event_time_ms)
    return [*(msgspec.structs.replace(each, source_offset=at) for at, each in enumerate(ordered)), end]


class World:
    """A model that is watched and retrained, and one that learns online, with corrected labels of both."""

    def __init__(self, settings: Settings, name: str, folder: Path) -> None:
        self.topics = DriftTopics(settings, name, folder)
        self.settings, self.name, self.online = self.topics.settings, name, f"{name}_online"
        own = self.settings.models / self.online
        own.mkdir()
        (own / "model.yaml").write_text(learned_traffic.as_yaml(self.online))
        (own / "training.py").write_text(TRAINING)
        registry = plan_cache.registry_path(self.settings)
        registry.parent.mkdir(parents=True, exist_ok=True)
        registry.touch()
        plan_cache.store(self.settings, FeaturePlan(project="p", views=(), services={"s": ()}))
        ensure_topics(self.settings, load_all(self.settings.models))
        self.traffic = scenario.traffic(HOURS, seed=5, name=name, a_hour=120)
        self.labels = [
            corrected([entry.record for entry in log], lambda value: 1 - value) for log in self.traffic.labels
        ]
        self.learned = learned_traffic.traffic(HOURS, seed=6, a_hour=120, name=self.online)
        self.learned.labels = [corrected(log, lambda value: value + 4) for log in self.learned.labels]

    def final(self) -> dict[str, float]:
        """Return the value of each label that counts in the end: the last within three hours."""
        asked = {
            entry.record.prediction_id: entry.record.event_time_ms
            for log in self.traffic.predictions
            for entry in log[:-1]
        }
        given = sorted(
            (each for log in self.labels for each in log[:-1]), key=lambda each: each.event_time_ms
        )
        return {
            each.prediction_id: each.value
            for each in given
            if each.event_time_ms <= asked[each.prediction_id] + 3 * HOUR_MS
        }

    def send(self) -> None:
        self.topics.send_model()
        for number in range(PARTITIONS):
            self.topics.send(PREDICTION, number, self.traffic.predictions[number])
            self.topics.send(LABEL, number, scenario.with_label_offsets(self.labels[number]))
        for number in range(PIECES):
            send(self.settings, self.online, self.learned, number)


@pytest.fixture
def world(kafka: str, valkey: str, http_ports: dict[str, int], unique_name: str, tmp_path: Path) -> World:
    changes = {"broker": kafka, "redis_url": valkey, "home": tmp_path / "home", **http_ports}
    return World(Settings().model_copy(update=changes), unique_name, tmp_path)


def test_the_last_label_counts_in_all_that_is_made_of_labels(world: World, tmp_path: Path) -> None:
    settings, end_ms = world.settings, START_MS + (HOURS + 6) * HOUR_MS
    archiving = (sys.executable, "-c", COMMITTING, "archive")
    with (
        Process("drift", settings, log=tmp_path / "drift.log") as drift,
        Process("learning", settings, log=tmp_path / "learning.log") as learning,
        Process("archive", settings, log=tmp_path / "archive.log", command=archiving),
    ):
        world.send()
        world.topics.wait_for_watermark(end_ms, drift.check)
        wait_for_watermark(settings, world.online, START_MS + (HOURS + 8) * HOUR_MS, learning)
        final, reversed_ids = world.final(), check_outcomes(world)
        check_performance(world, final, reversed_ids)
        written = {
            topics.predictions(world.name): [len(log) for log in world.traffic.predictions],
            topics.outcomes(world.name): [len(log) for log in _outcome_log(world).values()],
        }
        archive_progress.wait_for_archive(settings, world.name, written)
        check_archive(settings, world, final)
        check_training_set(settings, world, final)
        check_learning(world, learning)


def _outcome_log(world: World) -> dict[int, list[Any]]:
    return world.topics.read(topics.outcomes(world.name), PARTITIONS)


def check_outcomes(world: World) -> set[str]:
    """Every reversed label is an outcome of its own, which says what it replaces; return their ids."""
    outcomes = [each for log in world.topics.outcomes().values() for each in log]
    corrections = {each.prediction_id: each for each in outcomes if each.correction}
    firsts = {each.prediction_id: each for each in outcomes if not each.correction}
    assert len(corrections) > 100
    for prediction_id, each in corrections.items():
        assert (each.correction, each.corrected_label) == (1, firsts[prediction_id].label)
        assert each.label == 1 - firsts[prediction_id].label
        assert each.label_time_ms == firsts[prediction_id].label_time_ms + HOUR_MS
    assert {each.prediction_id: each.label for each in (*firsts.values(), *corrections.values())} == (
        world.final()
    )
    return set(corrections)


def check_performance(world: World, final: dict[str, float], reversed_ids: set[str]) -> None:
    """The last report on the predictions of each window has the loss over the last values."""
    reports = {
        each.window_start_ms: each
        for each in world.topics.drift()
        if isinstance(each, records.PerformanceReport) and each.segments
    }
    losses: dict[int, list[float]] = collections.defaultdict(list)
    corrections: dict[int, int] = collections.Counter()
    for log in world.traffic.predictions:
        for entry in log[:-1]:
            made = entry.record
            if (label := final.get(made.prediction_id)) is None:
                continue
            window_ms = made.event_time_ms // HOUR_MS * HOUR_MS
            losses[window_ms].append(-math.log(made.score if label else 1 - made.score))
            corrections[window_ms] += made.prediction_id in reversed_ids
    assert len(reports) == HOURS
    for start_ms, report in reports.items():
        assert report.state == "complete"
        assert (report.labels, report.corrections) == (len(losses[start_ms]), corrections[start_ms])
        realised = report.segments[0].figures[0].realised
        assert realised == pytest.approx(sum(losses[start_ms]) / len(losses[start_ms]))


def check_archive(settings: Settings, world: World, final: dict[str, float]) -> None:
    """Of the rows of an id the one with the highest correction has the last value."""
    with inference_log.connect(settings, inference_log.tables(settings)) as connection:
        found = connection.sql(
            "SELECT prediction_id, arg_max(label, coalesce(correction, 0)) FROM outcomes "
            "WHERE model = $model GROUP BY prediction_id",
            params={"model": world.name},
        ).fetchall()
    assert dict(found) == final


def check_training_set(settings: Settings, world: World, final: dict[str, float]) -> None:
    """A training gets each request whose label horizon had passed at its time once, with the last value."""
    declaration = load_all(settings.models)[world.name]
    for hours in (HOURS // 2, 2 * HOURS):
        wanted = Wanted(declaration, GIVEN, START_MS + hours * HOUR_MS)
        rows = extraction.read(settings, wanted).rows
        mature = {
            entry.record.prediction_id
            for log in world.traffic.predictions
            for entry in log[:-1]
            if entry.record.event_time_ms <= wanted.mature_ms
        }
        assert dict(zip(rows["prediction_id"], rows["label"], strict=True)) == {
            each: value for each, value in final.items() if each in mature
        }


def check_learning(world: World, learning: Process) -> None:
    """What was learned online is what a learner makes of the same labels, and the reversed ones count."""
    learner = learned_traffic.new_learner(name=world.online)
    expected = learned_traffic.published(learned_traffic.play(learner, world.learned))
    assert learner.counts.relearned > 100
    found = {each.version: each for each in published(world.settings, world.online)}
    assert found == {each.version: each for each in expected}
    text = httpx.get(f"{learning.url}/metrics").text
    line = f'driftline_learning_labels_total{{model="{world.online}",result="relearned"}}'
    assert f"{line} {float(learner.counts.relearned)}" in text
