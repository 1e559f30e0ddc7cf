"""A challenger and a shadow with a worse loss, and two that fail, through scoring and drift on a real Kafka.

The figures of the report are compared with those computed from the predictions and outcomes on the topics.
"""

import dataclasses
import datetime as dt
import json
import math
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kafka import KafkaConsumer, TopicPartition

from bench.scoring_job import installation
from bench.scoring_job.installation import NAMES, PARTITIONS, USERS
from services.model_registry import mlflow_client
from services.model_registry.traffic_split import CHAMPION, with_share
from services.runtime.settings import Settings
from streams import codec, records, topics
from tests import own_job
from tests.processes import Process
from tests.waiting import until

HOUR_MS = 3_600_000
START_MS = round(dt.datetime(2026, 1, 2, tzinfo=dt.UTC).timestamp() * 1000)
FIRST, ROWS = 100, 3000
"""Requests in the first hour, which make the champion known, and in the hour whose report is checked."""
DELAY_MS = 300_000
BLOCKS = 16
EXTRA = "limits: {shadow_wait_ms: 10000}\nmonitoring: {window_hours: 1}\n"


@pytest.fixture
def installed(
    settings: Settings, unique_name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Settings:
    """A declared model without versions, its topics and its features."""
    own_job.declare(tmp_path / "models", unique_name, EXTRA)
    return own_job.install(settings, monkeypatch, tmp_path / "models", partitions=PARTITIONS)


def worse_estimator() -> Any:
    """Fit a model that knows three of the ten features, and is far too sure of them."""
    from sklearn.linear_model import LogisticRegression

    inputs = np.random.default_rng(3).normal(size=(2000, len(NAMES)))
    return LogisticRegression(C=1e6).fit(inputs, inputs[:, :3].sum(axis=1) > 0)


def without_files(settings: Settings, name: str) -> int:
    """Register a version whose files are then deleted."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    version = installation.register(settings, installation.train(seed=4), name)
    uri = mlflow_client.connect(settings).get_model_version_download_uri(name, str(version))
    get_artifact_repository(uri).delete_artifacts()
    shutil.rmtree(settings.home / "models", ignore_errors=True)
    return version


def traffic() -> tuple[list[tuple[str, dict[str, Any]]], list[dict[str, Any]]]:
    """Return requests with their keys, and labels, in the order of time."""
    chance = random.Random(5)
    buys = np.random.default_rng(1).normal(size=(USERS, len(NAMES))).sum(axis=1)
    requests, labels = [], []
    for number in range(FIRST + ROWS):
        time_ms = START_MS + (number * 1000 if number < FIRST else HOUR_MS + (number - FIRST) * 1000)
        user = chance.randrange(USERS)
        bought = buys[user] + chance.gauss(0, 1) > 0
        requests.append(
            (
                f"user-{user}",
                {"request_id": f"r{number}", "event_time": text(time_ms), "user_id": f"user-{user}"},
            )
        )
        labels.append(
            {"request_id": f"r{number}", "event_time": text(time_ms + DELAY_MS), "bought": float(bought)}
        )
    return requests, labels


def text(time_ms: int) -> str:
    return dt.datetime.fromtimestamp(time_ms / 1000, dt.UTC).isoformat()


def send(settings: Settings, topic: str, rows: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Write records to the partitions in turn, then a heartbeat to each that closes both hours."""
    batches: dict[int, list[Any]] = {partition: [] for partition in range(PARTITIONS)}
    for number, (key, row) in enumerate(rows):
        batches[number % PARTITIONS].append((key.encode(), json.dumps(row).encode(), []))
    for batch in batches.values():
        batch.append((None, None, codec.heartbeat(START_MS + 3 * HOUR_MS)))
    installation.send(settings, topic, batches)


def read(settings: Settings, topic: str, partitions: int, kind: Any) -> list[Any]:
    """Read all records of a topic."""
    consumer = KafkaConsumer(bootstrap_servers=settings.broker, auto_offset_reset="earliest")
    places = [TopicPartition(topic, partition) for partition in range(partitions)]
    consumer.assign(places)
    found, decode = [], records.decoder_of(kind).decode
    ends = consumer.end_offsets(places)
    while any(consumer.position(place) < end for place, end in ends.items()):
        for batch in consumer.poll(timeout_ms=200).values():
            found += [decode(message.value) for message in batch if message.value is not None]
    consumer.close()
    return found


def reports(settings: Settings, name: str) -> list[records.DriftReport]:
    found = read(settings, topics.DRIFT.name, 1, records.DriftRecord)
    return [each for each in found if isinstance(each, records.DriftReport) and each.model == name]


def log_loss(label: float, score: float) -> float:
    clipped = min(max(score, 1e-7), 1 - 1e-7)
    return -math.log(clipped if label else 1 - clipped)


def block_of(outcome: records.Outcome) -> int:
    return (outcome.label_time_ms - START_MS - HOUR_MS) * BLOCKS // HOUR_MS


def cluster_error(residuals: Sequence[tuple[float, int]], own: Sequence[tuple[float, int]]) -> float:
    sums = np.bincount([block for _, block in residuals], [value for value, _ in residuals], BLOCKS)
    blocks = len({block for _, block in own})
    return math.sqrt(blocks / (blocks - 1) * float(sums @ sums))


def mean_of(losses: Sequence[tuple[float, int]]) -> float:
    return sum(value for value, _ in losses) / len(losses)


@dataclasses.dataclass(frozen=True)
class Played:
    """What the processes have written about the second hour."""

    arms: dict[str, records.ArmFigures]
    """The report's, by name."""
    predictions: list[records.Prediction]
    outcomes: list[records.Outcome]
    good: int
    worse: int
    gone: int
    """A version whose files are gone."""


def arms_of(good: int, worse: int, gone: int) -> list[records.Arm]:
    champion = records.Arm(name=CHAMPION, version=good, weight=10_000)
    arms = with_share(with_share([champion], "new", worse, 3000), "lost", gone, 1000)
    shadows = {"quiet": worse, "broken": gone}
    return arms + [
        records.Arm(name=each, version=given, weight=0, shadow=True) for each, given in shadows.items()
    ]


def play(settings: Settings, name: str, folder: Path) -> Played:
    """Register the versions, let both processes work, and read what they have written."""
    good = installation.register(settings, installation.train(seed=1), name)
    worse = installation.register(settings, worse_estimator(), name)
    gone = without_files(settings, name)
    arms = arms_of(good, worse, gone)
    change = records.ModelChanged(model=name, arms=arms, changed_at_ms=0, reason="by hand")
    installation.send(settings, topics.MODELS.name, {0: [(name.encode(), records.encode(change), [])]})
    requests, labels = traffic()

    def predictions() -> list[records.Prediction]:
        return read(settings, topics.predictions(name), PARTITIONS, records.Prediction)

    with Process("scoring", settings, log=folder / "scoring.log") as scoring:
        scoring.wait_ready()
        send(settings, f"{name}.requests", requests)
        until(lambda: len(predictions()) >= len(requests), "all are answered", check=scoring.check)
        check_metrics(scoring, name, arms, predictions())
    with Process("drift", settings, log=folder / "drift.log") as drift:
        drift.wait_ready()
        send(settings, f"{name}.labels", [(each["request_id"], each) for each in labels])
        until(lambda: len(reports(settings, name)) >= 2, "both hours are reported", check=drift.check)
    outcomes = read(settings, topics.outcomes(name), PARTITIONS, records.Outcome)
    return Played(
        {each.arm: each for each in reports(settings, name)[1].arms},
        [each for each in predictions() if each.event_time_ms >= START_MS + HOUR_MS],
        [each for each in outcomes if each.label_time_ms >= START_MS + HOUR_MS],
        good,
        worse,
        gone,
    )


def check_metrics(
    scoring: Process, name: str, arms: list[records.Arm], predictions: list[records.Prediction]
) -> None:
    """Compare scoring's own counts of rows with the predictions."""

    def rows(arm: records.Arm, result: str) -> float:
        labels = {"model": name, "arm": arm.name, "version": str(arm.version), "result": result}
        return scoring.count("driftline_arm_rows", **labels)

    of = {arm.name: arm for arm in arms}
    assert rows(of["new"], "answered") == sum(each.arm == "new" for each in predictions)
    assert rows(of["new"], "unavailable") == 0
    assert rows(of["lost"], "unavailable") == sum(each.fallback_from == "lost" for each in predictions)
    assert rows(of["quiet"], "answered") == rows(of["broken"], "unavailable") == len(predictions)


def test_the_report_has_the_figures_of_the_topics(
    installed: Settings, unique_name: str, tmp_path: Path
) -> None:
    played = play(installed, unique_name, tmp_path)
    assert len(played.predictions) == len({each.prediction_id for each in played.outcomes}) == ROWS
    check_failures(played)
    check_call_times(played)
    check_paired(played)
    check_unpaired(played)


def check_failures(played: Played) -> None:
    lost, broken = played.arms["lost"], played.arms["broken"]
    fallbacks = [each for each in played.predictions if each.fallback_from == "lost"]
    assert {each.fallback_version for each in fallbacks} == {played.gone}
    assert lost.failed == len(fallbacks) > ROWS // 20
    assert (lost.version, lost.predictions) == (played.gone, 0)
    assert (broken.version, broken.failed, broken.predictions) == (played.gone, ROWS, 0)
    versions = {"quiet": played.worse, "broken": played.gone}
    assert all(each.shadow_versions == versions for each in played.outcomes)


def check_call_times(played: Played) -> None:
    for name in (CHAMPION, "new"):
        rows = [each for each in played.predictions if each.arm == name]
        times_us = sorted(each.call_us for each in rows if isinstance(each.call_us, int))
        found = played.arms[name].call_times
        assert found is not None
        assert len(times_us) == len(rows) == played.arms[name].predictions == sum(found.counts.values())
        median_ms = times_us[math.ceil(len(rows) / 2) - 1] / 1000
        assert median_ms <= found.p50_ms <= 1.2 * median_ms + 0.001


def check_paired(played: Played) -> None:
    pairs = [
        (log_loss(each.label, each.shadow_scores["quiet"]) - log_loss(each.label, each.score), block_of(each))
        for each in played.outcomes
        if each.arm == CHAMPION and each.score is not None
    ]
    found = played.arms["quiet"].difference
    assert found is not None
    assert (found.is_paired, found.champion, found.labels) == (True, played.good, len(pairs))
    mean = mean_of(pairs)
    assert found.mean == pytest.approx(mean)
    alone = float(np.std([value for value, _ in pairs], ddof=1)) / math.sqrt(len(pairs))
    clustered = cluster_error([((value - mean) / len(pairs), block) for value, block in pairs], pairs)
    assert found.standard_error == pytest.approx(max(alone, clustered))
    assert found.low is not None
    assert found.running_low is not None
    assert min(found.low, found.running_low) > 0, "its loss is known to be worse"


def check_unpaired(played: Played) -> None:
    losses = {
        name: [
            (each.loss, block_of(each))
            for each in played.outcomes
            if each.arm == name and each.loss is not None
        ]
        for name in ("new", CHAMPION)
    }
    found = played.arms["new"].difference
    assert found is not None
    assert not found.is_paired
    assert [found.labels, found.champion_labels] == [len(each) for each in losses.values()]
    assert found.mean == pytest.approx(mean_of(losses["new"]) - mean_of(losses[CHAMPION]))
    residuals = [
        (sign * (value - mean_of(losses[name])) / len(losses[name]), block)
        for name, sign in (("new", 1), (CHAMPION, -1))
        for value, block in losses[name]
    ]
    independent = sum(
        float(np.var([value for value, _ in each], ddof=1)) / len(each) for each in losses.values()
    )
    expected = max(cluster_error(residuals, losses["new"]), math.sqrt(independent))
    assert found.standard_error == pytest.approx(expected)
    assert found.low is not None
    assert found.low > 0, "its loss is known to be worse"
