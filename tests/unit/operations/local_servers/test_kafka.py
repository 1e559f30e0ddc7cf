from pathlib import Path

import pytest

from services.operations.local_servers import jars, kafka
from tests.unit.operations.local_servers.recorded import RecordingSupervisor


def properties() -> dict[str, str]:
    lines = kafka.properties(Path("/home"), 19092, 19093).splitlines()
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


def started(folder: Path, monkeypatch: pytest.MonkeyPatch) -> RecordingSupervisor:
    monkeypatch.setattr(jars, "class_path", lambda: [Path("/jars/kafka.jar")])
    supervisor = RecordingSupervisor()
    kafka.start(supervisor, folder, 19092)
    return supervisor


def test_it_listens_on_this_machine_only_and_keeps_its_data_in_the_folder():
    found = properties()
    assert found["log.dirs"] == "/home/data"
    assert found["advertised.listeners"] == "PLAINTEXT://127.0.0.1:19092"
    assert found["controller.quorum.voters"] == "1@127.0.0.1:19093"
    assert {"127.0.0.1:19092", "127.0.0.1:19093"} == {
        listener.split("//")[1] for listener in found["listeners"].split(",")
    }


def test_it_creates_no_topic_by_itself():
    assert properties()["auto.create.topics.enable"] == "false"


def test_one_node_is_enough_for_the_internal_topics():
    replicas = {
        name: value
        for name, value in properties().items()
        if name.endswith(("replication.factor", "min.isr"))
    }
    assert len(replicas) == 5
    assert set(replicas.values()) == {"1"}


def test_a_cluster_id_is_never_taken_for_an_option():
    assert all(kafka.cluster_id()[0] != "-" for _ in range(1000))


def test_a_new_folder_is_formatted_before_the_broker_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    found = started(tmp_path, monkeypatch)
    assert [launch.name for launch in found.ran] == ["kafka-format"]
    (broker,) = found.started
    assert [broker.command[-2], broker.command[-1]] == ["kafka.Kafka", str(tmp_path / "server.properties")]
    assert "/jars/kafka.jar" in broker.command


def test_what_an_interrupted_formatting_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "half").touch()
    assert len(started(tmp_path, monkeypatch).ran) == 1
    assert not (tmp_path / "data").exists()


def test_a_formatted_folder_keeps_its_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "meta.properties").touch()
    assert started(tmp_path, monkeypatch).ran == []
    assert (tmp_path / "data" / "meta.properties").exists()
