"""The embedded servers as an operator meets them: ``driftline up``, its data, its end."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from services.model_registry import mlflow_client
from services.operations.local_servers import cluster, guard, kafka, ports, valkey
from services.operations.local_servers.cluster import Embedded, FolderInUseError
from services.operations.local_servers.supervisor import ChildDiedError, Supervisor
from services.runtime.settings import Settings
from tests.waiting import LIVENESS_SECONDS, until

TOPIC = "notes"


class Up:
    """A running ``driftline up``."""

    def __init__(self, process: subprocess.Popen[str], home: Path) -> None:
        self.process = process
        self.home = home
        self.output = ""

    def settings(self) -> Settings:
        """Wait for the banner; return settings with the addresses that it exports."""
        deadline = time.monotonic() + LIVENESS_SECONDS
        assert self.process.stdout is not None
        while "export DRIFTLINE_MLFLOW_URI" not in self.output:
            line = self.process.stdout.readline()
            assert line, f"driftline up ended: {self.output}"
            assert time.monotonic() < deadline
            self.output += line
        exports = dict(re.findall(r"^export DRIFTLINE_(\w+)=(\S+)$", self.output, re.MULTILINE))
        return Settings().model_copy(update={name.lower(): value for name, value in exports.items()})

    def processes(self) -> list[psutil.Process]:
        """All processes that keep their data in the home folder, and their guards."""
        return [
            process
            for process in psutil.process_iter(["cmdline", "status"])
            if process.info["status"] != psutil.STATUS_ZOMBIE
            and any(str(self.home) in part for part in process.info["cmdline"] or ())
        ]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    started: list[Up] = []

    def start(**environment: str) -> Up:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.operations.cli", "up"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "DRIFTLINE_HOME": str(tmp_path / "home"), **environment},
            start_new_session=True,
        )
        started.append(Up(process, tmp_path / "home"))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.communicate()


def _addresses() -> dict[str, str]:
    return {
        "DRIFTLINE_BROKER": f"127.0.0.1:{ports.free_port()}",
        "DRIFTLINE_REDIS_URL": f"redis://127.0.0.1:{ports.free_port()}/0",
        "DRIFTLINE_MLFLOW_URI": f"http://127.0.0.1:{ports.free_port()}",
    }


def test_up_leaves_no_process_after_kill_9_nor_ctrl_c_and_keeps_its_data(up):
    """One story, since each start takes seconds: kill -9, start again in the same home, Ctrl-C."""
    addresses = _addresses()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        taken = f"127.0.0.1:{listener.getsockname()[1]}"
        first = up(**{**addresses, "DRIFTLINE_BROKER": taken})
        before = first.settings()
    assert f"DRIFTLINE_BROKER={taken} is taken; using port {before.broker.split(':')[1]}" in first.output
    assert "use CTRL+C to close" in first.output
    assert len(first.processes()) == 3
    _write(before)
    first.process.kill()
    first.process.wait()
    until(lambda: not first.processes(), "no process is left")

    second = up(**addresses)
    after = second.settings()
    assert (after.broker, after.redis_url, after.mlflow_uri) == tuple(addresses.values())
    _assert_written(after)
    second.process.send_signal(signal.SIGINT)
    assert second.process.wait(LIVENESS_SECONDS) == 0
    assert second.processes() == []


def test_valkey_keeps_its_data_over_a_clean_stop_without_a_log_of_writes(tmp_path):
    import redis

    for _ in range(2):
        port = ports.free_port()
        with Supervisor() as supervisor:
            supervisor.wait_ready(valkey.start(supervisor, tmp_path, port), seconds=LIVENESS_SECONDS)
            with redis.Redis(port=port) as store:
                store.incr("starts")
                starts = store.get("starts")
    assert starts == b"2"


def test_second_run_in_the_same_home_is_refused_with_a_way_out(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "LOCK_SECONDS_MAX", 0.1)
    settings = Settings().model_copy(update={"home": tmp_path})
    with (
        cluster.locked(tmp_path),
        pytest.raises(FolderInUseError, match="set another DRIFTLINE_HOME"),
        Embedded(settings),
    ):
        pass


def test_server_that_fails_shows_the_end_of_its_own_log(tmp_path):
    with socket.socket() as listener, Supervisor() as supervisor:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        child = valkey.start(supervisor, tmp_path, listener.getsockname()[1])
        with pytest.raises(ChildDiedError, match=r"(?s)valkey ended.*valkey\.log.*Address already in use"):
            supervisor.wait_ready(child, seconds=LIVENESS_SECONDS)


def test_failure_of_one_server_ends_those_that_run(tmp_path, monkeypatch):
    supervisors: list[Supervisor] = []

    def fail(supervisor: Supervisor, *_: object) -> None:
        supervisors.append(supervisor)
        raise ChildDiedError("kafka ended")

    monkeypatch.setattr(kafka, "start", fail)
    settings = Settings().model_copy(update={"home": tmp_path})
    with pytest.raises(ChildDiedError, match="kafka ended"), Embedded(settings):
        pass
    assert guard.marked(supervisors[0].mark) == []
    with cluster.locked(tmp_path):
        pass


def test_page_of_mlflow_is_served(mlflow):
    import httpx

    assert "MLflow" in httpx.get(mlflow, timeout=LIVENESS_SECONDS).text


def test_session_servers_answer_their_clients(settings):
    _write(settings)
    _assert_written(settings)


def _write(settings: Settings) -> None:
    """Leave something in each of the three."""
    import redis
    from kafka import KafkaAdminClient, KafkaProducer

    with contextlib.closing(KafkaAdminClient(**settings.kafka_options())) as admin:
        admin.create_topics({TOPIC: {"num_partitions": 1, "replication_factor": 1}}, wait_for_metadata=True)
    with contextlib.closing(KafkaProducer(**settings.kafka_options())) as producer:
        producer.send(TOPIC, b"kept").get(timeout=LIVENESS_SECONDS)
    with redis.Redis.from_url(settings.redis_url) as store:
        store.set(TOPIC, b"kept")
        until(lambda: is_flushed(store.info("persistence")), "the online store's log is on the disk")
    client = mlflow_client.connect(settings)
    run = client.create_run(client.create_experiment(TOPIC))
    client.log_text(run.info.run_id, "kept", "note.txt")
    client.create_registered_model(TOPIC)


def is_flushed(state: Any) -> bool:
    """Tell whether all that was written is in the log, by the store's own account."""
    return not state.get("aof_buffer_length") and not state.get("aof_pending_bio_fsync")


def _assert_written(settings: Settings) -> None:
    import redis
    from kafka import KafkaConsumer

    options = {"auto_offset_reset": "earliest", "consumer_timeout_ms": LIVENESS_SECONDS * 1000}
    with contextlib.closing(KafkaConsumer(TOPIC, **settings.kafka_options(), **options)) as consumer:
        assert next(consumer).value == b"kept"
    with redis.Redis.from_url(settings.redis_url) as store:
        assert store.get(TOPIC) == b"kept"
    client = mlflow_client.connect(settings)
    experiment = client.get_experiment_by_name(TOPIC)
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    path = client.download_artifacts(run.info.run_id, "note.txt")
    assert Path(path).read_text() == "kept"
    assert client.get_registered_model(TOPIC).name == TOPIC
