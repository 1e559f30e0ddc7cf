"""Many models in one process: each can be added, changed, removed, slow or broken without the others."""

import json
import os
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import pytest
from kafka import KafkaConsumer, TopicPartition

from bench.scoring_job import installation
from bench.scoring_job.installation import JOB, MODEL, NAMES, PARTITIONS, REQUESTS
from services.runtime import declaration_file, topic_creation
from services.runtime.declaration import FILE
from services.runtime.settings import Settings
from streams import records
from streams.topics import predictions
from tests.processes import Process
from tests.waiting import LIVENESS_SECONDS

Found = TypeVar("Found")
REQUESTED = 10_000
DECLARATION = (JOB / "models" / MODEL / "model.yaml").read_text(encoding="utf-8")


class Models:
    """The folder of declarations, and the predictions of each model."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self._settings = settings
        self._topic = topic
        self._decode = msgspec.json.Decoder(records.Prediction).decode

    def declare(self, name: str, *, extra: str = "") -> None:
        """Replace a model.yaml in one step, as a deployment does."""
        folder = self._settings.models / name
        folder.mkdir(parents=True, exist_ok=True)
        text = DECLARATION.replace(f"name: {MODEL}", f"name: {name}").replace(REQUESTS, self._topic)
        (folder / "new").write_text(text + extra, encoding="utf-8")
        (folder / "new").rename(folder / FILE)

    def create_topics(self, name: str) -> None:
        """Create the topics of a model before the process does."""
        declaration = declaration_file.load_named(self._settings.models / name / FILE)
        topic_creation.ensure_topics(self._settings, {name: declaration})

    def withdraw(self, name: str) -> None:
        (self._settings.models / name / FILE).unlink()

    def publish(self, name: str, estimator: Any) -> int:
        """Register a version and make it the champion."""
        version = installation.register(self._settings, estimator, name)
        installation.announce(self._settings, version, name)
        return version

    def send(self, events: int, first: int = 0) -> None:
        installation.fill(self._settings, self._topic, events, first=first)

    def predictions(self, name: str) -> list[records.Prediction]:
        """Return all predictions of a model so far."""
        consumer = KafkaConsumer(bootstrap_servers=self._settings.broker, auto_offset_reset="earliest")
        partitions = [TopicPartition(predictions(name), partition) for partition in range(PARTITIONS)]
        consumer.assign(partitions)
        ends = consumer.end_offsets(partitions)
        found = []
        while any(consumer.position(each) < end for each, end in ends.items()):
            for fetched in consumer.poll(timeout_ms=200, max_records=20_000).values():
                found += [self._decode(record.value) for record in fetched]
        consumer.close()
        return found

    def wait_for(self, name: str, count: int) -> list[records.Prediction]:
        return wait_until(lambda: self.predictions(name), lambda found: len(found) >= count)


def wait_until(look: Callable[[], Found], suits: Callable[[Found], bool]) -> Found:
    deadline = time.monotonic() + LIVENESS_SECONDS
    while not suits(found := look()):
        assert time.monotonic() < deadline, f"the last look found {str(found)[:300]}"
        time.sleep(0.2)
    return found


@pytest.fixture
def installed(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    """Features in the store, and an empty folder of declarations."""
    monkeypatch.setitem(os.environ, "DRIFTLINE_HOME", str(settings.home))
    settings.home.mkdir()
    changes = {"models": tmp_path / "models", "feature_repo": JOB / "feature_repo"}
    installed = settings.model_copy(update=changes)
    installed.models.mkdir()
    installation.write_features(installed)
    return installed


@pytest.fixture
def models(installed: Settings, unique_name: str) -> Models:
    return Models(installed, f"{unique_name}.requests")


@pytest.fixture
def scoring(installed: Settings, tmp_path: Path) -> Iterator[Process]:
    with Process("scoring", installed, log=tmp_path / "scoring.log") as process:
        yield process


def slow_estimator() -> Any:
    """Return a real model that needs about a millisecond per row: it compares the row with 40,000 others."""
    from sklearn.neighbors import KNeighborsClassifier

    generator = np.random.default_rng(3)
    inputs = generator.normal(size=(40_000, len(NAMES)))
    return KNeighborsClassifier(algorithm="brute").fit(inputs, inputs.sum(axis=1) > 0)


def health(scoring: Process) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(f"{scoring.url}/health/ready", timeout=LIVENESS_SECONDS) as response:
            return dict(json.load(response))
    except urllib.error.HTTPError as error:
        return dict(json.load(error))


def test_slow_and_broken_models_delay_no_other_model(
    installed: Settings, models: Models, scoring: Process, unique_name: str
) -> None:
    """All read the same requests; the fast model has predicted for all of them before the slow one has."""
    fast, slow, broken, invalid = (f"{unique_name}_{kind}" for kind in ("fast", "slow", "broken", "invalid"))
    for name in (fast, slow, broken):
        models.declare(name)
    models.declare(invalid, extra="limit: {}\n")
    models.create_topics(fast)
    models.publish(fast, installation.train(seed=1))
    models.publish(slow, slow_estimator())
    installation.announce(installed, 99, broken)  # a version that was never registered
    models.send(REQUESTED)

    predicted = models.wait_for(fast, REQUESTED)
    finished_ms = max(each.scored_time_ms for each in predicted)
    by_slow = sum(each.scored_time_ms <= finished_ms for each in models.predictions(slow))
    by_broken = len(models.predictions(broken))
    print(f"predictions: fast {len(predicted)}, slow {by_slow}, broken {by_broken} of {REQUESTED}")
    assert len({each.prediction_id for each in predicted}) == REQUESTED
    assert by_slow < REQUESTED
    assert models.predictions(broken) == []
    state = wait_until(
        lambda: health(scoring),
        lambda state: (
            broken in state.get("broken", {}) and state["status"] == "ready"
        ),  # ready: the slow model is deployed, too
    )
    assert set(state["broken"]) == {broken, invalid}
    assert "unknown setting (did you mean limits?)" in state["broken"][invalid]
    assert "version 99" in state["broken"][broken]
    metrics = wait_until(  # a gauge follows at the next check of the declarations
        lambda: metrics_page(scoring),
        lambda text: f'driftline_models_broken{{model="{broken}"}} 1.0' in text,
    )
    assert f'driftline_models_broken{{model="{fast}"}} 0.0' in metrics

    repaired = models.publish(broken, installation.train(seed=2))
    assert {each.version for each in models.wait_for(broken, REQUESTED)} == {repaired}
    wait_until(lambda: health(scoring), lambda state: broken not in state["broken"])


def test_models_are_added_changed_and_removed_while_another_one_predicts(
    installed: Settings, models: Models, scoring: Process, unique_name: str
) -> None:
    steady, guest = f"{unique_name}_steady", f"{unique_name}_guest"
    models.declare(steady)
    models.create_topics(steady)
    models.publish(steady, installation.train(seed=1))
    scoring.wait_ready()

    models.declare(guest)
    models.publish(guest, installation.train(seed=2))
    models.send(1000)
    models.wait_for(guest, 1000)
    models.declare(guest, extra="threshold: 1.0\n")
    wait_until(lambda: served(scoring, guest), lambda times: times == 2)
    models.send(1000, first=1000)
    found = models.wait_for(guest, 2000)
    models.withdraw(guest)
    wait_until(lambda: scoring.output().count("model.retired"), lambda times: times == 2)
    models.send(1000, first=2000)
    models.wait_for(steady, 3000)

    assert Counter(each.prediction_id for each in found) == Counter(f"request-{n}" for n in range(2000))
    later = [each for each in found if int(each.prediction_id.split("-")[1]) >= 1000]
    assert {each.prediction for each in later} == {0}, "the new threshold is in effect"
    assert len(models.predictions(guest)) == 2000, "a removed model predicts nothing more"
    assert len(models.predictions(steady)) == 3000
    assert served(scoring, steady) == 1, "a model that did not change is not restarted"


def test_more_models_than_the_cache_has_room_for_all_predict(
    installed: Settings, models: Models, unique_name: str, tmp_path: Path
) -> None:
    """Twelve versions of 0.3 MiB each, room for 1 MiB: evicted versions are loaded again from local disk."""
    names = [f"{unique_name}_{number}" for number in range(12)]
    for number, name in enumerate(names):
        models.declare(name)
        models.create_topics(name)
        models.publish(name, large_estimator(number))
    bounded = installed.model_copy(update={"model_cache_mib_max": 1})
    with Process("scoring", bounded, log=tmp_path / "bounded.log") as scoring:
        scoring.wait_ready()
        for turn in (1, 2):
            models.send(100, first=100 * (turn - 1))
            for name in names:
                predicted = models.wait_for(name, 100 * turn)
                assert {each.prediction_id for each in predicted} == {
                    f"request-{n}" for n in range(100 * turn)
                }
        values = metric_values(scoring)
    print(f"account: {values}")
    assert 1 <= values["driftline_models_loaded"] <= 3
    assert values["driftline_models_loaded_bytes"] <= 1 << 20
    # Three versions at most stay from the first turn, and three at the end: all others are evicted twice.
    assert values["driftline_models_evicted_total"] >= 2 * (len(names) - 3)
    digests = {path.name for path in (installed.home / "models").iterdir()}
    assert len(digests) == len(names), "each version was downloaded once"


def large_estimator(seed: int) -> Any:
    """Return a nearest-neighbours model with 3,500 rows: 0.3 MiB."""
    from sklearn.neighbors import KNeighborsClassifier

    inputs = np.random.default_rng(seed).normal(size=(3500, len(NAMES)))
    return KNeighborsClassifier(algorithm="brute").fit(inputs, inputs.sum(axis=1) > 0)


def metrics_page(scoring: Process) -> str:
    with urllib.request.urlopen(f"{scoring.url}/metrics", timeout=LIVENESS_SECONDS) as page:
        return str(page.read().decode())


def metric_values(scoring: Process) -> dict[str, float]:
    """Return the metrics of a process that have no labels."""
    lines = metrics_page(scoring).splitlines()
    plain = [line.split() for line in lines if line.startswith("driftline_models_") and "{" not in line]
    return {name: float(value) for name, value in plain}


def served(scoring: Process, name: str) -> int:
    """Return how often a model was deployed."""
    return sum("model.served" in line and f'"{name}"' in line for line in scoring.output().splitlines())
