import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.operations.local_servers import cluster, kafka, mlflow, ports, valkey
from services.operations.local_servers.cluster import Addresses, Embedded, FolderInUseError, choose_port
from services.operations.local_servers.supervisor import Supervisor, SupervisorError
from services.runtime.settings import Settings


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the servers that are started; none is really."""
    found: list[str] = []
    for server in (mlflow, valkey, kafka):
        name = server.__name__.rpartition(".")[2]
        monkeypatch.setattr(server, "start", lambda *given, name=name, **options: found.append(name))
    monkeypatch.setattr(Supervisor, "wait_ready", lambda self, *children, seconds: None)
    return found


def settings(home: Path) -> Settings:
    return Settings(home=home, redis_url="redis://kv.example:1/3", security_protocol="SSL")


def test_the_port_of_the_settings_is_taken_when_free():
    port = ports.free_port()
    said: list[str] = []
    assert choose_port("DRIFTLINE_BROKER", f"127.0.0.1:{port}", said.append) == port
    assert said == []


def test_a_taken_port_is_replaced_and_told(taken_port: int):
    said: list[str] = []
    port = choose_port("DRIFTLINE_REDIS_URL", f"redis://127.0.0.1:{taken_port}/0", said.append)
    assert ports.is_free(port)
    assert said == [f"DRIFTLINE_REDIS_URL=redis://127.0.0.1:{taken_port}/0 is taken; using port {port}"]


def test_an_address_elsewhere_is_not_bound_here_and_told():
    said: list[str] = []
    port = choose_port("DRIFTLINE_BROKER", "kafka.example:9092", said.append)
    assert ports.is_free(port)
    assert said == [f"DRIFTLINE_BROKER=kafka.example:9092 is not on this machine; using port {port}"]


def test_the_environment_leads_to_plain_text_even_past_settings_for_a_secured_cluster():
    environment = Addresses("127.0.0.1:1", "redis://127.0.0.1:2/0", "http://127.0.0.1:3").environment()
    assert environment == {
        "DRIFTLINE_BROKER": "127.0.0.1:1",
        "DRIFTLINE_SECURITY_PROTOCOL": "PLAINTEXT",
        "DRIFTLINE_REDIS_URL": "redis://127.0.0.1:2/0",
        "DRIFTLINE_MLFLOW_URI": "http://127.0.0.1:3",
    }


def test_kafka_starts_last_because_its_start_blocks(tmp_path: Path, started: list[str]):
    with Embedded(settings(tmp_path)):
        assert started == ["mlflow", "valkey", "kafka"]


def test_its_settings_lead_to_its_servers_and_keep_the_database_of_redis(tmp_path: Path, started: list[str]):
    with Embedded(settings(tmp_path)) as servers:
        found = servers.settings
        assert found.security_protocol == "PLAINTEXT"
        assert found.redis_url == servers.addresses.redis_url
        assert found.redis_url.startswith("redis://127.0.0.1:")
        assert found.redis_url.endswith("/3")


def test_a_folder_has_one_user_at_a_time(tmp_path: Path, started: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cluster, "LOCK_SECONDS_MAX", 0.0)
    with Embedded(settings(tmp_path)), pytest.raises(FolderInUseError, match="is in use by another run"):
        Embedded(settings(tmp_path)).__enter__()
    with Embedded(settings(tmp_path)):
        pass


def test_a_start_that_fails_frees_the_folder(
    tmp_path: Path, started: list[str], monkeypatch: pytest.MonkeyPatch
):
    def fail(self: Supervisor, *children: object, seconds: float) -> None:
        raise SupervisorError("not ready")

    servers = Embedded(settings(tmp_path))
    with monkeypatch.context() as patched:
        patched.setattr(Supervisor, "wait_ready", fail)
        with pytest.raises(SupervisorError, match="not ready"):
            servers.__enter__()
    with servers:
        pass
