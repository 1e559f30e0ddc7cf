"""Faults of models, with real servers: a row that its model refuses, and a version whose files are gone."""

import json
import shutil
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from bench.scoring_job import installation
from bench.scoring_job.installation import PARTITIONS
from services.model_registry import mlflow_client
from services.model_registry.traffic_split import CHAMPION, with_share
from services.model_registry.version_cache import FOLDER
from services.runtime.settings import Settings
from streams import records
from streams.topics import MODELS
from tests import own_job
from tests.ledger import Ledger
from tests.processes import Process
from tests.waiting import LIVENESS_SECONDS, until

SENT = 400
ROWS = 100


@pytest.fixture
def installed(
    settings: Settings, unique_name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Settings:
    """A declared model without versions, its topics and its features."""
    own_job.declare(tmp_path / "models", unique_name)
    return own_job.install(settings, monkeypatch, tmp_path / "models")


def delete_files(settings: Settings, name: str, version: int) -> None:
    """Delete a version's files in the registry, and all versions that are kept on this machine."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    uri = mlflow_client.connect(settings).get_model_version_download_uri(name, str(version))
    get_artifact_repository(uri).delete_artifacts()
    shutil.rmtree(settings.home / FOLDER)


def announce(settings: Settings, name: str, arms: list[records.Arm]) -> None:
    change = records.ModelChanged(model=name, arms=arms, changed_at_ms=0, reason="by hand")
    installation.send(settings, MODELS.name, {0: [(name.encode(), records.encode(change), [])]})


def post_rows(scoring: Process, name: str) -> list[dict[str, Any]]:
    """Ask for one prediction of each of 100 users, in one request."""
    rows = [
        {"request_id": f"http-{user}", "event_time": "2026-01-02T00:00:00Z", "user_id": f"user-{user}"}
        for user in range(ROWS)
    ]
    body = json.dumps({"model": name, "rows": rows}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{scoring.url}/predict", body, headers)
    with urllib.request.urlopen(request, timeout=LIVENESS_SECONDS) as response:
        found: list[dict[str, Any]] = json.load(response)["predictions"]
    return found


def test_a_request_that_the_model_refuses_alone_is_a_dead_letter_and_later_ones_are_answered(
    installed: Settings, unique_name: str, tmp_path: Path
) -> None:
    """A user without features: a logistic regression takes no missing numbers."""
    name, topic = unique_name, f"{unique_name}.requests"
    version = installation.register(installed, installation.train(seed=1), name)
    installation.announce(installed, version, name)
    ledger = Ledger(installed.broker, name, topic, PARTITIONS)
    refused = {"request_id": "refused", "event_time": "2026-01-02T00:00:00Z", "user_id": "nobody"}
    with Process("scoring", installed, log=tmp_path / "scoring.log") as scoring:
        scoring.wait_ready()
        installation.send(installed, topic, {0: [(b"nobody", json.dumps(refused).encode(), [])]})
        until(lambda: ledger.read() >= 1, "the request is a dead letter")
        installation.fill(installed, topic, SENT, first=0)
        until(lambda: ledger.read() >= SENT + 1, "all others are answered")
        assert scoring.is_ready(LIVENESS_SECONDS)
        assert scoring.count("driftline_slice_retries", service="scoring") == 0
    ledger.check(SENT, 1)
    (letter,) = ledger.letters.values()
    assert "the model failed: ValueError" in letter.reason
    ledger.close()


def test_after_a_restart_the_champion_answers_for_a_challenger_whose_files_are_gone(
    installed: Settings, unique_name: str, tmp_path: Path
) -> None:
    name = unique_name
    first, second = (installation.register(installed, installation.train(seed), name) for seed in (1, 2))
    champion = records.Arm(name=CHAMPION, version=first, weight=10_000)
    announce(installed, name, with_share([champion], "challenger", second, 500))
    ledger = Ledger(installed.broker, name, f"{name}.requests", PARTITIONS)
    with Process("scoring", installed, log=tmp_path / "scoring.log") as scoring:
        scoring.wait_ready()
        installation.fill(installed, f"{name}.requests", SENT, first=0)
        until(lambda: ledger.read() >= SENT, "the first requests are answered")
        assert {each.version for each in ledger.predictions.values()} == {first, second}
        assert scoring.stop() == 0

        delete_files(installed, name, second)
        scoring.start()
        scoring.wait_ready()
        installation.fill(installed, f"{name}.requests", SENT, first=SENT)
        until(lambda: ledger.read() >= 2 * SENT, "all requests are answered")
        answers = post_rows(scoring, name)
        with urllib.request.urlopen(f"{scoring.url}/health/ready", timeout=LIVENESS_SECONDS) as response:
            health = json.load(response)
        fallbacks = scoring.count("driftline_arm_fallbacks", model=name, arm="challenger")

    ledger.check(2 * SENT, 0)
    later = [ledger.predictions[f"request-{number}"] for number in range(SENT, 2 * SENT)]
    marked = [each for each in later if each.fallback_from == "challenger"]
    print(f"{len(later)} requests answered by the champion, {len(marked)} of them for the challenger")
    assert {(each.version, each.arm) for each in later} == {(first, CHAMPION)}
    assert marked
    assert {(row["version"], row["arm"]) for row in answers} == {(first, CHAMPION)}
    assert len(answers) == ROWS
    assert len(marked) <= fallbacks <= len(marked) + ROWS
    assert f"version {second} of {name} cannot predict" in health["broken"][name]
    ledger.close()
