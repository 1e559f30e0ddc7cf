"""Several workers behind one port, on real servers: one is killed, and nobody is left without an answer."""

import contextlib
import json
import os
import re
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest
from kafka import KafkaConsumer, TopicPartition

from bench.scoring_job import installation
from bench.scoring_job.installation import JOB, MODEL, PARTITIONS
from services.runtime import declaration_file, topic_creation
from services.runtime.settings import Settings
from services.runtime.web import rate_limits
from streams import records
from streams.topics import predictions
from tests.processes import Process
from tests.waiting import LIVENESS_SECONDS, until

WORKERS = 2
RATE = 10
REQUESTS = 120
ROW = {"request_id": "r", "event_time": "2026-01-02T00:00:00Z", "user_id": "user-1"}


@pytest.fixture
def made(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The scoring job with features, topics and a model."""
    monkeypatch.setitem(os.environ, "DRIFTLINE_HOME", str(settings.home))
    settings.home.mkdir()
    made = settings.model_copy(update={"models": JOB / "models", "feature_repo": JOB / "feature_repo"})
    topic_creation.ensure_topics(made, declaration_file.load_all(made.models))
    installation.write_features(made)
    installation.announce(made, installation.register(made, installation.train(seed=1)))
    return made


@contextlib.contextmanager
def started(settings: Settings, log: Path) -> Iterator[Process]:
    """Run two workers that are ready."""
    arguments = ("--workers", str(WORKERS))
    with Process("scoring", settings, log=log, arguments=arguments) as process:
        process.wait_ready()
        until(lambda: len(listening(process)) == WORKERS, "all workers listen")
        yield process


@pytest.fixture
def scoring(made: Settings, tmp_path: Path) -> Iterator[Process]:
    with started(made, tmp_path / "scoring.log") as process:
        yield process


def workers(scoring: Process) -> set[int]:
    return {child.pid for child in psutil.Process(scoring.pid).children()}


def listening(scoring: Process) -> set[int]:
    port = int(scoring.url.rpartition(":")[2])
    found = set()
    for child in psutil.Process(scoring.pid).children():
        connections = child.net_connections("tcp")
        if any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in connections):
            found.add(child.pid)
    return found


def ask(scoring: Process, identity: str) -> int:
    """Ask once on a connection of its own, again where it is broken; return the status."""
    body = json.dumps({"rows": [ROW | {"request_id": identity}]}).encode()
    for _ in range(3):
        try:
            with urllib.request.urlopen(f"{scoring.url}/predict", body, timeout=LIVENESS_SECONDS) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            continue
    return 0


def counted(scoring: Process) -> float:
    """Return the answers over HTTP, as /metrics tells them."""
    with urllib.request.urlopen(f"{scoring.url}/metrics", timeout=LIVENESS_SECONDS) as page:
        text = page.read().decode()
    found = re.search(r'prediction_duration_seconds_count{channel="rest",model="\w+"} ([\d.]+)', text)
    assert re.search(r'driftline_model_info{arm="champion",model="propensity",version="\d+"} 1.0', text)
    return float(found[1]) if found else 0.0


def logged(broker: str, wanted: int) -> set[str]:
    """Return the ids of the predictions that were asked for over HTTP."""
    consumer = KafkaConsumer(bootstrap_servers=broker, auto_offset_reset="earliest")
    consumer.assign([TopicPartition(predictions(MODEL), number) for number in range(PARTITIONS)])
    decode = msgspec.json.Decoder(records.Prediction).decode
    found: set[str] = set()
    deadline = time.monotonic() + 30
    while len(found) < wanted and time.monotonic() < deadline:
        for fetched in consumer.poll(timeout_ms=200).values():
            answers = [decode(record.value) for record in fetched if record.value is not None]
            found |= {one.prediction_id for one in answers if one.source_offset == records.ASKED_OVER_HTTP}
    consumer.close()
    return found


def test_a_killed_worker_is_replaced_while_the_other_answers(
    scoring: Process, made: Settings, tmp_path: Path
) -> None:
    """Every request is answered, counted once over all workers, and logged as a prediction."""
    statuses: list[int] = []
    asking = threading.Event()

    def keep_asking():
        while not asking.is_set():
            statuses.append(ask(scoring, f"http-{len(statuses)}"))

    asker = threading.Thread(target=keep_asking)
    asker.start()
    try:
        until(lambda: len(statuses) > 50, "fifty answers")
        victim = min(workers(scoring))
        os.kill(victim, signal.SIGKILL)
        until(lambda: len(listening(scoring) - {victim}) == WORKERS, "the killed worker is replaced")
        answered = len(statuses)
        until(lambda: len(statuses) > answered + 50, "fifty answers more")
    finally:
        asking.set()
        asker.join()
    assert set(statuses) == {200}
    # What the victim had answered and not yet logged is lost with it; so is no other.
    assert len(logged(made.broker, len(statuses))) >= len(statuses) - 20
    assert len(statuses) - 2 <= counted(scoring) <= len(statuses) + 2
    code = scoring.stop()
    assert code == 0

    limited = made.model_copy(update={"requests_per_second_max": RATE})
    with started(limited, tmp_path / "limited.log") as limited_scoring:
        workers_keep_a_rate_together(limited_scoring)
        orphans = workers(limited_scoring)
        limited_scoring.kill()
        # A parent that is killed leaves no worker behind, so that its successor gets the port.
        until(lambda: not any(psutil.pid_exists(pid) for pid in orphans), "the workers have ended", 60)


def workers_keep_a_rate_together(scoring: Process) -> None:
    """Each worker alone would let through as many as both may, and a burst of its own."""
    began = time.monotonic()
    statuses = [ask(scoring, f"limited-{number}") for number in range(REQUESTS)]
    seconds = time.monotonic() - began
    assert set(statuses) == {200, 429}
    leased = WORKERS * 1.5 * max(1, RATE // rate_limits.LEASES_PER_SECOND)
    assert RATE <= statuses.count(200) <= RATE * (1 + seconds) + leased
    page = urllib.request.urlopen(f"{scoring.url}/metrics", timeout=LIVENESS_SECONDS).read().decode()
    assert "driftline_rate_limit_alone 0.0" in page
