"""Versions that were verified on this machine serve while the model registry is away; others say so."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bench.scoring_job import installation
from bench.scoring_job.installation import JOB, MODEL
from services.operations.local_servers import mlflow as mlflow_server
from services.operations.local_servers import ports
from services.operations.local_servers.supervisor import Supervisor
from services.runtime import declaration_file, topic_creation
from services.runtime.declaration import FILE
from services.runtime.settings import Settings
from services.scoring.load_failures import FIRST_RETRY_SECONDS, RETRY_SECONDS_MAX
from streams import back_off
from tests.processes import Process
from tests.servers import Server
from tests.waiting import LIVENESS_SECONDS, until

DECLARATION = (JOB / "models" / MODEL / FILE).read_text(encoding="utf-8")
ROW = {"request_id": "r", "event_time": "2026-01-02T00:00:00Z", "user_id": "user-1"}


class Registry:
    """An MLflow server of the test's own, to be stopped and started again."""

    def __init__(self, supervisor: Supervisor, folder: Path) -> None:
        port = ports.free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.server = Server(
            supervisor,
            lambda: mlflow_server.start(supervisor, folder, port),
        )


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Supervisor() as supervisor:
        yield Registry(supervisor, tmp_path / "mlflow")


@pytest.fixture
def installed(
    settings: Settings, registry: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Settings:
    """Features in the store, and an empty folder of declarations."""
    monkeypatch.setitem(os.environ, "DRIFTLINE_HOME", str(settings.home))
    settings.home.mkdir()
    own = settings.model_copy(
        update={
            "models": tmp_path / "models",
            "feature_repo": JOB / "feature_repo",
            "mlflow_uri": registry.url,
        }
    )
    installation.write_features(own)
    return own


def declare(settings: Settings, name: str) -> None:
    (settings.models / name).mkdir(parents=True)
    (settings.models / name / FILE).write_text(DECLARATION.replace(f"name: {MODEL}", f"name: {name}"))


def ask(scoring: Process, model: str) -> httpx.Response:
    body = {"model": model, "rows": [ROW]}
    return httpx.post(f"{scoring.url}/predict", json=body, timeout=LIVENESS_SECONDS)


def attempts_max(seconds: float) -> int:
    """Return how many attempts the pauses between them allow within a time."""
    count = 1
    while (seconds := seconds - back_off.pause_seconds(count, FIRST_RETRY_SECONDS, RETRY_SECONDS_MAX)) >= 0:
        count += 1
    return count


def test_verified_copies_serve_after_a_restart_and_an_absent_version_is_named(
    installed: Settings, registry: Registry, unique_name: str, tmp_path: Path
) -> None:
    kept, absent = f"{unique_name}_kept", f"{unique_name}_absent"
    declare(installed, kept)
    topic_creation.ensure_topics(installed, declaration_file.load_all(installed.models))
    version = installation.register(installed, installation.train(seed=1), kept)
    installation.announce(installed, version, kept)
    with Process("scoring", installed, log=tmp_path / "scoring.log") as scoring:
        scoring.wait_ready()
        before = ask(scoring, kept)
        assert before.status_code == 200
        scoring.stop()

        registry.server.kill()
        declare(installed, absent)
        installation.announce(installed, 1, absent)
        began = time.monotonic()
        scoring.start()
        scoring.wait_ready()
        after = ask(scoring, kept)
        assert (after.status_code, after.json()) == (200, before.json())
        until(lambda: scoring.count("driftline_model_load_failures", model=absent) > 0, "it was tried")
        responses = [ask(scoring, absent) for _ in range(20)]
        assert {each.status_code for each in responses} == {503}
        assert f"the model registry at {registry.url} cannot be reached" in responses[-1].json()["error"]
        assert 1 <= int(responses[-1].headers["Retry-After"]) <= 30
        attempts = scoring.count("driftline_model_load_failures", model=absent)
        assert attempts <= attempts_max(time.monotonic() - began), "no request adds one"
        ready = httpx.get(f"{scoring.url}/v2/models/{absent}/ready", timeout=LIVENESS_SECONDS)
        assert (ready.status_code, ready.json()["reason"]) == (503, responses[-1].json()["error"])

        (installed.models / kept / FILE).unlink()
        until(lambda: not scoring.is_ready(), "no model can answer")
        reason = httpx.get(f"{scoring.url}/health/ready", timeout=LIVENESS_SECONDS).json()["reason"]
        assert reason.startswith(f"no model can answer: {absent}: version 1")

        registry.server.start()
        assert installation.register(installed, installation.train(seed=2), absent) == 1
        scoring.wait_ready()
        assert ask(scoring, absent).status_code == 200
