"""Several workers behind one port, on real servers: one is killed, and nobody is left without an answer."""

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
from services import model, topics
from services.settings import Settings
from streams import records
from streams.topics import predictions
from tests.processes import Process
from tests.waiting import until

WORKERS = 2
ROW = {"request_id": "r", "event_time": "2026-01-02T00:00:00Z", "user_id": "user-1"}


@pytest.fixture
def scoring(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Process]:
    """The scoring job with features, topics, a model, and two workers that are ready."""
    monkeypatch.setitem(os.environ, "DRIFTLINE_HOME", str(settings.home))
    settings.home.mkdir()
    made = settings.model_copy(update={"models": JOB / "models", "feature_repo": JOB / "feature_repo"})
    topics.ensure_topics(made, model.load_all(made.models))
    installation.write_features(made)
    installation.announce(made, installation.register(made, installation.train(seed=1)))
    arguments = ("--workers", str(WORKERS))
    with Process("scoring", made, log=tmp_path / "scoring.log", arguments=arguments) as process:
        process.wait_ready()
        until(lambda: len(listening(process)) == WORKERS, "all workers listen")
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
            with urllib.request.urlopen(f"{scoring.url}/predict", body, timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            continue
    return 0


def counted(scoring: Process) -> float:
    """Return the answers over HTTP, as /metrics tells them."""
    with urllib.request.urlopen(f"{scoring.url}/metrics", timeout=5) as page:
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


def test_a_killed_worker_is_replaced_while_the_other_answers(scoring: Process, settings: Settings) -> None:
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
    assert len(logged(settings.broker, len(statuses))) >= len(statuses) - 20
    assert len(statuses) - 2 <= counted(scoring) <= len(statuses) + 2
    code, seconds = scoring.stop()
    assert code == 0
    assert seconds < 10

    scoring.start()
    until(lambda: len(workers(scoring)) == WORKERS, "the workers have started")
    orphans = workers(scoring)
    scoring.kill()
    # A parent that is killed leaves no worker behind, so that its successor gets the port.
    # They look for it once they run.
    until(lambda: not any(psutil.pid_exists(pid) for pid in orphans), "the workers have ended", 60)
