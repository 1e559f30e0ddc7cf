import hashlib
import json
from pathlib import Path

import pytest

from services.operations.local_servers import jars


@pytest.fixture
def jar(tmp_path: Path) -> Path:
    path = tmp_path / "one-1.0.jar"
    path.write_bytes(b"content")
    return path


def _pin(jar: Path) -> jars.Pin:
    content = jar.read_bytes()
    return jars.Pin(jar.name, hashlib.sha256(content).hexdigest(), len(content))


def test_every_jar_is_pinned_once_with_hash_and_size():
    pins = jars.pins()
    assert len(pins) == len({pin.name for pin in pins}) > 40
    assert all(len(pin.sha256) == 64 and pin.size_bytes > 0 for pin in pins)
    assert f"kafka-server-{jars.KAFKA_VERSION}.jar" in {pin.name for pin in pins}


def test_jar_that_equals_its_pin_has_no_fault(jar: Path):
    assert jars.faults([jar], [_pin(jar)]) == {}


def test_truncated_jar_is_named_with_both_sizes(jar: Path):
    pin = _pin(jar)
    jar.write_bytes(b"cont")
    assert jars.faults([jar], [pin]) == {jar.name: "has 4 bytes instead of 7"}


def test_changed_jar_of_the_same_size_is_refused(jar: Path):
    pin = _pin(jar)
    jar.write_bytes(b"CONTENT")
    assert jars.faults([jar], [pin]) == {jar.name: "has a SHA-256 that differs from the pinned one"}


def test_jar_without_pin_and_pin_without_jar_are_both_faults(jar: Path):
    other = jars.Pin("other-1.0.jar", "0" * 64, 1)
    assert jars.faults([jar], [other]) == {jar.name: "is not pinned", other.name: "is missing"}


def test_remembered_class_path_is_used_without_jgo(tmp_path: Path, jar: Path):
    _remember(tmp_path, [jar])
    assert jars.class_path(tmp_path) == [jar]


def test_class_path_is_resolved_again_when_a_jar_has_gone(tmp_path: Path, jar: Path):
    memory = _remember(tmp_path, [jar])
    jar.unlink()
    assert jars.remembered(memory) == []


def test_class_path_is_resolved_again_when_the_coordinates_change(tmp_path: Path, jar: Path):
    memory = _remember(tmp_path, [jar], coordinates=["org.apache.kafka:kafka_2.13:4.0.0"])
    assert jars.remembered(memory) == []


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"coordinates": 1}', "not json"])
def test_damaged_memory_counts_as_none(tmp_path: Path, content: str):
    memory = tmp_path / "kafka-jars.json"
    memory.write_text(content)
    assert jars.remembered(memory) == []


def test_failed_download_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("jgo")

    def refuse(*_: object) -> None:
        raise RuntimeError("no network")

    monkeypatch.setattr("jgo.env.EnvironmentBuilder.from_endpoint", refuse)
    with pytest.raises(jars.JarsError, match=r"no network.*set DRIFTLINE_BROKER"):
        jars.class_path(tmp_path)


def test_damaged_download_is_thrown_away_and_made_again(
    tmp_path: Path, jar: Path, monkeypatch: pytest.MonkeyPatch
):
    pin, good = _pin(jar), jar.read_bytes()
    repository, environment = tmp_path / "repository", tmp_path / "environment"

    class Builder:
        """As jgo: downloads what its repository lacks, links it into the environment."""

        all_jars: list[Path]

    def build(*_: object) -> Builder:
        stored = repository / "one" / jar.name
        if not stored.exists():
            stored.parent.mkdir(parents=True, exist_ok=True)
            stored.write_bytes(good)
        linked = environment / "jars" / jar.name
        linked.parent.mkdir(parents=True, exist_ok=True)
        linked.write_bytes(stored.read_bytes())
        builder = Builder()
        builder.all_jars = [linked]
        return builder

    (repository / "one").mkdir(parents=True)
    (repository / "one" / jar.name).write_bytes(b"cont")
    monkeypatch.setattr(jars, "_build", build)
    monkeypatch.setattr(jars, "_repository", lambda: repository)
    monkeypatch.setattr(jars, "pins", lambda: [pin])
    (path,) = jars.class_path(tmp_path / "cache")
    assert path.read_bytes() == good


def _remember(folder: Path, paths: list[Path], coordinates: list[str] | None = None) -> Path:
    memory = folder / "kafka-jars.json"
    content = {"coordinates": coordinates or list(jars.COORDINATES), "jars": [str(path) for path in paths]}
    memory.write_text(json.dumps(content))
    return memory
