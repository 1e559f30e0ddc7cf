import re
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from ruamel.yaml import YAML

from services.operations import asyncapi
from services.operations.cli import VERSION
from services.runtime.declaration_file import load_all
from services.runtime.settings import ROOT
from streams import cloud_events, codec, records, topics
from tests.unit.streams.test_records import GOLDEN


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The document as a reader gets it."""
    made = asyncapi.as_yaml(asyncapi.document(load_all(ROOT / "models")))
    found: dict[str, Any] = YAML(typ="safe").load(made)
    return found


def test_every_topic_is_a_channel_with_its_records(document: dict[str, Any]) -> None:
    """Ours under their templates, the models' under their names."""
    found = {channel["address"]: set(channel["messages"]) for channel in document["channels"].values()}
    for topic in topics.ALL:
        assert set(re.findall(r"[A-Z]\w+", topic.record)) <= found[topic.name]
    for declaration in load_all(ROOT / "models").values():
        assert {declaration.request.topic, declaration.label.topic} <= found.keys()


@pytest.mark.parametrize("record", [record for record, _ in GOLDEN], ids=lambda record: type(record).__name__)
def test_written_records_fit_their_schema_and_others_do_not(document: dict[str, Any], record: Any) -> None:
    """The schema is that of the bytes on the wire, byte strings and optional fields included."""
    schema = {"$ref": f"#/components/schemas/{type(record).__name__}", "components": document["components"]}
    check = jsonschema.Draft7Validator(schema)
    written = msgspec.json.decode(records.encode(record))
    check.validate(written)
    assert list(check.iter_errors({**written, next(iter(written)): ["no such thing"]}))


def test_failed_records_keep_their_headers_in_the_schema(document: dict[str, Any]) -> None:
    """Pairs of name and value: tuples are spelt otherwise in AsyncAPI's draft."""
    schema = {"$ref": "#/components/schemas/DeadLetter", "components": document["components"]}
    (letter,) = [record for record, _ in GOLDEN if isinstance(record, records.DeadLetter)]
    written = msgspec.json.decode(records.encode(letter))
    check = jsonschema.Draft7Validator(schema)
    check.validate(written | {"headers": [["a", "AA=="]]})
    for headers in ([["a"]], [["a", "AA==", "b"]], [[1, "AA=="]]):
        assert list(check.iter_errors(written | {"headers": headers}))


def test_headers_are_named(document: dict[str, Any]) -> None:
    """Those of CloudEvents for what carries them, ours where there is no value."""
    messages = document["components"]["messages"]
    envelope = cloud_events.Envelope("drift", "m", enabled=True)
    (sent,) = envelope.bulk(records.Outcome, [(0, 1)], 0)
    assert {name for name, _ in sent} <= messages["Outcome"]["headers"]["properties"].keys()
    assert messages["Heartbeat"]["headers"]["properties"].keys() == {codec.HEARTBEAT_HEADER}
    assert messages["ReplayMark"]["headers"]["properties"].keys() == {codec.REPLAY_MARK_HEADER}


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    references = set(re.findall(r"#/[\w/]+", asyncapi.as_yaml(document)))
    assert len(references) > 40
    for reference in references:
        part: Any = document
        for name in reference.removeprefix("#/").split("/"):
            part = part[name]


def test_topics_have_the_settings_of_the_broker(document: dict[str, Any]) -> None:
    kafka = {
        channel["address"]: channel["bindings"]["kafka"]
        for channel in document["channels"].values()
        if "bindings" in channel
    }
    assert kafka.keys() == {topic.name for topic in topics.ALL}
    assert kafka["driftline.models"]["topicConfiguration"]["cleanup.policy"] == ["compact"]
    assert kafka["driftline.dead-letters"]["topicConfiguration"]["retention.ms"] == -1
    assert kafka["driftline.features"]["partitions"] == 4
    assert "partitions" not in kafka["driftline.predictions.{model}"]


def test_templates_name_their_variables(document: dict[str, Any]) -> None:
    channels = {channel["address"]: channel for channel in document["channels"].values()}
    parameter = channels["driftline.predictions.{model}"]["parameters"]["model"]
    assert parameter["enum"] == ["arrival_delay", "arrival_minutes"]
    assert channels["driftline.late.{view}"]["parameters"].keys() == {"view"}
    assert "parameters" not in channels["driftline.drift"]


def test_we_send_on_our_topics_and_receive_on_those_of_applications(document: dict[str, Any]) -> None:
    actions = {name: operation["action"] for name, operation in document["operations"].items()}
    assert {name for name, action in actions.items() if action == "receive"} == {
        f"receive_{model}_{part}"
        for model in ("arrival_delay", "arrival_minutes")
        for part in ("request", "label")
    }
    assert sum(action == "send" for action in actions.values()) == len(topics.ALL)
    assert document["info"]["version"] == VERSION


def test_records_of_applications_may_have_further_fields(document: dict[str, Any]) -> None:
    schema = document["components"]["schemas"]["arrival_delay_label"]
    record = {"flight_id": "f", "event_time": "2013-07-03T12:00:00Z", "arr_delay": 1.5}
    check = jsonschema.Draft7Validator(schema)
    check.validate(record | {"gate": "B7"})
    assert list(check.iter_errors(record | {"arr_delay": "late"}))


def test_the_document_is_written_to_a_file_or_to_standard_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncapi.asyncapi(output=tmp_path / "a.yaml")
    assert capsys.readouterr().out == ""
    asyncapi.asyncapi()
    assert capsys.readouterr().out == (tmp_path / "a.yaml").read_text(encoding="utf-8")


def test_a_wrong_declaration_ends_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFTLINE_MODELS", str(tmp_path))
    with pytest.raises(SystemExit, match="no model found; a model is a folder"):
        asyncapi.asyncapi()
