import socket
from pathlib import Path

import pytest

from services.operations.local_servers import kafka, ports, valkey
from services.operations.local_servers.cluster import Addresses, choose_port


@pytest.fixture
def taken_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_kafka_listens_on_this_machine_only_and_keeps_its_data_in_the_folder():
    properties = _properties()
    assert properties["log.dirs"] == "/home/data"
    assert properties["advertised.listeners"] == "PLAINTEXT://127.0.0.1:19092"
    assert properties["controller.quorum.voters"] == "1@127.0.0.1:19093"
    assert {"127.0.0.1:19092", "127.0.0.1:19093"} == {
        listener.split("//")[1] for listener in properties["listeners"].split(",")
    }


def test_kafka_creates_no_topic_by_itself():
    assert _properties()["auto.create.topics.enable"] == "false"


def test_one_kafka_node_is_enough_for_the_internal_topics():
    replicas = {
        name: value
        for name, value in _properties().items()
        if name.endswith(("replication.factor", "min.isr"))
    }
    assert len(replicas) == 5
    assert set(replicas.values()) == {"1"}


def test_kafka_cluster_id_is_never_taken_for_an_option():
    assert all(kafka.cluster_id()[0] != "-" for _ in range(1000))


def test_valkey_listens_on_this_machine_only_and_keeps_its_environment_readable():
    options = valkey.options(Path("/home"), 16379, appendonly=False)
    assert options[options.index("--bind") + 1] == "127.0.0.1"
    assert options[options.index("--set-proc-title") + 1] == "no"


def test_new_valkey_folder_gets_the_mode_that_is_wanted(tmp_path: Path):
    assert valkey.mode(tmp_path, wanted=True) is True
    assert valkey.mode(tmp_path, wanted=False) is False


def test_valkey_folder_keeps_the_mode_with_which_it_began(tmp_path: Path):
    (tmp_path / "dump.rdb").touch()
    assert valkey.mode(tmp_path, wanted=True) is False
    (tmp_path / "appendonlydir").mkdir()
    assert valkey.mode(tmp_path, wanted=False) is True


def test_port_of_the_settings_is_taken_when_free():
    port = ports.free_port()
    said: list[str] = []
    assert choose_port("DRIFTLINE_BROKER", f"127.0.0.1:{port}", said.append) == port
    assert said == []


def test_taken_port_is_replaced_and_told(taken_port: int):
    said: list[str] = []
    port = choose_port("DRIFTLINE_REDIS_URL", f"redis://127.0.0.1:{taken_port}/0", said.append)
    assert ports.is_free(port)
    assert said == [f"DRIFTLINE_REDIS_URL=redis://127.0.0.1:{taken_port}/0 is taken; using port {port}"]


def test_address_elsewhere_is_not_bound_here_and_told():
    said: list[str] = []
    port = choose_port("DRIFTLINE_BROKER", "kafka.example:9092", said.append)
    assert ports.is_free(port)
    assert said == [f"DRIFTLINE_BROKER=kafka.example:9092 is not on this machine; using port {port}"]


def test_environment_leads_to_plain_text_even_past_settings_for_a_secured_cluster():
    environment = Addresses("127.0.0.1:1", "redis://127.0.0.1:2/0", "http://127.0.0.1:3").environment()
    assert environment == {
        "DRIFTLINE_BROKER": "127.0.0.1:1",
        "DRIFTLINE_SECURITY_PROTOCOL": "PLAINTEXT",
        "DRIFTLINE_REDIS_URL": "redis://127.0.0.1:2/0",
        "DRIFTLINE_MLFLOW_URI": "http://127.0.0.1:3",
    }


def _properties() -> dict[str, str]:
    lines = kafka.properties(Path("/home"), 19092, 19093).splitlines()
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}
